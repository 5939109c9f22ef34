//! Profiles: what a workload can ask for.

mod raw;
mod san;
#[cfg(test)]
mod tests;

pub use raw::{
    INTENTS_MAX, RawProfile, RawQuota, RawToken, RawTtl, RawWorkloadQuota, RawX509, TtlLimit, TtlLimits,
};
pub use san::SanTemplate;

use std::collections::BTreeMap;

use mayfly_domain::{
    AcceptorMode, Audience, Binding, CredentialKind, Environment, IntegrationName, Intent, Owner,
    ProfileName, San, Scopes, SpiffeId, Ttl,
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
    /// The credential that it grants.
    pub grants: Grants,
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

/// The credential that a profile grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grants {
    /// An access token.
    Token(TokenProfile),
    /// An X.509 certificate.
    X509(X509Profile),
}

/// A profile's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Profile {
    /// The DNS names that it grants beside the SPIFFE ID, as templates.
    pub dns: Vec<SanTemplate>,
    /// The addresses that it grants, as templates.
    pub ips: Vec<SanTemplate>,
    /// Whether it is for TLS clients.
    pub client: bool,
    /// Whether it is for TLS servers.
    pub server: bool,
    /// The life where the workload asks for none.
    pub ttl: Ttl,
    /// The longest life.
    pub ttl_max: Ttl,
    /// How long before its end it is renewed at the latest, so that an outage of that length hurts nobody.
    pub outage_budget: Option<Ttl>,
    /// How acceptors check it.
    pub acceptors: AcceptorMode,
}

impl X509Profile {
    /// The templates of its names.
    pub fn templates(&self) -> impl Iterator<Item = &SanTemplate> {
        self.dns.iter().chain(&self.ips)
    }

    /// Its usages, for people.
    pub const fn usages(&self) -> &'static str {
        match (self.client, self.server) {
            (true, true) => "client and server",
            (true, false) => "client",
            (false, true) => "server",
            (false, false) => "no usage",
        }
    }
}

impl Profile {
    /// The kind of credential.
    pub const fn kind(&self) -> CredentialKind {
        match self.grants {
            Grants::Token(_) => CredentialKind::Token,
            Grants::X509(_) => CredentialKind::X509,
        }
    }

    /// The life where the workload asks for none, and the longest.
    pub const fn lives(&self) -> (Ttl, Ttl) {
        match &self.grants {
            Grants::Token(t) => (t.ttl, t.ttl_max),
            Grants::X509(x) => (x.ttl, x.ttl_max),
        }
    }

    /// The token, where it grants one.
    pub const fn token(&self) -> Option<&TokenProfile> {
        match &self.grants {
            Grants::Token(token) => Some(token),
            Grants::X509(_) => None,
        }
    }

    /// The certificate, where it grants one.
    pub const fn x509(&self) -> Option<&X509Profile> {
        match &self.grants {
            Grants::Token(_) => None,
            Grants::X509(x509) => Some(x509),
        }
    }

    /// Every name that its certificate can have for this workload, each once; none for a token.
    pub fn names(&self, workload: &SpiffeId, tags: &BTreeMap<String, String>) -> Vec<San> {
        let templates = self.x509().into_iter().flat_map(X509Profile::templates);
        let mut names = Vec::new();
        for name in templates.filter_map(|template| template.name(workload, tags)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// How it is bound to the workload's key.
    pub const fn binding(&self) -> Binding {
        match &self.grants {
            Grants::Token(token) => token.binding,
            Grants::X509(_) => Binding::Mtls,
        }
    }

    /// How acceptors check it.
    pub const fn acceptors(&self) -> AcceptorMode {
        match &self.grants {
            Grants::Token(token) => token.acceptors,
            Grants::X509(x509) => x509.acceptors,
        }
    }
}
