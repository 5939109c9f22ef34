//! How many refusals of callers that proved nothing are audited, and how many repeated completions by a handle.
//!
//! Anybody who reaches the broker can be refused, and whoever has read a handle can complete its task again and again;
//! nobody may fill the audit's disk with it. What is left out is counted, and the next record says how much it was.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Records a second, in the long run.
const PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// Records at once.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// The rate of such records, and how many were left out.
#[derive(Debug)]
pub(crate) struct Unattested {
    rate: DefaultDirectRateLimiter,
    left_out: AtomicU64,
}

impl Default for Unattested {
    fn default() -> Self {
        let quota = Quota::per_second(PER_SECOND).allow_burst(BURST);
        Self { rate: RateLimiter::direct(quota), left_out: AtomicU64::new(0) }
    }
}

impl Unattested {
    /// Whether the next one is recorded, and how many before it were not.
    pub(crate) fn take(&self) -> Option<u64> {
        if self.rate.check().is_ok() {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_recorded() {
        let records = Unattested::default();
        let taken = (0..5_000).filter(|_| records.take().is_some()).count();
        assert!((1_000..2_000).contains(&taken), "{taken}");
        assert!(records.left_out.load(Ordering::Relaxed) > 3_000);
    }
}
