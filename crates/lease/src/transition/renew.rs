//! Renewing a lease.

use mayfly_domain::UnixMillis;

use super::end::judge;
use super::evidence::{present, refuse_spent};
use super::{No, Step, View, Write, keep_until, refuse_blocked};
use crate::command::{RenewCommand, Renewed, index_keys};
use crate::task::TaskState;

/// Decides a renewal: the record is live and the caller's own, its first observation holds, nothing blocks;
/// index entries are extended before the record, the counter moves, the observation stays. The key may change:
/// whoever holds the old one has asked for it, and whoever holds the new one has proved it.
///
/// # Errors
/// [`No`], and whatever the view can't read.
pub fn renew<V: View>(view: &V, command: &RenewCommand, now: UnixMillis) -> Result<Step<Renewed>, V::Error> {
    refuse_spent(view, command.spend, now)?;
    let presented = present(view, command.evidence.as_ref(), false, now)?;
    for (n, subject) in command.subjects.iter().enumerate() {
        presented.observed(view, subject, n, command.evidence.as_ref(), now)?;
    }
    let mut record = view.record(command.id)?.ok_or_else(|| V::Error::from(No::NotFound))?;
    // The decision was about what was read before: another key by now is another lease to decide about.
    if record.body != command.body {
        return Err(No::RaceLost.into());
    }
    if !command.is_holders() {
        return Err(No::OfAnother.into());
    }
    // What was left at a target has an end there that must move first: another order, not this one.
    if record.has_side_effect() {
        return Err(No::LineageOver.into());
    }
    if let Some(no) = judge(view, &record, now)? {
        return Err(no.into());
    }
    refuse_blocked(view, &command.subjects, Some(&record.observation), now)?;
    let task_key = mayfly_domain::Subject::Task(command.task.clone()).key();
    let bound = match view.task(task_key)?.filter(|t| now < t.keep_until) {
        Some(task) if task.state == TaskState::Ended => return Err(No::TaskEnded.into()),
        Some(task) => record.renewable_until.min(task.window_ends),
        None => record.renewable_until,
    };
    let expires = now.plus(command.ttl.as_millis()).min(bound).floor_secs();
    if expires <= now {
        return Err(No::LineageOver.into());
    }
    record.expires = record.expires.max(expires);
    record.counter = record.counter.checked_add(1).ok_or_else(|| V::Error::from(No::LineageOver))?;
    record.signer = command.signer;
    if let Some(body) = command.next_body() {
        record.body = body;
    }
    let mut writes = vec![Write::Used(command.spend.id, command.spend.until)];
    writes.extend(
        index_keys(&command.subjects)
            .into_iter()
            .map(|key| Write::Index(key, record.id, record.body.acceptors, record.expires)),
    );
    writes.push(Write::Partition(record.id, record.expires));
    writes.push(Write::Record(Box::new(record.clone()), Some(keep_until(record.expires))));
    writes.extend(presented.writes);
    Ok((Renewed { record, keys_version: view.keys_version()? }, writes))
}
