//! Judging a credential for an acceptor, now.

use mayfly_domain::{Audience, Binding, EndReason, LeaseId, LeaseState, Reason, Refusal};
use mayfly_lease::{CheckCommand, LeaseRecord, TaskState};
use mayfly_mint::dpop;

use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Acceptor;

/// What an acceptor shows.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The lease of a token that the acceptor verified itself, with its proof.
    Lease(LeaseId),
    /// The token; the broker verifies everything.
    Token(String),
}

/// A question of an acceptor.
#[derive(Debug, Clone)]
pub struct CheckInput {
    /// The credential.
    pub credential: Credential,
    /// The DPoP proof that came with it.
    pub dpop: Option<String>,
    /// The request's method.
    pub method: String,
    /// The request's URL.
    pub url: String,
}

/// The judgement.
#[derive(Debug)]
pub enum Checked {
    /// It is accepted.
    Accepted(Box<LeaseRecord>),
    /// It is not, and why.
    Refused(Refusal),
}

impl Broker {
    /// Judges a credential.
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
        let outcome = self.judge(acceptor, input).await;
        let (refused, result) = match outcome {
            Ok(record) => (None, Ok(Checked::Accepted(Box::new(record)))),
            Err(refusal) if is_judgement(refusal.reason) => {
                (Some(refusal.clone()), Ok(Checked::Refused(refusal)))
            }
            Err(refusal) => (Some(refusal.clone()), Err(refusal)),
        };
        if let Some(refusal) = &refused {
            let mut record = self.record(call, mayfly_audit::Kind::Check);
            record.acceptor = Some(acceptor.name.clone());
            if let Credential::Lease(id) = &input.credential {
                record.lease = Some(*id);
            }
            self.deny(record, refusal).await;
        }
        self.count(timer, refused.as_ref());
        result
    }

    async fn judge(&self, acceptor: &Acceptor, input: &CheckInput) -> Result<LeaseRecord, Refusal> {
        self.serving()?;
        match &input.credential {
            Credential::Lease(id) => {
                let command = CheckCommand { id: *id, observation: None };
                let record = self.ask(acceptor, &command).await?;
                self.only_own(acceptor, record.body.audience.as_ref())?;
                Ok(record)
            }
            Credential::Token(token) => {
                let now = self.clock().now();
                let verified = self.tokens().verify(&self.keys(), token, now)?;
                self.only_own(acceptor, Some(&verified.audience))?;
                if let Some(key) = &verified.key {
                    let proof = input.dpop.as_deref().ok_or(Reason::ProofMissing)?;
                    let presented = dpop::Presented { method: &input.method, url: &input.url, token, key };
                    dpop::verify(proof, &presented, self.replay(), now)?;
                }
                let command = CheckCommand { id: verified.id.lease, observation: Some(verified.observation) };
                let record = self.ask(acceptor, &command).await?;
                // The record says how it was bound: a token that lost its binding is no token of ours.
                if record.body.binding != Binding::Bearer && verified.key != Some(record.body.key) {
                    return Err(Reason::TokenMalformed.into());
                }
                Ok(record)
            }
        }
    }

    async fn ask(&self, acceptor: &Acceptor, command: &CheckCommand) -> Result<LeaseRecord, Refusal> {
        let refused = match self.leases().store().check(command).await {
            Ok(checked) => return Ok(checked.record),
            Err(e) => self.refused(e),
        };
        if !is_judgement(refused.reason) {
            return Err(refused);
        }
        // Why a lease is dead is told to the acceptors of its audience only.
        let record = self.leases().store().get(command.id).await.map_err(|e| self.refused(e))?;
        let Some(record) = record else { return Err(refused) };
        self.only_own(acceptor, record.body.audience.as_ref())?;
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

    fn only_own(&self, acceptor: &Acceptor, audience: Option<&Audience>) -> Result<(), Refusal> {
        let running = self.running();
        let own = running
            .acceptors
            .get(&acceptor.name)
            .zip(audience)
            .is_some_and(|(entry, audience)| entry.audiences.iter().any(|a| a == audience));
        if own { Ok(()) } else { Err(Reason::TokenAudience.into()) }
    }
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
            | Reason::ProofMissing
            | Reason::ProofInvalid
            | Reason::ProofReplayed
            | Reason::TooLarge
    )
}
