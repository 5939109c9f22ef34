//! Judging a credential for an acceptor, now.

use std::sync::Arc;

use mayfly_credential::{Usage, VerifiedToken, WorkloadCertificate, dpop};
use mayfly_domain::{
    Audience, Binding, CredentialKind, EndReason, LeaseId, LeaseState, Reason, Refusal, Thumbprint,
    UnixMillis,
};
use mayfly_lease::{CheckCommand, LeaseRecord, TaskState};
use mayfly_mint::KeyRing;
use mayfly_policy::RequestAsk;
use rustls_pki_types::CertificateDer;

use crate::broker::Broker;
use crate::call::Call;
use crate::request::Accepted;
use crate::staff::Acceptor;
use crate::watch::sample;

/// What an acceptor shows.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The lease of a token that the acceptor verified itself, with its proof.
    Lease(LeaseId),
    /// The token; the broker verifies everything.
    Token(String),
    /// The certificate of a workload whose key the acceptor's own handshake has seen proven; the broker verifies
    /// the rest. In DER.
    Certificate(Vec<u8>),
}

/// A question of an acceptor.
#[derive(Debug, Clone)]
pub struct CheckInput {
    /// The credential.
    pub credential: Credential,
    /// The DPoP proof that came with it.
    pub dpop: Option<String>,
    /// The key that the acceptor's own handshake has seen proven.
    pub peer: Option<Thumbprint>,
    /// The request's method.
    pub method: String,
    /// The request's URL.
    pub url: String,
    /// What the request wants; none: the credential alone is judged.
    pub request: Option<RequestAsk>,
}

/// The judgement.
#[derive(Debug)]
pub enum Checked {
    /// It is accepted.
    Accepted(Box<Accepted>),
    /// It is not, and why.
    Refused(Refusal),
}

impl Broker {
    /// Judges a credential, and where it is alive what the request wants.
    ///
    /// # Errors
    /// A refusal where there is no judgement: the broker does not serve, or the store can't be read. Then
    /// nothing is accepted.
    pub async fn check(
        &self,
        call: &Call,
        acceptor: &Acceptor,
        input: &CheckInput,
    ) -> Result<Checked, Refusal> {
        let timer = self.timer("check");
        let mut about = self.record(call, mayfly_audit::Kind::Check);
        about.acceptor = Some(acceptor.name.clone());
        if let Credential::Lease(id) = &input.credential {
            about.lease = Some(*id);
        }
        let outcome = match self.judge(acceptor, input).await {
            Ok(record) => self.judge_request(input, record, acceptor, &mut about).await,
            Err(refusal) => Err(refusal),
        };
        // Asked last, too: an answer that was slept over may have been overtaken by a revocation.
        let outcome = outcome.and_then(|accepted| {
            self.feed().fresh()?;
            Ok(accepted)
        });
        let (refused, result) = match outcome {
            Ok(accepted) => {
                // What was observed has a record, which is shown.
                if accepted.observed.is_empty() {
                    let record = || self.record(call, mayfly_audit::Kind::Check);
                    self.bus().accepted(|| sample(record(), acceptor, &accepted.record));
                }
                (None, Ok(Checked::Accepted(Box::new(accepted))))
            }
            Err(refusal) if is_judgement(refusal.reason) => {
                (Some(refusal.clone()), Ok(Checked::Refused(refusal)))
            }
            Err(refusal) => (Some(refusal.clone()), Err(refusal)),
        };
        if let Some(refusal) = &refused {
            self.deny(about, refusal).await;
        }
        self.count(timer, refused.as_ref());
        result
    }

    async fn judge(&self, acceptor: &Acceptor, input: &CheckInput) -> Result<LeaseRecord, Refusal> {
        self.serving()?;
        let keys = self.keys_now();
        match &input.credential {
            Credential::Lease(id) => {
                let command = CheckCommand { id: *id, observation: None };
                let (record, _) = self.ask(acceptor, &keys, &command).await?;
                self.only_own(acceptor, Shown::of(&record))?;
                Ok(record)
            }
            Credential::Token(token) => self.judge_token(acceptor, input, token, keys).await,
            Credential::Certificate(der) => self.judge_certificate(acceptor, der, keys).await,
        }
    }

    async fn judge_token(
        &self,
        acceptor: &Acceptor,
        input: &CheckInput,
        token: &str,
        keys: Arc<KeyRing>,
    ) -> Result<LeaseRecord, Refusal> {
        let now = self.clock().now();
        let verify = |keys: &KeyRing| self.tokens().verify(keys.verify_keys(), token, now);
        let is_foreign = |keys: &KeyRing, refusal: &Refusal| {
            refusal.reason == Reason::TokenSignature && !self.tokens().knows_key(keys.verify_keys(), token)
        };
        let (verified, keys) = self.by_newest_keys(keys, verify, is_foreign).await?;
        let VerifiedToken { audience, key, id, observation, .. } = verified;
        self.only_own(acceptor, Shown::Token(Some(&audience)))?;
        match (&key, input.dpop.as_deref()) {
            (None, _) => {}
            (Some(key), Some(proof)) => {
                let presented =
                    dpop::Presented { method: &input.method, url: &input.url, token, key, nonces: None };
                dpop::verify(proof, &presented, self.replay(), now)?;
            }
            (Some(_), None) if key == input.peer => {}
            (Some(_), None) => return Err(Reason::ProofMissing.into()),
        }
        let command = CheckCommand { id: id.lease, observation: Some(observation) };
        let (record, newer) = self.ask(acceptor, &keys, &command).await?;
        if let Some(newer) = newer {
            verify(&newer)?;
        }
        // The record says how it was bound: a token that lost its binding is no token of ours.
        if record.body.binding != Binding::Bearer && key != Some(record.body.key) {
            return Err(Reason::TokenMalformed.into());
        }
        Ok(record)
    }

    async fn judge_certificate(
        &self,
        acceptor: &Acceptor,
        der: &[u8],
        keys: Arc<KeyRing>,
    ) -> Result<LeaseRecord, Refusal> {
        self.only_own(acceptor, Shown::Certificate)?;
        let now = self.clock().now();
        let verify = |keys: &KeyRing| workload_certificate(keys, der, now);
        let is_foreign = |_: &KeyRing, refusal: &Refusal| refusal.reason == Reason::CertificateNotAllowed;
        let (verified, keys) = self.by_newest_keys(keys, verify, is_foreign).await?;
        let WorkloadCertificate { id, credential, key, observation, .. } = verified;
        let command = CheckCommand { id: credential.lease, observation: Some(observation) };
        let (record, newer) = self.ask(acceptor, &keys, &command).await?;
        if let Some(newer) = newer {
            verify(&newer)?;
        }
        let body = &record.body;
        // A renewal may have given the lease another key: the certificate that it replaced is of the old one.
        let superseded = credential.counter < record.counter;
        if body.kind != CredentialKind::X509 || body.workload != id || (body.key != key && !superseded) {
            return Err(Reason::CertificateNotAllowed.into());
        }
        Ok(record)
    }

    /// Verifies with the present keys. What none of them made may be of a key that another broker put in place a moment
    /// ago: then the newest ones decide.
    async fn by_newest_keys<T>(
        &self,
        keys: Arc<KeyRing>,
        verify: impl Fn(&KeyRing) -> Result<T, Refusal>,
        is_foreign: impl FnOnce(&KeyRing, &Refusal) -> bool,
    ) -> Result<(T, Arc<KeyRing>), Refusal> {
        let refusal = match verify(&keys) {
            Ok(verified) => return Ok((verified, keys)),
            Err(refusal) if !is_foreign(&keys, &refusal) => return Err(refusal),
            Err(refusal) => refusal,
        };
        match self.newest_keys().await {
            Ok(newest) if newest.version() > keys.version() => {
                verify(&newest).map(|verified| (verified, newest))
            }
            // With the store away, too, what can't be verified is not accepted.
            Ok(_) | Err(_) => Err(refusal),
        }
    }

    /// Asks the store. Where the keys have changed since, the newer ones are given too: what the credential was
    /// verified with may have been withdrawn.
    async fn ask(
        &self,
        acceptor: &Acceptor,
        keys: &KeyRing,
        command: &CheckCommand,
    ) -> Result<(LeaseRecord, Option<Arc<KeyRing>>), Refusal> {
        let refused = match self.leases().store().check(command).await {
            Ok(checked) => {
                let now = self.keys_since(checked.keys_version.max(keys.version())).await?;
                if !now.knows(&acceptor.signer) || !now.knows(&checked.record.signer) {
                    return Err(Reason::SignerWithdrawn.into());
                }
                let newer = (now.version() != keys.version()).then_some(now);
                return Ok((checked.record, newer));
            }
            Err(e) => self.refused(e),
        };
        if !is_judgement(refused.reason) {
            return Err(refused);
        }
        // Why a lease is dead is told to the acceptors of its audience only.
        let record = self.leases().store().get(command.id).await.map_err(|e| self.refused(e))?;
        let Some(record) = record else { return Err(refused) };
        self.only_own(acceptor, Shown::of(&record))?;
        if refused.reason == Reason::LeaseRevoked && self.task_is_over(&record).await? {
            return Err(Refusal::new(Reason::LeaseEnded, refused.detail));
        }
        Err(refused)
    }

    /// Whether the lease ended with its task: a task's end moves its fence, as a revocation does.
    async fn task_is_over(&self, record: &LeaseRecord) -> Result<bool, Refusal> {
        let Some(task) = &record.body.task else { return Ok(false) };
        if matches!(record.state, LeaseState::Ended(EndReason::Revoked)) {
            return Ok(false);
        }
        let found = self.leases().store().task(task).await.map_err(|e| self.refused(e))?;
        Ok(found.is_some_and(|t| t.state == TaskState::Ended))
    }

    fn only_own(&self, acceptor: &Acceptor, shown: Shown<'_>) -> Result<(), Refusal> {
        let running = self.running();
        let own = running.acceptors.get(&acceptor.name).is_some_and(|entry| match shown {
            Shown::Token(audience) => audience.is_some_and(|shown| entry.audiences.contains(shown)),
            Shown::Certificate => entry.certificates,
        });
        if own { Ok(()) } else { Err(Reason::TokenAudience.into()) }
    }
}

/// What decides whether an acceptor may ask about a credential.
#[derive(Debug, Clone, Copy)]
enum Shown<'a> {
    /// A token, by its audience; and everything else that is no workload's certificate, which has none.
    Token(Option<&'a Audience>),
    /// A workload's certificate.
    Certificate,
}

impl<'a> Shown<'a> {
    fn of(record: &'a LeaseRecord) -> Self {
        match record.body.kind {
            CredentialKind::X509 => Self::Certificate,
            _ => Self::Token(record.body.audience.as_ref()),
        }
    }
}

fn workload_certificate(keys: &KeyRing, der: &[u8], now: UnixMillis) -> Result<WorkloadCertificate, Refusal> {
    let chain = [CertificateDer::from(der)];
    let of = |usage| keys.verifier().workload_chain(&chain, usage, now);
    // It may be either end's: the acceptor's handshake has seen for which it is meant.
    of(Usage::Client).or_else(|_| of(Usage::Server)).map_err(|mut refusal| {
        // What is told of evidence elsewhere is told of a lease here.
        if refusal.reason == Reason::EvidenceExpired {
            refusal.reason = Reason::LeaseExpired;
        }
        refusal
    })
}

/// Whether a reason judges the credential, rather than the broker's ability to judge.
fn is_judgement(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::LeaseNotFound
            | Reason::LeaseNotActive
            | Reason::LeaseExpired
            | Reason::LeaseEnded
            | Reason::LeaseRevoked
            | Reason::TokenMalformed
            | Reason::TokenSignature
            | Reason::TokenAudience
            | Reason::SignerWithdrawn
            | Reason::EvidenceMalformed
            | Reason::EvidenceNotYetValid
            | Reason::CertificateNotAllowed
            | Reason::ProofMissing
            | Reason::ProofInvalid
            | Reason::ProofReplayed
            | Reason::TooLarge
            | Reason::TokenScope
            | Reason::ActionUnknown
            | Reason::OutsideIntent
            | Reason::PolicyDenied
    )
}
