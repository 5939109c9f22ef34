//! What the broker told beside the feed: the keys that verify, and what this acceptor may take.
//!
//! Swapped whole. Must never go back to older keys.

use std::sync::Arc;

use mayfly_client::Bundle;
use mayfly_credential::{Anchors, TokenKeys, TokenVerifier};
use mayfly_domain::{Audience, Reason, Refusal, SignerId};
use mayfly_proto::v1 as pb;

/// The most audiences that an acceptor may have.
const AUDIENCES_MAX: usize = 1_024;

/// The keys of one version.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) version: u64,
    pub(crate) tokens: TokenKeys,
    pub(crate) anchors: Anchors,
    pub(crate) bundle: Arc<Bundle>,
}

impl Keys {
    /// Reads a trust bundle.
    ///
    /// # Errors
    /// [`Reason::Internal`] where it is none.
    pub(crate) fn read(sent: pb::TrustBundle) -> Result<Self, Refusal> {
        let no = |why: String| Refusal::new(Reason::Internal, format!("the trust bundle: {why}"));
        let bundle = Bundle::try_from(sent).map_err(|e| no(e.to_string()))?;
        let tokens = TokenKeys::from_jwks(&bundle.jwks).map_err(|e| no(e.to_string()))?;
        let anchors = Anchors::new(&bundle.trust_domain, &bundle.workload_anchors, &[])
            .map_err(|e| no(e.to_string()))?;
        Ok(Self { version: bundle.version, tokens, anchors, bundle: Arc::new(bundle) })
    }

    fn knows(&self, signer: &SignerId) -> bool {
        self.tokens.knows(signer) || self.anchors.knows_workload(signer)
    }
}

/// What this acceptor may take, as its broker said.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) issuer: Arc<str>,
    pub(crate) tokens: TokenVerifier,
    audiences: Vec<Audience>,
    pub(crate) certificates: bool,
}

impl Terms {
    /// Reads what a broker said, narrowed to `own` where that names any.
    ///
    /// # Errors
    /// [`Reason::Internal`] where it can't be read.
    pub(crate) fn read(said: &pb::FollowAccepted, own: &[Audience]) -> Result<Self, Refusal> {
        let no = |why: &str| Refusal::new(Reason::Internal, format!("what may be accepted: {why}"));
        if said.issuer.is_empty() || said.issuer.len() > 2_048 || said.audiences.len() > AUDIENCES_MAX {
            return Err(no("no issuer, or more than can be right"));
        }
        let audiences: Result<Vec<_>, _> = said.audiences.iter().map(|a| Audience::parse(a)).collect();
        let mut audiences = audiences.map_err(|_| no("an audience is none"))?;
        audiences.retain(|audience| own.is_empty() || own.contains(audience));
        Ok(Self {
            issuer: said.issuer.as_str().into(),
            tokens: TokenVerifier::new(said.issuer.clone()),
            audiences,
            certificates: said.certificates,
        })
    }
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Raised where what was verified before must be verified again.
    pub(crate) epoch: u64,
    pub(crate) keys: Option<Keys>,
    pub(crate) terms: Option<Terms>,
}

impl Known {
    /// The version of the keys; 0 where there are none.
    pub(crate) fn keys_version(&self) -> u64 {
        self.keys.as_ref().map_or(0, |keys| keys.version)
    }

    /// Whether what this key signed still counts.
    pub(crate) fn knows(&self, signer: &SignerId) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.knows(signer))
    }

    /// Whether a token for this audience may be taken.
    pub(crate) fn takes(&self, audience: &Audience) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.audiences.contains(audience))
    }

    /// With these keys, where they are newer.
    pub(crate) fn with_keys(&self, keys: Keys) -> Self {
        if self.keys.is_some() && keys.version <= self.keys_version() {
            return self.clone();
        }
        Self { keys: Some(keys), ..self.clone() }
    }

    /// With these terms.
    pub(crate) fn with_terms(&self, terms: Terms) -> Self {
        let same = self.terms.as_ref().is_some_and(|old| old.issuer == terms.issuer);
        Self { epoch: self.epoch + u64::from(!same), terms: Some(terms), ..self.clone() }
    }
}
