//! Minting and renewing tokens.

use std::sync::Arc;
use std::time::Duration;

use mayfly_attest::envelope::Opened;
use mayfly_attest::{AttestedFacts, Evidence};
use mayfly_audit::{EvidenceKey, Kind, Outcome, Record};
use mayfly_domain::{EndReason, LeaseId, Reason, Refusal, Ttl};
use mayfly_lease::command::EndCommand;
use mayfly_lease::proof::Parts;
use mayfly_lease::{Confirmed, LeaseRecord, Reserved};
use mayfly_mint::{AccessToken, KeyRing};
use mayfly_policy::{Claimed, RenewClaim};

use crate::broker::Broker;
use crate::call::Call;
use crate::settings::Settings;
use crate::standing::Standing;

/// A minted or renewed token, ready to be sent.
pub type Issued = Parts<AccessToken>;

impl Broker {
    /// Mints a token: attest, permit, reserve, sign, confirm, audit.
    ///
    /// # Errors
    /// A refusal; nothing was minted then. A refused decision is audited too.
    pub async fn mint(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        claimed: Claimed,
    ) -> Result<Issued, Refusal> {
        let timer = self.timer("mint");
        let mut record = self.record(call, Kind::Mint);
        record.profile = Some(claimed.profile.clone());
        let outcome = self.mint_audited(call, opened, evidence, claimed, &mut record).await;
        self.settle(timer, record, outcome).await
    }

    async fn mint_audited(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        claimed: Claimed,
        record: &mut Record,
    ) -> Result<Issued, Refusal> {
        self.serving()?;
        let attested = self.attest(call, opened, evidence).await?;
        self.attested(record, attested.facts());
        // Words of somebody whom no evidence stands for would fill the audit file with whatever they like.
        record.reason_text.clone_from(&claimed.reason);
        let authorized = self.running().engine.mint(attested, claimed)?;
        record.policies.clone_from(&authorized.grant().decided_by);
        record.intent = Some(authorized.grant().intent.clone());
        // Whatever happens to the keys meanwhile: the lease names the key that signs.
        let keys = Arc::clone(&self.keys());
        let reserved = match self.leases().reserve(authorized, &self.limits(), keys.signer_id()).await {
            Ok(reserved) => reserved,
            Err(refusal) => {
                self.after_store_refusal(&refusal);
                return Err(refusal);
            }
        };
        let lease = reserved.record().id;
        record.lease = Some(lease);
        let issued = self.issue(record, &keys, reserved).await;
        if issued.is_err() {
            self.abandon(lease).await;
        }
        issued
    }

    /// Renews a token's lease for its own workload, task and key.
    ///
    /// # Errors
    /// A refusal; the lease goes on with the credential that it has.
    pub async fn renew(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        lease: LeaseId,
        ttl: Option<Ttl>,
    ) -> Result<Issued, Refusal> {
        let timer = self.timer("renew");
        let mut record = self.record(call, Kind::Renew);
        record.lease = Some(lease);
        let outcome = self.renew_audited(call, opened, evidence, lease, ttl, &mut record).await;
        self.settle(timer, record, outcome).await
    }

    async fn renew_audited(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        lease: LeaseId,
        ttl: Option<Ttl>,
        record: &mut Record,
    ) -> Result<Issued, Refusal> {
        self.serving()?;
        let attested = self.attest(call, opened, evidence).await?;
        self.attested(record, attested.facts());
        let found = self.leases().store().get(lease).await.map_err(|e| self.refused(e))?;
        let found = found.filter(|l| is_own(l, attested.facts())).ok_or(Reason::LeaseNotFound)?;
        let (Some(profile), Some(intent)) = (found.body.profile.clone(), found.body.intent.clone()) else {
            return Err(Reason::LeaseNotFound.into());
        };
        record.profile = Some(profile.clone());
        record.intent = Some(intent.clone());
        let claim = RenewClaim { profile, intent, scopes: found.body.scopes.clone(), names: Vec::new(), ttl };
        let authorized = self.running().engine.renew(attested, &claim)?;
        record.policies.clone_from(&authorized.grant().decided_by);
        let keys = Arc::clone(&self.keys());
        let reserved = match self.leases().renew(authorized, &found, keys.signer_id()).await {
            Ok(reserved) => reserved,
            Err(refusal) => {
                self.after_store_refusal(&refusal);
                return Err(refusal);
            }
        };
        self.issue(record, &keys, reserved).await
    }

    /// Makes the credential and confirms its lease.
    async fn issue(
        &self,
        record: &mut Record,
        keys: &KeyRing,
        reserved: Reserved,
    ) -> Result<Issued, Refusal> {
        let pending = self.minter().token(keys, reserved, self.clock().now())?;
        let confirmed = self.leases().confirm(pending).await?;
        self.leave(record, confirmed).await
    }

    /// Ends a new lease whose credential did not leave.
    pub(crate) async fn abandon(&self, id: LeaseId) {
        let end = EndCommand { id, holder: None, reason: EndReason::Abandoned, revocation: None };
        if let Err(e) = self.leases().store().end(&end).await {
            tracing::error!(lease = %id, error = %e, "a lease whose credential did not leave could not be ended");
        }
    }

    /// The last step before a credential leaves: its audit record is written. Where it can't be, nothing
    /// leaves.
    async fn leave(&self, record: &mut Record, confirmed: Confirmed<AccessToken>) -> Result<Issued, Refusal> {
        let lease = confirmed.record();
        record.lease = Some(lease.id);
        record.counter = Some(lease.counter);
        record.credential = Some(lease.body.kind);
        record.expires_ms = Some(lease.expires);
        record.audience.clone_from(&lease.body.audience);
        record.scopes = Some(lease.body.scopes.clone());
        record.task.clone_from(&lease.body.task);
        if let Some(times) = confirmed.superseded() {
            self.meter().misuse(true);
            tracing::warn!(lease = %lease.id, times, "evidence was taken over by another key");
            record.detail = format!("evidence taken over by another key, {times} of 3");
        }
        self.audit().record(record.clone()).await?;
        Ok(confirmed.into_parts())
    }

    /// Counts the decision and audits a refusal. (An allowed one was audited before it left.)
    async fn settle<T>(
        &self,
        timer: Timer,
        record: Record,
        outcome: Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    /// Audits a refusal; one that can't be written is a refusal all the same.
    pub(crate) async fn deny(&self, record: Record, refusal: &Refusal) {
        if refusal.reason == Reason::EvidenceBoundToOtherKey {
            self.meter().misuse(false);
            tracing::warn!(request = record.request, "evidence was presented by another key than its own");
        }
        if refusal.reason == Reason::AuditUnavailable {
            return;
        }
        let mut record = record.refused(refusal);
        if record.workload.is_none() && is_workloads(record.kind) {
            match self.unattested().take() {
                None => return,
                Some(0) => {}
                Some(n) => {
                    record.detail = format!("{} ({n} refusals before it were not recorded)", record.detail)
                }
            }
        }
        if let Err(e) = self.audit().record(record).await {
            tracing::error!(error = %e, "a refusal could not be audited");
        }
    }

    /// An audit record of this call.
    pub(crate) fn record(&self, call: &Call, kind: Kind) -> Record {
        let mut record = Record::new(kind, Outcome::Allowed);
        record.request = call.request.to_string();
        record.peer = call.peer;
        record
    }

    pub(crate) fn attested(&self, record: &mut Record, facts: &AttestedFacts) {
        record.workload = Some(facts.workload.clone());
        record.owners = Some(facts.owners.clone());
        record.task = Some(facts.task.id.clone());
        record.key = Some(facts.key);
        record.rule.clone_from(&facts.rule);
        record.claims.clone_from(&facts.tags);
        record.evidence = facts
            .evidence
            .as_ref()
            .map(|evidence| EvidenceKey::new(self.keys().evidence_key()).hash(&evidence.hash));
    }

    fn after_store_refusal(&self, refusal: &Refusal) {
        match refusal.reason {
            Reason::GenerationChanged => {
                self.stand(Standing::Settling);
                self.wake_guard();
            }
            Reason::StoreUnavailable | Reason::ClockSkew => self.wake_guard(),
            _ => {}
        }
    }

    pub(crate) fn timer(&self, kind: &'static str) -> Timer {
        Timer { kind, end: mayfly_domain::Deadline::after(Settings::TIMED) }
    }

    pub(crate) fn count(&self, timer: Timer, refused: Option<&Refusal>) {
        let took = Settings::TIMED.saturating_sub(timer.end.left());
        self.meter().decision(timer.kind, refused.map(|r| r.reason), took);
    }
}

/// Whether anybody may make such a call.
const fn is_workloads(kind: Kind) -> bool {
    matches!(kind, Kind::Mint | Kind::Renew | Kind::Release | Kind::TaskStart | Kind::TaskComplete)
}

/// A decision that is being timed.
#[derive(Debug)]
pub(crate) struct Timer {
    kind: &'static str,
    end: mayfly_domain::Deadline,
}

impl Settings {
    /// The longest time that a decision is measured for.
    pub(crate) const TIMED: Duration = Duration::from_secs(3_600);
}

fn is_own(lease: &LeaseRecord, facts: &AttestedFacts) -> bool {
    let itself = facts.parent.as_ref().filter(|parent| parent.lease == lease.id);
    lease.body.workload == facts.workload
        && lease.body.key == itself.map_or(facts.key, |parent| parent.key)
        && lease.body.task.as_ref() == Some(&facts.task.id)
}
