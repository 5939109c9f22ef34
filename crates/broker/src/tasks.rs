//! A workload's own tasks and leases: start, complete, look, release.

use std::time::Duration;

use mayfly_attest::Evidence;
use mayfly_attest::envelope::Opened;
use mayfly_audit::{Kind, Record, Stored};
use mayfly_domain::{EndReason, Intent, LeaseId, LeaseState, Reason, Refusal, Subject, TaskReason, Ttl};
use mayfly_lease::command::{EndCommand, StartTaskCommand};
use mayfly_lease::proof::{spend, task_plan};
use mayfly_lease::{LeaseRecord, ListQuery, RevokeCommand, RevokeWhat, TaskRecord, TaskStarted, transition};

use crate::broker::Broker;
use crate::call::Call;
use crate::unattested::Unattested;

/// The most leases of one task that are looked at in one call.
const TASK_LEASES: u32 = 1_000;
/// How long one waits who completes again and again what has ended.
const REPEAT_WAIT: Duration = Duration::from_secs(1);

/// A task's completion.
#[derive(Debug, Clone)]
pub struct Completed {
    /// The task.
    pub task: TaskRecord,
    /// Whether it had ended before.
    pub already: bool,
    /// Whether the audit record is written or waits in the reserve.
    pub audit: Stored,
}

/// What a release ended.
#[derive(Debug, Clone)]
pub struct Released {
    /// How many leases.
    pub released: u32,
    /// Whether the audit record is written or waits in the reserve.
    pub audit: Stored,
}

impl Broker {
    /// Opens the task that the evidence names, or joins it.
    ///
    /// # Errors
    /// A refusal; nothing was opened, unless it is `AUDIT_UNAVAILABLE`: starting it again then joins it.
    pub async fn start_task(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        intent: Option<Intent>,
        reason: Option<TaskReason>,
        window: Option<Ttl>,
    ) -> Result<TaskStarted, Refusal> {
        let timer = self.timer("task_start");
        let mut record = self.record(call, Kind::TaskStart);
        record.intent.clone_from(&intent);
        let outcome = async {
            self.serving()?;
            let attested = self.attest(call, opened, evidence).await?;
            self.attested(&mut record, attested.facts());
            record.reason_text.clone_from(&reason);
            let facts = self.running().engine.own_task(attested).into_grant();
            let mut plan = task_plan(&facts, None, window, &self.settings().limits);
            plan.body.intent = intent;
            plan.body.reason = reason;
            let mut subjects = vec![Subject::Workload(facts.workload.clone())];
            subjects.extend(facts.owners.iter().cloned().map(Subject::Owner));
            subjects.push(Subject::Task(facts.task.id.clone()));
            subjects.push(Subject::Everything(self.settings().trust_domain.clone()));
            let command = StartTaskCommand {
                spend: spend(&facts),
                task: plan,
                evidence: self.leases().evidence(&facts),
                subjects,
            };
            let started = self.leases().store().start_task(&command).await.map_err(|e| {
                self.note(&e);
                self.leases().refusal(e, &command.subjects, &[])
            })?;
            self.audit().record(record.clone()).await?;
            Ok(started)
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    /// Ends the workload's task and everything minted for it; one that has ended already stays so.
    ///
    /// # Errors
    /// A refusal; the task goes on. A full audit disk is none.
    pub async fn complete_task(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
    ) -> Result<Completed, Refusal> {
        let timer = self.timer("task_complete");
        let mut record = self.record(call, Kind::TaskComplete);
        let outcome = async {
            self.revoking()?;
            let attested = self.attest(call, opened, evidence).await?;
            self.attested(&mut record, attested.facts());
            let facts = self.running().engine.own_task(attested).into_grant();
            let command = RevokeCommand {
                id: self.revocation_id(),
                what: RevokeWhat::Task {
                    id: facts.task.id.clone(),
                    by: Some(Subject::Workload(facts.workload.clone())),
                    spend: Some(spend(&facts)),
                    evidence: self.leases().evidence(&facts),
                    keep_ms: self.settings().limits.task_keep_ms(facts.evidence.as_ref().map(|e| e.life)),
                },
                reason: None,
                author: facts.workload.to_string(),
                ticket: None,
            };
            self.completed(&mut record, &command, None).await
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    /// Ends a task and audits it. `repeats`: how often one that had ended before is audited, where whoever asks need
    /// show nothing of their own.
    pub(crate) async fn completed(
        &self,
        record: &mut Record,
        command: &RevokeCommand,
        repeats: Option<&Unattested>,
    ) -> Result<Completed, Refusal> {
        let revoked = self.leases().store().revoke(command).await.map_err(|e| self.refused(e))?;
        let task = revoked.task.ok_or(Reason::Internal)?;
        let already = revoked.job.is_none();
        match repeats.filter(|_| already).map(Unattested::take) {
            None | Some(Some(0)) => {}
            Some(Some(n)) => {
                record.detail = format!("{} ({n} times more, which were not recorded)", record.detail);
            }
            Some(None) => {
                return Err(
                    Refusal::new(Reason::RateLimited, "the task has ended already").after(REPEAT_WAIT)
                );
            }
        }
        record.revocation = revoked.job.as_ref().map(|j| j.id.to_string());
        self.wake_sweeper();
        let audit = self.audit().record_or_defer(record.clone()).await;
        Ok(Completed { task, already, audit })
    }

    /// The workload's task and what this key holds in it: evidence alone, shown by another key, tells nothing of
    /// another job's leases.
    ///
    /// # Errors
    /// `NOT_FOUND` where nothing opened it.
    pub async fn get_task(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
    ) -> Result<(TaskRecord, Vec<LeaseRecord>), Refusal> {
        self.serving()?;
        let attested = self.attest(call, opened, evidence).await?;
        let facts = self.running().engine.own_task(attested).into_grant();
        let task = self.leases().store().task(&facts.task.id).await.map_err(|e| self.refused(e))?;
        let owner = Subject::Workload(facts.workload.clone()).key();
        let task = task.filter(|t| t.owner == owner).ok_or(Reason::NotFound)?;
        let leases = self.task_leases(&facts).await?;
        Ok((task, leases))
    }

    /// Ends one lease of the workload's, or all that its key holds in its task. What has ended stays so.
    ///
    /// # Errors
    /// A refusal; nothing was ended where one lease was named and it is another's.
    pub async fn release(
        &self,
        call: &Call,
        opened: &Opened,
        evidence: &Evidence,
        lease: Option<LeaseId>,
    ) -> Result<Released, Refusal> {
        let timer = self.timer("release");
        let mut record = self.record(call, Kind::Release);
        record.lease = lease;
        let outcome = async {
            self.revoking()?;
            let attested = self.attest(call, opened, evidence).await?;
            self.attested(&mut record, attested.facts());
            let facts = self.running().engine.own_task(attested).into_grant();
            let ids: Vec<LeaseId> = match lease {
                Some(id) => vec![id],
                None => self.own_leases(&facts).await?,
            };
            let mut released = Vec::new();
            for id in ids {
                let command = EndCommand {
                    id,
                    holder: Some((
                        Subject::Workload(facts.workload.clone()),
                        facts.task.id.clone(),
                        facts.key,
                    )),
                    reason: EndReason::Released,
                    revocation: None,
                };
                let (_, ended) = self.leases().store().end(&command).await.map_err(|e| match e {
                    // Whether another's lease exists is nobody's business.
                    mayfly_lease::StoreError::Refused(transition::No::OfAnother) => {
                        Reason::LeaseNotFound.into()
                    }
                    other => self.refused(other),
                })?;
                if ended {
                    released.push(id);
                }
            }
            let count = u32::try_from(released.len()).unwrap_or(u32::MAX);
            record.count = Some(count.into());
            record.leases = released;
            let audit = self.audit().record_or_defer(record.clone()).await;
            Ok(Released { released: count, audit })
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    async fn task_leases(&self, facts: &mayfly_attest::AttestedFacts) -> Result<Vec<LeaseRecord>, Refusal> {
        let along = Some(Subject::Task(facts.task.id.clone()).key());
        let query = ListQuery { along, after: None, limit: TASK_LEASES };
        let page = self.leases().store().list(&query).await.map_err(|e| self.refused(e))?;
        let own = |l: &LeaseRecord| l.body.workload == facts.workload && l.body.key == facts.key;
        Ok(page.records.into_iter().filter(own).collect())
    }

    /// All that the workload's key holds in its task, however much that is.
    async fn own_leases(&self, facts: &mayfly_attest::AttestedFacts) -> Result<Vec<LeaseId>, Refusal> {
        let along = Some(Subject::Task(facts.task.id.clone()).key());
        let mut query = ListQuery { along, after: None, limit: TASK_LEASES };
        let mut own = Vec::new();
        loop {
            let page = self.leases().store().list(&query).await.map_err(|e| self.refused(e))?;
            own.extend(
                page.records
                    .into_iter()
                    .filter(|l| l.body.workload == facts.workload && l.body.key == facts.key)
                    .filter(|l| !matches!(l.state, LeaseState::Ended(_)))
                    .map(|l| l.id),
            );
            query.after = page.next;
            if query.after.is_none() {
                return Ok(own);
            }
        }
    }
}
