//! What has no transition of its own: jobs and their claims, the undo queue, keys, generations.

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::feed::{Change, Event};
use mayfly_domain::{LeaseId, UnixMillis, defaults};
use mayfly_lease::command::sweep_key;
use mayfly_lease::transition::{self, View as _};
use mayfly_lease::{
    Carry, GenerationRecord, Job, JobId, JobTarget, LeaseRecord, ListQuery, StoreError, Swept,
};

use super::layout as at;
use super::ledger::Work;
use super::list;
use super::state::{Readable, State};
use crate::unreadable::Unreadable;

/// Entries of the undo queue that one call looks at, at most.
const UNDO_MAX: u32 = 256;

/// The oldest open job that nobody has claimed.
pub(super) fn claimable<T: Readable>(state: &State<T>) -> Result<Option<JobId>, StoreError> {
    let mut found = None;
    state.walk(&[at::JOB_OPEN], &[at::JOB_OPEN + 1], |key, value| {
        if at::number(value)? <= state.now.0 {
            found = Some(job_id(key)?);
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Claims it for `lease_ms`.
pub(super) fn claim(work: &mut Work<'_, '_>, lease_ms: u64) -> Result<Option<Job>, StoreError> {
    let Some(id) = claimable(work.ledger)? else { return Ok(None) };
    let job =
        stored(work.ledger, id)?.ok_or_else(|| StoreError::Corrupt(format!("open job {id} is missing")))?;
    let until = work.now().plus(lease_ms);
    work.write(|ledger| ledger.put(&at::key(at::JOB_OPEN, &[&id.0]), &until.0.to_be_bytes()))?;
    Ok(Some(job))
}

/// A job.
pub(super) fn stored<T: Readable>(state: &State<T>, id: JobId) -> Result<Option<Job>, StoreError> {
    let kept = state.get(&at::key(at::JOB, &[&id.0]), |value| {
        let (until, job) = at::kept(value)?;
        Ok((until, Job::decode(job)?))
    })?;
    Ok(kept.filter(|(until, _)| state.now < *until).map(|(_, job)| job))
}

/// One step of a sweep: progress is stored, a page is read, what is dead on it is ended.
pub(super) fn sweep(
    work: &mut Work<'_, '_>,
    job: &Job,
    limit: u32,
    lease_ms: u64,
    unreadable: &Unreadable,
) -> Result<Swept, StoreError> {
    if stored(work.ledger, job.id)?.is_none_or(|known| known.done) {
        return Ok(Swept::default());
    }
    let query = ListQuery { along: sweep_key(&job.target), after: job.cursor, limit };
    let (seen, next) = list::places(work.ledger, &query)?;
    let itself = match &job.target {
        JobTarget::Lease(id) if job.cursor.is_none() => Some(*id),
        _ => None,
    };
    let claimed = work.now().plus(lease_ms);
    work.write(|ledger| ledger.put_job(job, Some(claimed), at::FOR_EVER))?;
    let mut swept = Swept { next, ..Swept::default() };
    for id in seen.iter().map(|cursor| cursor.id).chain(itself) {
        let found = work.step(|view, now| transition::end_swept(view, job, id, now));
        if let Some((record, now)) = unreadable.pass(id, found)?.flatten() {
            swept.ended.extend(now.then_some(id));
            swept.found.push(record);
        }
    }
    Ok(swept)
}

/// Stores progress. What another broker has completed stays complete; a job that nobody knows stays unknown.
pub(super) fn save(work: &mut Work<'_, '_>, job: &Job, lease_ms: u64) -> Result<(), StoreError> {
    if stored(work.ledger, job.id)?.is_none_or(|known| known.done) {
        return Ok(());
    }
    let now = work.now();
    let kept_until = job.kept_until(&work.ledger.generation()?, now);
    work.write(|ledger| match job.done {
        true => ledger.put_job(job, None, kept_until),
        false => ledger.put_job(job, Some(now.plus(lease_ms)), at::FOR_EVER),
    })
}

/// Leases in the undo queue that are due, oldest first.
pub(super) fn due<T: Readable>(state: &State<T>, limit: u32) -> Result<Vec<LeaseId>, StoreError> {
    let limit = usize::try_from(limit.min(UNDO_MAX)).unwrap_or_default();
    let mut ids = Vec::new();
    if limit == 0 {
        return Ok(ids);
    }
    let to = at::key(at::UNDO, &[&state.now.plus(1).0.to_be_bytes()]);
    state.walk(&[at::UNDO], &to, |key, _| {
        ids.push(at::time_and_lease(key)?.1);
        Ok(ids.len() < limit)
    })?;
    Ok(ids)
}

/// Ends what is overdue and says what must be undone now.
pub(super) fn due_undos(
    work: &mut Work<'_, '_>,
    limit: u32,
    unreadable: &Unreadable,
) -> Result<Vec<LeaseRecord>, StoreError> {
    let mut records = Vec::new();
    for id in due(work.ledger, limit)? {
        let decided = transition::overdue(work.ledger, id, work.now());
        let Some((record, writes)) = unreadable.pass(id, decided)? else { continue };
        if !writes.is_empty() {
            work.step(|_, _| Ok(((), writes)))?;
        }
        records.extend(record);
    }
    Ok(records)
}

/// Replaces the sealed keys where the stored version is the expected one.
pub(super) fn put_keys(
    work: &mut Work<'_, '_>,
    expected: u64,
    version: u64,
    sealed: &[u8],
) -> Result<bool, StoreError> {
    if work.ledger.keys_version()? != expected {
        return Ok(false);
    }
    let value = at::keep(UnixMillis(version), sealed);
    work.write(|ledger| ledger.put(at::KEYS, &value))?;
    work.step(|_, now| {
        let change = Change::Keys { version };
        Ok((true, vec![transition::Write::Change(Event { at: now, revocation: None, change })]))
    })
}

/// Starts a generation where there is none or one with a lower number, after carrying keys and blocks over.
pub(super) fn begin_generation(
    work: &mut Work<'_, '_>,
    next: GenerationRecord,
    carry: &Carry,
) -> Result<GenerationRecord, StoreError> {
    if let Some(stored) = work.ledger.stored_generation()?
        && stored.generation.number >= next.generation.number
    {
        return Ok(stored);
    }
    // Its start was told by a look before, since when the clock may have been set.
    if work.now().0.abs_diff(next.started.0) > defaults::CLOCK_BACK_MS {
        let late = i128::from(work.now().0) - i128::from(next.started.0);
        return Err(StoreError::ClockSkew(i64::try_from(late).unwrap_or(i64::MAX)));
    }
    let mut writes = Vec::with_capacity(carry.blocks.len());
    for (subject, gate) in &carry.blocks {
        let stored = work.ledger.gate(subject.key())?;
        if let Some(gate) = mayfly_lease::gate::carried(stored.as_ref(), gate) {
            writes.push(transition::Write::Gate(subject.clone(), gate));
        }
    }
    let keys_version = work.ledger.keys_version()?;
    let changes = work.ledger.changes()?.max(carry.changes);
    work.step(|_, _| Ok(((), writes)))?;
    // Whoever reads the old one's events learns that it is over.
    work.progress.told = true;
    work.write(|ledger| {
        if let Some((version, sealed)) = carry.keys.as_ref().filter(|(version, _)| *version > keys_version) {
            ledger.put(at::KEYS, &at::keep(UnixMillis(*version), sealed))?;
        }
        ledger.put(at::CHANGES, &changes.to_be_bytes())?;
        ledger.restart_feed()?;
        ledger.put(at::CLOCK, &ledger.now.0.to_be_bytes())?;
        ledger.put(at::GENERATION, &next.encode())
    })?;
    Ok(next)
}

fn job_id(key: &[u8]) -> Result<JobId, Malformed> {
    let mut r = Reader::new("job key", key.get(1..).unwrap_or_default());
    let id = JobId(r.array()?);
    r.finish()?;
    Ok(id)
}
