//! Evidence, and the port through which an attestor judges it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mayfly_domain::{EvidenceHash, Refusal, Secret, UnixMillis};

/// What a workload shows of itself.
#[derive(Debug)]
pub enum Evidence {
    /// A compact JWS from an OIDC issuer: bearer evidence.
    Oidc(Secret<String>),
}

/// A claim's value, as far as trust rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// Text.
    Text(String),
    /// A whole number, as its decimal text.
    Number(String),
    /// A truth value.
    Bool(bool),
    /// A list of texts (others in it make the claim `Other`).
    List(Vec<String>),
    /// Anything else: it exists, and matches nothing.
    Other,
}

impl ClaimValue {
    /// The text that rules match and templates take: text, numbers and truth values; not lists.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(s) | Self::Number(s) => Some(s),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::List(_) | Self::Other => None,
        }
    }
}

/// The claims of verified evidence.
pub type Claims = BTreeMap<String, ClaimValue>;

/// Evidence whose signature, issuer and times hold. Plain data: it proves nothing by itself.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The kind of attestation (`oidc`).
    pub kind: &'static str,
    /// The issuer, exactly as in the evidence.
    pub issuer: String,
    /// The one audience.
    pub audience: String,
    /// Every claim.
    pub claims: Claims,
    /// The hash of the signing input.
    pub hash: EvidenceHash,
    /// The hash of issuer and `jti`, where the evidence has one.
    pub alias: Option<EvidenceHash>,
    /// When it was issued.
    pub issued_at: UnixMillis,
    /// When it expires.
    pub expires: UnixMillis,
}

/// Judges evidence of its kind: form, issuer, signature, times. Trust rules come after it.
#[async_trait]
pub trait Attestor: Send + Sync {
    /// Verifies evidence at `now`.
    ///
    /// # Errors
    /// A refusal with the reason; nothing of the evidence but its issuer is in its texts.
    async fn verify(&self, evidence: &Evidence, now: UnixMillis) -> Result<Verified, Refusal>;
}
