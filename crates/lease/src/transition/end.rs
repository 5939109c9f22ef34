//! Checking, confirming and ending leases, and undoing their side effects.

use mayfly_domain::{EndReason, LeaseState, UnixMillis, defaults};

use super::{No, Step, View, Write, blocked, keep_until, marked, observation_holds};
use crate::command::{CheckCommand, Checked, EndCommand};
use crate::record::{FLAG_ENDED_RESERVED, FLAG_UNDONE, FLAG_UNDONE_ONCE, LeaseRecord};

/// The one judgement: why a record's credential should not be accepted now; nothing where it should.
pub(super) fn judge<V: View>(
    view: &V,
    record: &LeaseRecord,
    now: UnixMillis,
) -> Result<Option<No>, V::Error> {
    if let Some(mark) = view.mark(record.id)?.filter(|m| now < m.until) {
        return Ok(Some(No::Marked(mark.revocation)));
    }
    match record.state {
        LeaseState::Reserved => return Ok(Some(No::NotActive)),
        LeaseState::Ended(reason) => return Ok(Some(No::Ended(reason, record.revocation))),
        LeaseState::Active => {}
    }
    if now >= record.expires {
        return Ok(Some(No::Expired));
    }
    if !observation_holds(view, &record.observation, now)? {
        return Ok(Some(No::FenceMoved));
    }
    let mark = marked(view, record.observation.ancestors(), now)?;
    Ok(mark.map(|mark| No::Marked(mark.revocation)))
}

/// Judges a credential.
///
/// # Errors
/// [`No`], and whatever the view can't read.
pub fn check<V: View>(view: &V, command: &CheckCommand, now: UnixMillis) -> Result<Checked, V::Error> {
    let Some(record) = view.record(command.id)? else {
        return Err(match view.mark(command.id)?.filter(|m| now < m.until) {
            Some(mark) => No::Marked(mark.revocation).into(),
            None => No::NotFound.into(),
        });
    };
    if command.observation.as_ref().is_some_and(|o| *o != record.observation) {
        return Err(No::OtherObservation.into());
    }
    match judge(view, &record, now)? {
        Some(no) => Err(no.into()),
        None => Ok(Checked { record, keys_version: view.keys_version()? }),
    }
}

/// Confirms a reserved lease: fences, blocks and marks of everything that it carries are read again, never
/// from a cache.
///
/// # Errors
/// [`No::RaceLost`] where anything came between; the caller undoes and answers that the race was lost.
pub fn confirm<V: View>(
    view: &V,
    id: mayfly_domain::LeaseId,
    now: UnixMillis,
) -> Result<Step<LeaseRecord>, V::Error> {
    let Some(mut record) = view.record(id)? else { return Err(No::RaceLost.into()) };
    if record.state != LeaseState::Reserved || now >= record.confirm_by {
        return Err(No::RaceLost.into());
    }
    record.state = LeaseState::Active;
    let carried = record.observation.pairs().iter().map(|p| p.key);
    if blocked(view, carried, now)?.is_some() || judge(view, &record, now)?.is_some() {
        return Err(No::RaceLost.into());
    }
    let writes = vec![Write::Record(Box::new(record.clone()), None), Write::Undo(id, record.expires)];
    Ok((record, writes))
}

/// A record as it is shown, whatever its state: one that was marked and not ended yet is shown as revoked.
///
/// # Errors
/// Whatever the view can't read.
pub fn shown<V: View>(view: &V, mut record: LeaseRecord, now: UnixMillis) -> Result<LeaseRecord, V::Error> {
    if !matches!(record.state, LeaseState::Ended(_))
        && let Some(mark) = view.mark(record.id)?.filter(|m| now < m.until)
    {
        record.state = LeaseState::Ended(EndReason::Revoked);
        record.revocation = Some(mark.revocation);
    }
    Ok(record)
}

/// Ends a lease at its holder's wish, or as a sweep's batch does. One that is over stays as it is.
///
/// # Errors
/// [`No`], and whatever the view can't read.
pub fn end<V: View>(
    view: &V,
    command: &EndCommand,
    now: UnixMillis,
) -> Result<Step<(LeaseRecord, bool)>, V::Error> {
    let mut record = view.record(command.id)?.ok_or_else(|| V::Error::from(No::NotFound))?;
    if let Some((workload, task, key)) = &command.holder {
        let mine = mayfly_domain::Subject::Workload(record.body.workload.clone()) == *workload
            && record.body.task.as_ref() == Some(task)
            && record.body.key == *key;
        if !mine {
            return Err(No::OfAnother.into());
        }
    }
    if matches!(record.state, LeaseState::Ended(_)) || now >= record.expires {
        return Ok(((record, false), Vec::new()));
    }
    record.revocation = command.revocation;
    let writes = ended(&mut record, command.reason, now);
    Ok(((record, true), writes))
}

/// Marks a record as ended and says what must be written.
pub(super) fn ended(record: &mut LeaseRecord, reason: EndReason, now: UnixMillis) -> Vec<Write> {
    if record.state == LeaseState::Reserved {
        record.flags |= FLAG_ENDED_RESERVED;
    }
    record.state = LeaseState::Ended(reason);
    let mut writes = Vec::with_capacity(2);
    if record.has_side_effect() {
        let due = if record.flags & FLAG_ENDED_RESERVED != 0 { record.confirm_by.max(now) } else { now };
        writes.push(Write::Record(Box::new(record.clone()), None));
        writes.push(Write::Undo(record.id, due));
    } else {
        writes.push(Write::Record(Box::new(record.clone()), Some(keep_until(record.expires))));
    }
    writes
}

/// What the reaper does with a queued lease that is due: an overdue one is ended first. Returns the record
/// where its side effect must be undone now.
///
/// # Errors
/// Whatever the view can't read.
pub fn overdue<V: View>(
    view: &V,
    id: mayfly_domain::LeaseId,
    now: UnixMillis,
) -> Result<Step<Option<LeaseRecord>>, V::Error> {
    let Some(mut record) = view.record(id)? else { return Ok((None, vec![Write::UndoDone(id)])) };
    let reason = match record.state {
        LeaseState::Ended(_) => return Ok((Some(record), Vec::new())),
        LeaseState::Reserved if now >= record.confirm_by => EndReason::Abandoned,
        LeaseState::Active if now >= record.expires => EndReason::Expired,
        LeaseState::Reserved => return Ok((None, vec![Write::Undo(id, record.confirm_by)])),
        LeaseState::Active => return Ok((None, vec![Write::Undo(id, record.expires)])),
    };
    let writes = ended(&mut record, reason, now);
    Ok((Some(record), writes))
}

/// Confirms an undo that was due. Only an ended lease's undo counts; one that ended while reserved is undone a
/// second time after the grace, since its maker may still have been at work. `due` is the record as it was handed out
/// to be undone: a confirmation that comes again, or however late (two reapers, one of them suspended), does not count
/// as the second, since what it undid came before what the maker left.
///
/// # Errors
/// [`No`], and whatever the view can't read.
pub fn undone<V: View>(view: &V, due: &LeaseRecord, now: UnixMillis) -> Result<Step<()>, V::Error> {
    let id = due.id;
    let Some(mut record) = view.record(id)? else { return Ok(((), vec![Write::UndoDone(id)])) };
    if !matches!(record.state, LeaseState::Ended(_)) {
        return Err(No::RaceLost.into());
    }
    let again = (record.flags ^ due.flags) & FLAG_UNDONE_ONCE != 0;
    if again || view.undo_due(id)?.is_none_or(|due| now < due) {
        return Ok(((), Vec::new()));
    }
    if record.flags & FLAG_ENDED_RESERVED != 0 && record.flags & FLAG_UNDONE_ONCE == 0 {
        record.flags |= FLAG_UNDONE_ONCE;
        let due = now.plus(defaults::UNDO_GRACE_MS);
        return Ok(((), vec![Write::Record(Box::new(record), None), Write::Undo(id, due)]));
    }
    record.flags |= FLAG_UNDONE;
    let keep = keep_until(record.expires.max(now));
    Ok(((), vec![Write::Record(Box::new(record), Some(keep)), Write::UndoDone(id)]))
}
