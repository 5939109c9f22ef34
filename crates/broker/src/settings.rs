//! What the deployment decides about a broker, valid.

use std::path::PathBuf;

use mayfly_domain::{TrustDomain, Ttl};
use mayfly_lease::proof::MintLimits;
use mayfly_mint::x509::Pointers;

use crate::feed::FeedSettings;

/// A broker's settings; they do not change while it runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The `iss` of every token: the public URL.
    pub issuer: String,
    /// This broker's id, the last segment of `/mayfly/broker/ID`.
    pub broker_id: String,
    /// What every mint is allowed.
    pub limits: MintLimits,
    /// The longest that any lineage may be renewed: how long the mark of an unknown lease is kept.
    pub lineage_max: Ttl,
    /// The longest life of a credential's lineage or of bearer evidence, for a first generation.
    pub longest_life: Ttl,
    /// Store settings that are accepted although they could forget a revocation.
    pub accepted_risks: Vec<String>,
    /// Where verifiers of workloads' certificates may ask about them.
    pub pointers: Pointers,
    /// The audit file, for reading.
    pub audit_file: PathBuf,
    /// How the feed is followed and served.
    pub feed: FeedSettings,
    /// The tolerated difference between this clock and the store's, in ms.
    pub skew_ms: u64,
}
