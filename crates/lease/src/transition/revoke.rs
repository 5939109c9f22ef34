//! Revoking, blocking, completing tasks, and the sweep's verdict.

use mayfly_domain::feed::{Change, Event};
use mayfly_domain::{Block, EndReason, Fence, Gate, LeaseState, Subject, TaskId, UnixMillis, defaults};

use super::end::ended;
use super::evidence::{present, refuse_spent};
use super::{No, Step, View, Write, gate_event};
use crate::command::{RevokeCommand, RevokeWhat, Revoked, is_indexed};
use crate::generation::GenerationRecord;
use crate::job::{ExposureCount, Job, JobTarget};
use crate::record::{LeaseRecord, Mark};
use crate::task::{TaskBody, TaskRecord, TaskState};

/// Decides a revocation: the fence or the mark, the block, the task's end and the sweep's job in one step.
///
/// # Errors
/// [`No`], and whatever the view can't read.
pub fn revoke<V: View>(
    view: &V,
    command: &RevokeCommand,
    now: UnixMillis,
) -> Result<Step<Revoked>, V::Error> {
    let generation = view.generation()?;
    let changes = view.changes()? + 1;
    match &command.what {
        RevokeWhat::Lease { id, unknown_until } => {
            let until = match view.record(*id)? {
                Some(record) => record.expires.max(record.renewable_until).plus(2 * defaults::SKEW_MS),
                None => *unknown_until,
            };
            // Followers keep the later end too.
            let until = view.mark(*id)?.map_or(until, |mark| until.max(mark.until));
            let job = Job::new(command, JobTarget::Lease(*id), EndReason::Revoked, now);
            let writes = vec![
                Write::Mark(*id, Mark { revocation: command.id, until }),
                Write::Job(Box::new(job.clone())),
                Write::Change(Event {
                    at: now,
                    revocation: Some(command.id.0),
                    change: Change::Mark { lease: *id, until },
                }),
            ];
            Ok((Revoked { job: Some(job), gate: None, task: None, changes, exposure: None }, writes))
        }
        RevokeWhat::Subject { subject, block } => {
            let mut gate = view.gate(subject.key())?.unwrap_or_default();
            if let Some(block) = block {
                gate.block = Some(block.clone());
                gate.block_version = next_version(&gate, now);
            }
            let gate = moved(gate, &generation, now);
            let job =
                Job::new(command, JobTarget::Subject(subject.clone(), gate.fence), EndReason::Revoked, now);
            let writes = vec![
                Write::Gate(subject.clone(), gate.clone()),
                Write::Job(Box::new(job.clone())),
                gate_event(subject, &gate, Some(command.id), now),
            ];
            let exposure = exposed(view, subject, now)?;
            Ok((Revoked { job: Some(job), gate: Some(gate), task: None, changes, exposure }, writes))
        }
        RevokeWhat::Task { id, by, spend, evidence, keep_ms } => {
            let mut writes = Vec::new();
            if let Some(spend) = spend {
                refuse_spent(view, *spend, now)?;
                writes.push(Write::Used(spend.id, spend.until));
            }
            writes.extend(present(view, evidence.as_ref(), false, now)?.writes);
            let subject = Subject::Task(id.clone());
            let found = view.task(subject.key())?.filter(|t| now < t.keep_until);
            let mut task = match (found, by) {
                (Some(task), Some(by)) if task.owner != by.key() => return Err(No::TaskOfAnother.into()),
                (Some(task), _) if task.state == TaskState::Ended => {
                    let changes = changes - 1;
                    let revoked =
                        Revoked { job: None, gate: None, task: Some(task), changes, exposure: None };
                    return Ok((revoked, writes));
                }
                (Some(task), _) => task,
                (None, Some(by)) => never_opened(id, by, now)?,
                (None, None) => return Err(No::NotFound.into()),
            };
            task.state = TaskState::Ended;
            task.keep_until = task.keep_until.max(now.plus(*keep_ms)).max(task.window_ends);
            let gate = moved(view.gate(subject.key())?.unwrap_or_default(), &generation, now);
            let job =
                Job::new(command, JobTarget::Subject(subject.clone(), gate.fence), EndReason::Completed, now);
            writes.push(Write::Task(subject.key(), task.clone()));
            writes.push(gate_event(&subject, &gate, Some(command.id), now));
            let exposure = exposed(view, &subject, now)?;
            writes.push(Write::Gate(subject, gate.clone()));
            writes.push(Write::Job(Box::new(job.clone())));
            Ok((Revoked { job: Some(job), gate: Some(gate), task: Some(task), changes, exposure }, writes))
        }
    }
}

/// Sets a block with its next version, or lifts it; the fence stays as it is.
///
/// # Errors
/// [`No::NoBlock`] where there is none to lift, and whatever the view can't read.
pub fn set_block<V: View>(
    view: &V,
    subject: &Subject,
    block: Option<Block>,
    now: UnixMillis,
) -> Result<Step<Gate>, V::Error> {
    let mut gate = view.gate(subject.key())?.unwrap_or_default();
    if block.is_none() && gate.standing_block(now).is_none() {
        return Err(No::NoBlock.into());
    }
    gate.block_version = next_version(&gate, now);
    gate.block = block;
    // Keeping the value longer must not bring back a fence that is over: leases made since saw none.
    gate.fence = gate.standing_fence(now).unwrap_or(Fence::NONE);
    // A lifted block's version outlives every copy that could bring it back.
    gate.fence_until = gate.fence_until.max(view.generation()?.fence_until(now));
    let event = gate_event(subject, &gate, None, now);
    Ok((gate.clone(), vec![Write::Gate(subject.clone(), gate), event]))
}

/// Whether a sweep of `subject` finds this lease dead: it observed another fence than the job set. (A
/// later fence of the same subject only makes more leases dead.)
pub fn would_be_refused(record: &LeaseRecord, subject: &Subject, fence: Fence) -> bool {
    record.observation.fence(subject.key()).is_some_and(|seen| seen < fence)
}

/// Ends a lease for a job's sweep, where the job's target made it dead and nothing ended it before. Returns the
/// record where the job has ended it, now or before, and whether it was now.
///
/// # Errors
/// Whatever the view can't read.
pub fn end_swept<V: View>(
    view: &V,
    job: &Job,
    id: mayfly_domain::LeaseId,
    now: UnixMillis,
) -> Result<Step<Option<(LeaseRecord, bool)>>, V::Error> {
    let Some(mut record) = view.record(id)? else { return Ok((None, Vec::new())) };
    if let JobTarget::Subject(subject, fence) = &job.target
        && !would_be_refused(&record, subject, *fence)
    {
        return Ok((None, Vec::new()));
    }
    if matches!(record.state, LeaseState::Ended(_)) {
        let by_this = record.revocation == Some(job.id);
        return Ok((by_this.then_some((record, false)), Vec::new()));
    }
    record.revocation = Some(job.id);
    let writes = ended(&mut record, job.end, now);
    Ok((Some((record, true)), writes))
}

/// How the leases of a subject are checked, where there is an index along it.
fn exposed<V: View>(view: &V, subject: &Subject, now: UnixMillis) -> Result<Option<ExposureCount>, V::Error> {
    is_indexed(subject).then(|| view.exposure(subject.key(), now)).transpose()
}

fn next_version(gate: &Gate, now: UnixMillis) -> u64 {
    (gate.block_version + 1).max(now.0)
}

pub(super) fn moved(mut gate: Gate, generation: &GenerationRecord, now: UnixMillis) -> Gate {
    gate.fence = gate.fence.moved(now);
    gate.fence_until = gate.fence_until.max(generation.fence_until(now));
    gate
}

/// The record of a task that is completed before anything opened it, so that nothing opens it later.
fn never_opened(id: &TaskId, by: &Subject, now: UnixMillis) -> Result<TaskRecord, No> {
    let Subject::Workload(workload) = by else { return Err(No::NotFound) };
    Ok(TaskRecord {
        state: TaskState::Open,
        started: now,
        window_ends: now,
        keep_until: now,
        owner: by.key(),
        body: TaskBody {
            id: id.clone(),
            workload: workload.clone(),
            intent: None,
            reason: None,
            shared: false,
        },
    })
}
