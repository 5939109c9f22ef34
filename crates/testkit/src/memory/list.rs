//! Pages of an index.

use mayfly_domain::{LeaseId, UnixMillis, defaults};
use mayfly_lease::{Cursor, LeaseRecord, ListQuery};

use super::MemoryView;

/// The leases of a page's index entries, and where to go on.
pub(super) fn places(view: &MemoryView, query: &ListQuery) -> (Vec<LeaseId>, Option<Cursor>) {
    let cursor = |partition: u8, (id, expires): (&LeaseId, &UnixMillis)| Cursor {
        partition,
        expires: *expires,
        id: *id,
    };
    let mut entries: Vec<Cursor> = match query.along {
        Some(key) => view.index.get(&key).into_iter().flatten().map(|entry| cursor(0, entry)).collect(),
        None => view.partitions.iter().map(|e| cursor(LeaseRecord::partition(*e.0), e)).collect(),
    };
    entries.retain(|c| c.expires > view.now && query.after.is_none_or(|after| *c > after));
    entries.sort_unstable();
    let limit = usize::try_from(query.limit.clamp(1, defaults::LIST_PAGE_MAX)).unwrap();
    let next = entries.get(limit - 1).copied();
    (entries.into_iter().take(limit).map(|entry| entry.id).collect(), next)
}
