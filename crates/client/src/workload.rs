//! A workload's calls: each signed by its key, with evidence, over a nonce that the last answer gave.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{
    CredentialKind, Deadline, Intent, LeaseId, Reason, Secret, TaskReason, TrustDomain, Ttl,
};
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use prost::Message;
use tonic::{Request, Response, Status};

use crate::channel;
use crate::context::Target;
use crate::evidence::{Evidence, Source};
use crate::failure::Failure;
use crate::grpc::RotatingChannel;
use crate::keys::{KeyHome, WorkloadKey};
use crate::proof::envelope;
use crate::retry::{self, until};
use crate::svid::Svid;

mod answers;
mod line;

pub(crate) use answers::handle;
pub use answers::{Ask, CertificateAsk, Credential, Minted, Started};
pub(crate) use line::Line;

use answers::Answer;

/// How long before its expiry a token is not shown any more, in milliseconds.
const EVIDENCE_REST_MS: u64 = 30_000;

type Rpc = WorkloadServiceClient<RotatingChannel>;

/// A workload's client of one broker, for one task.
pub struct WorkloadClient {
    line: Line,
    key: Arc<WorkloadKey>,
    source: Arc<Source>,
    clock: SharedClock,
    evidence: tokio::sync::Mutex<Option<Arc<Evidence>>>,
    patience: Duration,
}

impl std::fmt::Debug for WorkloadClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkloadClient({}, {:?}, {})", self.line.trust_domain, self.key, self.source.describe())
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
        let line = Line::connect(target, retry::CALL).await?;
        let key = home.key(&source.scope(&line.trust_domain)?)?;
        Ok(Self::over(line, Arc::new(source), Arc::new(key), clock))
    }

    pub(crate) fn over(line: Line, source: Arc<Source>, key: Arc<WorkloadKey>, clock: SharedClock) -> Self {
        let evidence = tokio::sync::Mutex::new(None);
        Self { line, key, source, clock, evidence, patience: retry::CALL }
    }

    /// How long each call may take, with what is tried again.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The task's key.
    pub fn key(&self) -> &WorkloadKey {
        &self.key
    }

    /// The broker's trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.line.trust_domain
    }

    pub(crate) fn clock(&self) -> SharedClock {
        Arc::clone(&self.clock)
    }

    /// Mints an access token; opens or joins the task that the evidence names.
    ///
    /// # Errors
    /// The refusal; `KIND_MISMATCH` where the profile gives another kind of credential.
    pub async fn mint(&self, ask: &Ask) -> Result<Minted, Failure> {
        self.mint_answer(ask, Some(CredentialKind::Token)).await?.try_into()
    }

    /// Mints whatever the profile gives, a certificate for the task's key.
    ///
    /// # Errors
    /// The refusal.
    pub async fn mint_any(&self, ask: &Ask) -> Result<Credential, Failure> {
        let answer = self.mint_answer(ask, None).await?;
        if answer.certificates.is_empty() {
            return answer.try_into().map(|minted| Credential::Token(Box::new(minted)));
        }
        let svid = Svid::new(answer, Arc::clone(&self.key), self.clock.now())?;
        Ok(Credential::Certificate(Box::new(svid)))
    }

    async fn mint_answer(
        &self,
        ask: &Ask,
        kind: Option<CredentialKind>,
    ) -> Result<pb::MintResponse, Failure> {
        let payload = |evidence| pb::MintRequest {
            evidence,
            kind: kind.map(CredentialKind::as_str).unwrap_or_default().to_owned(),
            scopes: ask.scopes.iter().map(ToString::to_string).collect(),
            ..answers::mint_request(&ask.profile, ask.intent.as_ref(), ask.reason.as_ref(), ask.ttl)
        };
        self.call(rpc::MINT, payload, |mut rpc, call| async move { rpc.mint(call).await }).await
    }

    /// Renews an access token's lease with the key that minted it.
    ///
    /// # Errors
    /// The refusal.
    pub async fn renew(&self, lease: LeaseId, ttl: Option<Ttl>) -> Result<Minted, Failure> {
        self.renew_any(lease, ttl).await?.try_into()
    }

    /// Mints a certificate for the task's key.
    ///
    /// # Errors
    /// The refusal; `KIND_MISMATCH` where the profile gives another kind of credential.
    pub async fn mint_certificate(&self, ask: &CertificateAsk) -> Result<Svid, Failure> {
        let named = |dns: bool| {
            ask.names.iter().filter(move |n| n.as_dns().is_some() == dns).map(ToString::to_string).collect()
        };
        let payload = |evidence| pb::MintRequest {
            evidence,
            dns_names: named(true),
            ip_addresses: named(false),
            completion_handle: ask.completion_handle,
            csr: ask.csr.clone().unwrap_or_default(),
            kind: CredentialKind::X509.as_str().to_owned(),
            ..answers::mint_request(&ask.profile, ask.intent.as_ref(), ask.reason.as_ref(), ask.ttl)
        };
        let answer =
            self.call(rpc::MINT, payload, |mut rpc, call| async move { rpc.mint(call).await }).await?;
        Svid::new(answer, Arc::clone(&self.key), self.clock.now())
    }

    /// Renews a certificate's lease: for this client's key, which over the live certificate may be a new one.
    ///
    /// # Errors
    /// The refusal.
    pub async fn renew_certificate(&self, lease: LeaseId, ttl: Option<Ttl>) -> Result<Svid, Failure> {
        Svid::new(self.renew_any(lease, ttl).await?, Arc::clone(&self.key), self.clock.now())
    }

    async fn renew_any(&self, lease: LeaseId, ttl: Option<Ttl>) -> Result<pb::MintResponse, Failure> {
        let payload = |evidence| pb::RenewRequest {
            evidence,
            lease: lease.to_string(),
            ttl_s: ttl.map(Ttl::as_secs).unwrap_or_default(),
            csr: Vec::new(),
        };
        self.call(rpc::RENEW, payload, |mut rpc, call| async move { rpc.renew(call).await }).await
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
        self.call(rpc::RELEASE, payload, |mut rpc, call| async move { rpc.release(call).await }).await
    }

    /// Opens the task that the evidence names, or joins it; with `handle` also a handle that can complete it.
    ///
    /// # Errors
    /// The refusal.
    pub async fn start_task(
        &self,
        intent: Option<&Intent>,
        reason: Option<&TaskReason>,
        window: Option<Ttl>,
        handle: bool,
    ) -> Result<Started, Failure> {
        let payload = |evidence| pb::StartTaskRequest {
            evidence,
            intent: intent.map(ToString::to_string).unwrap_or_default(),
            reason: reason.map(ToString::to_string).unwrap_or_default(),
            window_s: window.map(Ttl::as_secs).unwrap_or_default(),
            completion_handle: handle,
        };
        let send = |mut rpc: Rpc, call| async move { rpc.start_task(call).await };
        Ok(self.call(rpc::START_TASK, payload, send).await?.into())
    }

    /// Ends the task and everything that was minted for it, then removes the key where new evidence can be had
    /// for another. A token that belongs to its first key keeps it, or completing twice would look like theft.
    ///
    /// # Errors
    /// The refusal; the key stays.
    pub async fn complete_task(&self) -> Result<pb::CompleteTaskResponse, Failure> {
        let payload = |evidence| pb::CompleteTaskRequest { evidence };
        let send = |mut rpc: Rpc, call| async move { rpc.complete_task(call).await };
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
        self.call(rpc::GET_TASK, payload, |mut rpc, call| async move { rpc.get_task(call).await }).await
    }

    /// Makes one call; once more with new evidence, where the broker asks for that and the source gives it, or over
    /// the next connection, where the certificate of this one was renewed meanwhile.
    async fn call<P: Message, R: Answer, F: Future<Output = Result<Response<R>, Status>>>(
        &self,
        name: &str,
        payload: impl Fn(Option<pb::Evidence>) -> P,
        send: impl Fn(Rpc, Request<pb::Envelope>) -> F,
    ) -> Result<R, Failure> {
        let deadline = Deadline::after(self.patience);
        let once = |left| self.once(left, name, &payload, &send);
        let mut newer = self.line.channel.newer();
        match until(deadline, once).await {
            Err(failed) if was_renewed(&failed) && newer.came().await => until(deadline, once).await,
            Err(failed) if wants_new_evidence(&failed) && self.source.gives_fresh() => {
                *self.evidence.lock().await = None;
                until(deadline, once).await
            }
            other => other,
        }
    }

    async fn once<P: Message, R: Answer, F: Future<Output = Result<Response<R>, Status>>>(
        &self,
        left: Duration,
        name: &str,
        payload: &impl Fn(Option<pb::Evidence>) -> P,
        send: &impl Fn(Rpc, Request<pb::Envelope>) -> F,
    ) -> Result<R, Failure> {
        let evidence = self.evidence().await?;
        let nonce = self.line.nonce(left).await?;
        let domain = &self.line.trust_domain;
        let evidence = evidence.wire(domain, &nonce, &self.key.public().thumbprint())?;
        let payload = payload(Some(evidence)).encode_to_vec();
        let mut request = Request::new(envelope(&self.key, domain, name, nonce, payload)?);
        request.set_timeout(left);
        let mut answer = send(self.line.rpc.clone(), request).await?.into_inner();
        self.line.nonces.keep(answer.take_nonce());
        Ok(answer)
    }

    async fn evidence(&self) -> Result<Arc<Evidence>, Failure> {
        let mut held = self.evidence.lock().await;
        let soon = self.clock.now().plus(EVIDENCE_REST_MS);
        let usable =
            |e: &Arc<Evidence>| self.source.gives_fresh() && e.expires().is_some_and(|end| end > soon);
        let evidence = match held.take().filter(usable) {
            Some(evidence) => evidence,
            None => {
                let key = self.key.public().thumbprint();
                Arc::new(self.source.fetch(&self.line.trust_domain, &key).await?)
            }
        };
        Ok(Arc::clone(held.insert(evidence)))
    }
}

/// The trust domain of the broker that the pin proves.
///
/// # Errors
/// Why there is no connection, or no answer.
pub async fn trust_domain(target: &Target) -> Result<TrustDomain, Failure> {
    Ok(Line::connect(target, retry::CALL).await?.trust_domain)
}

/// Ends the one task that a completion handle names; no key and no evidence is needed.
///
/// # Errors
/// The refusal, `COMPLETION_HANDLE_INVALID` above all.
pub async fn complete_by_handle(
    target: &Target,
    handle: &Secret<String>,
    patience: Duration,
) -> Result<pb::CompleteTaskByHandleResponse, Failure> {
    let deadline = Deadline::after(patience);
    // The handle is all that counts; a certificate of the context may be over by now.
    let target = Target { identity: None, ..target.clone() };
    let channel = until(deadline, |_| channel::connect(&target)).await?;
    let rpc = WorkloadServiceClient::new(channel);
    until(deadline, |left| {
        let mut call = Request::new(pb::CompleteTaskByHandleRequest { handle: handle.expose().clone() });
        call.set_timeout(left);
        let mut rpc = rpc.clone();
        async move { Ok(rpc.complete_task_by_handle(call).await?.into_inner()) }
    })
    .await
}

/// Whether the connection's certificate may be one that its lease has left behind.
fn was_renewed(failed: &Failure) -> bool {
    matches!(failed.reason, Some(Reason::CertificateNotAllowed | Reason::LeaseOfAnother))
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
