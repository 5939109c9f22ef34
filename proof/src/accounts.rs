//! One account at a target, made by a mint that takes every step by itself, beside everything that may end it.
//!
//! A broker mints, crashing anywhere; its call to the target may land late. A revocation, two reapers, a sweep, a scan
//! and the cleaner of indexes do their steps between any two others, each crashing anywhere. Brokers' clocks may be
//! ahead of the store's by most of the skew.

mod effects;
mod rules;
mod told;

use mayfly_domain::{LeaseId, UnixMillis, defaults};
use mayfly_lease::transition::Write;
use mayfly_lease::{Job, LeaseRecord};
use mayfly_testkit::words;

use crate::order::Order;
use crate::store::{START, Store};

/// Moments, in ms after the start: within a mint's deadline, at its end, at the end of the grace after it, at the
/// credential's expiry, and after the last grace.
pub const MOMENTS: [u64; 6] = [0, 20_000, defaults::MINT_DEADLINE_MS, 90_000, 151_000, 212_000];
/// The life of the account, in seconds: beyond the second undo of an abandoned mint.
const LIFE_S: u32 = 100;
/// How far a broker's clock is ahead of the store's.
const AHEAD_MS: u64 = 15_000;

/// The model.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// The order that is broken, if any.
    pub broken: Option<Order>,
    /// How many reapers there are.
    pub reapers: usize,
    /// Which of the helpers crash, and whether a fail-over may lose the record.
    pub faults: bool,
    /// Which revocations there are; the first one is enough for most.
    pub revocations: &'static [What],
}

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "told by `format_action`")]
pub enum What {
    Owner,
    Parent,
    Itself,
}

/// Where the mint is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mint {
    Idle,
    /// What is still to be written, last first.
    Writing(Vec<Vec<Write>>),
    Written,
    Called,
    Made,
    Confirmed,
    Sent,
    Over,
}

/// Where the call to the target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flight {
    None,
    Flying,
    Landed,
}

/// Where a revocation is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Revocation {
    None,
    /// A part was done; these writes are to come.
    Half(What, Vec<Write>, bool),
    Acknowledged(What, Vec<Write>),
    /// Its broker died with the rest of it.
    Forgotten(What),
}

/// Where a sweep is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Sweep {
    Idle,
    Read(Box<Job>, bool),
}

/// Where a reaper is, with the record as it was told to undo it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reaper {
    Idle,
    Picked(LeaseRecord),
    Undone(LeaseRecord),
}

/// Where a scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scan {
    Idle,
    /// It listed the account, at this time by its broker's clock.
    Listed(UnixMillis),
    /// Not reserved: to be checked.
    Unreserved,
    /// To be undone.
    Condemned,
    /// Broken: it has read the records, and knew the account's or not.
    ReadFirst(bool),
}

/// A state.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub(crate) store: Store,
    pub(crate) moment: usize,
    pub(crate) mint: Mint,
    pub(crate) flight: Flight,
    /// Whether the account is at the target.
    pub(crate) account: bool,
    /// Index entries that nobody waits for, where the order is broken.
    pub(crate) late: Vec<Write>,
    pub(crate) revocation: Revocation,
    /// Whether the mint had decided before the revocation was acknowledged.
    pub(crate) sweep: Sweep,
    pub(crate) reapers: Vec<Reaper>,
    pub(crate) scan: Scan,
    pub(crate) lost: bool,
    pub(crate) sent_without_lease: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "told by `format_action`")]
pub enum Act {
    Decide,
    Write(&'static str),
    Late,
    Call,
    Land,
    Confirm,
    Send,
    Crash,
    Revoke(What),
    Rest,
    Forget,
    SweepReads,
    SweepEnds,
    SweepCrashes,
    Pick(usize),
    Undo(usize),
    Tell(usize),
    ReaperCrashes(usize),
    ScanStarts(bool),
    ScanReads,
    ScanChecks,
    ScanUndoes,
    Clean,
    Lose,
    Tick,
}

/// The parent's lease.
pub(crate) fn parent() -> LeaseId {
    words::lease(1)
}

/// The account's lease.
pub(crate) fn account() -> LeaseId {
    words::lease(2)
}

impl State {
    pub(crate) fn record(&self) -> Option<&LeaseRecord> {
        self.store.lease(account())
    }

    /// Whether an acknowledged revocation covers the account's lease.
    pub(crate) fn is_covered(&self) -> bool {
        matches!(self.revocation, Revocation::Acknowledged(..) | Revocation::Forgotten(_))
    }

    pub(crate) fn revocation_began(&self) -> bool {
        self.revocation != Revocation::None
    }

    pub(crate) fn at(moment: usize) -> UnixMillis {
        START.plus(MOMENTS[moment])
    }
}

impl std::hash::Hash for State {
    fn hash<H: std::hash::Hasher>(&self, to: &mut H) {
        (&self.store, self.moment, self.flight, self.account, self.late.len()).hash(to);
        (self.scan, self.lost, self.sent_without_lease).hash(to);
        let writing = match &self.mint {
            Mint::Writing(groups) => groups.len(),
            _ => 0,
        };
        (std::mem::discriminant(&self.mint), writing).hash(to);
        std::mem::discriminant(&self.revocation).hash(to);
        match &self.revocation {
            Revocation::None => {}
            Revocation::Half(what, rest, _) | Revocation::Acknowledged(what, rest) => {
                (what, rest.len()).hash(to);
            }
            Revocation::Forgotten(what) => what.hash(to),
        }
        match &self.sweep {
            Sweep::Idle => 0.hash(to),
            Sweep::Read(_, found) => (1, found).hash(to),
        }
        for reaper in &self.reapers {
            std::mem::discriminant(reaper).hash(to);
            if let Reaper::Picked(record) | Reaper::Undone(record) = reaper {
                record.flags.hash(to);
            }
        }
    }
}
