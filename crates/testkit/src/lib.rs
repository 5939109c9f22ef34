//! Fixtures for tests: clocks, a real Redis, a proxy with a network's faults, a stand-in CI issuer, conformance suites.
//!
//! A dev-dependency only: no crate that ships may depend on it. Nothing here fakes a proof of the chain; a
//! test that needs one goes through the service that makes it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fixture that can't be set up fails its test, loudly and at once"
)]

pub mod clock;
pub mod conformance;
pub mod feed;
pub mod files;
pub mod issuer;
pub mod memory;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod tls;
pub mod user;
pub mod words;
pub mod x509;
