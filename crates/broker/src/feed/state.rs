//! What the hub holds: the follower's state, its table and the recent events, changed together.
//!
//! Pure but for the copy that a snapshot is: the loop that feeds it is elsewhere. An event counts only when the table
//! has taken it, and nothing here is ever read in part: whoever reads holds the lock.

use std::collections::VecDeque;

use mayfly_domain::feed::{Change, Event, GateState, Numbered, Position};
use mayfly_domain::follow::{Dead, FenceTable, Follower, Resync};
use mayfly_domain::{BootTime, LeaseId, Observation, UnixMillis};
use mayfly_lease::feed::{FeedPage, Pinged};

/// How many recent events are kept for followers that come back or fall behind: more behind than this means a
/// snapshot.
pub(crate) const RECENT: usize = 65_536;
/// How many gates and marks a broker keeps at most: one that is full refuses.
const TABLE: usize = 8 << 20;

/// Which table a follower's place is in: one that the hub has emptied since is no place any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Era(pub(crate) u64);

/// Where the hub stands, for whoever waits for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// What the hub's table is complete to; none while it is not complete.
    pub position: Option<Position>,
    pub(crate) era: Era,
}

/// Events after a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recent {
    /// These, in order and without a gap; none where there are none yet.
    Events(Vec<Numbered>),
    /// The place is not along this feed, or too old.
    Lost,
}

/// A snapshot, shared by every follower that is sent it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) era: Era,
    pub(crate) position: Position,
    pub(crate) at: UnixMillis,
    pub(crate) gates: Vec<GateState>,
    pub(crate) marks: Vec<(LeaseId, UnixMillis)>,
}

impl Snapshot {
    pub(crate) fn entries(&self) -> usize {
        self.gates.len() + self.marks.len()
    }

    /// The entries from `from`, at most `limit`, as events.
    pub(crate) fn part(&self, from: usize, limit: usize) -> Vec<Event> {
        let event = |change| Event { at: self.at, revocation: None, change };
        let gates = self.gates.iter().map(|gate| Change::Gate(*gate));
        let marks = self.marks.iter().map(|(lease, until)| Change::Mark { lease: *lease, until: *until });
        if from < self.gates.len() {
            gates.skip(from).take(limit).map(event).collect()
        } else {
            marks.skip(from - self.gates.len()).take(limit).map(event).collect()
        }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    follower: Follower,
    table: FenceTable,
    /// The events up to the position, the oldest first.
    recent: VecDeque<Event>,
    era: Era,
    /// A ping that was answered, and what must be applied before it counts.
    answered: Option<(u64, Position)>,
    store_now: UnixMillis,
}

impl State {
    pub(crate) fn new(bound_ms: u32) -> Self {
        Self {
            follower: Follower::new(u64::from(bound_ms)),
            table: FenceTable::new(TABLE),
            recent: VecDeque::new(),
            era: Era(0),
            answered: None,
            store_now: UnixMillis(0),
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { position: self.follower.position(), era: self.era }
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.follower.position()
    }

    pub(crate) fn fresh_until(&self) -> BootTime {
        self.follower.fresh_until()
    }

    /// Begins anew at `position`, with an empty table.
    pub(crate) fn begin(&mut self, position: Position) {
        self.forget();
        self.follower.snapshot_begins(position);
    }

    /// Takes a part of the snapshot.
    pub(crate) fn load(&mut self, page: &FeedPage) -> Result<(), Resync> {
        for gate in &page.gates {
            self.table.apply(&Change::Gate(*gate))?;
        }
        for (lease, until) in &page.marks {
            self.table.apply(&Change::Mark { lease: *lease, until: *until })?;
        }
        Ok(())
    }

    /// The snapshot is complete.
    pub(crate) fn end(&mut self, position: Position) -> Result<(), Resync> {
        self.follower.snapshot_ends(position)
    }

    /// Applies one event. Where it is not the next one, everything is forgotten.
    pub(crate) fn apply(&mut self, along: &Position, numbered: &Numbered) -> Result<(), Resync> {
        let position = Position { number: numbered.number, ..*along };
        let applied = self.table.apply(&numbered.event.change).and_then(|()| self.follower.event(position));
        if let Err(why) = applied {
            self.forget();
            return Err(self.follower.resync(why));
        }
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(numbered.event);
        Ok(())
    }

    /// Nothing that it has may be believed.
    pub(crate) fn resync(&mut self, why: Resync) {
        self.forget();
        self.follower.resync(why);
    }

    /// A ping of the broker's own, where none is under way.
    pub(crate) fn ping(&mut self, now: BootTime) -> Option<u64> {
        self.follower.ping(now)
    }

    /// The ping's write was acknowledged. It counts when everything up to where it found the feed is applied.
    pub(crate) fn answered(&mut self, id: u64, pinged: &Pinged) {
        self.answered = Some((id, pinged.position));
    }

    /// Takes note of the store's clock.
    pub(crate) fn heard(&mut self, at: UnixMillis) {
        self.store_now = self.store_now.max(at);
    }

    /// Counts the answered ping, where its time has come; `true` where it counted.
    pub(crate) fn settle(&mut self) -> bool {
        let (Some((id, position)), Some(at)) = (self.answered, self.follower.position()) else {
            return false;
        };
        if !at.is_along(&position) {
            // It was answered of another feed; the reader will find out.
            self.unanswered();
            return false;
        }
        if at.number < position.number {
            return false;
        }
        self.answered = None;
        self.follower.pong(id, position).is_ok()
    }

    /// A ping under way will not be answered.
    pub(crate) fn unanswered(&mut self) {
        self.answered = None;
        if self.follower.position().is_some() {
            self.follower.disconnected();
        }
    }

    /// Forgets what is over by the store's clock and by `ours`: a store whose clock was ahead may have been heard, and
    /// followers get their snapshots from this table.
    pub(crate) fn clean(&mut self, ours: UnixMillis) {
        self.table.clean(self.store_now.min(ours));
    }

    /// The events after `number` in this era, at most `limit`.
    pub(crate) fn after(&self, era: Era, number: u64, limit: usize) -> Recent {
        let Some(at) = self.follower.position().filter(|at| self.era == era && number <= at.number) else {
            return Recent::Lost;
        };
        let Ok(behind) = usize::try_from(at.number - number) else { return Recent::Lost };
        let Some(skip) = self.recent.len().checked_sub(behind) else { return Recent::Lost };
        let events = self.recent.iter().skip(skip).take(limit);
        Recent::Events(
            events.zip(number + 1..).map(|(event, number)| Numbered { number, event: *event }).collect(),
        )
    }

    /// The events after a position that somebody else gave.
    pub(crate) fn after_position(&self, after: &Position, limit: usize) -> Recent {
        match self.follower.position() {
            Some(at) if at.is_along(after) => self.after(self.era, after.number, limit),
            _ => Recent::Lost,
        }
    }

    /// A copy of all that stands; none while the table is not complete.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        Some(Snapshot {
            era: self.era,
            position: self.follower.position()?,
            at: self.store_now,
            gates: self.table.gates().copied().collect(),
            marks: self.table.marks().collect(),
        })
    }

    /// Judges a lease by what was heard of; nothing while the table is not complete.
    pub(crate) fn judge(&self, lease: LeaseId, observation: &Observation) -> Option<Result<(), Dead>> {
        Some(self.table.judge(self.follower.position()?.generation, lease, observation))
    }

    fn forget(&mut self) {
        self.era = Era(self.era.0 + 1);
        self.table.clear();
        self.recent.clear();
        self.answered = None;
        self.store_now = UnixMillis(0);
    }
}
