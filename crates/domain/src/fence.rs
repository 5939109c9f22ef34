//! Fences, blocks and generations.

use crate::task::TaskReason;
use crate::text::Invalid;
use crate::time::UnixMillis;

/// A fence: one integer for each value of a dimension. Moving it ends every lease that observed another.
///
/// INVARIANT: below 2^48 (it is at least the milliseconds since the epoch of its last move, or zero for
/// "none was there").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Fence(u64);

impl Fence {
    /// What is observed where no fence stands.
    pub const NONE: Self = Self(0);

    /// The largest fence.
    pub const MAX: u64 = (1 << 48) - 1;

    /// A fence read from the store or from a credential.
    ///
    /// # Errors
    /// [`Invalid`] for a value of 2^48 or more.
    pub fn new(value: u64) -> Result<Self, Invalid> {
        if value > Self::MAX {
            return Err(Invalid::new("fence", &value.to_string(), "does not fit 48 bits"));
        }
        Ok(Self(value))
    }

    /// The integer.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The fence after a revocation at `now`: `max(fence + 1, now)`.
    #[must_use]
    pub fn moved(self, now: UnixMillis) -> Self {
        Self((self.0 + 1).max(now.0).min(Self::MAX))
    }

    /// The one matching rule: a missing fence matches any observation, a present one must equal it.
    pub fn matches(current: Option<Fence>, observed: Fence) -> bool {
        current.is_none_or(|fence| fence == observed)
    }
}

impl<'de> serde::Deserialize<'de> for Fence {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// A block: refuses new mints for a value of a dimension.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Block {
    /// Why, for people.
    pub reason: TaskReason,
    /// Who set it: an operator's SPIFFE ID or a person's name as the broker knows it.
    pub author: String,
    /// When it was set.
    pub since: UnixMillis,
    /// When it ends by itself; none: never.
    pub until: Option<UnixMillis>,
}

impl Block {
    /// Whether it stands at `now`.
    pub fn stands(&self, now: UnixMillis) -> bool {
        self.until.is_none_or(|end| now < end)
    }
}

/// What is stored for one value of a dimension: its fence and its block, written together.
///
/// The fence ends at `fence_until`; the block has a version of its own, kept when it is lifted, so that an
/// older copy never brings it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Gate {
    /// The fence, [`Fence::NONE`] where only a block was ever set.
    pub fence: Fence,
    /// When the fence is forgotten.
    pub fence_until: UnixMillis,
    /// The version of the block, raised by each setting and lifting.
    pub block_version: u64,
    /// The block, where one was set and not lifted.
    pub block: Option<Block>,
}

impl Gate {
    /// The fence that stands at `now`.
    pub fn standing_fence(&self, now: UnixMillis) -> Option<Fence> {
        (self.fence != Fence::NONE && now < self.fence_until).then_some(self.fence)
    }

    /// Whether nothing of it matters any more at `now`: the fence is forgotten and no block stands.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.fence_until && self.standing_block(now).is_none()
    }

    /// The block that stands at `now`.
    pub fn standing_block(&self, now: UnixMillis) -> Option<&Block> {
        self.block.as_ref().filter(|b| b.stands(now))
    }
}

/// The random part of a generation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct GenerationId(pub [u8; 8]);

impl std::fmt::Debug for GenerationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The store's generation: a number that only grows, and a random id. Part of every observation and nonce.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Generation {
    /// The number; the first is 1.
    pub number: u32,
    /// The random id.
    pub id: GenerationId,
}

impl Generation {
    /// Parses the text form: the number and the id in hexadecimal, `7-0011223344556677`.
    ///
    /// # Errors
    /// [`Invalid`] for any other form.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let no =
            || Invalid::new("generation", input, "must be a number and 16 hexadecimal digits, `7-00…77`");
        let (number, id) = input.split_once('-').ok_or_else(no)?;
        let number = number.parse().map_err(|_| no())?;
        let id = u64::from_str_radix(id, 16).map_err(|_| no())?;
        let read = Self { number, id: GenerationId(id.to_be_bytes()) };
        // One text for each: no sign, no zeros in front.
        if read.to_string() == input { Ok(read) } else { Err(no()) }
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:?}", self.number, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_reads_as_it_is_shown() {
        let shown = Generation { number: 7, id: GenerationId([0, 1, 2, 3, 4, 5, 6, 0xff]) };
        assert_eq!(shown.to_string(), "7-00010203040506ff");
        assert_eq!(Generation::parse(&shown.to_string()), Ok(shown));
        for bad in [
            "",
            "7",
            "7-",
            "07-00010203040506ff",
            "7-00010203040506FF",
            "+7-00010203040506ff",
            "7-10203040506ff",
        ] {
            assert!(Generation::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn matching_and_moving() {
        let five = Fence::new(5).unwrap();
        assert!(Fence::matches(None, five));
        assert!(Fence::matches(Some(five), five));
        assert!(!Fence::matches(Some(five), Fence::NONE));
        assert!(!Fence::matches(Some(five), Fence::new(6).unwrap()));
        assert_eq!(five.moved(UnixMillis(3)).value(), 6);
        assert_eq!(five.moved(UnixMillis(9)).value(), 9);
        assert!(Fence::new(1 << 48).is_err());
    }
}
