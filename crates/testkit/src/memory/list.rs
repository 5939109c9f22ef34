//! Pages of an index.

use mayfly_domain::{LeaseId, UnixMillis, defaults};
use mayfly_lease::{Cursor, LeaseRecord, ListQuery};

use super::MemoryView;

/// The leases of a page's index entries, and where to go on.
pub(super) fn places(view: &MemoryView, query: &ListQuery) -> (Vec<LeaseId>, Option<Cursor>) {
    let cursor =
        |partition, id: &LeaseId, expires: &UnixMillis| Cursor { partition, expires: *expires, id: *id };
    let mut entries: Vec<Cursor> = match query.along {
        Some(key) => {
            let entries = view.index.get(&key).into_iter().flatten();
            entries.map(|(id, (mode, expires))| cursor(mode.number(), id, expires)).collect()
        }
        None => {
            let entries = view.partitions.iter();
            entries.map(|(id, expires)| cursor(LeaseRecord::partition(*id), id, expires)).collect()
        }
    };
    entries.retain(|c| c.expires > view.now && query.after.is_none_or(|after| *c > after));
    entries.sort_unstable();
    let limit = usize::try_from(query.limit.clamp(1, defaults::LIST_PAGE_MAX)).unwrap();
    let next = entries.get(limit - 1).copied();
    (entries.into_iter().take(limit).map(|entry| entry.id).collect(), next)
}
