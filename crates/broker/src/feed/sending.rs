//! A snapshot on its way to one follower: in parts, the keys before its end.
//!
//! It holds a place that others wait for, and a copy of the table that may be of long ago. So it must never go on for as
//! long as its reader likes, nor where it would be too old when it is complete.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::UnixMillis;
use mayfly_domain::defaults::SKEW_MS;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Feed;
use super::state::{Era, Recent, Snapshot};
use super::told::Told;

/// How many entries one message holds.
const PART: usize = 512;
/// How long it may take at most: so long, and so much longer for each entry.
const PATIENCE: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_micros(100);

/// How far it is.
#[derive(Debug)]
pub(super) struct Sending {
    snapshot: Arc<Snapshot>,
    begun: Option<Instant>,
    next: usize,
    keys: bool,
    /// What ended before this is over by the store's clock and by ours, and may be missing.
    over: UnixMillis,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Sending {
    pub(super) fn new(snapshot: Arc<Snapshot>, now: UnixMillis, permits: [OwnedSemaphorePermit; 2]) -> Self {
        // What is kept for twice the skew after its end is forgotten no sooner than half of that ago.
        let over = snapshot.at.min(now).minus(SKEW_MS);
        Self { snapshot, begun: None, next: 0, keys: false, over, _permits: permits }
    }

    /// Whether events can still go on where it ends, in the table of this era.
    pub(super) fn counts(&self, feed: &Feed, era: Era) -> bool {
        self.snapshot.era == era && feed.after(&self.snapshot.position, 0) != Recent::Lost
    }

    /// Whether its reader has taken longer at `now` than one that reads does.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        let entries = u32::try_from(self.snapshot.entries()).unwrap_or(u32::MAX);
        self.begun.is_some_and(|begun| now.duration_since(begun) > PATIENCE + EACH * entries)
    }

    /// The next message; the last one is the end.
    pub(super) fn told(&mut self, keys: impl FnOnce() -> Told) -> Told {
        let snapshot = &self.snapshot;
        if self.begun.is_none() {
            self.begun = Some(Instant::now());
            let entries = u64::try_from(snapshot.entries()).unwrap_or(u64::MAX);
            return Told::SnapshotBegin { at: snapshot.position, entries, over: self.over };
        }
        if self.next < snapshot.entries() {
            let part = snapshot.part(self.next, PART);
            self.next += part.len();
            return Told::SnapshotPart(part);
        }
        if !std::mem::replace(&mut self.keys, true) {
            return keys();
        }
        Told::SnapshotEnd(snapshot.position)
    }
}

#[cfg(test)]
mod tests {
    use mayfly_domain::LeaseId;
    use mayfly_domain::feed::Position;
    use tokio::sync::Semaphore;

    use super::*;

    #[test]
    fn a_reader_has_the_time_that_the_size_takes() {
        for (entries, most) in [(0, Duration::from_secs(10)), (100_000, Duration::from_secs(20))] {
            let marks = (0..entries).map(|n: u128| (LeaseId::from_bytes(n.to_be_bytes()), UnixMillis(1)));
            let snapshot = Snapshot {
                era: Era::default(),
                position: Position::default(),
                at: UnixMillis(70_000),
                gates: Vec::new(),
                marks: marks.collect(),
            };
            let permits = || Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            let mut sending = Sending::new(Arc::new(snapshot), UnixMillis(90_000), [permits(), permits()]);
            let begun = Instant::now();
            assert!(!sending.is_late(begun + 2 * most), "it has not begun");
            assert!(matches!(
                sending.told(|| unreachable!()),
                Told::SnapshotBegin { entries: n, over: UnixMillis(40_000), .. } if n == entries as u64
            ));
            assert!(!sending.is_late(begun + most));
            assert!(sending.is_late(Instant::now() + most + Duration::from_millis(1)));
        }
    }
}
