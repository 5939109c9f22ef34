//! Keys of issuers over HTTPS: discovery (OpenID Connect Discovery 1.0 section 4) and the JWK set.
//!
//! Only `https`, no redirect, one host, bounded time and size. Keys are fetched in the background and kept
//! for at most 24 hours after their last good fetch; a token with an unknown `kid` makes one fetch an
//! interval. A fetch goes on when the call that began it is gone, so that hasty callers can't starve others.

mod fetch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use mayfly_attest::Issuer;
use mayfly_domain::{Reason, Refusal};
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use fetch::{FetchError, NoClient};

use crate::jwks::KeySet;
use crate::keys::KeySource;

/// How long keys are used before the background fetches them again.
const REFRESH: Duration = Duration::from_secs(15 * 60);
/// How long keys are used after their last good fetch.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// The least time between two fetches from one issuer.
const INTERVAL: Duration = Duration::from_secs(30);
/// How often the background looks for keys to fetch.
const TICK: Duration = Duration::from_secs(30);

/// The last good fetch.
#[derive(Debug)]
struct Held {
    keys: Arc<KeySet>,
    document: Vec<u8>,
    at: Instant,
}

/// The last attempt to fetch, good or not.
#[derive(Debug)]
struct Attempt {
    at: Instant,
    failure: Option<String>,
}

#[derive(Debug)]
struct Entry {
    issuer: Issuer,
    held: ArcSwapOption<Held>,
    attempt: Mutex<Option<Attempt>>,
}

impl Entry {
    fn fresh(&self, within: Duration) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| held.at.elapsed() < within)
    }
}

/// Keys of issuers, fetched over HTTPS.
#[derive(Debug, Clone)]
pub struct HttpsKeys {
    client: fetch::Client,
    entries: Arc<ArcSwap<HashMap<String, Arc<Entry>>>>,
}

impl HttpsKeys {
    /// A source that trusts the machine's authorities and those in `extra_ca_pem`.
    ///
    /// # Errors
    /// [`NoClient`] where the PEM text can't be read or no authority is left.
    pub fn new(extra_ca_pem: Option<&[u8]>) -> Result<Self, NoClient> {
        Ok(Self { client: fetch::Client::new(extra_ca_pem)?, entries: Arc::default() })
    }

    /// Fetches keys before they are needed, for as long as it is polled. The server spawns it and drops it at
    /// the end.
    pub async fn keep_fresh(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            for entry in self.entries.load_full().values() {
                if entry.fresh(REFRESH).is_none() {
                    let (this, entry) = (self.clone(), Arc::clone(entry));
                    tokio::spawn(async move { this.fetch(entry, |held| held.at.elapsed() < REFRESH).await });
                }
            }
        }
    }

    /// Fetches unless `enough` says that what is held by then will do; one fetch at a time for each issuer.
    async fn fetch(
        &self,
        entry: Arc<Entry>,
        enough: impl Fn(&Held) -> bool + Send + 'static,
    ) -> Result<Arc<KeySet>, Refusal> {
        let client = self.client.clone();
        let task = async move {
            let mut attempt = entry.attempt.lock().await;
            let held = entry.held.load_full();
            if let Some(held) = held.as_ref().filter(|held| enough(held)) {
                return Ok(Arc::clone(&held.keys));
            }
            if let Some(last) = attempt.as_ref()
                && let Some(wait) = INTERVAL.checked_sub(last.at.elapsed()).filter(|wait| !wait.is_zero())
            {
                let why = last.failure.as_deref().unwrap_or("its keys were fetched a moment ago");
                return Err(unavailable(&entry.issuer, why).after(wait));
            }
            let result = client.keys(&entry.issuer).await;
            *attempt =
                Some(Attempt { at: Instant::now(), failure: result.as_ref().err().map(ToString::to_string) });
            match result {
                Ok((document, keys)) => {
                    let same =
                        held.filter(|held| held.document == document).map(|held| Arc::clone(&held.keys));
                    let keys = same.unwrap_or_else(|| Arc::new(keys));
                    let new = Held { keys: Arc::clone(&keys), document, at: Instant::now() };
                    entry.held.store(Some(Arc::new(new)));
                    Ok(keys)
                }
                Err(e) => {
                    tracing::warn!(issuer = %entry.issuer.url, error = %e, "issuer keys not fetched");
                    Err(unavailable(&entry.issuer, &e.to_string()).after(INTERVAL))
                }
            }
        };
        let lost = |_| Refusal::new(Reason::IssuerUnavailable, "the fetch of its keys was ended");
        tokio::spawn(task).await.map_err(lost)?
    }

    fn entry(&self, issuer: &Issuer) -> Result<Arc<Entry>, Refusal> {
        let entry = self.entries.load().get(&issuer.url).filter(|e| e.issuer == *issuer).cloned();
        entry.ok_or_else(|| unavailable(issuer, "the configuration changed meanwhile"))
    }
}

fn unavailable(issuer: &Issuer, why: &str) -> Refusal {
    Refusal::new(Reason::IssuerUnavailable, format!("`{}`: {why}", issuer.url))
        .fact("issuer", issuer.url.clone())
}

#[async_trait]
impl KeySource for HttpsKeys {
    async fn keys(&self, issuer: &Issuer) -> Result<Arc<KeySet>, Refusal> {
        let entry = self.entry(issuer)?;
        if let Some(held) = entry.fresh(KEEP) {
            return Ok(Arc::clone(&held.keys));
        }
        self.fetch(entry, |held| held.at.elapsed() < KEEP).await
    }

    async fn newer(&self, issuer: &Issuer, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let entry = self.entry(issuer).ok()?;
        let known = Arc::clone(seen);
        let keys = self.fetch(entry, move |held| !Arc::ptr_eq(&held.keys, &known)).await.ok()?;
        (!Arc::ptr_eq(&keys, seen)).then_some(keys)
    }

    fn watch(&self, issuers: &[Issuer]) {
        let old = self.entries.load_full();
        let keep = |issuer: &Issuer| old.get(&issuer.url).filter(|e| e.issuer == *issuer).cloned();
        let new = |issuer: &Issuer| {
            Arc::new(Entry {
                issuer: issuer.clone(),
                held: ArcSwapOption::empty(),
                attempt: Mutex::default(),
            })
        };
        let entries = issuers.iter().map(|i| (i.url.clone(), keep(i).unwrap_or_else(|| new(i)))).collect();
        self.entries.store(Arc::new(entries));
    }
}

#[cfg(test)]
mod tests;
