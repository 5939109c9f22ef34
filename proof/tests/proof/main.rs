//! The models hold, without each order they do not, and docs/proof.md says so.
//!
//! `MAYFLY_WRITE_DOCS=1 cargo test -p mayfly-proof` writes the page.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod page;
mod stores;
