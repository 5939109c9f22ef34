//! Where everything is in the file: one ordered table, keys that begin with the octet of their kind.
//!
//! | kind | key | value |
//! | --- | --- | --- |
//! | `V` | | layout version, 2 |
//! | `I` | | identity of the file (16) |
//! | `G` | | generation |
//! | `C` | | changes counted (8) |
//! | `T` | | highest time at which something was taken away because it was over (8) |
//! | `K` | | version (8), sealed keys |
//! | `r` | lease (16) | kept until (8), record |
//! | `m` | lease | mark |
//! | `u` | lease | nonce's use kept until (8) |
//! | `b` | evidence (32) | binding |
//! | `w` | evidence | join token |
//! | `t` | dimension key (16) | task record |
//! | `f` | dimension key | gate |
//! | `a` | dimension key | rate limit (8) |
//! | `x` | dimension key, acceptors' mode (1), expiry (8), lease | |
//! | `y` | dimension key, lease | acceptors' mode (1), expiry (8) |
//! | `n` | dimension key, acceptors' mode (1) | number of its index entries (8) |
//! | `p` | partition (1), expiry (8), lease | |
//! | `q` | lease | expiry (8) |
//! | `l` | | number of partition entries (8) |
//! | `j` | job (16) | kept until (8), job |
//! | `o` | job | claimed until (8) |
//! | `d` | due (8), lease | |
//! | `v` | lease | due (8) |
//! | `e` | number (8) | event of the feed: `mayfly_domain::feed` |
//! | `h` | follower (16) | kept until (8), `mayfly_lease::feed::FollowerSeen` |
//! | `s` | profile, 0, day (4), what was used: `mayfly_lease::feed::UsageCount` | how often (8) |
//! | `z` | profile, 0, day (4) | number of different things used (8) |
//!
//! Integers are big-endian, so that keys with a time are in its order. Times are ms since the epoch; the
//! largest number means for ever.

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::{DimKey, LeaseId, UnixMillis};
use redb::TableDefinition;

/// The one table.
pub(super) const TABLE: TableDefinition<'static, &'static [u8], &'static [u8]> =
    TableDefinition::new("mayfly");

/// The layout's version.
pub(super) const VERSION: u8 = 2;

/// For ever, as a time.
pub(super) const FOR_EVER: UnixMillis = UnixMillis(u64::MAX);

pub(super) const LAYOUT: &[u8] = b"V";
pub(super) const IDENTITY: &[u8] = b"I";
pub(super) const GENERATION: &[u8] = b"G";
pub(super) const CHANGES: &[u8] = b"C";
pub(super) const CLOCK: &[u8] = b"T";
pub(super) const KEYS: &[u8] = b"K";
pub(super) const LEASES: &[u8] = b"l";

pub(super) const RECORD: u8 = b'r';
pub(super) const MARK: u8 = b'm';
pub(super) const USED: u8 = b'u';
pub(super) const BINDING: u8 = b'b';
pub(super) const JOIN: u8 = b'w';
pub(super) const TASK: u8 = b't';
pub(super) const GATE: u8 = b'f';
pub(super) const BUCKET: u8 = b'a';
pub(super) const INDEX: u8 = b'x';
pub(super) const INDEX_OF: u8 = b'y';
pub(super) const INDEX_COUNT: u8 = b'n';
pub(super) const PARTITION: u8 = b'p';
pub(super) const PARTITION_OF: u8 = b'q';
pub(super) const JOB: u8 = b'j';
pub(super) const JOB_OPEN: u8 = b'o';
pub(super) const UNDO: u8 = b'd';
pub(super) const UNDO_OF: u8 = b'v';
pub(super) const EVENT: u8 = b'e';
pub(super) const FOLLOWER: u8 = b'h';
pub(super) const USAGE: u8 = b's';
pub(super) const USAGE_ITEMS: u8 = b'z';

/// A key: its kind, then its parts.
pub(super) fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// The key of an index entry, ordered by the acceptors' mode, then by expiry.
pub(super) fn index(along: DimKey, mode: u8, expires: UnixMillis, id: LeaseId) -> Vec<u8> {
    key(INDEX, &[&along.0, &[mode], &expires.0.to_be_bytes(), id.as_bytes()])
}

/// The keys of the index entries of a mode: from the first that ends after `now`, to the last.
pub(super) fn index_after(along: DimKey, mode: u8, now: UnixMillis) -> (Vec<u8>, Vec<u8>) {
    let from = key(INDEX, &[&along.0, &[mode], &now.plus(1).0.to_be_bytes()]);
    (from, key(INDEX, &[&along.0, &[mode.saturating_add(1)]]))
}

/// The key of a partition's entry, ordered by expiry.
pub(super) fn partition(partition: u8, expires: UnixMillis, id: LeaseId) -> Vec<u8> {
    key(PARTITION, &[&[partition], &expires.0.to_be_bytes(), id.as_bytes()])
}

/// The key of a queued undo, ordered by when it is due.
pub(super) fn undo(due: UnixMillis, id: LeaseId) -> Vec<u8> {
    key(UNDO, &[&due.0.to_be_bytes(), id.as_bytes()])
}

/// The key of an event.
pub(super) fn event(number: u64) -> Vec<u8> {
    key(EVENT, &[&number.to_be_bytes()])
}

/// The key of what was used with a profile on a day.
pub(super) fn used(profile: &str, day: u32, what: &[u8]) -> Vec<u8> {
    key(USAGE, &[profile.as_bytes(), &[0], &day.to_be_bytes(), what])
}

/// The key of how many things that were.
pub(super) fn used_items(profile: &str, day: u32) -> Vec<u8> {
    key(USAGE_ITEMS, &[profile.as_bytes(), &[0], &day.to_be_bytes()])
}

/// The day in such a key.
pub(super) fn used_day(key: &[u8]) -> Result<u32, Malformed> {
    let after = key.iter().position(|octet| *octet == 0).map_or(key.len(), |zero| zero + 1);
    Reader::new("use", key.get(after..).unwrap_or_default()).u32()
}

/// What ends a key: its last parts, a time and a lease.
pub(super) fn time_and_lease(key: &[u8]) -> Result<(UnixMillis, LeaseId), Malformed> {
    let tail = key.len().checked_sub(24).and_then(|at| key.get(at..)).unwrap_or_default();
    let mut r = Reader::new("index key", tail);
    Ok((UnixMillis(r.u64()?), LeaseId::from_bytes(r.array()?)))
}

/// A value that is a mode and a time.
pub(super) fn mode_and_time(value: &[u8]) -> Result<(u8, UnixMillis), Malformed> {
    let mut r = Reader::new("index entry", value);
    let entry = (r.u8()?, UnixMillis(r.u64()?));
    r.finish()?;
    Ok(entry)
}

/// A value that is one number.
pub(super) fn number(value: &[u8]) -> Result<u64, Malformed> {
    let mut r = Reader::new("number", value);
    let number = r.u64()?;
    r.finish()?;
    Ok(number)
}

/// A value that begins with until when it is kept.
pub(super) fn kept(value: &[u8]) -> Result<(UnixMillis, &[u8]), Malformed> {
    let mut r = Reader::new("kept value", value);
    Ok((UnixMillis(r.u64()?), r.rest()))
}

/// Writes a value that begins with until when it is kept.
pub(super) fn keep(until: UnixMillis, value: &[u8]) -> Vec<u8> {
    let mut out = until.0.to_be_bytes().to_vec();
    out.extend_from_slice(value);
    out
}
