//! Opening and joining tasks.

use mayfly_domain::{DimKey, Intent, Subject, UnixMillis};

use super::evidence::{present, refuse_spent};
use super::{No, Step, View, Write, refuse_blocked};
use crate::command::{StartTaskCommand, TaskPlan, TaskStarted};
use crate::task::{TaskRecord, TaskState};

/// The task after a join, and whether it was open before.
#[derive(Debug)]
pub(super) struct Joined {
    pub key: DimKey,
    pub task: TaskRecord,
    pub joined: bool,
    pub changed: bool,
}

impl Joined {
    pub(super) fn write(&self) -> Option<Write> {
        self.changed.then(|| Write::Task(self.key, self.task.clone()))
    }
}

/// Joins the task of `plan` or opens it. `intent`: what the caller sets out to do; a task that was opened
/// with one may not be joined with another.
pub(super) fn join<V: View>(
    view: &V,
    plan: &TaskPlan,
    intent: Option<&Intent>,
    now: UnixMillis,
) -> Result<Joined, V::Error> {
    let key = Subject::Task(plan.body.id.clone()).key();
    let owner = Subject::Workload(plan.body.workload.clone()).key();
    let keep_at_least = now.plus(plan.keep_ms);
    match view.task(key)?.filter(|t| now < t.keep_until) {
        None => {
            let window_ends = now.plus(plan.window.as_millis()).floor_secs();
            let task = TaskRecord {
                state: TaskState::Open,
                started: now,
                window_ends,
                keep_until: keep_at_least.max(window_ends),
                owner,
                body: plan.body.clone(),
            };
            Ok(Joined { key, task, joined: false, changed: true })
        }
        Some(task) if task.owner != owner => Err(No::TaskOfAnother.into()),
        Some(task) if task.state == TaskState::Ended => Err(No::TaskEnded.into()),
        Some(task) if now >= task.window_ends => Err(No::WindowOver.into()),
        Some(task)
            if task.body.intent.is_some() && intent.is_some() && task.body.intent.as_ref() != intent =>
        {
            Err(No::TaskIntent.into())
        }
        Some(mut task) => {
            let changed = task.keep_until < keep_at_least;
            task.keep_until = task.keep_until.max(keep_at_least);
            Ok(Joined { key, task, joined: true, changed })
        }
    }
}

/// Opens a task, or joins it.
///
/// # Errors
/// [`No`], and whatever the view can't read.
pub fn start_task<V: View>(
    view: &V,
    command: &StartTaskCommand,
    now: UnixMillis,
) -> Result<Step<TaskStarted>, V::Error> {
    refuse_spent(view, command.spend, now)?;
    let presented = present(view, command.evidence.as_ref(), false, now)?;
    for (n, subject) in command.subjects.iter().enumerate() {
        presented.observed(view, subject, n, command.evidence.as_ref(), now)?;
    }
    refuse_blocked(view, &command.subjects, None, now)?;
    let joined = join(view, &command.task, command.task.body.intent.as_ref(), now)?;
    let mut writes = vec![Write::Used(command.spend.id, command.spend.until)];
    writes.extend(joined.write());
    let first_binding = presented.first;
    writes.extend(presented.writes);
    Ok((TaskStarted { task: joined.task, joined: joined.joined, first_binding }, writes))
}
