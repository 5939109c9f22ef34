//! What a lease saw when it was made: the generation, its fences, its ancestors. Signed into each credential.
//!
//! # Layout (version 1)
//! One octet version; 4 octets generation number; 8 octets generation id; one octet number of pairs; for
//! each pair 16 octets dimension key and 6 octets fence; one octet number of ancestors; 16 octets each.
//! Integers are big-endian. Pairs are in ascending order of their keys, each key once; ancestors are in
//! order from the root. At most 40 pairs and 8 ancestors.

use smallvec::SmallVec;

use crate::codec::{Malformed, Reader, put_u48};
use crate::dimension::DimKey;
use crate::fence::{Fence, Generation, GenerationId};
use crate::lease::LeaseId;
use crate::text::Invalid;

const VERSION: u8 = 1;

/// A dimension's value and the fence that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The dimension's value.
    pub key: DimKey,
    /// Its fence, [`Fence::NONE`] where none stood.
    pub fence: Fence,
}

/// A lease's observation.
///
/// INVARIANT: at most 40 pairs, ascending by key, each key once; at most 8 ancestors, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    generation: Generation,
    pairs: SmallVec<[Pair; 10]>,
    ancestors: SmallVec<[LeaseId; 1]>,
}

impl Observation {
    /// The most pairs.
    pub const MAX_PAIRS: usize = 40;
    /// The most ancestors.
    pub const MAX_ANCESTORS: usize = 8;

    /// Collects an observation.
    ///
    /// # Errors
    /// [`Invalid`] for too many pairs or ancestors, or the same one twice.
    pub fn new(
        generation: Generation,
        pairs: impl IntoIterator<Item = Pair>,
        ancestors: impl IntoIterator<Item = LeaseId>,
    ) -> Result<Self, Invalid> {
        let no = |why: &'static str| Invalid::new("observation", "", why);
        let mut pairs: SmallVec<[Pair; 10]> = pairs.into_iter().take(Self::MAX_PAIRS + 1).collect();
        pairs.sort_unstable();
        if pairs.len() > Self::MAX_PAIRS {
            return Err(no("more than 40 dimension values in one lineage"));
        }
        if pairs.windows(2).any(|w| matches!(w, [a, b] if a.key == b.key)) {
            return Err(no("a dimension value is named twice"));
        }
        let ancestors: SmallVec<[LeaseId; 1]> = ancestors.into_iter().take(Self::MAX_ANCESTORS + 1).collect();
        if ancestors.len() > Self::MAX_ANCESTORS {
            return Err(no("more than 8 ancestors"));
        }
        if ancestors.iter().enumerate().any(|(n, a)| ancestors.iter().skip(n + 1).any(|b| a == b)) {
            return Err(no("an ancestor is named twice"));
        }
        Ok(Self { generation, pairs, ancestors })
    }

    /// The store's generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The pairs in order of their keys.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The ancestors, root first.
    pub fn ancestors(&self) -> &[LeaseId] {
        &self.ancestors
    }

    /// The fence that was observed for `key`.
    pub fn fence(&self, key: DimKey) -> Option<Fence> {
        self.pairs.iter().find(|p| p.key == key).map(|p| p.fence)
    }

    /// Writes the layout above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(15 + 22 * self.pairs.len() + 16 * self.ancestors.len());
        out.push(VERSION);
        out.extend_from_slice(&self.generation.number.to_be_bytes());
        out.extend_from_slice(&self.generation.id.0);
        out.push(u8::try_from(self.pairs.len()).unwrap_or(u8::MAX));
        for pair in &self.pairs {
            out.extend_from_slice(&pair.key.0);
            put_u48(&mut out, pair.fence.value());
        }
        out.push(u8::try_from(self.ancestors.len()).unwrap_or(u8::MAX));
        for ancestor in &self.ancestors {
            out.extend_from_slice(ancestor.as_bytes());
        }
        out
    }

    /// Reads the layout above; every octet must belong to it, and pairs must be in order.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("observation", bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed("unknown version"));
        }
        let generation = Generation { number: r.u32()?, id: GenerationId(r.array()?) };
        let mut pairs: SmallVec<[Pair; 10]> = SmallVec::new();
        let count = r.u8()?;
        if usize::from(count) > Self::MAX_PAIRS {
            return Err(r.malformed("too many pairs"));
        }
        for _ in 0..count {
            let key = DimKey(r.array()?);
            let fence = Fence::new(r.u48()?).map_err(|_| r.malformed("fence too large"))?;
            if pairs.last().is_some_and(|last| last.key >= key) {
                return Err(r.malformed("pairs out of order"));
            }
            pairs.push(Pair { key, fence });
        }
        let mut ancestors = SmallVec::new();
        let count = r.u8()?;
        if usize::from(count) > Self::MAX_ANCESTORS {
            return Err(r.malformed("too many ancestors"));
        }
        for _ in 0..count {
            let id = LeaseId::from_bytes(r.array()?);
            if ancestors.contains(&id) {
                return Err(r.malformed("an ancestor twice"));
            }
            ancestors.push(id);
        }
        r.finish()?;
        Ok(Self { generation, pairs, ancestors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimension::{Dimension, Subject};

    #[test]
    fn round_trip_and_order() {
        let pair = |name: &str, fence| Pair {
            key: Subject::parse(Dimension::Profile, name).unwrap().key(),
            fence: Fence::new(fence).unwrap(),
        };
        let generation = Generation { number: 7, id: GenerationId([9; 8]) };
        let obs = Observation::new(
            generation,
            [pair("b", 0), pair("a", Fence::MAX)],
            [LeaseId::from_bytes([3; 16])],
        )
        .unwrap();
        let bytes = obs.encode();
        assert_eq!(bytes.len(), 15 + 44 + 16);
        assert_eq!(Observation::decode(&bytes).unwrap(), obs);
        for cut in 0..bytes.len() {
            assert!(Observation::decode(&bytes[..cut]).is_err());
        }
        let mut swapped = bytes.clone();
        swapped[14..58].rotate_left(22);
        assert!(Observation::decode(&swapped).is_err());
        assert!(Observation::new(generation, [pair("a", 1), pair("a", 2)], []).is_err());
        let many = (0..41).map(|n| pair(&format!("p{n}"), 0));
        assert!(Observation::new(generation, many, []).is_err());
    }
}
