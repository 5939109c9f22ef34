//! The Redis store against a real server: what depends on Redis itself. What every store must do is in the
//! conformance suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod clock;
mod conformance;
mod failures;
mod feed;
mod leases;
mod reach;
mod support;
