//! The proof: small worlds of the protocol, in which every interleaving is explored.
//!
//! The models call the real transitions of `mayfly_lease` and the real follower of `mayfly_domain`; what they add is
//! who does what in which order, and what must never be seen. Never shipped; must never re-write a rule that can be
//! called.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a model that does not hold fails its test, loudly and at once"
)]

pub mod accounts;
pub mod feed;
pub mod generations;
pub mod leases;
pub mod order;
pub mod report;
pub mod store;
