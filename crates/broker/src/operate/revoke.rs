//! Revoking.

use mayfly_audit::{Kind, Stored};
use mayfly_domain::{
    Block, Fence, Generation, LeaseId, Reason, Refusal, Subject, TaskId, TaskReason, Ttl, UnixMillis,
};
use mayfly_lease::job::ExposureCount;
use mayfly_lease::{Job, JobId, JobTarget, LeaseRecord, RevokeCommand, RevokeWhat, TaskRecord};
use mayfly_policy::{OperatorAction, Target};

use super::block::block_words;
use super::exposure::count;
use super::list::{ListInput, lease_target};
use super::names::Named;
use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;

/// Leases that a dry run looks at.
const DRY_RUN_MAX: usize = 100_000;
/// Leases that a dry run shows.
const SAMPLE: usize = 20;

/// What an operator asks to be ended.
#[derive(Debug, Clone)]
pub enum RevokeInput {
    /// One lease.
    Lease {
        /// Its id.
        id: LeaseId,
        /// Revoke it although there is no record: a store that went back may have lost it.
        force: bool,
    },
    /// Whatever a subject covers; with a block for so long, or without end.
    Subject {
        /// The subject.
        named: Named,
        /// The block: `Some(None)` has no end.
        block: Option<Option<Ttl>>,
    },
}

/// What a revocation did.
#[derive(Debug, Clone)]
pub struct RevokeOutcome {
    /// Its id; none for a dry run.
    pub id: Option<JobId>,
    /// When it was acknowledged.
    pub acknowledged: UnixMillis,
    /// The fence after it.
    pub fence: Option<Fence>,
    /// The number of its event in the feed: what a barrier waits for; 0 for a dry run.
    pub number: u64,
    /// The generation in which that number counts.
    pub generation: Option<Generation>,
    /// What it covers, as counted in its own step or by a dry run; none where the sweep counts.
    pub exposure: Option<ExposureCount>,
    /// A dry run's first leases.
    pub sample: Vec<LeaseRecord>,
    /// What the operator may not have meant.
    pub warnings: Vec<String>,
    /// Whether the audit record is written or waits in the reserve.
    pub audit: Stored,
}

/// A revocation and how far it has come.
#[derive(Debug, Clone)]
pub struct RevocationState {
    /// The job.
    pub job: Job,
    /// Side effects of the whole store that wait to be undone.
    pub undo_pending: u64,
}

impl Broker {
    /// Revokes one lease or a subject. When it returns, no check at any broker accepts what it covers.
    ///
    /// # Errors
    /// A refusal; nothing was revoked, unless it is `STORE_UNAVAILABLE`: then it may have been, and calling
    /// again is safe.
    pub async fn revoke(
        &self,
        call: &Call,
        operator: &Operator,
        input: RevokeInput,
        reason: TaskReason,
        ticket: Option<String>,
        dry_run: bool,
    ) -> Result<RevokeOutcome, Refusal> {
        let timer = self.timer("revoke");
        let _under_way = self.under_way();
        let mut record = self.record(call, Kind::Revoke);
        record.operator = Some(operator.name.clone());
        record.reason_text = Some(reason.clone());
        record.ticket.clone_from(&ticket);
        match &input {
            RevokeInput::Lease { id, .. } => record.lease = Some(*id),
            RevokeInput::Subject { named, .. } => record.subject = Some(named.subject.clone()),
        }
        let outcome = async {
            self.revoking()?;
            let (what, covered) = self.permitted(call, operator, &input, &reason).await?;
            if dry_run {
                return self.dry_run(input).await;
            }
            let block = match &what {
                RevokeWhat::Subject { block: Some(block), .. } => Some(block.clone()),
                _ => None,
            };
            let warnings = self.revoke_warnings(operator, &what).await;
            let command = RevokeCommand {
                id: self.revocation_id(),
                what,
                reason: Some(reason.clone()),
                author: operator.name.to_string(),
                ticket,
            };
            let revoked = self.leases().store().revoke(&command).await;
            // Also after an error: it may be in force.
            self.recent_acceptors().forget();
            let revoked = revoked.map_err(|e| self.refused(e))?;
            self.bus().made(revoked.job.as_ref(), revoked.changes);
            self.wake_sweeper();
            record.revocation = Some(command.id.to_string());
            let copied = if block.is_some() { self.refresh_copy().await } else { Ok(()) };
            let acknowledged = self.clock().now();
            let mut done = record.clone();
            if let Some(block) = block {
                done.detail = block_words(&block);
            }
            // It is in force whether or not it is acknowledged.
            let audit = self.audit().record_or_defer(done).await;
            copied?;
            Ok(RevokeOutcome {
                id: Some(command.id),
                acknowledged,
                fence: revoked.gate.map(|g| g.fence),
                number: revoked.changes,
                generation: self.leases().store().generation().map(|g| g.generation),
                exposure: revoked.exposure.or(covered),
                sample: Vec::new(),
                warnings,
                audit,
            })
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    async fn permitted(
        &self,
        call: &Call,
        operator: &Operator,
        input: &RevokeInput,
        reason: &TaskReason,
    ) -> Result<(RevokeWhat, Option<ExposureCount>), Refusal> {
        match input {
            RevokeInput::Lease { id, force } => {
                let found = self.leases().store().get(*id).await.map_err(|e| self.refused(e))?;
                let target = match &found {
                    Some(lease) => lease_target(lease),
                    // Whose it was is unknown: only who may end everything may end it.
                    None if *force => self.anything(),
                    None => {
                        return Err(
                            Refusal::new(Reason::LeaseNotFound, "no record").fact("lease", id.to_string())
                        );
                    }
                };
                self.permit(call, operator, OperatorAction::Revoke, target)?;
                let now = self.clock().now();
                let unknown_until = now.plus(self.settings().lineage_max.as_millis());
                Ok((RevokeWhat::Lease { id: *id, unknown_until }, Some(count(&found, now))))
            }
            RevokeInput::Subject { named, block } => {
                let target = || Target::Subject(named.subject.clone());
                self.permit(call, operator, OperatorAction::Revoke, target())?;
                if block.is_some() {
                    self.permit(call, operator, OperatorAction::Block, target())?;
                }
                self.known(named).await?;
                let now = self.clock().now();
                let block = block.map(|length| Block {
                    reason: reason.clone(),
                    author: operator.name.to_string(),
                    since: now,
                    until: length.map(|ttl| now.plus(ttl.as_millis())),
                });
                Ok((RevokeWhat::Subject { subject: named.subject.clone(), block }, None))
            }
        }
    }

    async fn dry_run(&self, input: RevokeInput) -> Result<RevokeOutcome, Refusal> {
        let mut covered = Vec::new();
        match input {
            RevokeInput::Lease { id, .. } => {
                covered.extend(self.leases().store().get(id).await.map_err(|e| self.refused(e))?);
            }
            RevokeInput::Subject { named, .. } => {
                let mut after = None;
                loop {
                    let list = ListInput {
                        subject: Some(named.subject.clone()),
                        kind: None,
                        ended: false,
                        limit: mayfly_domain::defaults::LIST_PAGE_MAX,
                        after,
                    };
                    let page = self.leases_of(&list).await?;
                    covered.extend(page.leases.into_iter().map(|l| l.record));
                    after = page.next;
                    if after.is_none() || covered.len() >= DRY_RUN_MAX {
                        break;
                    }
                }
            }
        }
        let exposure = count(&covered, self.clock().now());
        covered.truncate(SAMPLE);
        Ok(RevokeOutcome {
            id: None,
            acknowledged: self.clock().now(),
            fence: None,
            number: 0,
            generation: None,
            exposure: Some(exposure),
            sample: covered,
            warnings: Vec::new(),
            audit: Stored::Written,
        })
    }

    /// A revocation's state.
    ///
    /// # Errors
    /// `NOT_FOUND`, or policy's refusal.
    pub async fn revocation(
        &self,
        call: &Call,
        operator: &Operator,
        id: JobId,
    ) -> Result<RevocationState, Refusal> {
        let store = self.leases().store();
        let job = store.job(id).await.map_err(|e| self.refused(e))?.ok_or(Reason::NotFound)?;
        let target = match &job.target {
            JobTarget::Subject(subject, _) => Target::Subject(subject.clone()),
            JobTarget::Lease(_) => self.anything(),
        };
        self.permit(call, operator, OperatorAction::List, target)?;
        let undo_pending = store.counts().await.map_err(|e| self.refused(e))?.undo_pending;
        Ok(RevocationState { job, undo_pending })
    }

    /// Ends a task as an operator. One that has ended already stays so (`true`).
    ///
    /// # Errors
    /// A refusal; the task goes on.
    pub async fn end_task(
        &self,
        call: &Call,
        operator: &Operator,
        id: TaskId,
        reason: Option<TaskReason>,
    ) -> Result<(TaskRecord, bool, Stored), Refusal> {
        let mut record = self.record(call, Kind::TaskComplete);
        record.operator = Some(operator.name.clone());
        record.task = Some(id.clone());
        record.reason_text.clone_from(&reason);
        let outcome = async {
            self.revoking()?;
            let target = Target::Subject(Subject::Task(id.clone()));
            self.permit(call, operator, OperatorAction::Revoke, target)?;
            let command = RevokeCommand {
                id: self.revocation_id(),
                what: RevokeWhat::Task {
                    id: id.clone(),
                    by: None,
                    spend: None,
                    evidence: None,
                    keep_ms: self.longest_task_keep_ms(),
                },
                reason,
                author: operator.name.to_string(),
                ticket: None,
            };
            let revoked = self.leases().store().revoke(&command).await.map_err(|e| match e {
                mayfly_lease::StoreError::Refused(mayfly_lease::transition::No::NotFound) => {
                    Reason::NotFound.into()
                }
                other => self.refused(other),
            })?;
            let task = revoked.task.ok_or(Reason::Internal)?;
            self.wake_sweeper();
            let audit = self.audit().record_or_defer(record.clone()).await;
            Ok((task, revoked.job.is_none(), audit))
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        outcome
    }

    /// A task's record.
    ///
    /// # Errors
    /// `NOT_FOUND`, or policy's refusal.
    pub async fn show_task(
        &self,
        call: &Call,
        operator: &Operator,
        id: &TaskId,
    ) -> Result<TaskRecord, Refusal> {
        self.permit(call, operator, OperatorAction::List, Target::Subject(Subject::Task(id.clone())))?;
        let found = self.leases().store().task(id).await.map_err(|e| self.refused(e))?;
        found.ok_or_else(|| Reason::NotFound.into())
    }

    /// The target of calls that name nothing in particular: the trust domain.
    pub(crate) fn anything(&self) -> Target {
        Target::Subject(Subject::Everything(self.settings().trust_domain.clone()))
    }
}
