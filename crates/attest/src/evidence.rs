//! Evidence, and the port through which an attestor judges it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mayfly_domain::{
    CredentialId, Environment, EvidenceHash, JoinToken, Observation, Owners, Refusal, RuleName, Secret,
    SignerId, SpiffeId, Thumbprint, TrustDomain, UnixMillis,
};

use crate::attested::{Parent, TaskClaim};

/// What a workload shows of itself.
#[derive(Debug)]
pub enum Evidence {
    /// A compact JWS from an OIDC issuer: bearer evidence.
    Oidc(Secret<String>),
    /// A join token: bearer evidence, used once.
    Join(JoinToken),
    /// A certificate of a foreign CA, with a proof of its key for this very call.
    X509(X509Proof),
    /// The live Mayfly certificate of the connection, as the transport verified it.
    Mtls(Box<MtlsCertificate>),
}

/// A foreign certificate and a signature by its key.
#[derive(Debug, Clone)]
pub struct X509Proof {
    /// The leaf, then its intermediates, in DER.
    pub chain: Vec<Vec<u8>>,
    /// The signature's scheme, as in TLS (RFC 8446 section 4.2.3).
    pub scheme: u16,
    /// The leaf's key over [`Challenge::x509_input`].
    pub signature: Vec<u8>,
}

/// A Mayfly certificate that authenticated a connection: chain, dates and possession of its key were verified
/// by the transport, its lease was not.
#[derive(Debug, Clone)]
pub struct MtlsCertificate {
    /// Whose.
    pub id: SpiffeId,
    /// Its serial: lease and counter.
    pub credential: CredentialId,
    /// Its key.
    pub key: Thumbprint,
    /// What it carries.
    pub observation: Observation,
    /// The authority that issued it.
    pub signer: SignerId,
}

/// What evidence that proves a key must be bound to: the call that it comes with.
#[derive(Debug, Clone, Copy)]
pub struct Challenge<'a> {
    /// The broker's trust domain.
    pub trust_domain: &'a TrustDomain,
    /// The nonce of the call, as the broker gave it out.
    pub nonce: &'a [u8],
    /// The key that signed the envelope.
    pub key: Thumbprint,
}

impl Challenge<'_> {
    /// What the key of a foreign certificate signs: see [`mayfly_domain::envelope::x509_input`].
    pub fn x509_input(&self, leaf: &[u8]) -> Vec<u8> {
        mayfly_domain::envelope::x509_input(self.trust_domain, self.nonce, &self.key, leaf)
    }
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
    /// The key that it belongs to by its own proof; none: the first that presents it.
    pub holder: Option<Thumbprint>,
}

/// Whom Mayfly itself named when it made what is shown now: a live credential's holder, or the workload that a
/// join token is for. Plain data: it proves nothing by itself.
#[derive(Debug, Clone)]
pub struct Known {
    /// The kind of attestation (`join`, `mtls`).
    pub kind: &'static str,
    /// Who it is.
    pub workload: SpiffeId,
    /// Who answers for it.
    pub owners: Owners,
    /// The trust rule that stands at the lineage's start; none for a join token.
    pub rule: Option<RuleName>,
    /// Its environment.
    pub environment: Option<Environment>,
    /// The claims that policies may see.
    pub tags: BTreeMap<String, String>,
    /// Its task.
    pub task: TaskClaim,
    /// The bearer evidence that was shown; none where a live credential was.
    pub shown: Option<Shown>,
    /// The live credential that was shown.
    pub parent: Option<Parent>,
}

/// Bearer evidence of Mayfly's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its hash.
    pub hash: EvidenceHash,
    /// When it was made.
    pub issued_at: UnixMillis,
    /// When it expires.
    pub expires: UnixMillis,
}

/// What an attestor found.
#[derive(Debug, Clone)]
pub enum Judged {
    /// A foreign issuer's claims: trust rules say who that is.
    Foreign(Verified),
    /// Somebody whom Mayfly named.
    Known(Box<Known>),
}

/// Judges evidence of its kind: form, issuer, signature, times. Trust rules come after it.
#[async_trait]
pub trait Attestor: Send + Sync {
    /// Verifies evidence at `now`, for the call that `challenge` tells of.
    ///
    /// # Errors
    /// A refusal with the reason; nothing of the evidence but its issuer is in its texts.
    async fn verify(
        &self,
        evidence: &Evidence,
        challenge: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Judged, Refusal>;
}
