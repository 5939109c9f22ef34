//! Decisions: plain data that says what policy answered, and proves nothing.

use std::sync::Arc;

use mayfly_domain::{Intent, PolicyId, Refusal, San, Scopes, Ttl};

use crate::profile::Profile;

/// What policy answered.
#[derive(Debug, Clone)]
pub struct Decision<T> {
    /// What was granted, or the refusal that the caller gets.
    pub answer: Result<T, Refusal>,
    /// The policies that decided: the permits of a permission, the forbids of a refusal; none where no permit
    /// applied.
    pub decided_by: Vec<PolicyId>,
    /// Policies that failed while they were evaluated; any one denies.
    pub failed: Vec<PolicyFailure>,
}

impl<T> Decision<T> {
    /// Whether it was permitted.
    pub fn is_allowed(&self) -> bool {
        self.answer.is_ok()
    }
}

/// What a workload would be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The profile.
    pub profile: Arc<Profile>,
    /// The intent.
    pub intent: Intent,
    /// The life.
    pub ttl: Ttl,
    /// The scopes.
    pub scopes: Scopes,
    /// Of a certificate, the names beside the SPIFFE ID.
    pub names: Vec<San>,
}

/// A policy that failed while it was evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFailure {
    /// The policy.
    pub policy: PolicyId,
    /// What failed, for operators.
    pub message: String,
}
