//! A workload's calls: each signed by its key, with evidence, over a nonce that the last answer gave.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{
    Deadline, Intent, LeaseId, ProfileName, Reason, Scopes, Secret, TaskReason, TrustDomain, Ttl, UnixMillis,
    defaults,
};
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::channel;
use crate::context::Target;
use crate::evidence::{Evidence, Source};
use crate::failure::Failure;
use crate::keys::{KeyHome, WorkloadKey};
use crate::proof::envelope;
use crate::retry::{self, until};

/// How long a nonce is used after it came, so that it is still young when it arrives.
const NONCE_USE: Duration = Duration::from_millis(defaults::NONCE_LIFE_MS - 15_000);
/// How long before its expiry a token is not shown any more, in milliseconds.
const EVIDENCE_REST_MS: u64 = 30_000;

type Rpc = WorkloadServiceClient<Channel>;

/// What a workload asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The profile.
    pub profile: ProfileName,
    /// What it is for; may be left out where the profile lists exactly one.
    pub intent: Option<Intent>,
    /// Words for people.
    pub reason: Option<TaskReason>,
    /// How long it should live; none: the profile's default.
    pub ttl: Option<Ttl>,
    /// The scopes; none: all that the profile grants.
    pub scopes: Scopes,
}

/// A credential and its lease.
#[derive(Debug)]
pub struct Minted {
    /// The compact access token.
    pub token: Secret<String>,
    /// The lease.
    pub lease: String,
    /// When the token ends, whatever happens.
    pub expires: UnixMillis,
    /// Until when the lease may be renewed.
    pub renewable_until: UnixMillis,
    /// The task that it belongs to.
    pub task: Option<pb::Task>,
    /// What it permits.
    pub scopes: Vec<String>,
    /// Whom it is for.
    pub audience: String,
    /// How it is bound: `dpop`, `mtls` or `bearer`.
    pub binding: String,
    /// The request's id.
    pub request: String,
    /// What the broker warns of.
    pub warnings: Vec<String>,
}

impl From<pb::MintResponse> for Minted {
    fn from(r: pb::MintResponse) -> Self {
        Self {
            token: Secret::new(r.credential),
            lease: r.lease,
            expires: UnixMillis(r.expires_ms),
            renewable_until: UnixMillis(r.renewable_until_ms),
            task: r.task,
            scopes: r.scopes,
            audience: r.audience,
            binding: r.binding,
            request: r.request,
            warnings: r.warnings,
        }
    }
}

/// An answer that carries the next call's nonce.
trait Answer {
    fn take_nonce(&mut self) -> Vec<u8>;
}

macro_rules! answers {
    ($($name:ident),*) => {
        $(impl Answer for pb::$name {
            fn take_nonce(&mut self) -> Vec<u8> {
                std::mem::take(&mut self.next_nonce)
            }
        })*
    };
}
answers!(MintResponse, ReleaseResponse, StartTaskResponse, CompleteTaskResponse, GetTaskResponse);

/// A workload's client of one broker, for one task.
pub struct WorkloadClient {
    rpc: Rpc,
    trust_domain: TrustDomain,
    key: WorkloadKey,
    source: Source,
    clock: SharedClock,
    nonce: Mutex<Option<(Vec<u8>, Deadline)>>,
    evidence: tokio::sync::Mutex<Option<Evidence>>,
    patience: Duration,
}

impl std::fmt::Debug for WorkloadClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkloadClient({}, {:?}, {})", self.trust_domain, self.key, self.source.describe())
    }
}

impl WorkloadClient {
    /// Connects, learns the trust domain from the broker that the pin proves, and takes the task's key.
    ///
    /// # Errors
    /// Why there is no connection, no evidence, or no home for the key.
    pub async fn connect(
        target: &Target,
        source: Source,
        home: &KeyHome,
        clock: SharedClock,
    ) -> Result<Self, Failure> {
        let deadline = Deadline::after(retry::CALL);
        let channel = until(deadline, async |_| channel::connect(target).await).await?;
        let rpc = WorkloadServiceClient::new(channel).max_decoding_message_size(channel::ANSWER_OCTETS_MAX);
        let first = until(deadline, async |left| nonce(rpc.clone(), left).await).await?;
        let trust_domain = TrustDomain::parse(&first.trust_domain)?;
        if target.trust_domain.as_ref().is_some_and(|ours| *ours != trust_domain) {
            return Err(Failure::of(Reason::BrokerUntrusted).fact("trust domain", trust_domain.as_str()));
        }
        let key = home.key(&source.scope(&trust_domain)?)?;
        Ok(Self {
            rpc,
            trust_domain,
            key,
            source,
            clock,
            nonce: Mutex::new(Some((first.nonce, Deadline::after(NONCE_USE)))),
            evidence: tokio::sync::Mutex::new(None),
            patience: retry::CALL,
        })
    }

    /// How long each call may take, with what is tried again.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The task's key.
    pub const fn key(&self) -> &WorkloadKey {
        &self.key
    }

    /// The broker's trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Mints a credential; opens or joins the task that the evidence names.
    ///
    /// # Errors
    /// The refusal.
    pub async fn mint(&self, ask: &Ask) -> Result<Minted, Failure> {
        let payload = |evidence| pb::MintRequest {
            evidence,
            profile: ask.profile.to_string(),
            intent: ask.intent.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: ask.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
            ttl_s: ask.ttl.map(Ttl::as_secs).unwrap_or_default(),
            scopes: ask.scopes.iter().map(ToString::to_string).collect(),
            ..pb::MintRequest::default()
        };
        let send = async |mut rpc: Rpc, call| rpc.mint(call).await;
        Ok(self.call(rpc::MINT, payload, send).await?.into())
    }

    /// Renews a lease with the key that minted it.
    ///
    /// # Errors
    /// The refusal.
    pub async fn renew(&self, lease: LeaseId, ttl: Option<Ttl>) -> Result<Minted, Failure> {
        let payload = |evidence| pb::RenewRequest {
            evidence,
            lease: lease.to_string(),
            ttl_s: ttl.map(Ttl::as_secs).unwrap_or_default(),
            csr: Vec::new(),
        };
        let send = async |mut rpc: Rpc, call| rpc.renew(call).await;
        Ok(self.call(rpc::RENEW, payload, send).await?.into())
    }

    /// Ends one lease, or every lease that this key holds in its task.
    ///
    /// # Errors
    /// The refusal.
    pub async fn release(&self, lease: Option<LeaseId>) -> Result<pb::ReleaseResponse, Failure> {
        let payload = |evidence| pb::ReleaseRequest {
            evidence,
            lease: lease.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let send = async |mut rpc: Rpc, call| rpc.release(call).await;
        self.call(rpc::RELEASE, payload, send).await
    }

    /// Opens the task that the evidence names, or joins it.
    ///
    /// # Errors
    /// The refusal.
    pub async fn start_task(
        &self,
        intent: Option<&Intent>,
        reason: Option<&TaskReason>,
        window: Option<Ttl>,
    ) -> Result<pb::StartTaskResponse, Failure> {
        let payload = |evidence| pb::StartTaskRequest {
            evidence,
            intent: intent.map(ToString::to_string).unwrap_or_default(),
            reason: reason.map(ToString::to_string).unwrap_or_default(),
            window_s: window.map(Ttl::as_secs).unwrap_or_default(),
            completion_handle: false,
        };
        let send = async |mut rpc: Rpc, call| rpc.start_task(call).await;
        self.call(rpc::START_TASK, payload, send).await
    }

    /// Ends the task and everything that was minted for it, then removes the key where new evidence can be had
    /// for another. A token that belongs to its first key keeps it, or completing twice would look like theft.
    ///
    /// # Errors
    /// The refusal; the key stays.
    pub async fn complete_task(self) -> Result<pb::CompleteTaskResponse, Failure> {
        let payload = |evidence| pb::CompleteTaskRequest { evidence };
        let send = async |mut rpc: Rpc, call| rpc.complete_task(call).await;
        let done = self.call(rpc::COMPLETE_TASK, payload, send).await?;
        if self.source.gives_fresh()
            && let Err(kept) = self.key.forget()
        {
            tracing::warn!(problem = ?kept.facts, "the key of the ended task could not be removed");
        }
        Ok(done)
    }

    /// The task and this workload's leases in it.
    ///
    /// # Errors
    /// The refusal.
    pub async fn task(&self) -> Result<pb::GetTaskResponse, Failure> {
        let payload = |evidence| pb::GetTaskRequest { evidence };
        let send = async |mut rpc: Rpc, call| rpc.get_task(call).await;
        self.call(rpc::GET_TASK, payload, send).await
    }

    /// Makes one call; once more with new evidence, where the broker asks for that and the source gives it.
    async fn call<P: Message, R: Answer>(
        &self,
        name: &str,
        payload: impl Fn(Option<pb::Evidence>) -> P,
        send: impl AsyncFn(Rpc, Request<pb::Envelope>) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        let deadline = Deadline::after(self.patience);
        let once = async |left| {
            let payload = payload(Some(self.evidence().await?)).encode_to_vec();
            let nonce = self.nonce(left).await?;
            let envelope = envelope(&self.key, &self.trust_domain, name, nonce, payload)?;
            let mut request = Request::new(envelope);
            request.set_timeout(left);
            let mut answer = send(self.rpc.clone(), request).await?.into_inner();
            self.keep(answer.take_nonce());
            Ok(answer)
        };
        match until(deadline, once).await {
            Err(failed) if wants_new_evidence(&failed) && self.source.gives_fresh() => {
                *self.evidence.lock().await = None;
                until(deadline, once).await
            }
            other => other,
        }
    }

    async fn evidence(&self) -> Result<pb::Evidence, Failure> {
        let mut held = self.evidence.lock().await;
        let soon = self.clock.now().plus(EVIDENCE_REST_MS);
        let usable = |e: &Evidence| self.source.gives_fresh() && e.expires().is_some_and(|end| end > soon);
        let evidence = match held.take().filter(usable) {
            Some(evidence) => evidence,
            None => self.source.fetch(&self.trust_domain, &self.key.public().thumbprint()).await?,
        };
        let evidence = held.insert(evidence);
        let kind = pb::evidence::Kind::OidcToken(evidence.token().expose().clone());
        Ok(pb::Evidence { kind: Some(kind) })
    }

    async fn nonce(&self, left: Duration) -> Result<Vec<u8>, Failure> {
        let held = self.nonce.lock().unwrap_or_else(PoisonError::into_inner).take();
        match held {
            Some((octets, good_until)) if !good_until.has_passed() => Ok(octets),
            _ => Ok(nonce(self.rpc.clone(), left).await?.nonce),
        }
    }

    fn keep(&self, nonce: Vec<u8>) {
        if !nonce.is_empty() {
            *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((nonce, Deadline::after(NONCE_USE)));
        }
    }
}

/// The trust domain of the broker that the pin proves.
///
/// # Errors
/// Why there is no connection, or no answer.
pub async fn trust_domain(target: &Target) -> Result<TrustDomain, Failure> {
    let rpc = WorkloadServiceClient::new(channel::connect(target).await?);
    Ok(TrustDomain::parse(&nonce(rpc, retry::CALL).await?.trust_domain)?)
}

async fn nonce(mut rpc: Rpc, left: Duration) -> Result<pb::GetNonceResponse, Failure> {
    let mut request = Request::new(pb::GetNonceRequest {});
    request.set_timeout(left);
    Ok(rpc.get_nonce(request).await?.into_inner())
}

fn wants_new_evidence(failed: &Failure) -> bool {
    matches!(
        failed.reason,
        Some(
            Reason::EvidencePredatesRevocation | Reason::EvidencePredatesGeneration | Reason::EvidenceExpired
        )
    )
}

#[cfg(test)]
mod tests;
