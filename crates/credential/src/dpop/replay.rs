//! The memory of proofs that were used: bounded, and never forgetful of one that still counts.
//!
//! It belongs to one broker: a proof that one broker saw is unknown to the next, which therefore accepts it once
//! more within its 60 seconds (RFC 9449 section 11.1 leaves the scope to the server). An acceptor that needs more
//! asks one broker. Must never evict an entry whose proof still counts.

use std::collections::{BTreeMap, HashSet};

use mayfly_domain::{Reason, Refusal, Thumbprint, UnixMillis};
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};

const SHARDS: usize = 16;

#[derive(Debug, Default)]
struct Shard {
    seen: HashSet<[u8; 16]>,
    // By the second in which they end, so that forgetting touches only what has ended.
    ends: BTreeMap<u64, Vec<[u8; 16]>>,
    // What ended before this second is forgotten: should the wall clock step back, proofs of that time stay refused.
    horizon: u64,
}

impl Shard {
    fn forget_until(&mut self, second: u64) {
        if second <= self.horizon {
            return;
        }
        let kept = self.ends.split_off(&second);
        for key in std::mem::replace(&mut self.ends, kept).into_values().flatten() {
            self.seen.remove(&key);
        }
        self.horizon = second;
    }
}

/// Proofs that were used and still count.
pub struct ReplayWindow {
    shards: [Mutex<Shard>; SHARDS],
    per_shard: usize,
}

impl std::fmt::Debug for ReplayWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayWindow").field("capacity", &(self.per_shard * SHARDS)).finish_non_exhaustive()
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new(Self::CAPACITY)
    }
}

impl ReplayWindow {
    /// The capacity where nothing else is said: a minute of 17,000 proofs a second, about 64 MiB when full.
    pub const CAPACITY: usize = 1 << 20;

    /// A window for at least `capacity` proofs.
    pub fn new(capacity: usize) -> Self {
        Self { shards: Default::default(), per_shard: capacity.div_ceil(SHARDS).max(1) }
    }

    /// How many proofs are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().seen.len()).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers the proof `jti` of `key` until `expires`.
    ///
    /// # Errors
    /// [`Reason::ProofReplayed`] where it is known, [`Reason::Overloaded`] where there is no room.
    pub(super) fn remember(
        &self,
        key: &Thumbprint,
        jti: &str,
        expires: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), Refusal> {
        let mut ctx = Context::new(&SHA256);
        ctx.update(key.as_bytes());
        ctx.update(jti.as_bytes());
        let digest = ctx.finish();
        let id: [u8; 16] = digest.as_ref().first_chunk().copied().unwrap_or_default();
        let shard = usize::from(id.first().copied().unwrap_or_default()) % SHARDS;
        let Some(shard) = self.shards.get(shard) else {
            return Err(Reason::Internal.into());
        };
        let mut shard = shard.lock();
        shard.forget_until(now.secs());
        // A proof that ends within a second is remembered until that second is over.
        let end = expires.secs();
        if end < shard.horizon {
            return Err(Refusal::new(Reason::ProofInvalid, "older than what is remembered"));
        }
        if shard.seen.contains(&id) {
            return Err(Refusal::new(Reason::ProofReplayed, "the proof's `jti` was used before"));
        }
        if shard.seen.len() >= self.per_shard {
            return Err(Refusal::new(Reason::Overloaded, "the memory of used proofs is full")
                .after(std::time::Duration::from_secs(1)));
        }
        shard.seen.insert(id);
        shard.ends.entry(end).or_default().push(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_500);
    const LIFE: u64 = 60_000;

    fn use_(window: &ReplayWindow, jti: &str, made: UnixMillis, now: UnixMillis) -> Option<Reason> {
        let key = Thumbprint::from_bytes([7; 32]);
        window.remember(&key, jti, made.plus(LIFE), now).err().map(|r| r.reason)
    }

    #[test]
    fn a_proof_counts_once_for_its_whole_life() {
        let window = ReplayWindow::default();
        assert_eq!(use_(&window, "a", NOW, NOW), None);
        for later in [0, 1, 30_000, LIFE - 1] {
            assert_eq!(use_(&window, "a", NOW, NOW.plus(later)), Some(Reason::ProofReplayed), "{later}");
        }
        let other = Thumbprint::from_bytes([8; 32]);
        window.remember(&other, "a", NOW.plus(LIFE), NOW).unwrap();
    }

    #[test]
    fn the_ended_are_forgotten_and_stay_refused_when_the_clock_steps_back() {
        let window = ReplayWindow::new(SHARDS);
        for n in 0..200 {
            let _ = use_(&window, &n.to_string(), NOW, NOW);
        }
        let full = window.len();
        assert!(full <= SHARDS);
        let later = NOW.plus(LIFE + 1_000);
        for n in 0..200 {
            let _ = use_(&window, &format!("later {n}"), later, later);
        }
        assert!(window.len() <= SHARDS);
        let refused: Vec<_> = (0..200).filter_map(|n| use_(&window, &n.to_string(), NOW, NOW)).collect();
        assert_eq!(refused, [Reason::ProofInvalid; 200], "a forgotten proof could be accepted again");
    }

    #[test]
    fn a_full_window_refuses_and_never_evicts() {
        let window = ReplayWindow::new(1);
        let fates: Vec<_> = (0..100).map(|n| use_(&window, &n.to_string(), NOW, NOW)).collect();
        assert!(fates.contains(&Some(Reason::Overloaded)));
        for (n, fate) in fates.iter().enumerate() {
            if fate.is_none() {
                assert_eq!(use_(&window, &n.to_string(), NOW, NOW), Some(Reason::ProofReplayed));
            }
        }
    }
}
