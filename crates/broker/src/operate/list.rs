//! Listing and showing leases, as a check would judge them now.

use std::collections::BTreeMap;

use mayfly_domain::{
    CredentialKind, DimKey, EndReason, Fence, Gate, LeaseId, LeaseState, Reason, Refusal, Subject,
};
use mayfly_lease::command::is_indexed;
use mayfly_lease::{Cursor, LeaseRecord, ListQuery};
use mayfly_policy::{OperatorAction, Target};

use crate::broker::Broker;
use crate::call::Call;
use crate::feed::is_canary;
use crate::staff::Operator;

/// How many index entries one call looks at, so that a filter that matches nothing still ends.
const LOOK_MAX: usize = 20_000;

/// What is listed.
#[derive(Debug, Clone)]
pub struct ListInput {
    /// What they are covered by.
    pub subject: Option<Subject>,
    /// Their kind.
    pub kind: Option<CredentialKind>,
    /// Ended ones that are still kept, too.
    pub ended: bool,
    /// The most on a page.
    pub limit: u32,
    /// After this place.
    pub after: Option<Cursor>,
}

/// A lease as people see it.
#[derive(Debug, Clone)]
pub struct ShownLease {
    /// The record; its state is what a check would say now.
    pub record: LeaseRecord,
}

/// A page.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The leases.
    pub leases: Vec<ShownLease>,
    /// Where to go on.
    pub next: Option<Cursor>,
}

/// A lease as policy asks about it.
pub(crate) fn lease_target(record: &LeaseRecord) -> Target {
    Target::Lease {
        id: record.id,
        workload: record.body.workload.clone(),
        owners: record.body.owners.clone(),
        profile: record.body.profile.clone(),
        task: record.body.task.clone(),
    }
}

impl Broker {
    /// Lists leases.
    ///
    /// # Errors
    /// Policy's or the store's refusal.
    pub async fn list(&self, call: &Call, operator: &Operator, input: &ListInput) -> Result<Listed, Refusal> {
        let target = input.subject.clone().map_or_else(|| self.anything(), Target::Subject);
        self.permit(call, operator, OperatorAction::List, target)?;
        self.leases_of(input).await
    }

    /// One lease.
    ///
    /// # Errors
    /// `LEASE_NOT_FOUND`, or policy's refusal.
    pub async fn show(&self, call: &Call, operator: &Operator, id: LeaseId) -> Result<ShownLease, Refusal> {
        let found = self.leases().store().get(id).await.map_err(|e| self.refused(e))?;
        let record = found
            .ok_or_else(|| Refusal::new(Reason::LeaseNotFound, "no record").fact("lease", id.to_string()))?;
        self.permit(call, operator, OperatorAction::List, lease_target(&record))?;
        let mut shown = self.judged(vec![record]).await?;
        shown.pop().ok_or_else(|| Reason::Internal.into())
    }

    pub(crate) async fn leases_of(&self, input: &ListInput) -> Result<Listed, Refusal> {
        let key = input.subject.as_ref().map(Subject::key);
        let along = input.subject.as_ref().filter(|s| is_indexed(s)).map(Subject::key);
        let wanted = usize::try_from(input.limit).unwrap_or(usize::MAX);
        let mut leases: Vec<ShownLease> = Vec::new();
        let mut after = input.after;
        let mut looked = 0;
        loop {
            let left = wanted.saturating_sub(leases.len()).max(1);
            let limit = u32::try_from(left).unwrap_or(u32::MAX).min(mayfly_domain::defaults::LIST_PAGE_MAX);
            let query = ListQuery { along, after, limit };
            let page = self.leases().store().list(&query).await.map_err(|e| self.refused(e))?;
            looked += usize::try_from(limit).unwrap_or(usize::MAX);
            let covered = page.records.into_iter().filter(|r| {
                !is_canary(&r.body.workload)
                    && key.is_none_or(|k| r.observation.fence(k).is_some())
                    && input.kind.is_none_or(|kind| r.body.kind == kind)
            });
            let judged = self.judged(covered.collect()).await?;
            leases.extend(
                judged.into_iter().filter(|l| input.ended || !matches!(l.record.state, LeaseState::Ended(_))),
            );
            after = page.next;
            if after.is_none() || leases.len() >= wanted || looked >= LOOK_MAX {
                return Ok(Listed { leases, next: after });
            }
        }
    }

    /// Shows records as a check would judge them: what a fence, an older generation or the time has ended is
    /// shown as ended, whether or not a sweep has come to it.
    pub(super) async fn judged(&self, records: Vec<LeaseRecord>) -> Result<Vec<ShownLease>, Refusal> {
        let mut keys: Vec<DimKey> =
            records.iter().flat_map(|r| r.observation.pairs().iter().map(|p| p.key)).collect();
        keys.sort_unstable();
        keys.dedup();
        let store = self.leases().store();
        let gates = store.gates(&keys).await.map_err(|e| self.refused(e))?;
        let gates: BTreeMap<DimKey, Gate> =
            keys.into_iter().zip(gates).filter_map(|(key, gate)| Some((key, gate?))).collect();
        let generation = store.generation().map(|g| g.generation);
        let now = self.clock().now();
        Ok(records
            .into_iter()
            .map(|mut record| {
                if record.state == LeaseState::Active {
                    let holds = Some(record.observation.generation()) == generation
                        && record.observation.pairs().iter().all(|pair| {
                            let fence = gates.get(&pair.key).and_then(|g| g.standing_fence(now));
                            Fence::matches(fence, pair.fence)
                        });
                    if !holds {
                        record.state = LeaseState::Ended(EndReason::Revoked);
                    } else if now >= record.expires {
                        record.state = LeaseState::Ended(EndReason::Expired);
                    }
                }
                ShownLease { record }
            })
            .collect())
    }
}
