//! Tokens whose signature was verified lately: a job shows the same one with each mint.
//!
//! Only what the keys of now verified is kept, by a hash of the whole token; times are judged each time and
//! changed keys end an entry. Bounded by count, so that no stream of tokens grows it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest;

use super::read::Read;
use crate::jwks::KeySet;

/// Independent parts, each with a lock of its own.
const SHARDS: usize = 16;
/// Tokens of one part's younger half; the older half has as many at most.
const HALF: usize = 128;

/// SHA-256 of a whole token, signature and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(super) fn of(token: &str) -> Self {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(digest::digest(&digest::SHA256, token.as_bytes()).as_ref()) {
            *to = *from;
        }
        Self(out)
    }
}

/// A verified token and the keys that verified it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) read: Read,
    pub(super) keys: Arc<KeySet>,
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<TokenDigest, Arc<Seen>>,
    old: HashMap<TokenDigest, Arc<Seen>>,
}

/// The tokens verified lately.
#[derive(Debug, Default)]
pub(super) struct Recent {
    shards: [Mutex<Shard>; SHARDS],
}

impl Recent {
    pub(super) fn get(&self, digest: &TokenDigest) -> Option<Arc<Seen>> {
        let mut shard = self.shard(digest)?.lock();
        if let Some(seen) = shard.young.get(digest) {
            return Some(Arc::clone(seen));
        }
        let seen = shard.old.remove(digest)?;
        shard.insert(*digest, Arc::clone(&seen));
        Some(seen)
    }

    pub(super) fn put(&self, digest: TokenDigest, seen: Seen) {
        if let Some(shard) = self.shard(&digest) {
            shard.lock().insert(digest, Arc::new(seen));
        }
    }

    pub(super) fn clear(&self) {
        for shard in &self.shards {
            *shard.lock() = Shard::default();
        }
    }

    fn shard(&self, digest: &TokenDigest) -> Option<&Mutex<Shard>> {
        let [first, ..] = digest.0;
        self.shards.get(usize::from(first) % SHARDS)
    }
}

impl Shard {
    fn insert(&mut self, digest: TokenDigest, seen: Arc<Seen>) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, seen);
    }
}
