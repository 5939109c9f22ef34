//! What is known of who asks, as policies see it. Plain data: none of it is a proof.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mayfly_attest::AttestedFacts;
use mayfly_domain::{
    CredentialKind, Environment, Intent, OperatorName, Owners, ProfileName, San, Scopes, SpiffeId, TaskId,
    Ttl, UnixMillis,
};

use crate::authorized::Claimed;
use crate::slice::Holder;

/// What a policy may ask of a workload: by hand for `mayfly policy explain` and policy tests, or from an
/// attestation to explain its refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadFacts {
    /// Who it is.
    pub workload: SpiffeId,
    /// Who answers for it.
    pub owners: Owners,
    /// Its trust rule's environment.
    pub environment: Option<Environment>,
    /// The kind of attestation (`oidc`).
    pub attestation: String,
    /// The RFC 7638 thumbprint of its key.
    pub key: String,
    /// The claims that its rule exposes.
    pub tags: BTreeMap<String, String>,
    /// The task that its evidence names.
    pub task: Option<TaskId>,
    /// Where the call came from.
    pub peer: Option<IpAddr>,
    /// When.
    pub at: UnixMillis,
}

impl From<&AttestedFacts> for WorkloadFacts {
    fn from(facts: &AttestedFacts) -> Self {
        Self {
            workload: facts.workload.clone(),
            owners: facts.owners.clone(),
            environment: facts.environment.clone(),
            attestation: facts.kind.to_owned(),
            key: facts.key.to_string(),
            tags: facts.tags.clone(),
            task: Some(facts.task.id.clone()),
            peer: facts.peer,
            at: facts.at,
        }
    }
}

/// What a workload does, as policies name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadAction {
    /// Get a new credential.
    Mint,
    /// Keep a lease alive.
    Renew,
}

impl WorkloadAction {
    /// Every action.
    pub const ALL: [Self; 2] = [Self::Mint, Self::Renew];

    /// The action's id in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Renew => "renew",
        }
    }
}

/// What a renewal keeps of its lease: nothing of it is claimed anew but the life.
#[derive(Debug, Clone)]
pub struct RenewClaim {
    /// The lease's profile.
    pub profile: ProfileName,
    /// The lease's intent.
    pub intent: Intent,
    /// The lease's scopes.
    pub scopes: Scopes,
    /// The names of the lease's certificate.
    pub names: Vec<San>,
    /// The life; none: the profile's default.
    pub ttl: Option<Ttl>,
}

/// An operator as the handshake showed it. The name is what the certificate says; the groups are not its to say.
#[derive(Debug, Clone)]
pub struct OperatorPrincipal {
    /// Who.
    pub name: OperatorName,
    /// Where the call came from.
    pub peer: Option<IpAddr>,
    /// The RFC 7638 thumbprint of the certificate's key.
    pub key: String,
    /// When.
    pub at: UnixMillis,
}

/// A workload's facts, borrowed for one decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) workload: &'a SpiffeId,
    pub(crate) owners: &'a Owners,
    pub(crate) environment: Option<&'a Environment>,
    pub(crate) tags: &'a BTreeMap<String, String>,
    pub(crate) proven: Proven<'a>,
}

/// The record `proven` of a policy's context.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven<'a> {
    pub(crate) attestation: &'a str,
    pub(crate) key: &'a str,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) at: UnixMillis,
    pub(crate) task: &'a str,
}

impl<'a> Who<'a> {
    pub(crate) fn holder(&self) -> Holder<'a> {
        Holder { workload: self.workload, owners: self.owners }
    }

    /// `key` is the thumbprint of `facts` as text, which the caller keeps.
    pub(crate) fn attested(facts: &'a AttestedFacts, key: &'a str) -> Self {
        Self {
            workload: &facts.workload,
            owners: &facts.owners,
            environment: facts.environment.as_ref(),
            tags: &facts.tags,
            proven: Proven {
                attestation: facts.kind,
                key,
                peer: facts.peer,
                at: facts.at,
                task: facts.task.id.as_str(),
            },
        }
    }
}

impl<'a> From<&'a WorkloadFacts> for Who<'a> {
    fn from(facts: &'a WorkloadFacts) -> Self {
        Self {
            workload: &facts.workload,
            owners: &facts.owners,
            environment: facts.environment.as_ref(),
            tags: &facts.tags,
            proven: Proven {
                attestation: &facts.attestation,
                key: &facts.key,
                peer: facts.peer,
                at: facts.at,
                task: facts.task.as_ref().map_or("", TaskId::as_str),
            },
        }
    }
}

/// What is asked, borrowed for one decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) action: WorkloadAction,
    pub(crate) profile: &'a ProfileName,
    pub(crate) intent: Option<&'a Intent>,
    pub(crate) scopes: &'a Scopes,
    /// None: all that the profile grants.
    pub(crate) names: Option<&'a [San]>,
    pub(crate) kind: Option<CredentialKind>,
    pub(crate) ttl: Option<Ttl>,
}

impl<'a> Ask<'a> {
    pub(crate) fn claimed(action: WorkloadAction, claimed: &'a Claimed) -> Self {
        Self {
            action,
            profile: &claimed.profile,
            intent: claimed.intent.as_ref(),
            scopes: &claimed.scopes,
            names: Some(claimed.names.as_slice()).filter(|names| !names.is_empty()),
            kind: claimed.kind,
            ttl: claimed.ttl,
        }
    }

    pub(crate) fn renewal(claim: &'a RenewClaim) -> Self {
        Self {
            action: WorkloadAction::Renew,
            profile: &claim.profile,
            intent: Some(&claim.intent),
            scopes: &claim.scopes,
            // A lease keeps its names, none among them.
            names: Some(&claim.names),
            kind: None,
            ttl: claim.ttl,
        }
    }
}
