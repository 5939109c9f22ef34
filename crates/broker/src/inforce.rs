//! The keys in force: what this broker serves with, and how it comes to newer ones.
//!
//! Must never go back to older keys: what they had withdrawn would count again.

use std::sync::Arc;

use arc_swap::ArcSwap;
use mayfly_attest::nonce::NonceKeys;
use mayfly_domain::{Reason, Refusal, SecretBytes};
use mayfly_mint::{Custody, KeyRing, KeySet};
use tokio::sync::{Mutex, watch};

use crate::broker::Broker;
use crate::copy::Content;

/// The keys in force.
#[derive(Debug)]
pub(crate) struct KeysInForce {
    ring: ArcSwap<KeyRing>,
    /// The same, for whoever waits for others.
    changes: watch::Sender<Arc<KeyRing>>,
    loading: Mutex<()>,
}

impl KeysInForce {
    pub(crate) fn new(ring: KeyRing) -> Self {
        let ring = Arc::new(ring);
        Self { ring: ArcSwap::new(ring.clone()), changes: watch::Sender::new(ring), loading: Mutex::new(()) }
    }

    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<KeyRing>> {
        self.ring.load()
    }
}

impl Broker {
    /// The present keys, for all that one call does.
    pub(crate) fn keys_now(&self) -> Arc<KeyRing> {
        self.in_force().ring.load_full()
    }

    /// The present keys; changes can be awaited.
    pub fn key_changes(&self) -> watch::Receiver<Arc<KeyRing>> {
        self.in_force().changes.subscribe()
    }

    /// The keys, of `version` at least: where the store has newer ones than this broker, they are loaded first. What
    /// another broker withdrew is so withdrawn here at the next call that asks the store anything.
    pub(crate) async fn keys_since(&self, version: u64) -> Result<Arc<KeyRing>, Refusal> {
        let ring = self.in_force().ring.load_full();
        if version <= ring.version() {
            return Ok(ring);
        }
        let _one_loads = self.in_force().loading.lock().await;
        let ring = self.in_force().ring.load_full();
        if version <= ring.version() {
            return Ok(ring);
        }
        self.newest_keys().await
    }

    /// The keys as the store has them now.
    pub(crate) async fn newest_keys(&self) -> Result<Arc<KeyRing>, Refusal> {
        let stored = self.leases().store().keys().await.map_err(|e| self.refused(e))?;
        if let Some((version, sealed)) = stored {
            self.open_keys(version, &sealed)?;
        }
        Ok(self.in_force().ring.load_full())
    }

    /// Serves with the copy's keys where they are newer than the present ones.
    pub(crate) fn load_keys(&self, content: &Content) -> Result<(), Refusal> {
        match &content.keys {
            Some((version, sealed)) => self.open_keys(*version, sealed),
            None => Ok(()),
        }
    }

    fn open_keys(&self, version: u64, sealed: &[u8]) -> Result<(), Refusal> {
        if version <= self.in_force().ring.load().version() {
            return Ok(());
        }
        self.serve_with(&KeySet::open(self.seal(), sealed)?)
    }

    fn serve_with(&self, set: &KeySet) -> Result<(), Refusal> {
        let ring = Arc::new(key_ring(set, self.custody())?);
        let nonces = nonce_keys(&ring)?;
        // Two may load at once: under this lock the newer ones stay.
        self.in_force().changes.send_if_modified(|present| {
            if ring.version() <= present.version() {
                return false;
            }
            self.verifier().set_nonce_keys(nonces);
            self.in_force().ring.store(ring.clone());
            *present = ring;
            true
        });
        Ok(())
    }
}

pub(crate) fn key_ring(set: &KeySet, custody: &Custody) -> Result<KeyRing, Refusal> {
    Ok(KeyRing::new(set, custody)?)
}

pub(crate) fn nonce_keys(ring: &KeyRing) -> Result<NonceKeys, Refusal> {
    let keys = ring.nonce_keys().iter().map(|k| SecretBytes::new(k.expose().clone())).collect();
    NonceKeys::new(keys).map_err(|e| Refusal::new(Reason::Internal, e.to_string()))
}
