//! Judging a credential for an acceptor, now.

use mayfly_domain::{Audience, Binding, LeaseId, Reason, Refusal};
use mayfly_lease::{CheckCommand, LeaseRecord};
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
                let record = self.ask(&CheckCommand { id: *id, observation: None }).await?;
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
                let record = self.ask(&command).await?;
                // The record says how it was bound: a token that lost its binding is no token of ours.
                if record.body.binding != Binding::Bearer && verified.key != Some(record.body.key) {
                    return Err(Reason::TokenMalformed.into());
                }
                Ok(record)
            }
        }
    }

    async fn ask(&self, command: &CheckCommand) -> Result<LeaseRecord, Refusal> {
        self.leases().store().check(command).await.map_err(|e| self.refused(e))
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
