//! A store that looks full: copies of one live lease under other ids, in every index that the lease is in.
//!
//! What a full store costs others does not depend on how its leases came to be there; to mint a million of them would
//! take minutes.

use crate::outcome::say;
use crate::{Failed, Result};

/// Leases that are written at once.
const BATCH: u64 = 2_000;

/// Copies the live lease `id` so many times.
pub(super) fn fill(redis: &mut redis::Connection, id: &[u8; 16], count: u64) -> Result<()> {
    let key = |id: &[u8]| [b"mf:l:{l".as_slice(), id, b"}"].concat();
    let record: Option<Vec<u8>> = redis::cmd("GET").arg(key(id)).query(redis)?;
    let record = record.ok_or_else(|| Failed::new("the lease to copy is not there"))?;
    let ends: i64 = redis::cmd("PEXPIRETIME").arg(key(id)).query(redis)?;
    let mut indexes = Vec::new();
    for pattern in ["mf:i:*", "mf:x:*"] {
        let found: Vec<Vec<u8>> = redis::cmd("KEYS").arg(pattern).query(redis)?;
        for index in found {
            let score: Option<f64> = redis::cmd("ZSCORE").arg(&index).arg(id).query(redis)?;
            indexes.extend(score.map(|score| (index, score)));
        }
    }
    let own = format!("mf:x:{{{}}}", id[15]).into_bytes();
    say(&format!("filling the store with {count} leases"));
    for batch in 0..count.div_ceil(BATCH) {
        // At once, so that they are synced once.
        let mut pipe = redis::pipe();
        pipe.atomic();
        for n in batch * BATCH..((batch + 1) * BATCH).min(count) {
            let mut copy = *id;
            copy[6..14].copy_from_slice(&n.to_be_bytes());
            copy[15] = n.to_le_bytes()[0];
            pipe.cmd("SET").arg(key(&copy)).arg(&record).arg("PXAT").arg(ends).ignore();
            for (index, score) in &indexes {
                let into =
                    if *index == own { format!("mf:x:{{{}}}", copy[15]).into_bytes() } else { index.clone() };
                pipe.cmd("ZADD").arg(into).arg(score).arg(&copy).ignore();
            }
        }
        pipe.query::<()>(redis)?;
    }
    Ok(())
}
