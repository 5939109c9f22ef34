//! OIDC tokens as evidence (OpenID Connect Core 1.0 section 3.1.3.7, RFC 7519, RFC 8725).
//!
//! Order: size, form, algorithm, issuer on the list, keys, signature, claims, times. The audience's value is
//! the trust rule's to judge; that there is exactly one is judged here. Nothing of a token is ever logged or
//! put into a refusal but its issuer.

mod read;
mod recent;

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use mayfly_attest::{Algorithm, Attestor, Challenge, ClaimValue, Evidence, Issuer, Judged, Verified};
use mayfly_domain::text::shown;
use mayfly_domain::{Reason, Refusal, UnixMillis, defaults};

use crate::jwks::{KeySet, Unverified};
use crate::jws::{self, Jws, Malformed};
use crate::keys::KeySource;
use read::Read;
use recent::{Recent, Seen, TokenDigest};

/// The kind of attestation.
pub const KIND: &str = "oidc";

/// Verifies OIDC tokens of the issuers that trust rules name.
pub struct OidcAttestor {
    source: Arc<dyn KeySource>,
    issuers: ArcSwap<HashMap<String, Issuer>>,
    recent: Recent,
}

impl std::fmt::Debug for OidcAttestor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcAttestor").field("issuers", &self.issuers.load()).finish_non_exhaustive()
    }
}

impl OidcAttestor {
    /// An attestor that knows no issuer yet: it refuses everything.
    pub fn new(source: Arc<dyn KeySource>) -> Self {
        Self { source, issuers: ArcSwap::default(), recent: Recent::default() }
    }

    /// Replaces the issuers by those that the rules name.
    pub fn set_issuers(&self, issuers: Vec<Issuer>) {
        self.source.watch(&issuers);
        self.issuers.store(Arc::new(issuers.into_iter().map(|i| (i.url.clone(), i)).collect()));
        self.recent.clear();
    }

    async fn judge(&self, token: &str, now: UnixMillis) -> Result<Verified, Refusal> {
        if token.len() > defaults::TOKEN_OCTETS_MAX {
            return Err(Malformed::TooLarge.into());
        }
        let digest = TokenDigest::of(token);
        if let Some(seen) = self.recent.get(&digest)
            && self.still_holds(&seen).await
        {
            seen.read.times(now)?;
            return Ok(seen.read.verified.clone());
        }
        let jws = jws::parse(token)?;
        let algorithm = Algorithm::parse(&jws.header.alg).map_err(|_| {
            Refusal::new(Reason::EvidenceAlgorithm, "the header names no algorithm of signatures")
        })?;
        let issuers = self.issuers.load_full();
        let issuer = listed(&issuers, &jws)?;
        let keys = self.verify(&jws, algorithm, issuer).await?;
        let read = Read::from(&jws)?;
        read.times(now)?;
        let verified = read.verified.clone();
        self.recent.put(digest, Seen { read, keys });
        Ok(verified)
    }

    /// Whether the keys that verified a token are still its issuer's.
    async fn still_holds(&self, seen: &Seen) -> bool {
        let issuers = self.issuers.load_full();
        match issuers.get(&seen.read.verified.issuer) {
            Some(issuer) => self.source.keys(issuer).await.is_ok_and(|keys| Arc::ptr_eq(&keys, &seen.keys)),
            None => false,
        }
    }

    async fn verify(
        &self,
        jws: &Jws<'_>,
        algorithm: Algorithm,
        issuer: &Issuer,
    ) -> Result<Arc<KeySet>, Refusal> {
        let mut keys = self.source.keys(issuer).await?;
        let mut outcome = keys.verify(jws, algorithm, &issuer.algorithms);
        if outcome == Err(Unverified::UnknownKey)
            && let Some(newer) = self.source.newer(issuer, &keys).await
        {
            outcome = newer.verify(jws, algorithm, &issuer.algorithms);
            keys = newer;
        }
        outcome.map_err(|e| {
            let reason = match e {
                Unverified::Algorithm => Reason::EvidenceAlgorithm,
                Unverified::UnknownKey | Unverified::NoKid | Unverified::Signature => {
                    Reason::EvidenceSignature
                }
            };
            Refusal::new(reason, e.to_string()).fact("issuer", issuer.url.clone())
        })?;
        Ok(keys)
    }
}

fn listed<'a>(issuers: &'a HashMap<String, Issuer>, jws: &Jws<'_>) -> Result<&'a Issuer, Refusal> {
    let Some(ClaimValue::Text(iss)) = jws.claims.get("iss") else {
        return Err(read::claims("`iss` is absent or no text"));
    };
    issuers.get(iss).ok_or_else(|| {
        let iss = shown(iss);
        Refusal::new(Reason::IssuerUnknown, format!("issuer `{iss}`")).fact("issuer", iss)
    })
}

#[async_trait]
impl Attestor for OidcAttestor {
    async fn verify(
        &self,
        evidence: &Evidence,
        _: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Judged, Refusal> {
        match evidence {
            Evidence::Oidc(token) => self.judge(token.expose(), now).await.map(Judged::Foreign),
            Evidence::Join(_) | Evidence::X509(_) | Evidence::Mtls(_) => {
                Err(Refusal::new(Reason::EvidenceMalformed, "not a token of an issuer"))
            }
        }
    }
}

/// What must not be mistaken for attestation.
pub mod danger {
    use mayfly_attest::Verified;
    use mayfly_domain::Refusal;

    use super::read::Read;

    /// Reads a token as if its signature and times held: to explain to an operator which rules would match.
    ///
    /// # Errors
    /// `EVIDENCE_MALFORMED`, `EVIDENCE_CLAIMS`, `TOO_LARGE`.
    pub fn unverified(token: &str) -> Result<Verified, Refusal> {
        Ok(Read::from(&crate::jws::parse(token)?)?.verified)
    }
}

#[cfg(test)]
mod tests;
