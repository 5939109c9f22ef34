//! A trust rule as its file says it: nothing was looked at. The server's configuration reader fills it in.

use crate::issuer::Authority;

/// What a claim must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawMatch {
    /// Exactly this text.
    Exact(String),
    /// A text that starts so.
    Prefix(String),
    /// Exactly one of these texts.
    OneOf(Vec<String>),
}

/// The `[task]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawTask {
    /// Template of the task id; the preset's where there is none.
    pub id: Option<String>,
    /// Whether the jobs of one run share the task.
    pub shared: bool,
    /// `window.default`, such as `30m`.
    pub window: Option<String>,
    /// `window.max`.
    pub window_max: Option<String>,
}

/// A trust rule's file, key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawTrustRule {
    /// `name`
    pub name: String,
    /// `preset`
    pub preset: Option<String>,
    /// `issuer`, where it is not the preset's.
    pub issuer: Option<String>,
    /// `jwks_uri`
    pub jwks_uri: Option<String>,
    /// `jwks_host`
    pub jwks_host: Option<String>,
    /// `ca_file`: the authority in that file, as it was read.
    pub authority: Option<Authority>,
    /// `spiffe_id`: the template of the path.
    pub spiffe_id: String,
    /// `owners`: templates.
    pub owners: Vec<String>,
    /// `environment`
    pub environment: Option<String>,
    /// `review_by`: a date, `2027-05-01`.
    pub review_by: Option<String>,
    /// `[match]`: claims and what they must be.
    pub matches: Vec<(String, RawMatch)>,
    /// `[task]`
    pub task: RawTask,
    /// `[expose]`: the tag and the claim that it shows.
    pub expose: Vec<(String, String)>,
    /// `bind`: `audience`, `first-use` or `proof`.
    pub bind: Option<String>,
    /// `audience`; the trust domain's name where there is none.
    pub audience: Option<String>,
    /// `on_other_key`: `refuse` or `supersede`.
    pub on_other_key: Option<String>,
    /// `evidence_life`, such as `2h`.
    pub evidence_life: Option<String>,
    /// `allow_names`: names that can be taken over may stand without their ids.
    pub allow_names: bool,
    /// `algorithms`: those that the issuer's tokens may have; empty: all that its keys allow.
    pub algorithms: Vec<String>,
}
