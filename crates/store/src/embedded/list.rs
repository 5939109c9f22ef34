//! Lists, and what is counted.

use mayfly_domain::codec::Reader;
use mayfly_domain::{AcceptorMode, DimKey, EvidenceHash, Gate, LeaseId, Subject, UnixMillis, defaults};
use mayfly_lease::command::is_indexed;
use mayfly_lease::store::StoreCounts;
use mayfly_lease::transition::{self, View as _};
use mayfly_lease::{Cursor, JoinRecord, ListQuery, Page, StoreError};

use super::layout as at;
use super::state::{Readable, State};
use crate::unreadable::Unreadable;

/// A page: index entries that are not past their hard expiry, in the order of it.
pub(super) fn page<T: Readable>(
    state: &State<T>,
    query: &ListQuery,
    unreadable: &Unreadable,
) -> Result<Page, StoreError> {
    let (seen, next) = places(state, query)?;
    let mut records = Vec::with_capacity(seen.len());
    for cursor in &seen {
        let record = unreadable.pass(cursor.id, state.record(cursor.id))?.flatten();
        records.extend(record.map(|record| transition::shown(state, record, state.now)).transpose()?);
    }
    Ok(Page { records, next })
}

/// The page's index entries, and where to go on.
pub(super) fn places<T: Readable>(
    state: &State<T>,
    query: &ListQuery,
) -> Result<(Vec<Cursor>, Option<Cursor>), StoreError> {
    let limit = usize::try_from(query.limit.clamp(1, defaults::LIST_PAGE_MAX)).unwrap_or(1);
    let mut seen: Vec<Cursor> = Vec::with_capacity(limit);
    match query.along {
        Some(key) => {
            let modes = AcceptorMode::ALL.map(AcceptorMode::number).into_iter();
            for mode in modes.filter(|mode| query.after.is_none_or(|after| after.partition <= *mode)) {
                let after = query.after.filter(|c| c.partition == mode);
                entries(state, &along(key, mode), mode, after, limit, &mut seen)?;
                if seen.len() >= limit {
                    break;
                }
            }
        }
        None => {
            for partition in query.after.map_or(0, |c| c.partition)..=u8::MAX {
                let after = query.after.filter(|c| c.partition == partition);
                entries(state, &at::key(at::PARTITION, &[&[partition]]), partition, after, limit, &mut seen)?;
                if seen.len() >= limit {
                    break;
                }
            }
        }
    }
    let next = seen.last().copied().filter(|_| seen.len() >= limit);
    Ok((seen, next))
}

fn along(key: DimKey, mode: u8) -> Vec<u8> {
    at::key(at::INDEX, &[&key.0, &[mode]])
}

/// Entries under `prefix` after a place, up to `limit` in all.
fn entries<T: Readable>(
    state: &State<T>,
    prefix: &[u8],
    partition: u8,
    after: Option<Cursor>,
    limit: usize,
    seen: &mut Vec<Cursor>,
) -> Result<(), StoreError> {
    let place = |time: UnixMillis, id: &[u8; 16]| [prefix, &time.0.to_be_bytes(), id].concat();
    let mut from = place(state.now.plus(1), &[0; 16]);
    if let Some(after) = after {
        let mut next = place(after.expires, after.id.as_bytes());
        next.push(0);
        from = from.max(next);
    }
    state.walk(&from, &place(UnixMillis(u64::MAX), &[u8::MAX; 16]), |key, _| {
        let (expires, id): (UnixMillis, LeaseId) = at::time_and_lease(key)?;
        seen.push(Cursor { partition, expires, id });
        Ok(seen.len() < limit)
    })
}

/// Every join token that is still known, oldest first.
pub(super) fn joins<T: Readable>(state: &State<T>) -> Result<Vec<JoinRecord>, StoreError> {
    let mut found = Vec::new();
    state.walk(&[at::JOIN], &[at::JOIN + 1], |key, value| {
        let hash = EvidenceHash(Reader::new("join token's key", key.get(1..).unwrap_or_default()).array()?);
        let record = JoinRecord::decode(hash, value)?;
        if state.now < record.keep_until() {
            found.push(record);
        }
        Ok(true)
    })?;
    found.sort_by_key(|record| (record.created, record.id));
    Ok(found)
}

/// Every gate on which a block stands.
pub(super) fn blocks<T: Readable>(state: &State<T>) -> Result<Vec<(Subject, Gate)>, StoreError> {
    let mut found = Vec::new();
    state.walk(&[at::GATE], &[at::GATE + 1], |_, value| {
        let (subject, gate) = mayfly_lease::gate::decode(value)?;
        if gate.standing_block(state.now).is_some() {
            found.extend(subject.map(|subject| (subject, gate)));
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Whether anything knows the subject.
pub(super) fn knows<T: Readable>(state: &State<T>, subject: &Subject) -> Result<bool, StoreError> {
    let key = subject.key();
    let gate = state.gate(key)?.is_some_and(|gate| !gate.is_over(state.now));
    if gate || state.task(key)?.is_some_and(|task| state.now < task.keep_until) {
        return Ok(true);
    }
    Ok(is_indexed(subject) && state.live(key, state.now)? > 0)
}

/// Counts.
pub(super) fn counts<T: Readable>(state: &State<T>, unreadable: u64) -> Result<StoreCounts, StoreError> {
    let mut over = 0;
    for partition in 0..=u8::MAX {
        let to = at::key(at::PARTITION, &[&[partition], &state.now.plus(1).0.to_be_bytes()]);
        state.walk(&at::key(at::PARTITION, &[&[partition]]), &to, |_, _| {
            over += 1;
            Ok(true)
        })?;
    }
    let all = |kind: u8| {
        let mut n = 0;
        state.walk(&[kind], &[kind + 1], |_, _| {
            n += 1;
            Ok(true)
        })?;
        Ok::<u64, StoreError>(n)
    };
    Ok(StoreCounts {
        live_leases: state.count(at::LEASES)?.saturating_sub(over),
        open_jobs: all(at::JOB_OPEN)?,
        undo_pending: all(at::UNDO_OF)?,
        unreadable,
    })
}
