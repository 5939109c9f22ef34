//! The follower: what it may believe of what it was told, and for how long. Pure: the same transitions run in brokers,
//! in acceptors and in the model.
//!
//! A follower is fresh only while three things hold: its table is complete (a whole snapshot and every event after
//! it, in order), a broker answered a ping after everything before it was sent, and its bound since it *sent* that
//! ping is not over, by a clock that runs while the machine is suspended. Must never call fresh what could have
//! missed an event.

use std::collections::HashMap;

use crate::dimension::DimKey;
use crate::feed::{Change, GateState, Position};
use crate::fence::{Fence, Generation};
use crate::lease::LeaseId;
use crate::observation::Observation;
use crate::time::{BootTime, UnixMillis};

/// Why a follower must have a new snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Resync {
    /// An event came before any snapshot, or in the middle of one.
    #[error("an event without a snapshot")]
    NoSnapshot,
    /// The generation is another.
    #[error("another generation")]
    OtherGeneration,
    /// The stream's epoch is another.
    #[error("another epoch")]
    OtherEpoch,
    /// A number that was there before.
    #[error("a number again")]
    Repeated,
    /// A number that is not the next one.
    #[error("a number was skipped")]
    Skipped,
    /// A ping was answered with a position that was not sent.
    #[error("an answer before what it answers for")]
    Unsent,
    /// A snapshot ended that had not begun, or is of another place.
    #[error("a snapshot out of place")]
    OutOfPlace,
    /// The table can take no more. It never forgets to make room.
    #[error("the table is full")]
    Full,
}

/// A follower's state beside its table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Follower {
    bound_ms: u64,
    at: Option<Position>,
    loading: Option<Position>,
    ping: Option<(u64, BootTime)>,
    pings: u64,
    fresh_until: BootTime,
}

impl Follower {
    /// A follower that knows nothing yet and whose bound is `bound_ms`.
    pub fn new(bound_ms: u64) -> Self {
        Self { bound_ms, at: None, loading: None, ping: None, pings: 0, fresh_until: BootTime(0) }
    }

    /// What its table is complete to; kept while a connection is lost, so that following can go on there.
    pub fn position(&self) -> Option<Position> {
        self.at
    }

    /// The bound.
    pub fn bound_ms(&self) -> u64 {
        self.bound_ms
    }

    /// Takes the bound that the broker allowed; a longer one is not taken.
    pub fn allow(&mut self, bound_ms: u64) {
        self.bound_ms = self.bound_ms.min(bound_ms);
    }

    /// A snapshot of this place begins: the table must be emptied. Nothing is fresh until it is complete and a ping
    /// sent after that was answered.
    pub fn snapshot_begins(&mut self, position: Position) {
        self.forget();
        self.loading = Some(position);
    }

    /// The snapshot is complete.
    ///
    /// # Errors
    /// [`Resync::OutOfPlace`] where none of this place had begun.
    pub fn snapshot_ends(&mut self, position: Position) -> Result<(), Resync> {
        if self.loading != Some(position) {
            return Err(self.resync(Resync::OutOfPlace));
        }
        self.loading = None;
        self.at = Some(position);
        Ok(())
    }

    /// An event of this place is to be applied: the table must take it before anything else is done. It counts only
    /// where this returns `Ok`.
    ///
    /// # Errors
    /// A new snapshot is needed; nothing is fresh until then.
    pub fn event(&mut self, position: Position) -> Result<(), Resync> {
        let Some(at) = self.at else { return Err(self.resync(Resync::NoSnapshot)) };
        let why = if at.generation != position.generation {
            Resync::OtherGeneration
        } else if at.epoch != position.epoch {
            Resync::OtherEpoch
        } else if position.number <= at.number {
            Resync::Repeated
        } else if position.number != at.number + 1 {
            Resync::Skipped
        } else {
            self.at = Some(position);
            return Ok(());
        };
        Err(self.resync(why))
    }

    /// A ping to send now; none while one is under way or the table is not complete.
    pub fn ping(&mut self, now: BootTime) -> Option<u64> {
        if self.ping.is_some() || self.at.is_none() {
            return None;
        }
        self.pings += 1;
        self.ping = Some((self.pings, now));
        Some(self.pings)
    }

    /// A ping was answered, by a write that found the feed at `position`.
    ///
    /// # Errors
    /// A new snapshot is needed: the broker answered before it had sent everything up to there.
    pub fn pong(&mut self, id: u64, position: Position) -> Result<(), Resync> {
        let Some((_, sent)) = self.ping.filter(|(sent, _)| *sent == id) else { return Ok(()) };
        let Some(at) = self.at else { return Ok(()) };
        self.ping = None;
        if !at.is_along(&position) || at.number < position.number {
            return Err(self.resync(Resync::Unsent));
        }
        self.fresh_until = self.fresh_until.max(sent.plus_ms(self.bound_ms));
        Ok(())
    }

    /// The connection is lost: a ping under way will not be answered. What is fresh stays so until its bound is over.
    pub fn disconnected(&mut self) {
        self.ping = None;
        // Half a snapshot is none.
        self.loading = None;
    }

    /// Nothing that it has may be believed.
    pub fn resync(&mut self, why: Resync) -> Resync {
        self.forget();
        why
    }

    /// Until when it is fresh; the beginning of time where it is not.
    pub fn fresh_until(&self) -> BootTime {
        self.fresh_until
    }

    /// Whether it is fresh.
    pub fn is_fresh(&self, now: BootTime) -> bool {
        now < self.fresh_until
    }

    fn forget(&mut self) {
        self.at = None;
        self.loading = None;
        self.ping = None;
        self.fresh_until = BootTime(0);
    }
}

/// Why a credential is dead by what a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Dead {
    /// It is of another generation.
    #[error("another generation")]
    OtherGeneration,
    /// A fence that it observed has moved.
    #[error("a fence has moved")]
    Fenced(DimKey),
    /// Its lease or an ancestor of it was revoked by id.
    #[error("revoked by id")]
    Marked(LeaseId),
}

/// Judges what a credential carries: the one matching rule over a table of fences and one of single revocations.
///
/// # Errors
/// Why it is dead.
pub fn judge(
    generation: Generation,
    lease: LeaseId,
    observation: &Observation,
    fence: impl Fn(DimKey) -> Option<Fence>,
    marked: impl Fn(LeaseId) -> bool,
) -> Result<(), Dead> {
    if observation.generation() != generation {
        return Err(Dead::OtherGeneration);
    }
    if let Some(dead) = std::iter::once(&lease).chain(observation.ancestors()).find(|id| marked(**id)) {
        return Err(Dead::Marked(*dead));
    }
    match observation.pairs().iter().find(|pair| !Fence::matches(fence(pair.key), pair.fence)) {
        Some(pair) => Err(Dead::Fenced(pair.key)),
        None => Ok(()),
    }
}

/// A follower's table, for one thread at a time. It refuses what does not fit; it forgets only what is over.
#[derive(Debug, Clone, Default)]
pub struct FenceTable {
    gates: HashMap<DimKey, GateState>,
    marks: HashMap<LeaseId, UnixMillis>,
    keys_version: u64,
    capacity: usize,
}

impl FenceTable {
    /// A table for so many gates and marks together.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Applies a change. Fences apply by max, blocks by version, marks by the later end.
    ///
    /// # Errors
    /// [`Resync::Full`]; nothing was changed.
    pub fn apply(&mut self, change: &Change) -> Result<(), Resync> {
        let full = self.gates.len() + self.marks.len() >= self.capacity;
        match change {
            Change::Gate(new) => match self.gates.get_mut(&new.key) {
                Some(gate) => merge(gate, new),
                None if full => return Err(Resync::Full),
                None => {
                    self.gates.insert(new.key, *new);
                }
            },
            Change::Mark { lease, until } => match self.marks.get_mut(lease) {
                Some(kept) => *kept = (*kept).max(*until),
                None if full => return Err(Resync::Full),
                None => {
                    self.marks.insert(*lease, *until);
                }
            },
            Change::Keys { version } => self.keys_version = self.keys_version.max(*version),
        }
        Ok(())
    }

    /// Forgets what is over at `now`: no credential that it concerns can live any more. A fence that is over goes
    /// even where its gate's block stays: what was minted since observed none.
    pub fn clean(&mut self, now: UnixMillis) {
        self.gates.retain(|_, gate| {
            *gate = gate.standing(now);
            !gate.is_over(now)
        });
        self.marks.retain(|_, until| now < *until);
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.gates.clear();
        self.marks.clear();
        self.keys_version = 0;
    }

    /// The fence of a dimension's value.
    pub fn fence(&self, key: DimKey) -> Option<Fence> {
        self.gates.get(&key).map(|gate| gate.fence).filter(|fence| *fence != Fence::NONE)
    }

    /// Whether a lease was revoked by its id.
    pub fn is_marked(&self, lease: LeaseId) -> bool {
        self.marks.contains_key(&lease)
    }

    /// The gates.
    pub fn gates(&self) -> impl Iterator<Item = &GateState> {
        self.gates.values()
    }

    /// The single revocations, each with until when it is kept.
    pub fn marks(&self) -> impl Iterator<Item = (LeaseId, UnixMillis)> {
        self.marks.iter().map(|(id, until)| (*id, *until))
    }

    /// The newest version of the keys that was told.
    pub fn keys_version(&self) -> u64 {
        self.keys_version
    }

    /// How many gates and marks it holds.
    pub fn len(&self) -> usize {
        self.gates.len() + self.marks.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Judges what a credential carries by this table.
    ///
    /// # Errors
    /// Why it is dead.
    pub fn judge(
        &self,
        generation: Generation,
        lease: LeaseId,
        observation: &Observation,
    ) -> Result<(), Dead> {
        judge(generation, lease, observation, |key| self.fence(key), |id| self.is_marked(id))
    }
}

/// Takes what is newer of another state of the same gate. A fence keeps its own end: a block that is set or lifted after
/// the fence was over keeps the gate longer, and must not bring the fence back.
pub fn merge(gate: &mut GateState, new: &GateState) {
    if new.fence > gate.fence {
        gate.fence = new.fence;
        gate.fence_until = new.fence_until;
    } else if new.fence == gate.fence {
        gate.fence_until = gate.fence_until.max(new.fence_until);
    }
    if new.block_version > gate.block_version {
        gate.block_version = new.block_version;
        gate.blocked = new.blocked;
        gate.block_until = new.block_until;
    }
}

#[cfg(test)]
mod tests;
