//! When a certificate is renewed, by two clocks.

use std::time::Duration;

use mayfly_domain::UnixMillis;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use crate::svid::Svid;

/// The shortest time between two renewals, whatever the lives are.
const SHORTEST: Duration = Duration::from_millis(200);
/// By how much a certificate's times and this machine's clock may differ before the clock is not believed.
const SKEW_MS: u64 = 120_000;

/// What is due when.
///
/// A monotonic clock stands still while a machine is suspended, and a wall clock can be set: whichever says first
/// that a time has come is believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) due: Instant,
    pub(super) ends: Instant,
    /// The same by the wall clock, unless that can't be right.
    wall: Option<(UnixMillis, UnixMillis)>,
}

impl Plan {
    /// For a certificate that just came; `chance` is from 0 to 1.
    pub(super) fn new(svid: &Svid, now: UnixMillis, chance: f64) -> Self {
        let life = svid.life();
        let left = svid.expires.0.saturating_sub(now.0);
        let right = left > 0 && life.is_none_or(|life| left <= life.saturating_add(SKEW_MS));
        if !right {
            tracing::warn!(
                expires_ms = svid.expires.0,
                now_ms = now.0,
                "this machine's clock differs from the broker's: set it right"
            );
        }
        let left = Duration::from_millis(if right { left } else { life.unwrap_or_default() });
        let wait = wait(left, svid.outage_budget, chance);
        let here = Instant::now();
        let due_wall = now.plus(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Self { due: here + wait, ends: here + left, wall: right.then_some((due_wall, svid.expires)) }
    }

    /// When it is due by the wall clock.
    pub(super) fn due_wall(&self) -> Option<UnixMillis> {
        self.wall.map(|(due, _)| due)
    }

    /// Whether the renewal is due.
    pub(super) fn is_due(&self, now: UnixMillis) -> bool {
        Instant::now() >= self.due || self.wall.is_some_and(|(due, _)| now >= due)
    }

    /// What is left of the certificate.
    pub(super) fn left(&self, now: UnixMillis) -> Duration {
        let here = self.ends.saturating_duration_since(Instant::now());
        match self.wall {
            Some((_, ends)) => here.min(Duration::from_millis(ends.0.saturating_sub(now.0))),
            None => here,
        }
    }
}

/// How long after its issue a certificate is renewed: at two thirds of its life or `budget` before its end,
/// whichever is first, but not in its first third; by chance up to a tenth earlier.
fn wait(left: Duration, budget: Duration, chance: f64) -> Duration {
    let latest = (left * 2 / 3).min(left.saturating_sub(budget)).max(left / 3);
    (latest - latest.mul_f64(0.1 * chance.clamp(0.0, 1.0))).max(SHORTEST)
}

/// A number from 0 to 1 that nobody foretells; 0 where the system has no random numbers.
pub(super) fn chance() -> f64 {
    let mut octets = [0; 2];
    match SystemRandom::new().fill(&mut octets) {
        Ok(()) => f64::from(u16::from_be_bytes(octets)) / f64::from(u16::MAX),
        Err(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_renewal() {
        let minutes = |m: u64| Duration::from_secs(m * 60);
        for (life, budget, latest) in [(60, 0, 40), (60, 10, 40), (60, 25, 35), (60, 40, 20), (60, 90, 20)] {
            assert_eq!(wait(minutes(life), minutes(budget), 0.0), minutes(latest), "{life} {budget}");
            assert_eq!(wait(minutes(life), minutes(budget), 1.0), minutes(latest).mul_f64(0.9));
        }
        assert_eq!(wait(Duration::ZERO, minutes(5), 0.5), SHORTEST, "no loop without a pause");
        assert!((0..100).map(|_| chance()).all(|c| (0.0..=1.0).contains(&c)));
        assert!((0..100).any(|_| chance() != chance()));
    }
}
