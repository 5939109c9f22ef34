//! The proofs that nothing leaves without a lease: [`Reserved`], [`Pending`], [`Confirmed`].
//!
//! Only [`Leases`] makes them. Each is consumed by the step that it leads to; a [`Pending`] that is dropped
//! leaves a record that the reaper ends and undoes.

mod leases;

use mayfly_domain::{Deadline, Ttl, defaults};

use crate::record::LeaseRecord;
use crate::task::TaskRecord;

pub use leases::{Leases, spend, task_plan};

/// Limits of one kind of holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolderQuota {
    /// Live leases.
    pub live_leases: u32,
    /// Mints a minute.
    pub mints_per_min: u32,
    /// Mints at once.
    pub burst: u32,
}

/// What the deployment allows every mint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MintLimits {
    /// How long a token's lease may be renewed.
    pub token_lineage: Ttl,
    /// How long a certificate's lease may be renewed.
    pub x509_lineage: Ttl,
    /// For each workload.
    pub workload: HolderQuota,
    /// For each owner.
    pub owner: HolderQuota,
    /// How long evidence may name a task, at least: the longest life of bearer evidence.
    pub evidence_life: Ttl,
}

impl MintLimits {
    /// How long a task's record is kept after its last use. `life`: the longest life of evidence that may name it,
    /// where that is known.
    pub fn task_keep_ms(&self, life: Option<Ttl>) -> u64 {
        let life = life.map_or(self.evidence_life, |life| life.max(self.evidence_life));
        life.as_millis() + 2 * defaults::SKEW_MS
    }
}

/// Proof that a lease stands in the store for a credential that is about to be made.
#[derive(Debug)]
pub struct Reserved {
    record: LeaseRecord,
    task: Option<TaskRecord>,
    warnings: Vec<String>,
    superseded: Option<u8>,
    keys_version: u64,
    deadline: Deadline,
}

impl Reserved {
    /// The lease.
    pub fn record(&self) -> &LeaseRecord {
        &self.record
    }

    /// The id of the credential that is made for it.
    pub fn credential(&self) -> mayfly_domain::CredentialId {
        self.record.credential()
    }

    /// The version of the stored keys when the lease was written: who has older ones loads them before the
    /// credential leaves.
    pub fn keys_version(&self) -> u64 {
        self.keys_version
    }

    /// Until when it counts.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Attaches the credential that was made for it.
    pub fn made<C>(self, credential: C) -> Pending<C> {
        Pending { credential, reserved: self }
    }
}

/// Proof of a lease with its credential, which must not leave yet.
#[derive(Debug)]
pub struct Pending<C> {
    credential: C,
    reserved: Reserved,
}

impl<C> Pending<C> {
    /// The lease.
    pub fn record(&self) -> &LeaseRecord {
        &self.reserved.record
    }
}

/// Proof that a credential's lease was confirmed: the only form that becomes a wire message.
#[derive(Debug)]
pub struct Confirmed<C> {
    credential: C,
    record: LeaseRecord,
    task: Option<TaskRecord>,
    warnings: Vec<String>,
    superseded: Option<u8>,
    keys_version: u64,
}

/// What a confirmed credential comes apart to.
#[derive(Debug)]
pub struct Parts<C> {
    /// The credential.
    pub credential: C,
    /// Its lease.
    pub record: LeaseRecord,
    /// Its task, for a mint.
    pub task: Option<TaskRecord>,
    /// Warnings for the workload (80 % of a quota).
    pub warnings: Vec<String>,
    /// How often the evidence has changed its key by now, where this call changed it.
    pub superseded: Option<u8>,
}

impl<C> Confirmed<C> {
    /// The lease.
    pub fn record(&self) -> &LeaseRecord {
        &self.record
    }

    /// The version of the stored keys when the lease was written.
    pub fn keys_version(&self) -> u64 {
        self.keys_version
    }

    /// How often the evidence has changed its key by now, where this call changed it.
    pub fn superseded(&self) -> Option<u8> {
        self.superseded
    }

    /// Takes it apart, to be sent.
    pub fn into_parts(self) -> Parts<C> {
        Parts {
            credential: self.credential,
            record: self.record,
            task: self.task,
            warnings: self.warnings,
            superseded: self.superseded,
        }
    }
}
