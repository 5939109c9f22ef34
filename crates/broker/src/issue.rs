//! Minting and renewing credentials of workloads.

use std::time::Duration;

use mayfly_attest::envelope::Opened;
use mayfly_attest::{AttestedFacts, Evidence};
use mayfly_audit::{EvidenceKey, Kind, Outcome, Record};
use mayfly_domain::{CredentialKind, EndReason, LeaseId, Reason, Refusal, SignerId, Ttl};
use mayfly_lease::LeaseRecord;
use mayfly_lease::command::EndCommand;
use mayfly_mint::KeyRing;
use mayfly_mint::x509::csr::Wishes;
use mayfly_policy::{Claimed, RenewClaim};

use crate::broker::Broker;
use crate::call::Call;
use crate::credential::{Issued, Work};
use crate::own::looking;
use crate::settings::Settings;
use crate::standing::Standing;

/// What a workload asks for anew.
#[derive(Debug)]
pub struct MintInput {
    /// What it claims.
    pub claimed: Claimed,
    /// Its certificate request, where it sent one: read already, its key the call's.
    pub csr: Option<Wishes>,
}

impl From<Claimed> for MintInput {
    fn from(claimed: Claimed) -> Self {
        Self { claimed, csr: None }
    }
}

/// What a workload wants renewed.
#[derive(Debug)]
pub struct RenewInput {
    /// The lease.
    pub lease: LeaseId,
    /// The next credential's life; none: the profile's default.
    pub ttl: Option<Ttl>,
    /// Its certificate request, where it sent one.
    pub csr: Option<Wishes>,
}

impl Broker {
    /// Mints a credential: attest, permit, reserve, sign, confirm, audit.
    ///
    /// # Errors
    /// A refusal; nothing was minted then. A refused decision is audited too.
    pub async fn mint(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        input: MintInput,
    ) -> Result<Issued, Refusal> {
        let timer = self.timer("mint");
        let mut record = self.record(call, Kind::Mint);
        record.profile = Some(input.claimed.profile.clone());
        let outcome = self.mint_audited(call, opened, evidence, input, &mut record).await;
        self.settle(timer, record, outcome).await
    }

    async fn mint_audited(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        input: MintInput,
        record: &mut Record,
    ) -> Result<Issued, Refusal> {
        self.serving()?;
        let attested = self.attest_to_mint(call, opened, evidence).await?;
        let keys = self.keys_now();
        self.attested(record, attested.facts());
        let MintInput { claimed, csr } = input;
        // Words of somebody whom no evidence stands for would fill the audit file with whatever they like.
        record.reason_text.clone_from(&claimed.reason);
        let authorized = self.running().engine.mint(attested, claimed)?;
        let grant = authorized.grant();
        record.policies.clone_from(&grant.decided_by);
        record.intent = Some(grant.intent.clone());
        if let Some(wishes) = &csr {
            let x509 = grant.profile.x509().ok_or(Reason::KindMismatch)?;
            wishes.fits(&grant.attested.workload, x509.client, x509.server)?;
        }
        let work = Work {
            signer: signer(&keys, grant.profile.kind())?,
            outage_budget: grant.profile.x509().and_then(|x509| x509.outage_budget),
            keys,
            key: opened.key().clone(),
        };
        let reserved = match self.leases().reserve(authorized, &self.limits(), work.signer).await {
            Ok(reserved) => reserved,
            Err(refusal) => {
                self.after_store_refusal(&refusal);
                return Err(refusal);
            }
        };
        let lease = reserved.record().id;
        record.lease = Some(lease);
        let issued = self.issue(record, reserved, work).await;
        if issued.is_err() {
            self.abandon(lease).await;
        }
        issued
    }

    /// Renews a lease for its own workload, task and key; a certificate that renews itself may change the key.
    ///
    /// # Errors
    /// A refusal; the lease goes on with the credential that it has.
    pub async fn renew(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        input: RenewInput,
    ) -> Result<Issued, Refusal> {
        let timer = self.timer("renew");
        let mut record = self.record(call, Kind::Renew);
        record.lease = Some(input.lease);
        let outcome = self.renew_audited(call, opened, evidence, input, &mut record).await;
        self.settle(timer, record, outcome).await
    }

    async fn renew_audited(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        input: RenewInput,
        record: &mut Record,
    ) -> Result<Issued, Refusal> {
        self.serving()?;
        let RenewInput { lease, ttl, csr } = input;
        let (attested, looked_at) = looking(self.attest(call, opened, evidence)).await;
        let attested = attested?;
        let keys = self.keys_now();
        self.attested(record, attested.facts());
        let found = match looked_at.filter(|found| found.id == lease) {
            Some(itself) => Some(itself),
            None => self.leases().store().get(lease).await.map_err(|e| self.refused(e))?,
        };
        let found = found.filter(|l| is_own(l, attested.facts())).ok_or(Reason::LeaseNotFound)?;
        let (Some(profile), Some(intent)) = (found.body.profile.clone(), found.body.intent.clone()) else {
            return Err(Reason::LeaseNotFound.into());
        };
        record.profile = Some(profile.clone());
        record.intent = Some(intent.clone());
        let names = found.body.x509.as_ref().map(|x509| x509.names.clone()).unwrap_or_default();
        if let Some(wishes) = &csr {
            let x509 = found.body.x509.as_ref().ok_or(Reason::KindMismatch)?;
            wishes.fits(&found.body.workload, x509.client, x509.server)?;
            // A renewal keeps the names of its lease: a request may leave some unsaid, never add one.
            if let Some(other) = wishes.names.iter().find(|name| !names.contains(name)) {
                return Err(Refusal::new(Reason::NameNotAllowed, "the lease's certificate does not have it")
                    .fact("name", other.to_string()));
            }
        }
        let claim = RenewClaim { profile, intent, scopes: found.body.scopes.clone(), names, ttl };
        let authorized = self.running().engine.renew(attested, &claim)?;
        let grant = authorized.grant();
        record.policies.clone_from(&grant.decided_by);
        let work = Work {
            signer: signer(&keys, found.body.kind)?,
            outage_budget: grant.profile.x509().and_then(|x509| x509.outage_budget),
            keys,
            key: opened.key().clone(),
        };
        let reserved = match self.leases().renew(authorized, &found, work.signer).await {
            Ok(reserved) => reserved,
            Err(refusal) => {
                self.after_store_refusal(&refusal);
                return Err(refusal);
            }
        };
        self.issue(record, reserved, work).await
    }

    /// Ends a new lease whose credential did not leave.
    pub(crate) async fn abandon(&self, id: LeaseId) {
        let end = EndCommand { id, holder: None, reason: EndReason::Abandoned, revocation: None };
        if let Err(e) = self.leases().store().end(&end).await {
            tracing::error!(lease = %id, error = %e, "a lease whose credential did not leave could not be ended");
        }
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
        // What there are too many of is not recorded each.
        if matches!(refusal.reason, Reason::AuditUnavailable | Reason::RateLimited | Reason::Overloaded) {
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
        if let Some(parent) = &facts.parent {
            record.detail = format!("by the certificate of lease {}", parent.lease);
        }
        record.evidence = facts
            .evidence
            .as_ref()
            .map(|evidence| EvidenceKey::new(self.keys().evidence_key()).hash(&evidence.hash));
    }

    pub(crate) fn after_store_refusal(&self, refusal: &Refusal) {
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
        self.bus().count(timer.kind, refused.map(|r| r.reason));
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

/// What signs credentials of a kind.
fn signer(keys: &KeyRing, kind: CredentialKind) -> Result<SignerId, Refusal> {
    match kind {
        CredentialKind::Token => Ok(keys.signer_id()),
        CredentialKind::X509 => Ok(keys.workload_signer_id()),
        CredentialKind::Operator | CredentialKind::Acceptor | CredentialKind::Account => {
            Err(Refusal::new(Reason::Internal, "no credential of this kind is made for workloads"))
        }
    }
}

/// A certificate that renews itself proves its lease's key by the connection; any other evidence comes with the
/// lease's key on the envelope.
fn is_own(lease: &LeaseRecord, facts: &AttestedFacts) -> bool {
    let itself = facts.parent.as_ref().filter(|parent| parent.lease == lease.id);
    lease.body.workload == facts.workload
        && lease.body.key == itself.map_or(facts.key, |parent| parent.key)
        && lease.body.task.as_ref() == Some(&facts.task.id)
}
