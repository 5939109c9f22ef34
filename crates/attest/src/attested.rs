//! The first proof of the chain: a workload was attested.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mayfly_domain::{
    Deadline, Environment, EvidenceHash, LeaseId, Observation, Owners, RuleName, SignerId, SpiffeId, TaskId,
    Thumbprint, Ttl, UnixMillis,
};

/// What happens when bearer evidence that belongs to one key is presented by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOtherKey {
    /// It is refused.
    Refuse,
    /// The new key is accepted and all that the old one holds is revoked in the same step, at most three
    /// times.
    Supersede,
}

/// The task that the evidence names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskClaim {
    /// Its id, by the rule's template.
    pub id: TaskId,
    /// The window where the workload asks for none.
    pub window: Ttl,
    /// The longest window.
    pub window_max: Ttl,
    /// Whether the jobs of one run share it: then each job's end releases its own leases only.
    pub shared: bool,
}

/// What is known of the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceFacts {
    /// The issuer.
    pub issuer: String,
    /// The hash of the signing input.
    pub hash: EvidenceHash,
    /// The hash of issuer and `jti`, where there is one.
    pub alias: Option<EvidenceHash>,
    /// When it was issued.
    pub issued_at: UnixMillis,
    /// When it expires.
    pub expires: UnixMillis,
    /// What happens when another key presents it.
    pub on_other_key: OnOtherKey,
    /// The key that it belongs to, or will from now on: the envelope's, or that of a foreign certificate.
    pub holder: Thumbprint,
    /// Whether one mint uses it up.
    pub single_use: bool,
    /// The longest life of evidence of its kind: so long after its last use may its task be named.
    pub life: Ttl,
}

/// A live Mayfly credential that was shown as evidence: the parent of what is minted with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its lease.
    pub lease: LeaseId,
    /// The key that proved it: the lease's own.
    pub key: Thumbprint,
    /// What it carries.
    pub observation: Observation,
    /// Its hard expiry: no child lives longer.
    pub expires: UnixMillis,
    /// What signed the shown credential, and what signed its lease's newest one. The broker refuses where one of
    /// them is not among its keys.
    pub signers: [SignerId; 2],
    /// The version of the stored keys when the lease was looked at: a broker that holds older ones loads them
    /// before it decides.
    pub keys_version: u64,
}

/// The facts of an attestation. Plain data: only [`Attested`] proves them.
#[derive(Debug, Clone)]
pub struct AttestedFacts {
    /// Who it is.
    pub workload: SpiffeId,
    /// Who answers for it.
    pub owners: Owners,
    /// The key that signed the envelope.
    pub key: Thumbprint,
    /// The lease that a mint with this envelope makes: derived from nonce and key.
    pub lease: LeaseId,
    /// The trust rule that accepted the evidence, or the first evidence of its lineage; none for a join token.
    pub rule: Option<RuleName>,
    /// The rule's environment.
    pub environment: Option<Environment>,
    /// The kind of attestation (`oidc`, `x509`, `join`, `mtls`).
    pub kind: &'static str,
    /// Claims that the rule exposes to policies and audit.
    pub tags: BTreeMap<String, String>,
    /// The task that the evidence names.
    pub task: TaskClaim,
    /// The evidence, where something other than a live credential was shown.
    pub evidence: Option<EvidenceFacts>,
    /// The live credential that was shown.
    pub parent: Option<Parent>,
    /// Where the call came from.
    pub peer: Option<IpAddr>,
    /// When it was attested.
    pub at: UnixMillis,
}

/// Proof that a workload was attested for one call. Only this crate's verifier makes it; it is consumed by
/// the decision that it leads to, and worth nothing after its deadline.
#[derive(Debug)]
pub struct Attested {
    facts: AttestedFacts,
    deadline: Deadline,
}

impl Attested {
    pub(crate) fn new(facts: AttestedFacts, deadline: Deadline) -> Self {
        Self { facts, deadline }
    }

    /// The facts.
    pub fn facts(&self) -> &AttestedFacts {
        &self.facts
    }

    /// Until when it counts.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Ends the proof and keeps its facts.
    pub fn into_facts(self) -> AttestedFacts {
        self.facts
    }
}
