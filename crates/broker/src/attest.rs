//! Attestation as every workload's call begins it: the verifier's judgement, and what only this broker knows beside it.
//!
//! Must never let evidence count for longer than a revocation of it is remembered.

use mayfly_attest::{Attested, AttestedFacts, Evidence, Opened};
use mayfly_domain::{Reason, Refusal};

use crate::broker::Broker;
use crate::call::Call;

impl Broker {
    pub(crate) async fn attest(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
    ) -> Result<Attested, Refusal> {
        let attested = self.verifier().attest(opened, evidence, call.peer).await?;
        self.remembered(attested.facts())?;
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
