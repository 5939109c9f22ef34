//! Where the keys of issuers come from: the port, and the source that needs no network.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use mayfly_attest::Issuer;
use mayfly_domain::{Reason, Refusal};

use crate::jwks::{KeySet, Unreadable};

/// Gives the keys of issuers. The same `Arc` means the same keys.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The issuer's keys.
    ///
    /// # Errors
    /// `ISSUER_UNAVAILABLE` where there are none and they can't be fetched now.
    async fn keys(&self, issuer: &Issuer) -> Result<Arc<KeySet>, Refusal>;

    /// Other keys than `seen`, which lack one that a token names; none where there are none to be had now.
    async fn newer(&self, issuer: &Issuer, seen: &Arc<KeySet>) -> Option<Arc<KeySet>>;

    /// Says whose keys will be asked for; all others are forgotten.
    fn watch(&self, issuers: &[Issuer]);
}

/// Keys that are given once: for `mayfly dev` and tests, whose stand-in issuer has no server.
#[derive(Debug, Clone, Default)]
pub struct StaticKeys {
    sets: HashMap<String, Arc<KeySet>>,
}

impl StaticKeys {
    /// Keys by issuer, each a JWK set in JSON.
    ///
    /// # Errors
    /// [`Unreadable`] for the first set that is.
    pub fn new<U: Into<String>, J: AsRef<[u8]>>(
        sets: impl IntoIterator<Item = (U, J)>,
    ) -> Result<Self, Unreadable> {
        let read = |(url, json): (U, J)| Ok((url.into(), Arc::new(KeySet::parse(json.as_ref())?)));
        Ok(Self { sets: sets.into_iter().map(read).collect::<Result<_, Unreadable>>()? })
    }
}

#[async_trait]
impl KeySource for StaticKeys {
    async fn keys(&self, issuer: &Issuer) -> Result<Arc<KeySet>, Refusal> {
        let none =
            || Refusal::new(Reason::IssuerUnavailable, format!("no keys were given for `{}`", issuer.url));
        self.sets.get(&issuer.url).cloned().ok_or_else(none)
    }

    async fn newer(&self, _: &Issuer, _: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        None
    }

    fn watch(&self, _: &[Issuer]) {}
}
