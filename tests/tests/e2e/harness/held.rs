//! A workload's certificate in the test's own hands: presented in handshakes, and evidence for what it renews and mints.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_client::proof::envelope;
use mayfly_client::{Failure, Target, WorkloadKey, channel};
use mayfly_domain::TrustDomain;
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use mayfly_testkit::x509::pem;
use prost::Message as _;
use tonic::transport::Channel;

use super::job::Job;
use super::node::Node;
use super::site::Site;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A certificate with its key.
pub(crate) struct Held {
    pub(crate) minted: pb::MintResponse,
    pub(crate) key: Arc<WorkloadKey>,
    pub(crate) files: (PathBuf, PathBuf),
    trust_domain: TrustDomain,
}

impl Held {
    /// Takes what was minted for this key.
    pub(crate) fn new(site: &Site, minted: pb::MintResponse, key: Arc<WorkloadKey>) -> Self {
        let stem = site.path(&format!("held-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let files = (stem.with_extension("crt"), stem.with_extension("key"));
        let chain: String = minted.certificates.iter().map(|der| pem(der)).collect();
        std::fs::write(&files.0, chain).unwrap();
        std::fs::write(&files.1, key.pem().expose()).unwrap();
        Self { minted, key, files, trust_domain: site.trust_domain.clone() }
    }

    /// A job's own, minted with first evidence.
    pub(crate) async fn first(site: &Site, job: &Job) -> Self {
        let minted = job.mint("load-tls", "use:load").await.unwrap();
        Self::new(site, minted, job.key.clone())
    }

    /// The certificate itself.
    pub(crate) fn leaf(&self) -> &[u8] {
        &self.minted.certificates[0]
    }

    /// How a broker is reached with it.
    pub(crate) fn target(&self, node: &Node) -> Target {
        node.target(Some(self.files.clone()))
    }

    /// A connection of it.
    pub(crate) async fn at(&self, node: &Node) -> Result<Over, Failure> {
        let channel = channel::connect(&self.target(node)).await?;
        Ok(Over {
            rpc: WorkloadServiceClient::new(channel),
            lease: self.minted.lease.clone(),
            trust_domain: self.trust_domain.clone(),
        })
    }
}

/// A connection whose evidence is the certificate that opened it.
#[derive(Clone)]
pub(crate) struct Over {
    pub(crate) rpc: WorkloadServiceClient<Channel>,
    lease: String,
    trust_domain: TrustDomain,
}

/// Evidence that is the connection's own certificate.
fn itself() -> Option<pb::Evidence> {
    Some(pb::Evidence { kind: Some(pb::evidence::Kind::Mtls(pb::MtlsCertificate {})) })
}

impl Over {
    async fn envelope(
        &self,
        key: &WorkloadKey,
        rpc: &str,
        payload: Vec<u8>,
    ) -> Result<pb::Envelope, Failure> {
        let nonce = self.rpc.clone().get_nonce(pb::GetNonceRequest {}).await?.into_inner().nonce;
        Ok(envelope(key, &self.trust_domain, rpc, nonce, payload).unwrap())
    }

    /// Mints for `key` what descends from the certificate.
    pub(crate) async fn mint(
        &self,
        key: &WorkloadKey,
        profile: &str,
        ttl_s: u32,
    ) -> Result<pb::MintResponse, Failure> {
        let request = pb::MintRequest {
            evidence: itself(),
            profile: profile.to_owned(),
            intent: "use:load".to_owned(),
            ttl_s,
            ..Default::default()
        };
        let envelope = self.envelope(key, rpc::MINT, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().mint(envelope).await?.into_inner())
    }

    /// Renews the certificate's lease, from now on for `key`.
    pub(crate) async fn renew(&self, key: &WorkloadKey) -> Result<pb::MintResponse, Failure> {
        let request =
            pb::RenewRequest { evidence: itself(), lease: self.lease.clone(), ..Default::default() };
        let envelope = self.envelope(key, rpc::RENEW, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().renew(envelope).await?.into_inner())
    }

    /// Ends the certificate's lease.
    pub(crate) async fn release(&self, key: &WorkloadKey) -> Result<pb::ReleaseResponse, Failure> {
        let request = pb::ReleaseRequest { evidence: itself(), lease: self.lease.clone() };
        let envelope = self.envelope(key, rpc::RELEASE, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().release(envelope).await?.into_inner())
    }
}
