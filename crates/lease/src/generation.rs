//! The store's generation, and what is carried into a new one.

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::{Gate, Generation, GenerationId, Subject, UnixMillis};

/// The generation as it is stored, 30 octets: version 1, settled (0 or 1), number (4), id (8), start in
/// ms (8), the longest life in ms (8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationRecord {
    /// The generation.
    pub generation: Generation,
    /// Whether every partition has it; nothing is served before.
    pub settled: bool,
    /// When it began: bearer evidence issued before (less the skew) is refused.
    pub started: UnixMillis,
    /// The trust domain's longest life of a credential's lineage or of bearer evidence, in ms: how long a
    /// fence is kept (plus twice the skew).
    pub longest_life_ms: u64,
}

impl GenerationRecord {
    /// Writes the layout above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, u8::from(self.settled)];
        out.extend_from_slice(&self.generation.number.to_be_bytes());
        out.extend_from_slice(&self.generation.id.0);
        out.extend_from_slice(&self.started.0.to_be_bytes());
        out.extend_from_slice(&self.longest_life_ms.to_be_bytes());
        out
    }

    /// Reads the layout above.
    ///
    /// # Errors
    /// [`Malformed`] for another version or length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("generation", bytes);
        if r.u8()? != 1 {
            return Err(r.malformed("unknown version"));
        }
        let settled = r.flag()?;
        let generation = Generation { number: r.u32()?, id: GenerationId(r.array()?) };
        let record = Self { generation, settled, started: UnixMillis(r.u64()?), longest_life_ms: r.u64()? };
        r.finish()?;
        Ok(record)
    }

    /// Whether evidence that was issued then may have been shown, and revoked, before this generation. No skew is forgiven but
    /// to the first one, which begins with the deployment: evidence older than the last revocation by less than that would
    /// mint again.
    pub fn may_have_lost(&self, issued: UnixMillis) -> bool {
        let forgiven = if self.generation.number > 1 { 0 } else { mayfly_domain::defaults::SKEW_MS };
        issued < self.started.minus(forgiven)
    }

    /// How long a fence moved at `now` is kept.
    pub fn fence_until(&self, now: UnixMillis) -> UnixMillis {
        now.plus(self.longest_life_ms + 2 * mayfly_domain::defaults::SKEW_MS)
    }
}

/// What a broker finds when it looks at the store before it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The generation, if there is one.
    pub generation: Option<GenerationRecord>,
    /// How many changes (revocations, blocks, keys) the store has counted; a number that only grows.
    pub changes: u64,
    /// The identity of the server behind the connection.
    pub identity: [u8; 16],
    /// The version of the sealed keys, if there are any.
    pub keys_version: Option<u64>,
    /// The store's clock less ours, in ms.
    pub clock_difference_ms: i64,
    /// Whether its clock was ahead, so that what it keeps for a time may be gone: a new generation must start.
    pub forgot: bool,
    /// Settings that could forget a revocation, by their stable names.
    pub risks: Vec<String>,
}

/// What a broker carries into a new generation before it serves anything.
#[derive(Debug, Clone, Default)]
pub struct Carry {
    /// The sealed keys with their version.
    pub keys: Option<(u64, Vec<u8>)>,
    /// The blocks, each with its version; of two the higher version stays.
    pub blocks: Vec<(Subject, Gate)>,
    /// The highest change number that was seen.
    pub changes: u64,
}
