//! Access tokens: RFC 9068 JWTs, verified by public keys.
//!
//! Must never accept a form of a token that a broker would not make itself, or add a skew to an expiry.

use mayfly_domain::defaults::TOKEN_OCTETS_MAX;
use mayfly_domain::{
    Audience, CredentialId, Intent, Observation, Owners, Reason, Refusal, Scope, Scopes, SignerId, SpiffeId,
    TaskId, Thumbprint, UnixMillis,
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::compact::{Compact, decode};
use crate::keys::TokenKeys;

/// The `typ` of an access token's header (RFC 9068 section 2.1).
pub const TYP: &str = "at+jwt";

/// The confirmation claim (RFC 7800 section 3), with a key's thumbprint (RFC 9449 section 6.1).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The RFC 7638 thumbprint of the key.
    pub jkt: String,
}

// No `nbf`: a token counts from its making on, and a verifier whose clock is behind would only refuse it. No
// `flatten`: it would accept duplicate members.
/// The claims of an access token, as they are signed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The broker's public URL.
    pub iss: String,
    /// The workload.
    pub sub: SpiffeId,
    /// Who may accept it.
    pub aud: Audience,
    /// The workload again (RFC 9068 section 2.2).
    pub client_id: SpiffeId,
    /// When it was made, in seconds.
    pub iat: u64,
    /// When it ends, in seconds.
    pub exp: u64,
    /// The credential's id.
    pub jti: String,
    /// What it grants, parted by spaces; absent where it grants nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The key that it is bound to; absent from a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Who answers for it.
    pub mf_own: Owners,
    /// The task.
    pub mf_task: TaskId,
    /// The task's intent.
    pub mf_int: Intent,
    /// What its lease observed, as base64url of its compact form.
    pub mf_obs: String,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The lease and its renewal counter.
    pub id: CredentialId,
    /// Who holds it.
    pub workload: SpiffeId,
    /// Who answers for it.
    pub owners: Owners,
    /// Who may accept it.
    pub audience: Audience,
    /// What it grants there.
    pub scopes: Scopes,
    /// The key that it is bound to; none: a bearer token.
    pub key: Option<Thumbprint>,
    /// The task.
    pub task: TaskId,
    /// The task's intent.
    pub intent: Intent,
    /// What its lease observed.
    pub observation: Observation,
    /// When it was made.
    pub issued: UnixMillis,
    /// When it ends.
    pub expires: UnixMillis,
    /// The key that signed it.
    pub signer: SignerId,
}

/// Verifies access tokens of one issuer.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    issuer: String,
}

impl TokenVerifier {
    /// A verifier of tokens with this `iss`.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self { issuer: issuer.into() }
    }

    /// Whether a token names one of the keys; what names none may be of a newer key.
    pub fn knows_key(&self, keys: &TokenKeys, token: &str) -> bool {
        Compact::parse(token, TOKEN_OCTETS_MAX)
            .is_some_and(|compact| keys.by_header(compact.header).is_some())
    }

    /// Verifies form, signature, issuer and expiry. Whether the lease is live, the audience the asker's, and the
    /// proof of the key good are the caller's questions.
    ///
    /// # Errors
    /// [`Reason::TokenMalformed`], [`Reason::TokenSignature`], [`Reason::LeaseExpired`].
    pub fn verify(&self, keys: &TokenKeys, token: &str, now: UnixMillis) -> Result<VerifiedToken, Refusal> {
        let no = |why: &'static str| Refusal::new(Reason::TokenMalformed, why);
        let compact = Compact::parse(token, TOKEN_OCTETS_MAX).ok_or_else(|| no("not a compact JWS"))?;
        // Each key has exactly one header: type, algorithm and key are settled by one comparison.
        let key = keys.by_header(compact.header).ok_or_else(|| unknown_header(&compact))?;
        if !key.public().verifies(compact.signing_input.as_bytes(), &compact.signature) {
            return Err(Refusal::new(Reason::TokenSignature, "the signature does not verify"));
        }
        let claims = compact.payload_octets().ok_or_else(|| no("the claims are not canonical base64url"))?;
        let claims: Claims =
            serde_json::from_slice(&claims).map_err(|_| no("the claims are not those of an access token"))?;
        let verified = claims.read(&self.issuer, key.signer())?;
        if now >= verified.expires {
            return Err(Reason::LeaseExpired.into());
        }
        Ok(verified)
    }
}

/// What a token that somebody else has verified says of whom it is for and of the key that it is bound to. Nothing is
/// verified here; none where it is no token.
pub fn said(token: &str) -> Option<(Audience, Option<Thumbprint>)> {
    let claims = Compact::parse(token, TOKEN_OCTETS_MAX)?.payload_octets()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    let key = claims.cnf.map(|cnf| Thumbprint::parse(&cnf.jkt)).transpose().ok()?;
    Some((claims.aud, key))
}

impl Claims {
    fn read(self, issuer: &str, signer: SignerId) -> Result<VerifiedToken, Refusal> {
        let no = |why: &'static str| Refusal::new(Reason::TokenMalformed, why);
        if !bool::from(self.iss.as_bytes().ct_eq(issuer.as_bytes())) {
            return Err(no("`iss` is another issuer"));
        }
        if self.client_id != self.sub {
            return Err(no("`client_id` is not `sub`"));
        }
        if self.iat >= self.exp {
            return Err(no("`exp` is not after `iat`"));
        }
        let scopes = match self.scope.as_deref() {
            None => Scopes::default(),
            Some(text) => {
                let all: Result<Vec<Scope>, _> = text.split(' ').map(Scope::parse).collect();
                all.and_then(Scopes::new).map_err(|_| no("`scope` is not a list of scopes"))?
            }
        };
        let key = match self.cnf {
            None => None,
            Some(cnf) => Some(Thumbprint::parse(&cnf.jkt).map_err(|_| no("`cnf.jkt` is not a thumbprint"))?),
        };
        let observation = decode(&self.mf_obs)
            .and_then(|octets| Observation::decode(&octets).ok())
            .ok_or_else(|| no("`mf_obs` is not an observation"))?;
        Ok(VerifiedToken {
            id: CredentialId::parse(&self.jti).map_err(|_| no("`jti` is not a credential's id"))?,
            workload: self.sub,
            owners: self.mf_own,
            audience: self.aud,
            scopes,
            key,
            task: self.mf_task,
            intent: self.mf_int,
            observation,
            issued: UnixMillis::from_secs(self.iat),
            expires: UnixMillis::from_secs(self.exp),
            signer,
        })
    }
}

/// Tells a token of a key that is gone from something that is no token of ours.
fn unknown_header(compact: &Compact<'_>) -> Refusal {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Header {
        alg: String,
        typ: String,
        kid: String,
    }
    let header = compact.header_octets().and_then(|h| serde_json::from_slice::<Header>(&h).ok());
    match header {
        Some(h) if h.typ == TYP && matches!(h.alg.as_str(), "ES256" | "EdDSA") && h.kid.len() == 43 => {
            Refusal::new(Reason::TokenSignature, "no current key has its `kid` and `alg`")
        }
        _ => Refusal::new(Reason::TokenMalformed, "the header is not an access token's"),
    }
}

#[cfg(test)]
mod tests;
