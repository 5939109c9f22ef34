//! Profiles: what a workload can ask for.

mod raw;
#[cfg(test)]
mod tests;

pub use raw::{INTENTS_MAX, RawProfile, RawQuota, RawToken, RawTtl, RawWorkloadQuota, TtlLimits};

use mayfly_domain::{
    AcceptorMode, Audience, Binding, Environment, IntegrationName, Intent, Owner, ProfileName, Scopes, Ttl,
};

/// A profile, valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// What it is for, in a line.
    pub summary: String,
    /// What it opens.
    pub integration: IntegrationName,
    /// Who answers for the grant itself.
    pub owner: Owner,
    /// Its environment.
    pub environment: Option<Environment>,
    /// The intents that a task may have; at least one.
    pub intents: Vec<Intent>,
    /// The token that it grants.
    pub token: TokenProfile,
    /// Live leases of one workload in this profile's mints, where it says so.
    pub live_leases_workload: Option<u32>,
}

/// A profile's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenProfile {
    /// The one audience.
    pub audience: Audience,
    /// Every scope that it grants.
    pub scopes: Scopes,
    /// The life where the workload asks for none.
    pub ttl: Ttl,
    /// The longest life.
    pub ttl_max: Ttl,
    /// How it is bound to the workload's key.
    pub binding: Binding,
    /// How acceptors check it.
    pub acceptors: AcceptorMode,
}
