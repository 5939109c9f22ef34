//! The barrier: when, after a change, nobody may decide without it any more. Pure.
//!
//! A follower decides until its bound after it sent a ping that was answered, and a ping whose write came after the
//! change is answered only when the change was sent before. So whoever may still decide without the change has its last
//! sign of life from before the change in the store, and the first look at all followers, which comes after the change,
//! finds it: nobody who appears later need be waited for, and a later ping that has not applied the change moves no
//! follower's end. That is why a barrier always ends, within the largest bound.
//!
//! Must never count by a clock that may have been set: a store's clock that jumps forward would call silent whoever has
//! just pinged. So its word counts only while it was seen to run evenly for as long as the bound, and this machine's own
//! clock since the first look counts always. Nor by a store that may have forgotten somebody: then nothing less than the
//! longest bound is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mayfly_domain::UnixMillis;
use mayfly_domain::defaults::FOLLOW_BOUND_MAX_MS;
use mayfly_domain::time::BootTime;

use crate::feed::{FollowerId, FollowerKind, FollowerSeen, Followers};

/// How much two clocks that nobody sets may drift apart within a bound, and what rounding costs, in ms.
const DRIFT_MS: u64 = 20;
/// How far a store's clock may jump unnoticed, in ms: less than that is told apart from a slow answer by nobody.
const JUMP_MS: u64 = 250;

/// A wait for followers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    number: u64,
    begun: BootTime,
    followers: usize,
    confirmed: usize,
    passed: usize,
    waiting: BTreeMap<FollowerId, FollowerSeen>,
    reuse_ms: u64,
    before: Option<End>,
}

/// By when nobody may decide any more who had a sign of life before a moment of the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    at: UnixMillis,
    bound_ms: u64,
}

/// How far a wait is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whether nobody decides without the change any more.
    pub complete: bool,
    /// The followers of the first look.
    pub followers: usize,
    /// Have applied the change, or said good-bye.
    pub confirmed: usize,
    /// May not decide any more: their bound has passed.
    pub passed: usize,
    /// The others, by id.
    pub waiting: Vec<FollowerSeen>,
    /// Until the longest reuse of an answer is over.
    pub reuse_left: Duration,
}

impl Barrier {
    /// A wait for the change of this number, which was made before `all` was asked for. Answers given before it are not
    /// reused after the longest time that any broker of the first look allows.
    pub fn new(number: u64, all: &Followers, now: BootTime) -> Self {
        let (behind, confirmed): (Vec<_>, Vec<_>) =
            all.all.iter().cloned().partition(|seen| seen.ping.applied < number);
        let brokers = all.all.iter().filter(|seen| seen.ping.kind == FollowerKind::Broker);
        Self {
            number,
            begun: now,
            followers: all.all.len(),
            confirmed: confirmed.len(),
            passed: 0,
            waiting: behind.into_iter().map(|seen| (seen.ping.id, seen)).collect(),
            reuse_ms: brokers.map(|seen| u64::from(seen.ping.reuse_ms)).max().unwrap_or_default(),
            before: None,
        }
    }

    /// Waits as well until nobody decides by what they were told in the generation before this one, which began at
    /// `began` by the store's clock: a store that forgot may have forgotten who follows.
    #[must_use]
    pub fn after_another_generation(mut self, began: UnixMillis, bound_ms: u64) -> Self {
        self.before = Some(End { at: began, bound_ms });
        self
    }

    /// A wait after the generation of the change has ended: whatever it was is dead in the one that followed, and nobody
    /// was told that it lives by a ping later than the new one's beginning. The longest bound from now is enough.
    pub fn of_ended_generation(bound_ms: u64, now: BootTime) -> Self {
        Self {
            number: 0,
            begun: now,
            followers: 0,
            confirmed: 0,
            passed: 0,
            waiting: BTreeMap::new(),
            reuse_ms: bound_ms + DRIFT_MS,
            before: None,
        }
    }

    /// The store may have forgotten followers that still decide: nothing but the longest bound that any may have is
    /// enough, from the beginning on.
    pub fn doubt(&mut self) {
        self.reuse_ms = self.reuse_ms.max(u64::from(FOLLOW_BOUND_MAX_MS) + DRIFT_MS);
    }

    /// The number that is waited for.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes a later look at the followers that have not applied the change: who is not among them has, or said
    /// good-bye. It must be of the generation of the first look: another one's store knows none of them.
    pub fn look(&mut self, behind: &Followers) {
        let still: BTreeSet<FollowerId> = behind
            .all
            .iter()
            .filter(|seen| seen.ping.applied < self.number)
            .map(|seen| seen.ping.id)
            .collect();
        let before = self.waiting.len();
        self.waiting.retain(|id, _| still.contains(id));
        self.confirmed += before - self.waiting.len();
    }

    /// Lets go whoever may not decide any more at `now`, and tells how far the wait is. `store` is the store's clock,
    /// read a moment ago, with how long it has run evenly; none where it can't be read.
    pub fn progress(&mut self, now: BootTime, store: Option<StoreTime>) -> Progress {
        let begun = self.begun;
        let before = self.waiting.len();
        self.waiting.retain(|_, seen| !End::of(seen).has_passed(begun, now, store));
        self.before = self.before.filter(|before| !before.has_passed(begun, now, store));
        self.passed += before - self.waiting.len();
        let reuse = Duration::from_millis(self.reuse_ms);
        let reuse_left = reuse.saturating_sub(now.since(self.begun));
        Progress {
            complete: self.waiting.is_empty() && self.before.is_none() && reuse_left.is_zero(),
            followers: self.followers,
            confirmed: self.confirmed,
            passed: self.passed,
            waiting: self.waiting.values().cloned().collect(),
            reuse_left,
        }
    }

    /// How long it takes at most from `now` on, whatever the followers do.
    pub fn longest_left(&self, now: BootTime) -> Duration {
        let ends = self.waiting.values().map(End::of).chain(self.before);
        let bounds = ends.map(|end| end.bound_ms + DRIFT_MS);
        let longest = bounds.chain([self.reuse_ms]).max().unwrap_or_default();
        Duration::from_millis(longest).saturating_sub(now.since(self.begun))
    }
}

impl End {
    fn of(seen: &FollowerSeen) -> Self {
        Self { at: seen.at, bound_ms: u64::from(seen.ping.bound_ms) }
    }

    /// Whether it has passed, for a wait that began after it was noted.
    fn has_passed(self, begun: BootTime, now: BootTime, store: Option<StoreTime>) -> bool {
        let bound = self.bound_ms;
        let by_own = now > begun.plus_ms(bound + DRIFT_MS);
        let by_store = store.is_some_and(|store| {
            let end = self.at.plus(bound + DRIFT_MS + JUMP_MS);
            store.even_for >= Duration::from_millis(bound + DRIFT_MS) && end < store.now
        });
        by_own || by_store
    }
}

/// The store's clock, and how far it is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTime {
    /// What it says.
    pub now: UnixMillis,
    /// For how long it has been seen to run no faster than this machine's.
    pub even_for: Duration,
}

/// Watches that the store's clock does not jump forward against this machine's, which nobody sets.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreClock {
    /// Since when it has run evenly, and the least that it was ahead in that time, in ms.
    even: Option<(BootTime, i128)>,
}

impl StoreClock {
    /// Takes what the store's clock said a moment before `now`.
    pub fn saw(&mut self, store: UnixMillis, now: BootTime) -> StoreTime {
        let ahead = i128::from(store.0) - i128::from(now.0 / 1_000_000);
        let (since, least) = match self.even {
            Some((since, least)) if ahead <= least + i128::from(JUMP_MS) => (since, least.min(ahead)),
            _ => (now, ahead),
        };
        self.even = Some((since, least));
        StoreTime { now: store, even_for: now.since(since) }
    }
}

/// Watches whether the store can have forgotten followers that still decide, within its generation: another server may
/// have an older copy of its data, and a clock that was ahead made it forget who had just pinged.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreWatch {
    clock: StoreClock,
    server: Option<[u8; 16]>,
    doubted: Option<BootTime>,
}

impl StoreWatch {
    /// Takes what this server said of its clock a moment before `now`. Tells the time, and whether it knows every
    /// follower of its generation that may still decide.
    pub fn saw(&mut self, server: [u8; 16], store: UnixMillis, now: BootTime) -> (StoreTime, bool) {
        let since = |clock: &StoreClock| clock.even.map(|(since, _)| since);
        let before = since(&self.clock);
        let time = self.clock.saw(store, now);
        let jumped = before.is_some() && before != since(&self.clock);
        if jumped || self.server.is_some_and(|known| known != server) {
            self.doubted = Some(now);
        }
        self.server = Some(server);
        let longest = Duration::from_millis(u64::from(FOLLOW_BOUND_MAX_MS) + DRIFT_MS);
        (time, self.doubted.is_none_or(|at| now.since(at) >= longest))
    }
}

#[cfg(test)]
mod tests;
