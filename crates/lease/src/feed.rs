//! The feed's port and who follows it: plain data, as for every other call of the store.

use std::time::Duration;

use mayfly_domain::feed::{Epoch, GateState, Numbered, Position};
use mayfly_domain::{Intent, LeaseId, ProfileName, Scope, SpiffeId, UnixMillis};

/// A follower's id: random, of one process from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowerId(pub [u8; 16]);

impl std::fmt::Display for FollowerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", uuid::Uuid::from_bytes(self.0).simple())
    }
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum FollowerKind {
    /// A broker.
    Broker,
    /// A service that accepts credentials.
    Acceptor,
}

/// A follower's sign of life. The first one registers it; it is stored whole each time, so that one that was
/// forgotten is seen again by every barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowerPing {
    /// Who.
    pub id: FollowerId,
    /// What it is.
    pub kind: FollowerKind,
    /// Its name for people: an acceptor's name, a broker's id.
    pub name: String,
    /// The broker through which it follows.
    pub broker: String,
    /// How long it may go on without an answer to a later ping.
    pub bound_ms: u32,
    /// For a broker: how long an answer of its checks may be reused.
    pub reuse_ms: u32,
    /// The number up to which it has applied everything; 0 while it has no snapshot.
    pub applied: u64,
    /// The epoch in which that number counts. What is stored is 0 where the store's own is another: a number of a
    /// server that is gone may stand for something else by now.
    pub epoch: Epoch,
}

/// What the write of pings found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinged {
    /// Where the feed stood in that moment. A follower may be answered when everything up to there was sent to it.
    pub position: Position,
    /// When, by the store's clock: what is stored with each.
    pub at: UnixMillis,
}

/// A follower as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowerSeen {
    /// Its last sign of life.
    pub ping: FollowerPing,
    /// When that was, by the store's clock.
    pub at: UnixMillis,
}

/// The followers and the store's clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Followers {
    /// In no order.
    pub all: Vec<FollowerSeen>,
    /// Now, by the store's clock.
    pub now: UnixMillis,
}

/// A place in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedCursor(pub Vec<u8>);

/// A part of a snapshot: fences and blocks that stand, single revocations that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedPage {
    /// The gates.
    pub gates: Vec<GateState>,
    /// The marks, each with until when it is kept.
    pub marks: Vec<(LeaseId, UnixMillis)>,
    /// Where to go on; none at the end.
    pub next: Option<FeedCursor>,
}

/// What came after a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedRead {
    /// These events, in order and without a gap; none where nothing came in time.
    Events(Vec<Numbered>),
    /// The position is unknown: of another epoch or generation, ahead of the feed, or too old. A snapshot is needed.
    Lost,
}

/// How long a read of the feed may wait.
pub const FEED_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a credential was used for at checks, counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsedItem {
    /// A scope that the acceptor asked for.
    Scope(Scope),
    /// An intent within which the request was.
    Intent(Intent),
}

/// How often one thing was used on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageCount {
    /// Days since 1970-01-01, UTC.
    pub day: u32,
    /// The profile.
    pub profile: ProfileName,
    /// The workload.
    pub workload: SpiffeId,
    /// What was used.
    pub item: UsedItem,
    /// How often.
    pub uses: u64,
}

/// For how many days uses are kept.
pub const USAGE_DAYS: u32 = 90;
