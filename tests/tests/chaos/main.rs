//! Chaos on real parts: processes are killed and stopped, lines cut, a store forgets, while jobs mint, an operator
//! revokes and acceptors ask. docs/chaos.md says what is played, what is counted and how to run it for long.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on fails; a run tells its seed and its table"
)]

mod checks;
mod faults;
mod followers;
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest of it")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod ledger;
mod load;
mod random;
mod run;
#[allow(dead_code, reason = "the end-to-end tests use the rest of it")]
#[path = "../e2e/support/mod.rs"]
mod support;
mod suspended;
mod tally;
mod world;

use std::time::Duration;

use mayfly_domain::time::{Clock as _, SystemClock};

use crate::run::Plan;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn seed() -> u64 {
    number("CHAOS_SEED").unwrap_or_else(|| SystemClock.now().0)
}

/// Each fault once, for a short time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_revoked_is_accepted_and_nothing_live_refused_whatever_fails() {
    let plan = Plan {
        seed: seed(),
        rounds: 1,
        checks: 0,
        fault_ms: (100, 1_200),
        peace_ms: (300, 700),
        pause: Duration::from_millis(2),
        broad: false,
    };
    plan.run().await;
}

/// `make chaos`: each fault again and again, for longer than every bound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes many minutes; make chaos runs it"]
async fn for_long() {
    let plan = Plan {
        seed: seed(),
        rounds: 1,
        checks: number("CHAOS_CHECKS").unwrap_or(1_000_000),
        fault_ms: (100, number("CHAOS_FAULT_MS").unwrap_or(9_000)),
        peace_ms: (500, 3_000),
        pause: Duration::ZERO,
        broad: true,
    };
    plan.run().await;
}
