//! Wall time that a test owns. It never moves by itself and never reads the machine's clock on its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mayfly_domain::{BootClock, BootTime, Clock, SystemClock, UnixMillis};

/// A clock that stands still until a test moves it. Clones share the same hand.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    /// A clock that stands at `now`.
    pub fn at(now: UnixMillis) -> Self {
        Self(Arc::new(AtomicU64::new(now.0)))
    }

    /// A clock that stands at the machine's present time, for tests that talk to a server with its own clock.
    pub fn from_system() -> Self {
        Self::at(SystemClock.now())
    }

    /// Puts the hand at `now`, also backwards.
    pub fn set(&self, now: UnixMillis) {
        self.0.store(now.0, Ordering::SeqCst);
    }

    /// Moves the hand forward by `millis` milliseconds.
    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

/// A clock for freshness that stands still until a test moves it. Clones share the same hand.
#[derive(Debug, Clone)]
pub struct TestBootClock(Arc<AtomicU64>);

impl Default for TestBootClock {
    /// An hour after the machine's start.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(BootTime(0).plus_ms(3_600_000).0)))
    }
}

impl TestBootClock {
    /// Moves the hand forward by `millis` milliseconds.
    pub fn advance(&self, millis: u64) {
        self.0.fetch_add(BootTime(0).plus_ms(millis).0, Ordering::SeqCst);
    }
}

impl BootClock for TestBootClock {
    fn now(&self) -> BootTime {
        BootTime(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_hand() {
        let clock = TestClock::at(UnixMillis(5));
        let other = clock.clone();
        clock.advance(10);
        assert_eq!(other.now(), UnixMillis(15));
        other.set(UnixMillis(3));
        assert_eq!(clock.now(), UnixMillis(3));
    }
}
