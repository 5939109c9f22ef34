//! The service around the store: the only maker of proofs.

use std::sync::Arc;

use mayfly_attest::{AttestedFacts, OnOtherKey};
use mayfly_domain::{
    AcceptorMode, Binding, CredentialKind, Deadline, LeaseId, Reason, Refusal, Scopes, SignerId, Subject,
    Thumbprint, TrustDomain, Ttl, UnixMillis, defaults,
};
use mayfly_policy::{Authorized, Grant, Mint, Renew, Staff};

use super::{Confirmed, MintLimits, Pending, Reserved};
use crate::command::{
    EvidenceUse, MintCommand, Minted, ParentLink, QuotaRule, RenewCommand, Spend, TaskPlan,
};
use crate::record::{LeaseBody, LeaseRecord, X509Body};
use crate::store::{LeaseStore, StoreError};
use crate::task::TaskBody;

/// The service around the store that makes proofs.
#[derive(Clone)]
pub struct Leases {
    store: Arc<dyn LeaseStore>,
    trust_domain: TrustDomain,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases").field("store", &self.store.kind()).finish_non_exhaustive()
    }
}

impl Leases {
    /// Wraps a store.
    pub fn new(store: Arc<dyn LeaseStore>, trust_domain: TrustDomain) -> Self {
        Self { store, trust_domain }
    }

    /// The store, for everything that makes no proof.
    pub fn store(&self) -> &Arc<dyn LeaseStore> {
        &self.store
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Writes the lease of a permitted mint. `signer`: what will sign its credential.
    ///
    /// # Errors
    /// The store's refusal; nothing was written then, unless it is `STORE_UNAVAILABLE`.
    pub async fn reserve(
        &self,
        authorized: Authorized<Mint>,
        limits: &MintLimits,
        signer: SignerId,
    ) -> Result<Reserved, Refusal> {
        let deadline = in_time(authorized.deadline())?;
        let grant = authorized.into_grant();
        let command = self.mint_command(&grant, limits, signer);
        let minted = self
            .store
            .mint(&command)
            .await
            .map_err(|e| self.refusal(e, &command.subjects, &command.quotas))?;
        let warnings = command
            .quotas
            .iter()
            .zip(&minted.live)
            .filter(|(quota, live)| u64::from(**live) * 5 >= u64::from(quota.live_max) * 4)
            .map(|(quota, live)| format!("{} holds {live} of {} live leases", quota.subject, quota.live_max))
            .collect();
        let Minted { record, task, superseded, keys_version, .. } = minted;
        Ok(Reserved { record, task, warnings, superseded, keys_version, deadline })
    }

    /// Renews a lease. `lease` is the record as read for the decision. A certificate that renews itself proves the
    /// lease's key by its connection, and the envelope proves the key from now on, the same or another; any other
    /// evidence comes with the lease's own key.
    ///
    /// # Errors
    /// The store's refusal.
    pub async fn renew(
        &self,
        authorized: Authorized<Renew>,
        lease: &LeaseRecord,
        signer: SignerId,
    ) -> Result<Reserved, Refusal> {
        let deadline = in_time(authorized.deadline())?;
        let grant = authorized.into_grant();
        let facts = &grant.attested;
        let subjects = lease.body.subjects(&self.trust_domain);
        let (key, next) = match facts.parent.as_ref().filter(|parent| parent.lease == lease.id) {
            Some(itself) => (itself.key, Some(facts.key).filter(|next| *next != itself.key)),
            None => (facts.key, None),
        };
        let command = RenewCommand {
            id: lease.id,
            spend: spend(facts),
            workload: Subject::Workload(facts.workload.clone()),
            task: facts.task.id.clone(),
            key,
            next,
            signer,
            body: lease.body.clone(),
            ttl: grant.ttl,
            evidence: self.evidence(facts),
            subjects,
        };
        let renewed =
            self.store.renew(&command).await.map_err(|e| self.refusal(e, &command.subjects, &[]))?;
        Ok(plain(renewed.record, renewed.keys_version, deadline))
    }

    /// Writes the lease of an operator's or acceptor's certificate for `key`.
    ///
    /// # Errors
    /// The store's refusal.
    pub async fn reserve_staff(
        &self,
        authorized: Authorized<Staff>,
        id: LeaseId,
        key: Thumbprint,
        signer: SignerId,
    ) -> Result<Reserved, Refusal> {
        let deadline = in_time(authorized.deadline())?;
        let grant = authorized.into_grant();
        let body = LeaseBody {
            kind: grant.kind,
            workload: grant.identity,
            owners: grant.owners,
            task: None,
            intent: None,
            profile: None,
            integration: None,
            audience: None,
            scopes: Scopes::default(),
            key,
            binding: Binding::Mtls,
            acceptors: AcceptorMode::Online,
            rule: None,
            evidence: None,
            x509: None,
        };
        let command = MintCommand {
            id,
            spend: None,
            subjects: body.subjects(&self.trust_domain),
            body,
            signer,
            ttl: grant.ttl,
            lineage: grant.ttl,
            not_after: UnixMillis(u64::MAX),
            task: None,
            evidence: None,
            parent: None,
            quotas: Vec::new(),
        };
        let minted = self.store.mint(&command).await.map_err(|e| self.refusal(e, &command.subjects, &[]))?;
        Ok(plain(minted.record, minted.keys_version, deadline))
    }

    /// Confirms: what has a side effect is read again by the store and moved to active; the rest was born
    /// active and is dead on arrival by its own observation if a fence moved since.
    ///
    /// # Errors
    /// `RACE_LOST` where a revocation, block or end came between, `DEADLINE` where it took too long. The side
    /// effect is then undone by the reaper.
    pub async fn confirm<C>(&self, pending: Pending<C>) -> Result<Confirmed<C>, Refusal> {
        let Pending { credential, reserved } = pending;
        in_time(reserved.deadline)?;
        let record = if reserved.record.has_side_effect() {
            self.store.confirm(reserved.record.id).await.map_err(Refusal::from)?
        } else {
            reserved.record
        };
        Ok(Confirmed {
            credential,
            record,
            task: reserved.task,
            warnings: reserved.warnings,
            superseded: reserved.superseded,
            keys_version: reserved.keys_version,
        })
    }

    /// How a workload's evidence is presented to the store; none where it showed a live credential.
    pub fn evidence(&self, facts: &AttestedFacts) -> Option<EvidenceUse> {
        let evidence = facts.evidence.as_ref()?;
        let mut observes = vec![Subject::Workload(facts.workload.clone())];
        observes.extend(facts.owners.iter().cloned().map(Subject::Owner));
        observes.push(Subject::Everything(self.trust_domain.clone()));
        Some(EvidenceUse {
            hash: evidence.hash,
            alias: evidence.alias,
            key: evidence.holder,
            issued_at: evidence.issued_at,
            until: evidence.expires.plus(2 * defaults::SKEW_MS),
            supersede: evidence.on_other_key == OnOtherKey::Supersede,
            single_use: evidence.single_use,
            observes,
        })
    }

    /// Turns a store's error into a refusal whose particulars name the subject.
    pub fn refusal(&self, error: StoreError, subjects: &[Subject], quotas: &[QuotaRule]) -> Refusal {
        use crate::transition::No;
        let named = match &error {
            StoreError::Refused(No::Blocked(n) | No::EvidencePredatesRevocation(n)) => {
                subjects.get(*n).map(ToString::to_string)
            }
            StoreError::Refused(No::QuotaLeases(n) | No::QuotaRate(n, _)) => {
                quotas.get(*n).map(|q| q.subject.to_string())
            }
            _ => None,
        };
        let mut refusal = Refusal::from(error);
        if let Some(named) = named {
            refusal.detail = format!("{}: {named}", refusal.detail);
        }
        refusal
    }

    fn mint_command(&self, grant: &Grant, limits: &MintLimits, signer: SignerId) -> MintCommand {
        let facts = &grant.attested;
        let evidence = self.evidence(facts);
        let profile = &grant.profile;
        let x509 = profile.x509().map(|x509| X509Body {
            names: grant.names.clone(),
            client: x509.client,
            server: x509.server,
            environment: facts.environment.clone(),
            tags: facts.tags.clone(),
        });
        let body = LeaseBody {
            kind: profile.kind(),
            workload: facts.workload.clone(),
            owners: facts.owners.clone(),
            task: Some(facts.task.id.clone()),
            intent: Some(grant.intent.clone()),
            profile: Some(grant.profile.name.clone()),
            integration: Some(grant.profile.integration.clone()),
            audience: profile.token().map(|t| t.audience.clone()),
            scopes: grant.scopes.clone(),
            key: facts.key,
            binding: profile.binding(),
            acceptors: profile.acceptors(),
            rule: facts.rule.clone(),
            evidence: evidence.as_ref().map(EvidenceUse::value),
            x509,
        };
        let workload_live = grant
            .profile
            .live_leases_workload
            .map_or(limits.workload.live_leases, |n| n.min(limits.workload.live_leases));
        let mut quotas = vec![QuotaRule {
            subject: Subject::Workload(facts.workload.clone()),
            live_max: workload_live,
            per_min: limits.workload.mints_per_min,
            burst: limits.workload.burst,
        }];
        quotas.extend(facts.owners.iter().map(|owner| QuotaRule {
            subject: Subject::Owner(owner.clone()),
            live_max: limits.owner.live_leases,
            per_min: limits.owner.mints_per_min,
            burst: limits.owner.burst,
        }));
        MintCommand {
            id: facts.lease,
            spend: Some(spend(facts)),
            subjects: body.subjects(&self.trust_domain),
            ttl: grant.ttl,
            lineage: match profile.kind() {
                CredentialKind::X509 => limits.x509_lineage,
                _ => limits.token_lineage,
            },
            not_after: UnixMillis(u64::MAX),
            task: Some(task_plan(facts, Some(grant), None, limits)),
            evidence,
            parent: facts.parent.as_ref().map(|parent| ParentLink {
                id: parent.lease,
                observation: parent.observation.clone(),
                expires: parent.expires,
            }),
            quotas,
            body,
            signer,
        }
    }
}

/// A lease that comes with neither task nor warnings.
fn plain(record: LeaseRecord, keys_version: u64, deadline: Deadline) -> Reserved {
    Reserved { record, task: None, warnings: Vec::new(), superseded: None, keys_version, deadline }
}

/// The nonce's single use.
pub fn spend(facts: &AttestedFacts) -> Spend {
    Spend { id: facts.lease, until: facts.at.plus(defaults::NONCE_LIFE_MS + 2 * defaults::SKEW_MS) }
}

/// The task that a workload's evidence names, as it would be opened.
pub fn task_plan(
    facts: &AttestedFacts,
    grant: Option<&Grant>,
    window: Option<Ttl>,
    limits: &MintLimits,
) -> TaskPlan {
    TaskPlan {
        body: TaskBody {
            id: facts.task.id.clone(),
            workload: facts.workload.clone(),
            intent: None,
            reason: grant.and_then(|g| g.reason.clone()),
            shared: facts.task.shared,
        },
        window: window.unwrap_or(facts.task.window).min(facts.task.window_max),
        keep_ms: limits.task_keep_ms(facts.evidence.as_ref().map(|e| e.life)),
    }
}

fn in_time(deadline: Deadline) -> Result<Deadline, Refusal> {
    if deadline.has_passed() { Err(Reason::Deadline.into()) } else { Ok(deadline) }
}
