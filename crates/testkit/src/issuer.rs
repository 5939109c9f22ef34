//! A stand-in CI issuer with keys of every algorithm, and with tokens as wrong as a test wants them.
//!
//! It holds keys and makes tokens; it never verifies one and knows nothing of trust rules. Its tokens carry
//! the real issuers' `iss`, so rules are used unchanged; whoever uses it points that issuer's keys here.

mod key;

pub use key::{Alg, SigningKey};
pub use mayfly_standin::{GITHUB_ISSUER, GITLAB_ISSUER, Job, TOKEN_LIFE_S, github_claims, gitlab_claims};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::UnixMillis;
use serde_json::{Map, Value, json};

/// An issuer with one or more keys; the first signs.
#[derive(Debug)]
pub struct StandInIssuer {
    keys: Vec<SigningKey>,
}

impl StandInIssuer {
    /// An issuer with a new P-256 key.
    pub fn new() -> Self {
        Self::with_keys(vec![SigningKey::generate(Alg::Es256, "ci-1")])
    }

    /// An issuer with these keys; the first signs.
    ///
    /// # Panics
    /// Where there is none.
    pub fn with_keys(keys: Vec<SigningKey>) -> Self {
        assert!(!keys.is_empty(), "an issuer has a key");
        Self { keys }
    }

    /// Its keys as a JWK set (RFC 7517).
    pub fn jwks(&self) -> Value {
        json!({ "keys": self.keys.iter().map(SigningKey::jwk).collect::<Vec<_>>() })
    }

    /// A GitHub Actions token of `job` for `audience`, issued at `now`.
    pub fn github_token(&self, job: &Job, audience: &str, now: UnixMillis) -> String {
        self.sign(&github_claims(job, audience, now))
    }

    /// A GitLab ID token of `job` for `audience`, issued at `now`.
    pub fn gitlab_token(&self, job: &Job, audience: &str, now: UnixMillis) -> String {
        self.sign(&gitlab_claims(job, audience, now))
    }

    /// Signs any claims with the first key, as a compact JWS.
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        let key = &self.keys[0];
        let header = json!({ "alg": key.alg().as_str(), "kid": key.kid(), "typ": "JWT" });
        self.sign_raw(&header.to_string(), &Value::Object(claims.clone()).to_string())
    }

    /// Signs header and payload exactly as given with the first key, however wrong they are.
    pub fn sign_raw(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(self.keys[0].sign(input.as_bytes()));
        format!("{input}.{signature}")
    }
}

impl Default for StandInIssuer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
