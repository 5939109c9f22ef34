//! One attestor for every kind of evidence: each piece goes to the one that knows its kind.

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_attest::{Attestor, Challenge, Evidence, Judged, RuleSet};
use mayfly_domain::{Refusal, UnixMillis};

use crate::keys::KeySource;
use crate::oidc::OidcAttestor;
use crate::x509::X509Attestor;

/// Every kind of evidence.
pub struct Attestors {
    oidc: OidcAttestor,
    x509: X509Attestor,
    own: Arc<dyn Attestor>,
}

impl std::fmt::Debug for Attestors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attestors")
            .field("oidc", &self.oidc)
            .field("x509", &self.x509)
            .finish_non_exhaustive()
    }
}

impl Attestors {
    /// Tokens are verified with the keys of `source`; `own` judges what Mayfly itself made: live certificates and
    /// join tokens. No issuer and no authority is known yet.
    pub fn new(source: Arc<dyn KeySource>, own: Arc<dyn Attestor>) -> Self {
        Self { oidc: OidcAttestor::new(source), x509: X509Attestor::default(), own }
    }

    /// Replaces issuers and authorities by those that the rules name.
    pub fn set_rules(&self, rules: &RuleSet) {
        self.oidc.set_issuers(rules.issuers());
        self.x509.set_authorities(rules.authorities());
    }
}

#[async_trait]
impl Attestor for Attestors {
    async fn verify(
        &self,
        evidence: &Evidence,
        challenge: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Judged, Refusal> {
        match evidence {
            Evidence::Oidc(_) => self.oidc.verify(evidence, challenge, now).await,
            Evidence::X509(_) => self.x509.verify(evidence, challenge, now).await,
            Evidence::Mtls(_) | Evidence::Join(_) => self.own.verify(evidence, challenge, now).await,
        }
    }
}
