//! What a follower knows: fences and single revocations, read by many threads while one writes.
//!
//! Reading takes no lock, writes to no shared memory and allocates nothing. The table and the moment until which it
//! is fresh are one object, so that nobody combines an old table with a new freshness. Must never forget what could
//! still concern a living credential, or make room by forgetting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use mayfly_domain::defaults::SKEW_MAX_MS;
use mayfly_domain::feed::{Change, Position};
use mayfly_domain::follow::{Dead, Resync, judge};
use mayfly_domain::{BootTime, DimKey, Fence, LeaseId, Observation, UnixMillis};
use parking_lot::Mutex;

/// How often a reading is tried again because an event came in between, before it is given up.
const PASSES: usize = 16;
/// Entries that end within one such span are forgotten together.
const SPAN_MS: u64 = 60_000;

#[derive(Debug, Clone, Copy)]
struct Standing {
    fence: Fence,
    until: UnixMillis,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Fence(DimKey),
    Mark(LeaseId),
}

/// The fences and single revocations of one snapshot and all events since.
pub(crate) struct Table {
    fences: papaya::HashMap<DimKey, Standing>,
    marks: papaya::HashMap<LeaseId, UnixMillis>,
    entries: AtomicUsize,
    capacity: usize,
    // By the span in which they end, so that forgetting touches only what has ended. The writer's alone.
    ends: Mutex<BTreeMap<u64, Vec<Entry>>>,
    // What ended before this moment may be forgotten: a credential that ended before it is refused, even where the
    // wall clock steps back.
    horizon: AtomicU64,
    // What ended before this moment was forgotten before it came here.
    over: UnixMillis,
}

impl Table {
    /// An empty table for so many entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            fences: papaya::HashMap::new(),
            marks: papaya::HashMap::new(),
            entries: AtomicUsize::new(0),
            capacity,
            ends: Mutex::new(BTreeMap::new()),
            horizon: AtomicU64::new(0),
            over: UnixMillis(0),
        }
    }

    /// An empty table for a snapshot that may lack what ended before `over`: a credential that ended before it is
    /// refused, even where the wall clock is behind.
    pub(crate) fn without(capacity: usize, over: UnixMillis) -> Self {
        Self { over, ..Self::new(capacity) }
    }

    /// Applies a change. Only one thread may at a time.
    ///
    /// # Errors
    /// [`Resync::Full`]; nothing was changed.
    pub(crate) fn apply(&self, change: &Change) -> Result<(), Resync> {
        match change {
            // A gate without a fence holds a block, which concerns mints alone.
            Change::Gate(gate) if gate.fence != Fence::NONE => {
                let new = Standing { fence: gate.fence, until: gate.fence_until };
                let fences = self.fences.pin();
                let merged = match fences.get(&gate.key) {
                    Some(old) if old.fence > new.fence => return Ok(()),
                    Some(old) if old.fence == new.fence => {
                        Standing { until: old.until.max(new.until), ..new }
                    }
                    Some(_) => new,
                    None => self.take_room().map(|()| new)?,
                };
                fences.insert(gate.key, merged);
                self.ends_at(merged.until, Entry::Fence(gate.key));
            }
            Change::Mark { lease, until } => {
                let marks = self.marks.pin();
                let until = match marks.get(lease) {
                    Some(old) if *old >= *until => return Ok(()),
                    Some(_) => *until,
                    None => self.take_room().map(|()| *until)?,
                };
                marks.insert(*lease, until);
                self.ends_at(until, Entry::Mark(*lease));
            }
            Change::Gate(_) | Change::Keys { .. } => {}
        }
        Ok(())
    }

    fn take_room(&self) -> Result<(), Resync> {
        if self.len() >= self.capacity {
            return Err(Resync::Full);
        }
        self.entries.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn ends_at(&self, until: UnixMillis, entry: Entry) {
        self.ends.lock().entry(until.0 / SPAN_MS).or_default().push(entry);
    }

    /// Forgets what has been over for longer than any skew: no credential that it concerns can live any more.
    pub(crate) fn clean(&self, now: UnixMillis) {
        let now = now.minus(SKEW_MAX_MS);
        let span = now.0 / SPAN_MS;
        let over = {
            let mut ends = self.ends.lock();
            if ends.first_key_value().is_none_or(|(first, _)| *first >= span) {
                return;
            }
            let kept = ends.split_off(&span);
            std::mem::replace(&mut *ends, kept)
        };
        // Before anything is gone, so that nobody misses an entry and yet takes the clock's word.
        self.horizon.fetch_max(now.0, Ordering::SeqCst);
        let (fences, marks) = (self.fences.pin(), self.marks.pin());
        for entry in over.into_values().flatten() {
            // It may have been given a later end since.
            let gone = match entry {
                Entry::Fence(key) => {
                    fences.get(&key).is_some_and(|f| f.until < now) && fences.remove(&key).is_some()
                }
                Entry::Mark(lease) => {
                    marks.get(&lease).is_some_and(|until| *until < now) && marks.remove(&lease).is_some()
                }
            };
            if gone {
                self.entries.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The fence of a dimension's value.
    pub(crate) fn fence(&self, key: DimKey) -> Option<Fence> {
        self.fences.pin().get(&key).map(|standing| standing.fence)
    }

    /// Whether a lease was revoked by its id.
    pub(crate) fn is_marked(&self, lease: LeaseId) -> bool {
        self.marks.pin().contains_key(&lease)
    }

    /// How many fences and single revocations it holds.
    pub(crate) fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// What ended before this moment was forgotten here.
    pub(crate) fn cleaned(&self) -> UnixMillis {
        UnixMillis(self.horizon.load(Ordering::SeqCst))
    }

    /// What ended before this moment may be forgotten.
    pub(crate) fn horizon(&self) -> UnixMillis {
        self.cleaned().max(self.over)
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("entries", &self.len()).finish_non_exhaustive()
    }
}

/// A table with its place in the feed and until when it is fresh.
#[derive(Debug)]
pub(crate) struct State {
    /// Where its snapshot was taken.
    base: Position,
    pub(crate) table: Table,
    applied: AtomicU64,
    fresh_until: AtomicU64,
}

/// What a reading of the state found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It lives.
    Lives,
    /// The table says that it is dead.
    Dead(Dead),
    /// Its time is over.
    Expired,
    /// Nothing may be believed.
    NotFresh,
}

impl State {
    /// A table that is complete to `position`; not fresh yet.
    pub(crate) fn new(position: Position, table: Table) -> Self {
        Self {
            base: position,
            table,
            applied: AtomicU64::new(position.number),
            fresh_until: AtomicU64::new(0),
        }
    }

    /// Why a credential is dead by what the table holds, however fresh that is.
    pub(crate) fn dead(&self, lease: LeaseId, observation: &Observation) -> Option<Dead> {
        let (fence, marked) = (|key| self.table.fence(key), |id| self.table.is_marked(id));
        judge(self.base.generation, lease, observation, fence, marked).err()
    }

    /// What it is complete to.
    pub(crate) fn position(&self) -> Position {
        Position { number: self.applied.load(Ordering::Acquire), ..self.base }
    }

    /// Counts an event that the table, and whatever else depends on it, has taken already.
    pub(crate) fn count(&self, number: u64) {
        self.applied.store(number, Ordering::SeqCst);
    }

    /// Says until when it is fresh.
    pub(crate) fn set_fresh_until(&self, until: BootTime) {
        self.fresh_until.store(until.0, Ordering::SeqCst);
    }

    /// Until when it is fresh; the beginning of time where it is not.
    pub(crate) fn fresh_until(&self) -> BootTime {
        BootTime(self.fresh_until.load(Ordering::SeqCst))
    }

    /// Judges what a credential carries. `also` is looked at together with the table: what is not `true` there is of a
    /// withdrawn key.
    ///
    /// What the table says is looked up first; then it is made sure that no event came in between; the clocks are
    /// read last, so that a thread that was stopped anywhere here does not come back and accept.
    pub(crate) fn judge(
        &self,
        lease: LeaseId,
        observation: &Observation,
        expires: UnixMillis,
        also: impl Fn() -> bool,
        wall: impl Fn() -> UnixMillis,
        boot: impl Fn() -> BootTime,
    ) -> (Verdict, bool) {
        for _ in 0..PASSES {
            let seen = self.applied.load(Ordering::SeqCst);
            let dead = self.dead(lease, observation);
            let also = also();
            fence(Ordering::SeqCst);
            let horizon = self.table.horizon();
            let until = self.fresh_until();
            if self.applied.load(Ordering::SeqCst) != seen {
                continue;
            }
            let expired = wall().max(horizon) >= expires;
            let verdict = if boot() >= until {
                Verdict::NotFresh
            } else if expired {
                Verdict::Expired
            } else {
                dead.map_or(Verdict::Lives, Verdict::Dead)
            };
            return (verdict, also);
        }
        (Verdict::NotFresh, false)
    }
}

#[cfg(test)]
mod tests;
