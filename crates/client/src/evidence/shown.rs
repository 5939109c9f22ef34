//! One piece of evidence: what it says of itself, unverified, and how it goes onto the wire.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::{
    JoinToken, Reason, Refusal, Secret, SpiffeId, Thumbprint, TrustDomain, UnixMillis, defaults, join,
};
use mayfly_proto::v1 as pb;

use super::foreign;
use crate::keys::KeyScope;

/// A piece of evidence and what it says of itself, unverified.
#[derive(Debug)]
pub struct Evidence {
    kind: Kind,
    /// Its claims, unverified; of a certificate its names; none of a join token.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug)]
enum Kind {
    Oidc(Secret<String>),
    Join(JoinToken),
    X509(foreign::Certificate),
    Live,
}

impl Evidence {
    /// Looks at a join token or a compact JWS, without verifying it.
    ///
    /// # Errors
    /// `EVIDENCE_MALFORMED` where it is neither, or larger than 16 KiB.
    pub fn peek(token: String) -> Result<Self, Refusal> {
        let token = Secret::new(token);
        let no = |why: &str| Refusal::from(Reason::EvidenceMalformed).fact("problem", why);
        if token.expose().len() > defaults::TOKEN_OCTETS_MAX {
            return Err(no("it is larger than 16 KiB"));
        }
        if token.expose().starts_with(join::PREFIX) {
            let token = JoinToken::parse(token.expose()).map_err(|e| no(&e.to_string()))?;
            return Ok(Self { kind: Kind::Join(token), claims: serde_json::Map::new() });
        }
        let mut parts = token.expose().split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(no("it is not a compact JWS of three parts"));
        };
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| no("its payload is not base64url"))?;
        let claims = serde_json::from_slice(&json).map_err(|_| no("its payload is not a JSON object"))?;
        Ok(Self { kind: Kind::Oidc(token), claims })
    }

    pub(super) fn foreign(certificate: foreign::Certificate) -> Self {
        let claims = certificate.claims();
        Self { kind: Kind::X509(certificate), claims }
    }

    pub(super) fn live(id: &SpiffeId) -> Self {
        let sub = ("sub".to_owned(), serde_json::Value::from(id.as_str()));
        Self { kind: Kind::Live, claims: [sub].into_iter().collect() }
    }

    pub(super) const fn is_join_token(&self) -> bool {
        matches!(self.kind, Kind::Join(_))
    }

    /// A claim's text, where it is text or a number.
    pub fn claim(&self, name: &str) -> Option<String> {
        match self.claims.get(name)? {
            serde_json::Value::String(s) => Some(s.clone()),
            serde_json::Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// When it expires, where it says so.
    pub fn expires(&self) -> Option<UnixMillis> {
        self.claims.get("exp").and_then(serde_json::Value::as_u64).map(UnixMillis::from_secs)
    }

    /// What its key belongs to: the issuer, and subject with the ids of the run and job that CI systems give; a
    /// join token's is its own.
    pub fn scope(&self, trust_domain: &TrustDomain) -> KeyScope {
        let (issuer, task) = match &self.kind {
            Kind::Join(token) => ("join token".to_owned(), format!("{:?}", token.hash())),
            Kind::Live => ("live certificate".to_owned(), self.claim("sub").unwrap_or_default()),
            Kind::Oidc(_) | Kind::X509(_) => {
                let task = ["sub", "run_id", "run_attempt", "job_id"]
                    .map(|name| self.claim(name).unwrap_or_default())
                    .join("\n");
                (self.claim("iss").unwrap_or_default(), task)
            }
        };
        KeyScope { trust_domain: trust_domain.clone(), issuer, task }
    }

    /// The evidence for one call, with this nonce, signed by this key.
    ///
    /// # Errors
    /// `NO_EVIDENCE` where a certificate's key does not sign.
    pub(crate) fn wire(
        &self,
        trust_domain: &TrustDomain,
        nonce: &[u8],
        key: &Thumbprint,
    ) -> Result<pb::Evidence, Refusal> {
        let kind = match &self.kind {
            Kind::Oidc(token) => pb::evidence::Kind::OidcToken(token.expose().clone()),
            Kind::Join(token) => pb::evidence::Kind::JoinToken(token.expose().to_owned()),
            Kind::X509(certificate) => {
                pb::evidence::Kind::X509(certificate.proof(trust_domain, nonce, key)?)
            }
            Kind::Live => pb::evidence::Kind::Mtls(pb::MtlsCertificate {}),
        };
        Ok(pb::Evidence { kind: Some(kind) })
    }
}
