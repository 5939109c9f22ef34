//! The feed and the barrier: two brokers over one store and its replica, one follower, one lease.
//!
//! The store's writes reach its replica later; a fail-over keeps what had reached it. Brokers read the feed when they
//! do, messages of a connection arrive in order and late, a connection breaks anywhere, a follower stands still as long
//! as it likes. Follower, table, matching rule and barrier are the code's own.

mod rules;
mod steps;
mod told;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use mayfly_domain::feed::{Change, Epoch, Position};
use mayfly_domain::follow::{FenceTable, Follower};
use mayfly_domain::{BootTime, Generation, UnixMillis};
use mayfly_lease::barrier::Barrier;
use mayfly_testkit::words;

use crate::order::Order;
use crate::store::START;

/// One step of the clocks, in ms.
pub(crate) const UNIT: u64 = 1_000;
/// The follower's bound, in ms.
pub(crate) const BOUND: u64 = 2 * UNIT;
/// How long an answer of a check may be reused, in ms.
pub(crate) const REUSE: u64 = UNIT;

/// The model.
#[derive(Debug, Clone, Default)]
pub struct Feed {
    /// The order that is broken, if any.
    pub broken: Option<Order>,
    /// Whether the replica has all that was acknowledged; else the store comes back empty, in a new generation.
    pub durable: bool,
    /// How many brokers the follower may connect to.
    pub brokers: usize,
    /// Whether another revocation comes between.
    pub other: bool,
    /// Whether somebody asks a broker and reuses its answer.
    pub reuse: bool,
    /// How many steps the clocks take.
    pub time: u64,
    /// How often a connection may break.
    pub cuts: u8,
    /// How often the store may fail over.
    pub fail_overs: u8,
}

/// What the store holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    /// The feed: true for the revocation that matters, false for another one.
    pub(crate) feed: Vec<bool>,
    /// The follower as it is registered: when by the store's clock, what it had applied, by which broker.
    pub(crate) seen: Option<(u64, u64, usize)>,
}

/// A ping on its way through a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Ping {
    None,
    /// To the broker: id, what was applied, in which epoch.
    Sent(u64, u64, u8),
    /// Written, at this position; not yet at the replica.
    Written(u64, u8, u64),
    /// Acknowledged.
    Durable(u64, u8, u64),
}

/// A message to the follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    /// A snapshot begins: generation, epoch, number.
    Begin(u32, u8, u64),
    /// It is complete.
    End(u32, u8, u64),
    /// An event, and whether it is the revocation that matters.
    Event(u32, u8, u64, bool),
    /// The answer to a ping.
    Pong(u64, u32, u8, u64),
}

/// A broker: how far it has read, of which generation and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hub {
    pub(crate) generation: u32,
    pub(crate) epoch: u8,
    pub(crate) read: u64,
    /// Which of the events it has read are the revocation that matters.
    pub(crate) knows: Option<u64>,
}

/// A revocation that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Revocation {
    None,
    /// Written as this number, in this epoch.
    Written(u64, u8),
    /// Acknowledged as this number, at this time.
    Acknowledged(u64, u64),
}

/// A table whose states can be told apart.
#[derive(Debug, Clone)]
pub(crate) struct Table(pub(crate) FenceTable);

impl Table {
    fn told(&self) -> Vec<u64> {
        self.0.gates().map(|gate| gate.fence.value()).collect()
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Self) -> bool {
        self.told() == other.told()
    }
}

/// A state.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub(crate) now: u64,
    pub(crate) generation: u32,
    pub(crate) epoch: u8,
    pub(crate) began: u64,
    pub(crate) store: Stored,
    pub(crate) replica: Stored,
    pub(crate) hubs: [Hub; 2],
    pub(crate) follower: Follower,
    pub(crate) table: Table,
    /// To which broker it is connected.
    pub(crate) connected: Option<usize>,
    pub(crate) inbox: Vec<Message>,
    pub(crate) ping: Ping,
    /// When, and at which number, the last ping was sent: it pings once a step, and after it applied something.
    pub(crate) pinged: Option<(u64, u64)>,
    pub(crate) revocation: Revocation,
    pub(crate) other: bool,
    pub(crate) barrier: Option<Arc<Barrier>>,
    pub(crate) begun: u64,
    pub(crate) begun_in: u32,
    pub(crate) complete: bool,
    /// Until when an answer of a broker's check is reused.
    pub(crate) reused_until: Option<u64>,
    pub(crate) cuts: u8,
    pub(crate) fail_overs: u8,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "told by `format_action`")]
pub enum Act {
    Connect(usize),
    Cut,
    Deliver,
    Ping,
    WritePing,
    Pong,
    Read(usize),
    Notice(usize),
    Replicate,
    FailOver,
    Other,
    Revoke,
    Acknowledge,
    Late,
    Barrier,
    Look,
    Ask,
    Tick,
}

/// The generation of this number.
pub(crate) fn generation(number: u32) -> Generation {
    words::generation(number, START).generation
}

/// A place in the feed.
pub(crate) fn position(of: u32, epoch: u8, number: u64) -> Position {
    Position { generation: generation(of), epoch: Epoch([epoch; 16]), number }
}

/// The event of a revocation.
pub(crate) fn change(matters: bool) -> Change {
    let owner = words::subject(mayfly_domain::Dimension::Owner, if matters { 1 } else { 2 });
    Change::Gate(mayfly_domain::feed::GateState {
        key: owner.key(),
        fence: mayfly_domain::Fence::NONE.moved(START),
        fence_until: UnixMillis(u64::MAX),
        block_version: 0,
        blocked: false,
        block_until: None,
    })
}

impl State {
    pub(crate) fn boot(&self) -> BootTime {
        BootTime(1).plus_ms(self.now)
    }

    pub(crate) fn wall(&self) -> UnixMillis {
        START.plus(self.now)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.now, self.generation, self.epoch, self.began, self.hubs, &self.follower).hash(to);
        (&self.store.feed, self.store.seen, &self.replica.feed, self.replica.seen).hash(to);
        (self.table.told(), self.connected, &self.inbox, self.ping, self.pinged).hash(to);
        (self.revocation, self.other, self.begun, self.begun_in, self.complete, self.reused_until).hash(to);
        (self.cuts, self.fail_overs, self.barrier.is_some()).hash(to);
        if let Some(barrier) = &self.barrier {
            let mut barrier = (**barrier).clone();
            let progress = barrier.progress(BootTime(0), None);
            (progress.confirmed, progress.passed, progress.waiting.len()).hash(to);
        }
    }
}
