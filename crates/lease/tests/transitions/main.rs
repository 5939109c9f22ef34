//! The transitions as pure functions: what comes out for what goes in, and the orders that matter.
//!
//! How they hold together over a store is the conformance suite's; here is what a store can't show: which
//! writes belong to one step, in which order, and that one rule judges everywhere.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bench;
mod ending;
mod layouts;
mod orders;
mod rates;
mod rule;
