//! What each step does.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::feed::Epoch;
use mayfly_domain::follow::{FenceTable, Follower, Resync};
use mayfly_domain::{Fence, Observation, Pair};
use mayfly_lease::barrier::{Barrier, StoreTime};
use mayfly_lease::feed::{FollowerId, FollowerKind, FollowerPing, FollowerSeen, Followers};
use mayfly_testkit::words;

use super::{
    BOUND, Feed, Hub, Message, Ping, REUSE, Revocation, State, Stored, Table, change, generation, position,
};
use crate::order::Order;
use crate::store::START;

pub(super) fn beginning() -> State {
    let stored = Stored { feed: Vec::new(), seen: None };
    State {
        now: 0,
        generation: 1,
        epoch: 1,
        began: 0,
        store: stored.clone(),
        replica: stored,
        hubs: [Hub { generation: 1, epoch: 1, read: 0, knows: None }; 2],
        follower: Follower::new(BOUND),
        table: Table(FenceTable::new(8)),
        connected: None,
        inbox: Vec::new(),
        ping: Ping::None,
        pinged: None,
        revocation: Revocation::None,
        other: false,
        barrier: None,
        begun: 0,
        begun_in: 1,
        complete: false,
        reused_until: None,
        cuts: 0,
        fail_overs: 0,
    }
}

fn number_of(feed: &[bool]) -> u64 {
    u64::try_from(feed.len()).unwrap()
}

impl State {
    /// The follower as one that has applied so much.
    fn seen(&self, at: u64, applied: u64, broker: usize) -> FollowerSeen {
        FollowerSeen {
            ping: FollowerPing {
                id: FollowerId([1; 16]),
                kind: FollowerKind::Acceptor,
                name: String::new(),
                broker: broker.to_string(),
                bound_ms: u32::try_from(BOUND).unwrap(),
                reuse_ms: 0,
                applied,
                epoch: Epoch([self.epoch; 16]),
            },
            at: START.plus(at),
        }
    }

    /// Everybody that the store knows: the follower, and a broker that has applied everything.
    fn followers(&self, of: Option<usize>) -> Followers {
        let mut broker = self.seen(self.now, u64::MAX, 0);
        broker.ping.id = FollowerId([2; 16]);
        broker.ping.kind = FollowerKind::Broker;
        broker.ping.reuse_ms = u32::try_from(REUSE).unwrap();
        let follower = self.store.seen.filter(|(_, _, by)| of.is_none_or(|of| of == *by));
        let follower = follower.map(|(at, applied, by)| self.seen(at, applied, by));
        let all = follower.into_iter().chain([broker]).collect();
        Followers { all, now: self.wall() }
    }

    /// Whether the follower accepts what was minted before anything was revoked.
    pub(super) fn accepts(&self) -> bool {
        let Some(at) = self.follower.position() else { return false };
        let owner = words::subject(mayfly_domain::Dimension::Owner, 1);
        let pairs = [Pair { key: owner.key(), fence: Fence::NONE }];
        let observation = Observation::new(generation(1), pairs, []).unwrap();
        self.follower.is_fresh(self.boot())
            && self.table.0.judge(at.generation, words::lease(1), &observation).is_ok()
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.store.feed.contains(&true)
    }

    fn drop_connection(&mut self) {
        self.connected = None;
        self.inbox.clear();
        self.ping = Ping::None;
        self.follower.disconnected();
    }

    fn send_snapshot(&mut self, hub: usize) {
        let h = self.hubs[hub];
        self.inbox.push(Message::Begin(h.generation, h.epoch, h.read));
        self.inbox.push(Message::End(h.generation, h.epoch, h.read));
    }
}

impl Feed {
    /// Registers the follower, then goes on where it is or sends a snapshot.
    pub(super) fn connect(&self, s: &mut State, hub: usize) -> Option<()> {
        let h = s.hubs[hub];
        s.connected = Some(hub);
        s.store.seen = Some((s.now, 0, hub));
        let at = s.follower.position();
        let resumes = at.filter(|at| at.is_along(&position(h.generation, h.epoch, 0)) && at.number <= h.read);
        match resumes {
            Some(at) => {
                for number in at.number + 1..=h.read {
                    let matters = h.knows == Some(number);
                    s.inbox.push(Message::Event(h.generation, h.epoch, number, matters));
                }
            }
            None => s.send_snapshot(hub),
        }
        Some(())
    }

    pub(super) fn cut(&self, s: &mut State) {
        s.cuts += 1;
        s.drop_connection();
    }

    pub(super) fn deliver(&self, s: &mut State) -> Option<()> {
        if s.inbox.is_empty() {
            return None;
        }
        let outcome = match s.inbox.remove(0) {
            Message::Begin(g, e, n) => {
                s.table.0.clear();
                s.follower.snapshot_begins(position(g, e, n));
                let hub = s.hubs[s.connected?];
                if hub.epoch == e && hub.knows.is_some_and(|k| k <= n) {
                    s.table.0.apply(&change(true)).unwrap();
                }
                Ok(())
            }
            Message::End(g, e, n) => s.follower.snapshot_ends(position(g, e, n)),
            Message::Event(g, e, n, matters) => {
                let outcome = s.follower.event(position(g, e, n));
                if outcome.is_ok() {
                    s.table.0.apply(&change(matters)).unwrap();
                }
                outcome
            }
            Message::Pong(id, g, e, n) => self.pong(s, id, position(g, e, n)),
        };
        if outcome.is_err() {
            s.table.0.clear();
            s.drop_connection();
        }
        Some(())
    }

    fn pong(&self, s: &mut State, id: u64, at: mayfly_domain::feed::Position) -> Result<(), Resync> {
        if self.broken == Some(Order::PingTime) {
            // As if it had been sent now.
            s.follower.disconnected();
            let now = s.boot();
            let Some(id) = s.follower.ping(now) else { return Ok(()) };
            return s.follower.pong(id, at);
        }
        s.follower.pong(id, at)
    }

    pub(super) fn ping(&self, s: &mut State) -> Option<()> {
        let at = s.follower.position()?;
        let id = s.follower.ping(s.boot())?;
        s.pinged = Some((s.now, at.number));
        s.ping = Ping::Sent(id, at.number, at.epoch.0[0]);
        Some(())
    }

    /// The broker's write to the store: where the follower is, and when that was.
    pub(super) fn write_ping(&self, s: &mut State) -> Option<()> {
        let (Ping::Sent(id, applied, epoch), Some(hub)) = (s.ping, s.connected) else { return None };
        // A number of another epoch may stand for something else.
        let along = epoch == s.epoch || self.broken == Some(Order::NumbersOfAnEpoch);
        let applied = if along { applied } else { 0 };
        s.store.seen = Some((s.now, applied, hub));
        s.ping = Ping::Written(id, s.epoch, number_of(&s.store.feed));
        Some(())
    }

    /// The broker answers once everything up to there was sent.
    pub(super) fn answer(&self, s: &mut State) -> Option<()> {
        let (Ping::Durable(id, epoch, number), Some(hub)) = (s.ping, s.connected) else { return None };
        let h = s.hubs[hub];
        if h.epoch != epoch || h.read < number {
            return None;
        }
        s.inbox.push(Message::Pong(id, h.generation, epoch, number));
        s.ping = Ping::None;
        Some(())
    }

    pub(super) fn read(&self, s: &mut State, hub: usize) -> Option<()> {
        let h = &mut s.hubs[hub];
        if h.epoch != s.epoch || h.generation != s.generation {
            return None;
        }
        let matters = *s.store.feed.get(usize::try_from(h.read).ok()?)?;
        h.read += 1;
        if matters {
            h.knows = Some(h.read);
        }
        let event = Message::Event(h.generation, h.epoch, h.read, matters);
        if s.connected == Some(hub) {
            s.inbox.push(event);
        }
        Some(())
    }

    /// A broker finds another server, and begins anew; so do those that follow by it.
    pub(super) fn notice(&self, s: &mut State, hub: usize) -> Option<()> {
        let knows = s.store.feed.iter().position(|matters| *matters);
        let new = Hub {
            generation: s.generation,
            epoch: s.epoch,
            read: number_of(&s.store.feed),
            knows: knows.map(|at| u64::try_from(at).unwrap() + 1),
        };
        if s.hubs[hub].epoch == s.epoch {
            return None;
        }
        s.hubs[hub] = new;
        if s.connected == Some(hub) {
            s.send_snapshot(hub);
        }
        Some(())
    }

    pub(super) fn replicate(&self, s: &mut State) -> Option<()> {
        if s.replica == s.store {
            return None;
        }
        s.replica = s.store.clone();
        if let Ping::Written(id, epoch, number) = s.ping
            && epoch == s.epoch
        {
            s.ping = Ping::Durable(id, epoch, number);
        }
        Some(())
    }

    pub(super) fn fail_over(&self, s: &mut State) {
        s.fail_overs += 1;
        s.epoch += 1;
        if self.durable {
            s.store = s.replica.clone();
        } else {
            s.generation += 1;
            s.began = s.now;
            s.store = Stored { feed: Vec::new(), seen: None };
            s.replica = s.store.clone();
            if let Revocation::Written(..) = s.revocation {
                s.revocation = Revocation::None;
            }
        }
        if matches!(s.revocation, Revocation::Written(_, epoch) if epoch != s.epoch) && !s.is_revoked() {
            s.revocation = Revocation::None;
        }
        if let Ping::Written(..) = s.ping {
            s.ping = Ping::None;
        }
    }

    pub(super) fn revoke(&self, s: &mut State) {
        if self.broken == Some(Order::EventBeforeAck) {
            s.revocation = Revocation::Acknowledged(number_of(&s.store.feed), s.now);
            return;
        }
        s.store.feed.push(true);
        s.revocation = Revocation::Written(number_of(&s.store.feed), s.epoch);
    }

    pub(super) fn acknowledge(&self, s: &mut State) -> Option<()> {
        let Revocation::Written(number, _) = s.revocation else { return None };
        // Durable as declared.
        if !s.replica.feed.contains(&true) {
            return None;
        }
        s.revocation = Revocation::Acknowledged(number, s.now);
        Some(())
    }

    /// A barrier begins, at the second broker.
    pub(super) fn begin_barrier(&self, s: &mut State) -> Option<()> {
        let Revocation::Acknowledged(number, _) = s.revocation else { return None };
        let of = (self.broken == Some(Order::PingStored)).then_some(1);
        let all = s.followers(of);
        s.begun = s.now;
        s.begun_in = s.generation;
        s.barrier = Some(Arc::new(self.barrier(s, number, &all)));
        Some(())
    }

    fn barrier(&self, s: &State, number: u64, all: &Followers) -> Barrier {
        let barrier = Barrier::new(number, all, s.boot());
        if s.generation == 1 || self.broken == Some(Order::BarrierOutlastsGeneration) {
            return barrier;
        }
        barrier.after_another_generation(START.plus(s.began), BOUND)
    }

    pub(super) fn look(&self, s: &mut State) -> Option<()> {
        let of = (self.broken == Some(Order::PingStored)).then_some(1);
        let behind = s.followers(of);
        let (boot, wall) = (s.boot(), s.wall());
        let same = s.generation == s.begun_in || self.broken == Some(Order::BarrierKeepsGeneration);
        let barrier = Arc::make_mut(s.barrier.as_mut()?);
        if same {
            barrier.look(&behind);
        }
        let store = StoreTime { now: wall, even_for: Duration::from_millis(s.now) };
        s.complete = barrier.progress(boot, same.then_some(store)).complete;
        Some(())
    }

    /// Somebody asks a broker, and may use its answer again.
    pub(super) fn ask(&self, s: &mut State) {
        s.reused_until = Some(s.now + REUSE);
    }
}
