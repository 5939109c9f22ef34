//! A stand-in for a CI provider's token issuer, for `mayfly dev` and tests: it signs real OIDC tokens with the
//! claims that GitHub Actions and GitLab document and the real issuers' `iss`, so that trust rules are used
//! unchanged. Whoever uses it points that issuer's keys here; `mayfly server` never does.
//!
//! It must never verify a token or know a trust rule.

mod claims;
mod http;
mod job_token;

pub use claims::{GITHUB_ISSUER, GITLAB_ISSUER, Job, TOKEN_LIFE_S, github_claims, gitlab_claims};
pub use http::router;
pub use job_token::JobTokens;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::{Secret, SecretBytes, UnixMillis};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Map, Value, json};

/// The one key's id.
const KID: &str = "stand-in-1";

/// Why the issuer can't sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StandInError {
    /// The private key is not a P-256 key in PKCS#8.
    #[error("the stand-in issuer's key is not a P-256 key in PKCS#8")]
    Key,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// An issuer with one P-256 key.
#[derive(Debug)]
pub struct StandIn {
    pair: EcdsaKeyPair,
}

impl StandIn {
    /// A new private key, in PKCS#8.
    ///
    /// # Errors
    /// [`StandInError::Random`].
    pub fn generate() -> Result<SecretBytes, StandInError> {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| StandInError::Random)?;
        Ok(Secret::new(der.as_ref().to_vec()))
    }

    /// An issuer that signs with this key.
    ///
    /// # Errors
    /// [`StandInError::Key`].
    pub fn new(pkcs8: &SecretBytes) -> Result<Self, StandInError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose(), &SystemRandom::new())
            .map(|pair| Self { pair })
            .map_err(|_| StandInError::Key)
    }

    /// Its key as a JWK set (RFC 7517).
    pub fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref().get(1..).unwrap_or_default();
        let (x, y) = point.split_at_checked(32).unwrap_or_default();
        json!({ "keys": [{
            "kty": "EC", "use": "sig", "alg": "ES256", "kid": KID, "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] })
    }

    /// A GitHub Actions token of `job` for `audience`, issued at `now`.
    ///
    /// # Errors
    /// [`StandInError::Random`].
    pub fn github_token(&self, job: &Job, audience: &str, now: UnixMillis) -> Result<String, StandInError> {
        self.sign(&github_claims(job, audience, now))
    }

    /// A GitLab ID token of `job` for `audience`, issued at `now`.
    ///
    /// # Errors
    /// [`StandInError::Random`].
    pub fn gitlab_token(&self, job: &Job, audience: &str, now: UnixMillis) -> Result<String, StandInError> {
        self.sign(&gitlab_claims(job, audience, now))
    }

    /// Signs claims as a compact JWS (RFC 7515).
    ///
    /// # Errors
    /// [`StandInError::Random`].
    pub fn sign(&self, claims: &Map<String, Value>) -> Result<String, StandInError> {
        let header = json!({ "alg": "ES256", "kid": KID, "typ": "JWT" }).to_string();
        let payload = Value::Object(claims.clone()).to_string();
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature =
            self.pair.sign(&SystemRandom::new(), input.as_bytes()).map_err(|_| StandInError::Random)?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
