//! A CI job that speaks the protocol itself, so that a test may bend any part of it.

use mayfly_client::evidence::audience;
use mayfly_client::proof::{dpop, envelope};
use mayfly_client::{Failure, KeyHome, KeyScope, Target, WorkloadKey, channel};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{TrustDomain, UnixMillis};
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use mayfly_testkit::issuer::StandInIssuer;
use prost::Message as _;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tonic::transport::Channel;
use url::Url;

use super::site::Site;

/// What the stand-in says of a job.
pub(crate) type Spec = mayfly_standin::Job;

/// The URL that DPoP proofs are for.
pub(crate) const API: &str = "https://api.acme.internal/";

static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

/// A job.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) rpc: WorkloadServiceClient<Channel>,
    pub(crate) key: Arc<WorkloadKey>,
    pub(crate) spec: Spec,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) issuer: Arc<StandInIssuer>,
    iss: Option<String>,
    clock: SharedClock,
}

/// A new key in the deployment's directory.
pub(crate) fn new_key(site: &Site) -> WorkloadKey {
    let n = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
    let home = KeyHome::at(site.path("keys")).unwrap();
    let scope =
        KeyScope { trust_domain: site.trust_domain.clone(), issuer: "test".into(), task: n.to_string() };
    home.key(&scope).unwrap()
}

impl Job {
    pub(crate) async fn new(site: &Site, target: &Target, spec: &Spec) -> Self {
        Self::over(site, channel::connect(target).await.unwrap(), spec)
    }

    /// A job on a connection that others may use too.
    pub(crate) fn over(site: &Site, channel: Channel, spec: &Spec) -> Self {
        Self {
            rpc: WorkloadServiceClient::new(channel),
            key: Arc::new(new_key(site)),
            spec: spec.clone(),
            trust_domain: site.trust_domain.clone(),
            issuer: site.issuer.clone(),
            iss: site.issuer_url(),
            clock: site.clock.clone(),
        }
    }

    /// Goes on at another broker, with the same key.
    pub(crate) async fn go_to(&mut self, target: &Target) {
        self.rpc = WorkloadServiceClient::new(channel::connect(target).await.unwrap());
    }

    /// The claims of a new token for an audience.
    pub(crate) fn claims(&self, audience: &str) -> Map<String, Value> {
        let mut claims = mayfly_standin::github_claims(&self.spec, audience, self.clock.now());
        if let Some(iss) = &self.iss {
            claims.insert("iss".to_owned(), iss.as_str().into());
        }
        claims
    }

    /// A new token of the CI provider, for this job's key.
    pub(crate) fn evidence(&self) -> String {
        let audience = audience(&self.trust_domain, &self.key.public().thumbprint());
        self.issuer.sign(&self.claims(&audience))
    }

    pub(crate) async fn nonce(&self) -> Result<Vec<u8>, Failure> {
        Ok(self.rpc.clone().get_nonce(pb::GetNonceRequest {}).await?.into_inner().nonce)
    }

    /// An envelope with a new nonce.
    pub(crate) async fn envelope(&self, rpc: &str, payload: Vec<u8>) -> Result<pb::Envelope, Failure> {
        let nonce = self.nonce().await?;
        Ok(envelope(&self.key, &self.trust_domain, rpc, nonce, payload).unwrap())
    }

    /// Mints for this profile with new evidence.
    pub(crate) async fn mint(&self, profile: &str, intent: &str) -> Result<pb::MintResponse, Failure> {
        self.mint_with(&self.evidence(), profile, intent, 0).await
    }

    /// Mints with this evidence.
    pub(crate) async fn mint_with(
        &self,
        evidence: &str,
        profile: &str,
        intent: &str,
        ttl_s: u32,
    ) -> Result<pb::MintResponse, Failure> {
        let request = pb::MintRequest {
            evidence: Some(oidc(evidence)),
            profile: profile.to_owned(),
            intent: intent.to_owned(),
            ttl_s,
            ..Default::default()
        };
        let envelope = self.envelope(rpc::MINT, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().mint(envelope).await?.into_inner())
    }

    pub(crate) async fn renew(&self, lease: &str) -> Result<pb::MintResponse, Failure> {
        let request = pb::RenewRequest {
            evidence: Some(oidc(&self.evidence())),
            lease: lease.to_owned(),
            ..Default::default()
        };
        let envelope = self.envelope(rpc::RENEW, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().renew(envelope).await?.into_inner())
    }

    pub(crate) async fn release(&self, lease: &str) -> Result<pb::ReleaseResponse, Failure> {
        let request = pb::ReleaseRequest { evidence: Some(oidc(&self.evidence())), lease: lease.to_owned() };
        let envelope = self.envelope(rpc::RELEASE, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().release(envelope).await?.into_inner())
    }

    pub(crate) async fn complete(&self) -> Result<pb::CompleteTaskResponse, Failure> {
        let request = pb::CompleteTaskRequest { evidence: Some(oidc(&self.evidence())) };
        let envelope = self.envelope(rpc::COMPLETE_TASK, request.encode_to_vec()).await?;
        Ok(self.rpc.clone().complete_task(envelope).await?.into_inner())
    }

    /// A proof for `GET` of [`API`] with this token.
    pub(crate) fn proof(&self, token: &str) -> String {
        proof_of(&self.key, token, self.clock.now())
    }
}

/// A key's proof for `GET` of [`API`] with this token.
pub(crate) fn proof_of(key: &WorkloadKey, token: &str, now: UnixMillis) -> String {
    dpop(key, "GET", &Url::parse(API).unwrap(), token, now).unwrap()
}

/// Evidence that is an OIDC token.
pub(crate) fn oidc(token: &str) -> pb::Evidence {
    pb::Evidence { kind: Some(pb::evidence::Kind::OidcToken(token.to_owned())) }
}
