//! How long acceptors may reuse the answers of this broker's checks.
//!
//! A barrier waits for the longest reuse that any broker has stored with its pings. So an answer allows no more than what is
//! stored, and what is stored stays as long as an answer that allowed more can be in use.

use std::time::Duration;

use mayfly_domain::{Deadline, defaults};
use parking_lot::Mutex;

use crate::broker::{Broker, Running};

#[derive(Debug, Default)]
struct State {
    /// The longest that the configuration allows.
    wanted_ms: u32,
    /// What it allowed before a reload, and how long such answers may be in use.
    before: Option<(u32, Deadline)>,
    /// What the store knows.
    registered_ms: u32,
}

/// The reuse of answers.
#[derive(Debug, Default)]
pub(crate) struct Reuse(Mutex<State>);

impl Reuse {
    /// The reuse that a first configuration allows; the store knows of none.
    pub(crate) fn of(running: &Running) -> Self {
        let reuse = Self::default();
        reuse.set(running.reuse_ms());
        reuse
    }

    /// Takes the longest reuse of a configuration that is in force from now on.
    pub(crate) fn set(&self, wanted_ms: u32) {
        let mut state = self.0.lock();
        let kept = Duration::from_millis(u64::from(defaults::REUSE_MAX_MS));
        state.before = Some((state.to_register(), Deadline::after(kept)));
        state.wanted_ms = wanted_ms;
    }

    /// How long an answer may be reused for which the configuration allows `wanted_ms`.
    pub(crate) fn allowed(&self, wanted_ms: u32) -> u32 {
        wanted_ms.min(self.0.lock().registered_ms)
    }
}

impl Running {
    /// The longest that any acceptor may reuse an answer.
    pub(crate) fn reuse_ms(&self) -> u32 {
        self.acceptors.values().map(|entry| entry.reuse_ms).max().unwrap_or_default()
    }
}

impl State {
    fn to_register(&self) -> u32 {
        let before = self.before.filter(|(_, until)| !until.has_passed());
        self.wanted_ms.max(before.map_or(0, |(ms, _)| ms))
    }
}

impl Broker {
    /// How long an answer of this broker's checks may be reused: what its pings store.
    pub fn reuse_ms(&self) -> u32 {
        self.reuse().0.lock().to_register()
    }

    /// Says that a ping which stored `ms` was acknowledged: answers may be reused as long.
    pub fn reuse_registered(&self, ms: u32) {
        self.reuse().0.lock().registered_ms = ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_is_reused_longer_than_the_store_knows() {
        let reuse = Reuse::default();
        let to_register = || reuse.0.lock().to_register();
        reuse.set(2_000);
        assert_eq!((to_register(), reuse.allowed(2_000)), (2_000, 0), "no ping has stored it");
        reuse.0.lock().registered_ms = 2_000;
        assert_eq!((reuse.allowed(500), reuse.allowed(2_000), reuse.allowed(5_000)), (500, 2_000, 2_000));
        reuse.set(5_000);
        assert_eq!((to_register(), reuse.allowed(5_000)), (5_000, 2_000), "raised, and not stored yet");
        reuse.0.lock().registered_ms = 5_000;
        reuse.set(0);
        assert_eq!(to_register(), 5_000, "answers from before may be in use");
        reuse.set(1_000);
        assert_eq!(to_register(), 5_000, "whatever is reloaded meanwhile");
        reuse.0.lock().before = Some((5_000, Deadline::after(Duration::ZERO)));
        assert_eq!(to_register(), 1_000);
    }
}
