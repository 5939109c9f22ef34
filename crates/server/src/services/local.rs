//! `LocalService`, on the broker's own Unix socket: certificates for whoever can open the seal.
//!
//! The socket's mode keeps other users out; the proof, made with a key derived from the seal, keeps out a
//! process of the same user that can't read it, and binds the answer to one request.

use mayfly_broker::{StaffKind, StaffRequest};
use mayfly_domain::{AcceptorName, Invalid, OperatorName, Reason, Refusal, SecretBytes, defaults};
use mayfly_proto::v1;
use mayfly_proto::v1::local_service_server::LocalService;
use tonic::{Request, Response, Status};

use super::{Shared, answer, context};
use crate::convert;

/// `LocalService` over a broker.
#[derive(Debug)]
pub struct Locals {
    /// The broker.
    pub broker: Shared,
    /// The key derived from the seal under [`mayfly_broker::LOCAL_PROOF_LABEL`].
    pub proof_key: SecretBytes,
}

/// The proof of a request: HMAC-SHA-256 over a domain tag and its fields, each with its length in front.
pub fn local_proof(key: &SecretBytes, request: &v1::IssueCertificateRequest) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.expose());
    ring::hmac::sign(&key, &proof_input(request)).as_ref().to_vec()
}

fn proof_input(request: &v1::IssueCertificateRequest) -> Vec<u8> {
    let mut input = b"mayfly local v1\0".to_vec();
    let now = request.now_ms.to_be_bytes();
    let ttl = request.ttl_s.to_be_bytes();
    let parts: [&[u8]; 6] = [
        request.kind.as_bytes(),
        request.name.as_bytes(),
        &request.public_key_spki,
        &request.challenge,
        &now,
        &ttl,
    ];
    for part in parts {
        input.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        input.extend_from_slice(part);
    }
    input
}

#[tonic::async_trait]
impl LocalService for Locals {
    async fn issue_certificate(
        &self,
        request: Request<v1::IssueCertificateRequest>,
    ) -> Result<Response<v1::IssueCertificateResponse>, Status> {
        let context = context(&self.broker, &request);
        let outcome = async {
            let wire = request.into_inner();
            self.proven(&wire)?;
            let kind = match wire.kind.as_str() {
                "operator" => StaffKind::Operator(OperatorName::parse(&wire.name)?),
                "acceptor" => StaffKind::Acceptor(AcceptorName::parse(&wire.name)?),
                other => return Err(Invalid::new("kind", other, "is neither operator nor acceptor").into()),
            };
            let request = StaffRequest { kind, spki: wire.public_key_spki, ttl: convert::ttl(wire.ttl_s)? };
            let issued = self.broker.issue_staff(&context.call, &request).await?;
            Ok(v1::IssueCertificateResponse {
                certificate_pem: issued.certificate_pem,
                lease: issued.lease.to_string(),
                expires_ms: issued.expires.0,
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }
}

impl Locals {
    fn proven(&self, wire: &v1::IssueCertificateRequest) -> Result<(), Refusal> {
        let no = || Refusal::new(Reason::CertificateRequired, "the proof of the seal is wrong or too old");
        let now = self.broker.clock().now();
        if wire.challenge.len() != 32
            || now.distance(mayfly_domain::UnixMillis(wire.now_ms)) > defaults::NONCE_LIFE_MS
        {
            return Err(no());
        }
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.proof_key.expose());
        ring::hmac::verify(&key, &proof_input(wire), &wire.proof).map_err(|_| no())
    }
}
