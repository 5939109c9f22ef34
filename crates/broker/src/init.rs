//! `mayfly init`: the first generation and the keys, once for a trust domain.

use std::path::Path;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{Generation, GenerationId, Refusal, TrustDomain, Ttl};
use mayfly_lease::{Carry, GenerationRecord, LeaseStore, StoreError};
use mayfly_mint::{Custody, KeySet, Seal};
use ring::rand::{SecureRandom, SystemRandom};

use crate::blocking::blocking;
use crate::copy::{Content, SealedCopy};

/// Why nothing was initialised.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The store has a generation: it was initialised before. Nothing was changed.
    #[error("the store is initialised already, in generation {0}")]
    Already(Generation),
    /// The state directory holds a copy of another store: carry it over by starting the server.
    #[error(
        "the state directory holds a sealed copy of generation {0}; start `mayfly server` to carry it over, or use an empty state directory"
    )]
    CopyThere(Generation),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error("{0}")]
    Keys(String),
    /// The copy.
    #[error("{0}")]
    Copy(Refusal),
}

/// Makes root, issuing CAs and token keys in their final form, begins generation 1 with them, and writes the
/// first sealed copy. Returns the keys, to show their fingerprints.
///
/// # Errors
/// [`InitError`]; a store that has a generation is never changed.
pub async fn initialise(
    store: &dyn LeaseStore,
    state_dir: &Path,
    seal: &Seal,
    custody: &Custody,
    trust_domain: &TrustDomain,
    longest_life: Ttl,
    clock: &SharedClock,
) -> Result<KeySet, InitError> {
    if let Some(found) = store.survey().await?.generation {
        return Err(InitError::Already(found.generation));
    }
    let mut copy = SealedCopy::open(state_dir, seal).map_err(InitError::Copy)?;
    if let Some(generation) = copy.content().generation {
        return Err(InitError::CopyThere(generation));
    }
    let now = clock.now();
    let keys = blocking(custody.blocks(), || KeySet::init(trust_domain, custody, now))
        .map_err(|e| InitError::Keys(e.to_string()))?;
    let sealed = keys.seal(seal).map_err(|e| InitError::Keys(e.to_string()))?;
    let mut id = [0; 8];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| InitError::Keys("the system gives no randomness".into()))?;
    let next = GenerationRecord {
        generation: Generation { number: 1, id: GenerationId(id) },
        settled: true,
        started: now,
        longest_life_ms: longest_life.as_millis(),
    };
    let carry = Carry { keys: Some((keys.version(), sealed.clone())), blocks: Vec::new(), changes: 0 };
    let stands = store.begin_generation(&next, &carry).await?;
    if stands.generation != next.generation {
        return Err(InitError::Already(stands.generation));
    }
    store.adopt(stands);
    let content = Content {
        generation: Some(stands.generation),
        longest_life_ms: stands.longest_life_ms,
        changes: store.survey().await?.changes,
        keys: Some((keys.version(), sealed)),
        blocks: Vec::new(),
    };
    copy.replace(seal, content).map_err(InitError::Copy)?;
    Ok(keys)
}
