//! `mayfly operator issue` and `mayfly acceptor issue`: on a host that can open the seal, through the running
//! broker's socket, or with the store directly where no broker runs here.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use mayfly_broker::{
    Call, LOCAL_PROOF_LABEL, NoMeter, RequestId, StaffIssued, StaffKind, StaffRequest, Standing,
};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{LeaseId, Reason, Refusal, Ttl, UnixMillis};
use mayfly_proto::v1;
use mayfly_proto::v1::local_service_client::LocalServiceClient;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use crate::compose::{IssuerKeys, compose, open_seal};
use crate::config;
use crate::local;
use crate::services::local_proof;

/// An issued certificate, and what its holder needs to know of the broker.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: StaffIssued,
    /// The settings that it was issued under.
    pub settings: config::Settings,
}

/// Issues a certificate for the public key `spki`.
///
/// # Errors
/// A refusal of the configuration, the seal, the broker or the store.
pub async fn issue(
    config_file: &Path,
    kind: StaffKind,
    spki: Vec<u8>,
    ttl: Option<Ttl>,
    clock: &SharedClock,
) -> Result<Issued, Refusal> {
    let loaded = config::load(config_file, std::env::vars()).map_err(|e| e.refusal())?;
    let settings = loaded.settings.clone();
    let socket = local::socket(&settings.state_dir);
    let certificate = match UnixStream::connect(&socket).await {
        Ok(stream) => through_socket(stream, &settings, &kind, spki, ttl, clock.now()).await?,
        Err(_) => {
            let source = mayfly_attestors::keys::StaticKeys::default();
            let composed = compose(loaded, &IssuerKeys::Given(source), Arc::new(NoMeter), clock).await?;
            composed.broker.look().await;
            let standing = composed.broker.standing().borrow().clone();
            if let (Some(refusal), false) = (standing.refusal(), standing == Standing::Serving) {
                return Err(refusal);
            }
            let call = Call { request: RequestId::new(clock.now()), peer: None };
            let issued = composed.broker.issue_staff(&call, &StaffRequest { kind, spki, ttl }).await;
            composed.broker.audit().close().await;
            issued?
        }
    };
    Ok(Issued { certificate, settings })
}

async fn through_socket(
    stream: UnixStream,
    settings: &config::Settings,
    kind: &StaffKind,
    spki: Vec<u8>,
    ttl: Option<Ttl>,
    now: UnixMillis,
) -> Result<StaffIssued, Refusal> {
    let internal = |e: String| Refusal::new(Reason::BrokerUnreachable, e);
    let key = open_seal(settings)?.derive(LOCAL_PROOF_LABEL).map_err(|e| internal(e.to_string()))?;
    let mut challenge = vec![0; 32];
    SystemRandom::new()
        .fill(&mut challenge)
        .map_err(|_| internal("the system gives no randomness".into()))?;
    let (kind, name) = match kind {
        StaffKind::Operator(name) => ("operator", name.to_string()),
        StaffKind::Acceptor(name) => ("acceptor", name.to_string()),
    };
    let mut request = v1::IssueCertificateRequest {
        kind: kind.to_owned(),
        name,
        public_key_spki: spki,
        challenge,
        now_ms: now.0,
        proof: Vec::new(),
        ttl_s: ttl.map_or(0, Ttl::as_secs),
    };
    request.proof = local_proof(&key, &request);
    let mut stream = Some(stream);
    let channel = Endpoint::from_static("http://local")
        .connect_with_connector(tower::service_fn(move |_| {
            let taken =
                stream.take().map(TokioIo::new).ok_or_else(|| std::io::Error::other("the socket was used"));
            async move { taken }
        }))
        .await
        .map_err(|e| internal(e.to_string()))?;
    let answer = LocalServiceClient::new(channel).issue_certificate(request).await;
    let answer = answer.map_err(|status| crate::status::refusal(&status))?.into_inner();
    Ok(StaffIssued {
        certificate_pem: answer.certificate_pem,
        lease: LeaseId::parse(&answer.lease)?,
        expires: UnixMillis(answer.expires_ms),
    })
}
