//! Access tokens: RFC 9068 JWTs, made from a reserved lease.
//!
//! Must never make a token without a lease, or in another form than the one that `credential` reads. A token is a
//! secret: it is never printed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_credential::token::{Claims, Confirmation};
use mayfly_domain::defaults::TOKEN_OCTETS_MAX;
use mayfly_domain::{Binding, CredentialKind, Reason, Refusal, Secret, UnixMillis};
use mayfly_lease::{LeaseRecord, Pending, Reserved};

use crate::keyring::KeyRing;

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

#[cfg(test)]
mod tests;
