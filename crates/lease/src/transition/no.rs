//! How the protocol says no.

use std::time::Duration;

use mayfly_domain::{EndReason, Reason, Refusal};

use crate::job::JobId;

/// Why a transition changed nothing. Positions name the command's subjects or quotas in their order; one past
/// the subjects names a value that the lineage carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum No {
    /// The nonce was spent by this key.
    #[error("the nonce was used")]
    NonceUsed,
    /// The evidence was issued before the generation began.
    #[error("the evidence is older than the generation")]
    EvidencePredatesGeneration,
    /// The evidence belongs to another key.
    #[error("the evidence belongs to another key")]
    EvidenceOfOtherKey,
    /// The evidence observed another fence of this subject.
    #[error("the evidence predates a revocation (subject {0})")]
    EvidencePredatesRevocation(usize),
    /// The evidence is used up by one mint, and was.
    #[error("the evidence was used")]
    EvidenceUsed,
    /// The evidence is used up by one mint, and is not known, over, or withdrawn.
    #[error("the evidence is not known, or over")]
    EvidenceUnknown,
    /// A block stands on this subject.
    #[error("blocked (subject {0})")]
    Blocked(usize),
    /// As many live leases as the quota allows.
    #[error("quota {0}: live leases")]
    QuotaLeases(usize),
    /// Minting faster than the quota allows; wait so many ms.
    #[error("quota {0}: rate, wait {1} ms")]
    QuotaRate(usize, u64),
    /// The task has ended.
    #[error("the task has ended")]
    TaskEnded,
    /// Another workload opened the task.
    #[error("the task is another workload's")]
    TaskOfAnother,
    /// The task has another intent.
    #[error("the task has another intent")]
    TaskIntent,
    /// Nothing is left of the task's window, or of another bound.
    #[error("the window is over")]
    WindowOver,
    /// The parent, or an ancestor, is dead.
    #[error("an ancestor is revoked")]
    AncestorDead,
    /// Too many ancestors or pairs.
    #[error("the lineage is too deep or too wide")]
    LineageLimit,
    /// There is no record.
    #[error("no such lease")]
    NotFound,
    /// The lease is not confirmed yet.
    #[error("the lease is not active")]
    NotActive,
    /// The lease's time is up, or its parent's.
    #[error("the lease has expired")]
    Expired,
    /// The lease has ended; the revocation is told where one ended it.
    #[error("the lease has ended")]
    Ended(EndReason, Option<JobId>),
    /// A fence moved since the lease was made, or its generation is over.
    #[error("a fence moved")]
    FenceMoved,
    /// The lease was revoked by its id, or an ancestor was.
    #[error("revoked by id")]
    Marked(JobId),
    /// The credential carries another observation than the record.
    #[error("the observation is not the lease's")]
    OtherObservation,
    /// The lease belongs to another workload, task or key.
    #[error("the lease is another's")]
    OfAnother,
    /// The lease can't be renewed any more.
    #[error("the lineage is over")]
    LineageOver,
    /// A confirmation lost against a revocation, block or end.
    #[error("lost a race")]
    RaceLost,
    /// No block stands.
    #[error("no block stands")]
    NoBlock,
}

impl From<No> for Refusal {
    fn from(no: No) -> Self {
        let reason = match no {
            No::NonceUsed => Reason::NonceUsed,
            No::EvidencePredatesGeneration => Reason::EvidencePredatesGeneration,
            No::EvidenceOfOtherKey => Reason::EvidenceBoundToOtherKey,
            No::EvidencePredatesRevocation(_) | No::AncestorDead => Reason::EvidencePredatesRevocation,
            No::EvidenceUsed => Reason::EvidenceUsed,
            No::EvidenceUnknown => Reason::JoinTokenUnknown,
            No::Blocked(_) => Reason::Blocked,
            No::QuotaLeases(_) => Reason::QuotaLeases,
            No::QuotaRate(..) => Reason::QuotaRate,
            No::TaskEnded => Reason::TaskEnded,
            No::TaskOfAnother => Reason::TaskOfAnother,
            No::TaskIntent => Reason::IntentNotAllowed,
            No::WindowOver => Reason::TaskWindow,
            No::LineageLimit => Reason::LineageLimit,
            No::NotFound => Reason::LeaseNotFound,
            No::NotActive => Reason::LeaseNotActive,
            No::Expired | No::Ended(EndReason::Expired, _) => Reason::LeaseExpired,
            No::Ended(EndReason::Released | EndReason::Completed, _) => Reason::LeaseEnded,
            No::Ended(EndReason::Abandoned, _) => Reason::LeaseNotActive,
            No::Ended(EndReason::Revoked, _) | No::FenceMoved | No::Marked(_) => Reason::LeaseRevoked,
            No::OtherObservation => Reason::TokenMalformed,
            No::OfAnother => Reason::LeaseOfAnother,
            No::LineageOver => Reason::LineageEnded,
            No::RaceLost => Reason::RaceLost,
            No::NoBlock => Reason::BlockNotFound,
        };
        let refusal = Refusal::new(reason, no.to_string());
        match no {
            No::QuotaRate(_, wait_ms) => refusal.after(Duration::from_millis(wait_ms)),
            No::RaceLost => refusal.after(Duration::from_millis(50)),
            _ => refusal,
        }
    }
}
