//! The audit record: one hash-chained JSON line for each decision, durable before the answer leaves.
//!
//! A failed write refuses mints and renewals, never a revocation: that is kept in a reserve and written later, in
//! order. This crate must never decide anything, hold a secret, or write bearer evidence other than as a keyed hash.
//!
//! The chain shows that a line was changed, removed, moved or inserted. It can't show that its newest lines were
//! cut off, or that all of it was written anew: for that, keep the last hash (`Audit::head`, `mayfly audit
//! verify`) somewhere else.

mod chain;
mod counters;
mod disk;
mod error;
mod evidence;
mod handle;
pub mod query;
pub mod record;
mod reserve;
pub mod verify;
mod writer;

pub use chain::{Head, LINE_OCTETS_MAX};
pub use counters::Counters;
pub use error::AuditError;
pub use evidence::EvidenceKey;
pub use handle::{Audit, AuditConfig, Observer, Stored, SyncMode};
pub use record::{Kind, Outcome, Record};
pub use verify::{Break, Summary, verify};
