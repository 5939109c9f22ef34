//! What followers say and are told: plain data, as the server turns it into messages.

use std::sync::Arc;

use mayfly_domain::feed::{Event, Position};
use mayfly_domain::{LeaseId, UnixMillis};
use mayfly_mint::Bundle;
use mayfly_policy::RequestPolicies;

use super::canary::Canary;

/// How a follower begins.
#[derive(Debug, Clone, Copy)]
pub struct FollowStart {
    /// Random, of one process.
    pub follower: [u8; 16],
    /// The bound that it asks for; none: the default.
    pub bound_ms: Option<u32>,
    /// What its table is complete to.
    pub resume: Option<Position>,
    /// Whether it wants the policies that judge requests.
    pub policies: bool,
}

/// What a follower is told, in this order.
#[derive(Debug, Clone)]
pub enum Told {
    /// It may follow.
    Accepted {
        /// The bound.
        bound_ms: u32,
        /// How often to ping at least.
        ping_ms: u32,
        /// Whether events go on where its table is complete to.
        resumed: bool,
    },
    /// What verifies credentials.
    Keys(Arc<Bundle>),
    /// The policies that judge requests, at the beginning and whenever they changed.
    Policies(Box<RequestPolicies>),
    /// A snapshot of this place begins, with so many entries.
    SnapshotBegin {
        /// Its place.
        at: Position,
        /// How many entries it has.
        entries: u64,
        /// What ended before this may be missing: it is over, whatever the follower's clock says.
        over: UnixMillis,
    },
    /// A part of it.
    SnapshotPart(Vec<Event>),
    /// It is complete.
    SnapshotEnd(Position),
    /// Events in order; the position is the first one's.
    Events(Position, Vec<Event>),
    /// A ping is answered; everything up to the position was told before.
    Pong(u64, Position),
    /// A lease of the broker's own, to be judged.
    Canary(Arc<Canary>),
}

/// What a follower says.
#[derive(Debug, Clone, Default)]
pub struct Ping {
    /// The number of the ping.
    pub id: u64,
    /// Up to where it has applied everything.
    pub applied: u64,
    /// Canaries that it refused.
    pub canaries: Vec<CanarySeen>,
}

/// A canary that a follower refused.
#[derive(Debug, Clone, Copy)]
pub struct CanarySeen {
    /// Its lease.
    pub lease: LeaseId,
    /// How long before the ping, in µs.
    pub refused_us_ago: u32,
}
