//! Which broker is followed next, and after how long.
//!
//! Must never come back to a broker before the time that it told, or in step with all others that it told the same.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

/// The shortest and the longest wait before the next session. At random as much again is added: a broker that goes away
/// takes all its followers along at once.
const WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(3));
/// Longer than this no broker is left alone, whatever it told.
const TOLD_MAX: Duration = Duration::from_secs(60);

/// The brokers' turns.
#[derive(Debug)]
pub(crate) struct Turns {
    turn: usize,
    waits: ExponentialBackoff,
    /// By broker: until when it wants to be left alone.
    shut: Vec<Option<Instant>>,
}

impl Turns {
    /// The first of so many brokers is first.
    pub(crate) fn new(brokers: usize) -> Self {
        Self { turn: 0, waits: waits(), shut: vec![None; brokers.max(1)] }
    }

    /// Whose turn it is.
    pub(crate) fn turn(&self) -> usize {
        self.turn
    }

    /// Gives the turn to the next one, and says how long to wait before: the next that does not want to be left alone,
    /// or whoever wants that for the shortest time. `told`: for how long the last one wants it. `good`: its session was a
    /// good one, so that the next broker is asked as soon as jitter allows.
    pub(crate) fn next(&mut self, now: Instant, good: bool, told: Option<Duration>) -> Duration {
        if good {
            self.waits = waits();
        }
        let wait = self.waits.next().unwrap_or(WAIT.1);
        let count = self.shut.len();
        if let Some(shut) = self.shut.get_mut(self.turn) {
            *shut = told.map(|told| now + spread(told.min(TOLD_MAX)));
        }
        let open = |turn: &usize| self.shut.get(*turn).copied().flatten().unwrap_or(now).max(now + wait);
        let all = (1..=count).map(|n| (self.turn + n) % count);
        self.turn = all.min_by_key(open).unwrap_or_default();
        open(&self.turn).saturating_duration_since(now)
    }
}

fn waits() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(WAIT.0)
        .with_max_delay(WAIT.1)
        .with_jitter()
        .without_max_times()
        .build()
}

/// So long, and at random as long again at most: whoever was refused together does not come back together.
fn spread(told: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness it is the longest.
    let random = SystemRandom::new().fill(&mut random).map_or(u16::MAX, |()| u16::from_be_bytes(random));
    told + told * u32::from(random) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Duration = Duration::from_secs(5);

    fn within(wait: Duration, least: Duration, most: Duration) {
        assert!(least <= wait && wait <= most, "{wait:?}, not {least:?} to {most:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_broker_is_left_alone_as_long_as_it_told_and_not_in_step() {
        let now = Instant::now();
        let mut all: Vec<Duration> = (0..64).map(|_| Turns::new(1).next(now, true, Some(TOLD))).collect();
        all.iter().for_each(|wait| within(*wait, TOLD, 2 * TOLD));
        all.sort_unstable();
        all.dedup();
        assert!(all.len() > 32 && all[all.len() - 1] - all[0] > TOLD / 2, "{all:?}");
        let endless = Turns::new(1).next(now, true, Some(Duration::MAX));
        within(endless, TOLD_MAX, 2 * TOLD_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_asked_meanwhile() {
        let now = Instant::now();
        let mut turns = Turns::new(3);
        within(turns.next(now, true, Some(TOLD)), WAIT.0, 2 * WAIT.0);
        assert_eq!(turns.turn(), 1);
        turns.next(now, false, Some(4 * TOLD));
        assert_eq!(turns.turn(), 2);
        // The first one wants the shortest time, though the second would be next.
        within(turns.next(now, false, Some(2 * 4 * TOLD)), TOLD, 2 * TOLD);
        assert_eq!(turns.turn(), 0);
        // Their times are over.
        turns.next(now + 20 * TOLD, true, None);
        assert_eq!(turns.turn(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_grow_until_a_session_was_good() {
        let (now, mut turns) = (Instant::now(), Turns::new(1));
        let grown: Vec<Duration> = (0..8).map(|_| turns.next(now, false, None)).collect();
        within(grown[0], WAIT.0, 2 * WAIT.0);
        within(grown[7], WAIT.1, 2 * WAIT.1);
        within(turns.next(now, true, None), WAIT.0, 2 * WAIT.0);
    }
}
