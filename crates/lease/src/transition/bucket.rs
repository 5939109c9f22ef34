//! The rate limit: GCRA over one number.

use mayfly_domain::UnixMillis;

/// A rate limit's state: the theoretical arrival time of the next mint, in microseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// The theoretical arrival time.
    pub arrival_us: u64,
}

impl Bucket {
    /// Takes one of `per_min` mints a minute, `burst` at once, at `now`; or says how many ms to wait.
    pub(super) fn take(self, now: UnixMillis, per_min: u32, burst: u32) -> Result<Self, u64> {
        let interval_us = 60_000_000 / u64::from(per_min.max(1));
        let now_us = now.0 * 1_000;
        let ahead_us = interval_us * u64::from(burst.max(1) - 1);
        let arrival_us = self.arrival_us.max(now_us);
        if arrival_us > now_us + ahead_us {
            return Err((arrival_us - now_us - ahead_us).div_ceil(1_000));
        }
        Ok(Self { arrival_us: arrival_us + interval_us })
    }
}
