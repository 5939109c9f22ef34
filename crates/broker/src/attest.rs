//! Attestation as every workload's call begins it: the verifier's judgement, and what only this broker knows beside it.
//!
//! Must never let evidence count for longer than a revocation of it is remembered.

use mayfly_attest::{Attested, AttestedFacts, Evidence, Opened};
use mayfly_domain::{Reason, Refusal};

use crate::broker::Broker;
use crate::call::Call;

impl Broker {
    /// Attests a workload. A join token mints and is used up; it is evidence for nothing else.
    pub(crate) async fn attest(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
    ) -> Result<Attested, Refusal> {
        if matches!(evidence, Evidence::Join(_)) {
            let problem = "a join token mints one credential and does nothing else";
            return Err(Refusal::new(Reason::InputInvalid, problem).fact("problem", problem));
        }
        self.attest_to_mint(call, opened, evidence).await
    }

    /// Attests a workload with evidence of any kind. What a live certificate was signed with must be among the newest
    /// keys.
    pub(crate) async fn attest_to_mint(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
    ) -> Result<Attested, Refusal> {
        let attested = self.verifier().attest(opened, evidence, call.peer).await;
        let attested = attested.inspect_err(|refusal| self.after_store_refusal(refusal))?;
        self.remembered(attested.facts())?;
        if let Some(parent) = &attested.facts().parent {
            let keys = self.keys_since(parent.keys_version).await?;
            if !parent.signers.iter().all(|signer| keys.knows(signer)) {
                return Err(Reason::SignerWithdrawn.into());
            }
        }
        Ok(attested)
    }

    /// How long a task is remembered after an operator ended it: until no evidence that a rule accepts can name it.
    pub(crate) fn longest_task_keep_ms(&self) -> u64 {
        self.settings().limits.task_keep_ms(self.verifier().rules().longest_evidence_life())
    }

    /// Refuses evidence that lives longer than the store keeps fences: what revoked it would be forgotten first.
    fn remembered(&self, facts: &AttestedFacts) -> Result<(), Refusal> {
        let (Some(shown), Some(generation)) = (&facts.evidence, self.leases().store().generation()) else {
            return Ok(());
        };
        if shown.expires.0.saturating_sub(shown.issued_at.0) <= generation.longest_life_ms {
            return Ok(());
        }
        let kept = format!("{} s", generation.longest_life_ms / 1_000);
        Err(Refusal::new(Reason::EvidenceLifetime, "the store keeps fences for less").fact("allowed", kept))
    }
}
