//! Access tokens: RFC 9068 JWTs, made from a reserved lease and verified with our own keys.
//!
//! Must never make a token without a lease, accept a form of a token that it would not make itself, or add a
//! skew to an expiry. A token is a secret: it is never printed.

use mayfly_domain::defaults::TOKEN_OCTETS_MAX;
use mayfly_domain::{
    Audience, Binding, CredentialId, CredentialKind, Intent, Observation, Owners, Reason, Refusal, Scope,
    Scopes, Secret, SpiffeId, TaskId, Thumbprint, UnixMillis,
};
use mayfly_lease::{LeaseRecord, Pending, Reserved};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::compact::{Compact, decode};
use crate::keyring::KeyRing;

/// The `typ` of an access token's header (RFC 9068 section 2.1).
pub const TYP: &str = "at+jwt";

/// A minted access token.
#[derive(Debug)]
pub struct AccessToken {
    compact: Secret<String>,
    expires: UnixMillis,
}

impl AccessToken {
    /// The compact serialization.
    pub fn compact(&self) -> &Secret<String> {
        &self.compact
    }

    /// Its hard expiry: a whole second.
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    jkt: String,
}

// No `nbf`: a token counts from its making on, and a verifier whose clock is behind would only refuse it. No
// `flatten`: it would accept duplicate members.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    sub: SpiffeId,
    aud: Audience,
    client_id: SpiffeId,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    mf_own: Owners,
    mf_task: TaskId,
    mf_int: Intent,
    mf_obs: String,
}

/// Makes access tokens.
#[derive(Debug, Clone)]
pub struct Minter {
    issuer: String,
}

impl Minter {
    /// A maker of tokens with this `iss`: the broker's public URL.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self { issuer: issuer.into() }
    }

    /// Makes the token of a reserved or renewed lease: the record says what it grants and when it ends, `now` is
    /// its `iat`.
    ///
    /// # Errors
    /// [`Reason::Internal`] where the lease is not a token's, [`Reason::LeaseExpired`] where it has no second
    /// left, the signer's refusal.
    pub fn token(
        &self,
        ring: &KeyRing,
        reserved: Reserved,
        now: UnixMillis,
    ) -> Result<Pending<AccessToken>, Refusal> {
        let token = self.sign(ring, reserved.record(), now)?;
        Ok(reserved.made(token))
    }

    fn sign(&self, ring: &KeyRing, record: &LeaseRecord, now: UnixMillis) -> Result<AccessToken, Refusal> {
        let body = &record.body;
        let no = |what: &str| Refusal::new(Reason::Internal, format!("a token's lease without {what}"));
        if body.kind != CredentialKind::Token {
            return Err(no("the kind of a token"));
        }
        let expires = record.expires.floor_secs();
        if expires.secs() <= now.secs() {
            return Err(Reason::LeaseExpired.into());
        }
        let claims = Claims {
            iss: self.issuer.clone(),
            sub: body.workload.clone(),
            aud: body.audience.clone().ok_or_else(|| no("audience"))?,
            client_id: body.workload.clone(),
            iat: now.secs(),
            exp: expires.secs(),
            jti: record.credential().to_string(),
            scope: (!body.scopes.is_empty()).then(|| body.scopes.joined()),
            cnf: match body.binding {
                Binding::Dpop | Binding::Mtls => Some(Confirmation { jkt: body.key.to_string() }),
                Binding::Bearer => None,
            },
            mf_own: body.owners.clone(),
            mf_task: body.task.clone().ok_or_else(|| no("task"))?,
            mf_int: body.intent.clone().ok_or_else(|| no("intent"))?,
            mf_obs: URL_SAFE_NO_PAD.encode(record.observation.encode()),
        };
        let claims = serde_json::to_vec(&claims)
            .map_err(|e| Refusal::new(Reason::Internal, format!("claims could not be written: {e}")))?;
        let header = ring.signer_header();
        // One allocation, so that no part of a token is left behind where a growing string was.
        let mut compact = String::with_capacity(header.len() + claims.len().div_ceil(3) * 4 + 96);
        compact.push_str(header);
        compact.push('.');
        URL_SAFE_NO_PAD.encode_string(&claims, &mut compact);
        let signature = ring.signer().sign(compact.as_bytes())?;
        compact.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
        if compact.len() > TOKEN_OCTETS_MAX {
            return Err(Refusal::new(Reason::Internal, "the token is longer than any verifier reads"));
        }
        Ok(AccessToken { compact: Secret::new(compact), expires })
    }
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

    /// Whether a token names a key of the ring; what names none may be of a newer key.
    pub fn knows_key(&self, ring: &KeyRing, token: &str) -> bool {
        Compact::parse(token, TOKEN_OCTETS_MAX)
            .is_some_and(|compact| ring.verify_keys().iter().any(|k| k.header == compact.header))
    }

    /// Verifies form, signature, issuer and expiry. Whether the lease is live, the audience the asker's, and the
    /// proof of the key good are the caller's questions.
    ///
    /// # Errors
    /// [`Reason::TokenMalformed`], [`Reason::TokenSignature`], [`Reason::LeaseExpired`].
    pub fn verify(&self, ring: &KeyRing, token: &str, now: UnixMillis) -> Result<VerifiedToken, Refusal> {
        let no = |why: &'static str| Refusal::new(Reason::TokenMalformed, why);
        let compact = Compact::parse(token, TOKEN_OCTETS_MAX).ok_or_else(|| no("not a compact JWS"))?;
        // Each key has exactly one header: type, algorithm and key are settled by one comparison.
        let key = ring
            .verify_keys()
            .iter()
            .find(|k| k.header == compact.header)
            .ok_or_else(|| unknown_header(&compact))?;
        if !key.public.verifies(compact.signing_input.as_bytes(), &compact.signature) {
            return Err(Refusal::new(Reason::TokenSignature, "the signature does not verify"));
        }
        let claims = compact.payload_octets().ok_or_else(|| no("the claims are not canonical base64url"))?;
        let claims: Claims =
            serde_json::from_slice(&claims).map_err(|_| no("the claims are not those of an access token"))?;
        let verified = claims.read(&self.issuer)?;
        if now >= verified.expires {
            return Err(Reason::LeaseExpired.into());
        }
        Ok(verified)
    }
}

impl Claims {
    fn read(self, issuer: &str) -> Result<VerifiedToken, Refusal> {
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
