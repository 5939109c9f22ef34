//! The feed's port and who follows it: plain data, as for every other call of the store.

use std::time::Duration;

use mayfly_domain::codec::{Malformed, Reader};
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

/// How long a follower is known after its last sign of life, beyond its bound and the reuse of its answers: barriers
/// may still name it, and wait for it no more.
pub const FOLLOWER_KEPT_MS: u64 = 60_000;

#[derive(serde::Serialize, serde::Deserialize)]
struct Said {
    epoch: [u8; 16],
    kind: FollowerKind,
    name: String,
    broker: String,
    bound_ms: u32,
    reuse_ms: u32,
}

impl FollowerPing {
    /// What it has applied in terms of `position`: nothing where its number is of another epoch, or ahead.
    pub fn applied_at(&self, position: &Position) -> u64 {
        if self.epoch == position.epoch && self.applied <= position.number { self.applied } else { 0 }
    }

    /// For how long it is known after this, in ms.
    pub fn kept_ms(&self) -> u64 {
        u64::from(self.bound_ms) + u64::from(self.reuse_ms) + FOLLOWER_KEPT_MS
    }

    /// All but its id and its number (postcard), as [`FollowerSeen::decode`] reads it.
    ///
    /// # Errors
    /// [`Malformed`] where it can't be written.
    pub fn encode_said(&self) -> Result<Vec<u8>, Malformed> {
        let said = Said {
            epoch: self.epoch.0,
            kind: self.kind,
            name: self.name.clone(),
            broker: self.broker.clone(),
            bound_ms: self.bound_ms,
            reuse_ms: self.reuse_ms,
        };
        postcard::to_allocvec(&said).map_err(|_| Malformed { what: "follower", why: "can't be written" })
    }
}

impl FollowerSeen {
    /// The stored form but for the id: when (8), the number that it has applied (8), what it said.
    ///
    /// # Errors
    /// [`Malformed`] where it can't be written.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut out = self.at.0.to_be_bytes().to_vec();
        out.extend_from_slice(&self.ping.applied.to_be_bytes());
        out.extend_from_slice(&self.ping.encode_said()?);
        Ok(out)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(id: FollowerId, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("follower", bytes);
        let (at, applied) = (UnixMillis(r.u64()?), r.u64()?);
        let Said { epoch, kind, name, broker, bound_ms, reuse_ms } = crate::body::read("follower", r.rest())?;
        let epoch = Epoch(epoch);
        Ok(Self { ping: FollowerPing { id, kind, name, broker, bound_ms, reuse_ms, applied, epoch }, at })
    }
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

impl FollowerSeen {
    /// Whether it may decide at `now`, by the store's clock, as far as the store knows: it has a table, and its bound is
    /// not over. `number`: where the feed stands; before its first event an empty table is a whole one.
    pub fn is_fresh(&self, now: UnixMillis, number: u64) -> bool {
        let has_table = self.ping.applied > 0 || number == 0;
        has_table && now.0.saturating_sub(self.at.0) < u64::from(self.ping.bound_ms)
    }
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

impl FeedRead {
    /// What a read came to: `changes` were counted in the moment in which `found` came after `after`.
    pub fn of(after: &Position, changes: u64, found: Vec<Numbered>) -> Self {
        let dense =
            found.iter().zip(after.number.saturating_add(1)..).all(|(event, number)| event.number == number);
        if dense && (!found.is_empty() || changes == after.number) { Self::Events(found) } else { Self::Lost }
    }
}

/// How many events a store keeps, at least. Who is further behind needs a snapshot.
pub const FEED_KEPT: u64 = 65_536;

/// How many events one read takes at most, and how many entries one part of a snapshot has.
pub const FEED_PAGE_MAX: u32 = 1_000;

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

/// How many different things are counted for a profile on one day; what comes beyond is not.
pub const USAGE_ITEMS_MAX: usize = 10_000;

const SCOPE: u8 = 1;
const INTENT: u8 = 2;

/// The day of a moment, since 1970-01-01, UTC.
pub fn day_of(time: UnixMillis) -> u32 {
    u32::try_from(time.0 / 86_400_000).unwrap_or(u32::MAX)
}

impl UsageCount {
    /// Whether a count of its day is still kept, or already taken, on the day `today`.
    pub fn is_kept(&self, today: u32) -> bool {
        self.day <= today.saturating_add(1) && today < self.day.saturating_add(USAGE_DAYS)
    }

    /// When it is forgotten.
    pub fn kept_until(day: u32) -> UnixMillis {
        UnixMillis((u64::from(day) + u64::from(USAGE_DAYS)) * 86_400_000)
    }

    /// What is counted, as it is stored: 1 for a scope and 2 for an intent, the workload, a zero octet, its name.
    pub fn field(&self) -> Vec<u8> {
        let (kind, name) = match &self.item {
            UsedItem::Scope(scope) => (SCOPE, scope.as_str()),
            UsedItem::Intent(intent) => (INTENT, intent.as_str()),
        };
        [&[kind], self.workload.as_str().as_bytes(), &[0], name.as_bytes()].concat()
    }

    /// Reads what is counted.
    ///
    /// # Errors
    /// [`Malformed`] for another form.
    pub fn of_field(profile: &ProfileName, day: u32, field: &[u8], uses: u64) -> Result<Self, Malformed> {
        let bad = Malformed { what: "use", why: "none of ours" };
        let (kind, rest) = field.split_first().ok_or(bad)?;
        let (workload, name) = std::str::from_utf8(rest).ok().and_then(|t| t.split_once('\0')).ok_or(bad)?;
        let item = match *kind {
            SCOPE => UsedItem::Scope(Scope::parse(name).map_err(|_| bad)?),
            INTENT => UsedItem::Intent(Intent::parse(name).map_err(|_| bad)?),
            _ => return Err(bad),
        };
        let workload = SpiffeId::parse(workload).map_err(|_| bad)?;
        Ok(Self { day, profile: profile.clone(), workload, item, uses })
    }
}
