//! What the writer counts, for metrics and `mayfly status`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A reading of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records in the chain, since the start of this process.
    pub written: u64,
    /// Records that were deferred.
    pub deferred: u64,
    /// Records that are deferred now and not in the chain yet.
    pub pending: u64,
    /// Records that were refused, and so were the calls that they belong to.
    pub failed: u64,
    /// Records that found room neither in the file nor in the reserve nor in memory: their number is written
    /// into the chain as soon as that works again.
    pub lost: u64,
    /// Writes made durable together.
    pub batches: u64,
    /// Whether the file can't be written now.
    pub deferring: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) written: AtomicU64,
    pub(crate) deferred: AtomicU64,
    pub(crate) pending: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) deferring: AtomicBool,
}

impl Shared {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            written: self.written.load(Relaxed),
            deferred: self.deferred.load(Relaxed),
            pending: self.pending.load(Relaxed),
            failed: self.failed.load(Relaxed),
            lost: self.lost.load(Relaxed),
            batches: self.batches.load(Relaxed),
            deferring: self.deferring.load(Relaxed),
        }
    }

    pub(crate) fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(u64::try_from(n).unwrap_or(u64::MAX), Relaxed);
    }
}
