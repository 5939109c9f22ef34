//! Leases: the store's port, the protocol's pure transitions, and the proofs that no credential leaves
//! without a lease.
//!
//! `docs/protocol.md` tells the protocol; [`transition`] is its definition in code: the embedded store calls it
//! and the Redis scripts are held against it. This crate must never know a store's client library, a
//! credential's format or a transport.

pub mod barrier;
mod body;
pub mod command;
pub mod feed;
pub mod gate;
pub mod generation;
pub mod job;
pub mod join;
pub mod proof;
pub mod record;
pub mod store;
pub mod sweep;
pub mod task;
pub mod transition;
pub mod undo;

pub use command::{
    CheckCommand, Checked, Cursor, EvidenceUse, ListQuery, MintCommand, Minted, Page, ParentLink, QuotaRule,
    RenewCommand, Renewed, RevokeCommand, RevokeWhat, Revoked, Spend, Swept, TaskPlan, TaskStarted,
};
pub use generation::{Carry, GenerationRecord, Survey};
pub use job::{Job, JobId, JobTarget};
pub use join::{JoinId, JoinRecord, JoinState};
pub use proof::{Confirmed, Leases, Pending, Reserved};
pub use record::{LeaseBody, LeaseRecord, Mark, X509Body};
pub use store::{LeaseStore, StoreError};
pub use task::{TaskRecord, TaskState};
