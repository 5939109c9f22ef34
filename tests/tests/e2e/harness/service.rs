//! A service with a certificate, which speaks the protocol itself over a connection of its own.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_client::proof::envelope;
use mayfly_client::{Failure, WorkloadKey, channel};
use mayfly_domain::TrustDomain;
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;

use super::node::Node;
use super::site::Site;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A service, connected with its certificate.
pub(crate) struct Service {
    pub(crate) rpc: WorkloadServiceClient<Channel>,
    pub(crate) files: (PathBuf, PathBuf),
    pub(crate) lease: String,
    pub(crate) leaf: Vec<u8>,
    pub(crate) trust_domain: TrustDomain,
}

/// The evidence that the connection is.
fn mtls() -> Option<pb::Evidence> {
    Some(pb::Evidence { kind: Some(pb::evidence::Kind::Mtls(pb::MtlsCertificate {})) })
}

impl Service {
    /// Connects with the certificate of an answer, which was made for `key`.
    pub(crate) async fn connect(
        site: &Site,
        node: &Node,
        answer: &pb::MintResponse,
        key: &WorkloadKey,
    ) -> Self {
        let stem = site.path(&format!("service-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let files = (stem.with_extension("crt"), stem.with_extension("key"));
        let chain = answer
            .certificates
            .iter()
            .map(|der| mayfly_mint::keyring::pem(&CertificateDer::from(der.as_slice())));
        std::fs::write(&files.0, chain.collect::<String>()).unwrap();
        std::fs::write(&files.1, key.pem().expose()).unwrap();
        let target = node.target(Some(files.clone()));
        Self {
            rpc: WorkloadServiceClient::new(channel::connect(&target).await.unwrap()),
            files,
            lease: answer.lease.clone(),
            leaf: answer.certificates[0].clone(),
            trust_domain: site.trust_domain.clone(),
        }
    }

    async fn sealed(&self, key: &WorkloadKey, rpc: &str, payload: Vec<u8>) -> Result<pb::Envelope, Failure> {
        let nonce = self.rpc.clone().get_nonce(pb::GetNonceRequest {}).await?.into_inner().nonce;
        Ok(envelope(key, &self.trust_domain, rpc, nonce, payload).unwrap())
    }

    /// Renews its own lease; `key` signs the call and is the lease's from then on.
    pub(crate) async fn renew(&self, key: &WorkloadKey) -> Result<pb::MintResponse, Failure> {
        self.renew_lease(key, &self.lease).await
    }

    pub(crate) async fn renew_lease(
        &self,
        key: &WorkloadKey,
        lease: &str,
    ) -> Result<pb::MintResponse, Failure> {
        let request = pb::RenewRequest { evidence: mtls(), lease: lease.to_owned(), ..Default::default() };
        let envelope = self.sealed(key, rpc::RENEW, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().renew(envelope).await?.into_inner())
    }

    /// Mints a child.
    pub(crate) async fn mint(
        &self,
        key: &WorkloadKey,
        profile: &str,
        intent: &str,
    ) -> Result<pb::MintResponse, Failure> {
        let request = pb::MintRequest {
            evidence: mtls(),
            profile: profile.to_owned(),
            intent: intent.to_owned(),
            ..Default::default()
        };
        let envelope = self.sealed(key, rpc::MINT, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().mint(envelope).await?.into_inner())
    }
}
