//! What was verified before, so that its signature need not be verified again: known by all of its octets, bounded.
//!
//! Being known says nothing about being alive: expiry, keys, fences and freshness are judged each time. Must never
//! give an entry for other octets than its own.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mayfly_domain::{SecretBytes, SignerId};
use parking_lot::RwLock;

use crate::judged::Judged;

const SHARDS: usize = 64;
/// How many of the last octets are hashed: of a token, all but a few of its signature.
const HASHED: usize = 64;

/// A verified credential.
#[derive(Debug)]
pub(crate) struct Entry {
    octets: SecretBytes,
    pub(crate) judged: Arc<Judged>,
    /// Under which terms it was verified.
    pub(crate) epoch: u64,
    /// How often its intent was used, and each of its scopes in their order, since that was last told.
    pub(crate) uses: Box<[AtomicU64]>,
    used: AtomicBool,
}

impl Entry {
    pub(crate) fn new(octets: &[u8], judged: Judged, epoch: u64) -> Self {
        let uses = (0..=judged.scopes.iter().len()).map(|_| AtomicU64::new(0)).collect();
        Self {
            octets: SecretBytes::new(octets.to_vec()),
            judged: Arc::new(judged),
            epoch,
            uses,
            used: AtomicBool::new(false),
        }
    }
}

/// The keys of the maps are hashes already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Map = HashMap<u64, Arc<Entry>, BuildHasherDefault<AsIs>>;

/// Two halves: when the younger is full, it becomes the older one, and takes along what was used of that.
#[derive(Debug, Default)]
struct Shard {
    young: Map,
    old: Map,
}

/// The known credentials of one kind.
pub(crate) struct Cache {
    shards: Box<[RwLock<Shard>]>,
    half: usize,
    hasher: RandomState,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("capacity", &(2 * self.half * SHARDS)).finish_non_exhaustive()
    }
}

impl Cache {
    /// A cache for at most about `capacity` credentials.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            half: capacity.div_ceil(2 * SHARDS).max(1),
            hasher: RandomState::new(),
        }
    }

    // A keyed hash, so that nobody chooses what collides. Which octets it is of decides where to look; whether that is
    // it is decided by all of them.
    fn place(&self, octets: &[u8]) -> (u64, Option<&RwLock<Shard>>) {
        let tail = octets.get(octets.len().saturating_sub(HASHED)..).unwrap_or_default();
        let hash = self.hasher.hash_one(tail);
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        (hash, self.shards.get(shard))
    }

    /// The entry of exactly these octets.
    pub(crate) fn get(&self, octets: &[u8]) -> Option<Arc<Entry>> {
        let (hash, shard) = self.place(octets);
        let shard = shard?.read();
        let entry = shard.young.get(&hash).or_else(|| shard.old.get(&hash))?;
        // The hash is keyed: where it agrees, nobody learns octets from how long this takes.
        if entry.octets.expose().as_slice() != octets {
            return None;
        }
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Some(Arc::clone(entry))
    }

    /// Remembers an entry; gives those that had to make room.
    pub(crate) fn insert(&self, entry: &Arc<Entry>) -> Vec<Arc<Entry>> {
        let (hash, shard) = self.place(entry.octets.expose());
        let Some(shard) = shard else { return Vec::new() };
        let mut shard = shard.write();
        let mut gone = Vec::new();
        if shard.young.len() >= self.half {
            let old = std::mem::take(&mut shard.old);
            shard.old = std::mem::take(&mut shard.young);
            for (hash, entry) in old {
                let keep = entry.used.swap(false, Ordering::Relaxed) && shard.young.len() < self.half / 2;
                if keep {
                    shard.young.insert(hash, entry);
                } else {
                    gone.push(entry);
                }
            }
        }
        gone.extend(shard.young.insert(hash, Arc::clone(entry)));
        gone
    }

    /// Forgets what a key signed that does not count any more.
    pub(crate) fn forget(&self, is_known: impl Fn(&SignerId) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write();
            let keep = |entry: &Arc<Entry>| entry.judged.signer.is_some_and(|signer| is_known(&signer));
            shard.young.retain(|_, entry| keep(entry));
            shard.old.retain(|_, entry| keep(entry));
        }
    }

    /// Looks at each entry.
    pub(crate) fn each(&self, mut look: impl FnMut(&Entry)) {
        for shard in &self.shards {
            let shard = shard.read();
            shard.young.values().chain(shard.old.values()).for_each(|entry| look(entry));
        }
    }

    /// How many are known.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read()).map(|s| s.young.len() + s.old.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::judged;

    fn entry(octets: &[u8]) -> Arc<Entry> {
        Arc::new(Entry::new(octets, judged(), 0))
    }

    #[test]
    fn only_the_very_octets_are_known() {
        let cache = Cache::new(1_000);
        let octets: Vec<u8> = (0..200).collect();
        cache.insert(&entry(&octets));
        assert!(cache.get(&octets).is_some());
        for at in 0..octets.len() {
            let mut other = octets.clone();
            other[at] ^= 1;
            assert!(cache.get(&other).is_none(), "{at}");
            assert!(cache.get(&octets[..at]).is_none());
            assert!(cache.get(&octets[at + 1..]).is_none());
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = Cache::new(4 * SHARDS);
        let hot = b"hot".as_slice();
        cache.insert(&entry(hot));
        let mut gone = 0;
        for n in 0..10_000_u32 {
            gone += cache.insert(&entry(&n.to_be_bytes())).len();
            assert!(cache.get(hot).is_some(), "{n}");
        }
        assert!(cache.len() <= 5 * SHARDS, "{}", cache.len());
        assert_eq!(cache.len() + gone, 10_001);
    }

    #[test]
    fn what_a_withdrawn_key_signed_is_forgotten() {
        let cache = Cache::new(100);
        cache.insert(&entry(b"a"));
        cache.forget(|_| true);
        assert_eq!(cache.len(), 1);
        cache.forget(|_| false);
        assert!(cache.get(b"a").is_none());
        assert_eq!(cache.len(), 0);
    }
}
