//! The feed: what changed, in the order in which the store made it so.
//!
//! # Layout of an event (version 1, integers big-endian)
//! | octets | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | kind: 1 gate, 2 mark, 3 keys |
//! | 2–9 | when, ms by the store's clock |
//! | 10–25 | the revocation's id; zeros where none made it |
//! | 26– | gate: dimension key (16), fence (8, 0 for none), fence kept until (8), the block's version (8), 1 where a block was set and not lifted (1), its end (8, 0 for none) |
//! | | mark: lease (16), kept until (8) |
//! | | keys: their version (8) |
//!
//! An event's number is not in it: the stream that carries it tells. Numbers are dense within a generation and an
//! epoch.

use crate::codec::{Malformed, Reader};
use crate::dimension::DimKey;
use crate::fence::{Fence, Generation};
use crate::lease::LeaseId;
use crate::time::UnixMillis;

const VERSION: u8 = 1;
const WHAT: &str = "feed event";
const GATE: u8 = 1;
const MARK: u8 = 2;
const KEYS: u8 = 3;

/// Which server wrote the feed. After a fail-over an unacknowledged number may stand for something else, so that
/// numbers are compared within one epoch only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Epoch(pub [u8; 16]);

/// A place in the feed: everything up to and with `number`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The store's generation.
    pub generation: Generation,
    /// The stream's epoch.
    pub epoch: Epoch,
    /// The number of the last event; 0 before the first.
    pub number: u64,
}

impl Position {
    /// Whether numbers of both can be compared.
    pub fn is_along(&self, other: &Self) -> bool {
        self.generation == other.generation && self.epoch == other.epoch
    }
}

/// What followers need of a gate: no words, no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateState {
    /// Whose gate.
    pub key: DimKey,
    /// The fence, [`Fence::NONE`] where only a block was ever set.
    pub fence: Fence,
    /// Until when the fence is kept.
    pub fence_until: UnixMillis,
    /// The block's version.
    pub block_version: u64,
    /// Whether a block was set and not lifted.
    pub blocked: bool,
    /// The block's end; none: no end.
    pub block_until: Option<UnixMillis>,
}

impl GateState {
    /// As it counts at `now`: a fence that is over is none.
    #[must_use]
    pub fn standing(mut self, now: UnixMillis) -> Self {
        if now >= self.fence_until {
            self.fence = Fence::NONE;
        }
        self
    }

    /// Whether nothing of it matters any more at `now`.
    pub fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.fence_until && !(self.blocked && self.block_until.is_none_or(|end| now < end))
    }
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A fence moved, a block was set or lifted, or both in one step. Fences apply by max, blocks by version.
    Gate(GateState),
    /// One lease was revoked.
    Mark {
        /// The lease; it and its descendants are dead.
        lease: LeaseId,
        /// Until when that must be remembered.
        until: UnixMillis,
    },
    /// The signing keys and authorities changed.
    Keys {
        /// Their version.
        version: u64,
    },
}

/// A change with when and by which revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When, by the store's clock.
    pub at: UnixMillis,
    /// The revocation that made it.
    pub revocation: Option<[u8; 16]>,
    /// What changed.
    pub change: Change,
}

/// An event with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// The number, dense within a generation and an epoch.
    pub number: u64,
    /// The event.
    pub event: Event,
}

impl Event {
    /// Writes the layout above.
    pub fn encode(&self) -> Vec<u8> {
        let kind = match self.change {
            Change::Gate(_) => GATE,
            Change::Mark { .. } => MARK,
            Change::Keys { .. } => KEYS,
        };
        let mut out = Vec::with_capacity(80);
        out.extend_from_slice(&[VERSION, kind]);
        out.extend_from_slice(&self.at.0.to_be_bytes());
        out.extend_from_slice(&self.revocation.unwrap_or_default());
        match self.change {
            Change::Gate(gate) => {
                out.extend_from_slice(&gate.key.0);
                out.extend_from_slice(&gate.fence.value().to_be_bytes());
                out.extend_from_slice(&gate.fence_until.0.to_be_bytes());
                out.extend_from_slice(&gate.block_version.to_be_bytes());
                out.push(u8::from(gate.blocked));
                out.extend_from_slice(&gate.block_until.map_or(0, |t| t.0).to_be_bytes());
            }
            Change::Mark { lease, until } => {
                out.extend_from_slice(lease.as_bytes());
                out.extend_from_slice(&until.0.to_be_bytes());
            }
            Change::Keys { version } => out.extend_from_slice(&version.to_be_bytes()),
        }
        out
    }

    /// Reads the layout above; every octet must belong to it.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed("unknown version"));
        }
        let kind = r.u8()?;
        let at = UnixMillis(r.u64()?);
        let revocation = Some(r.array()?).filter(|id| *id != [0; 16]);
        let change = match kind {
            GATE => Change::Gate(GateState {
                key: DimKey(r.array()?),
                fence: Fence::new(r.u64()?).map_err(|_| r.malformed("fence too large"))?,
                fence_until: UnixMillis(r.u64()?),
                block_version: r.u64()?,
                blocked: r.flag()?,
                block_until: Some(UnixMillis(r.u64()?)).filter(|t| t.0 != 0),
            }),
            MARK => Change::Mark { lease: LeaseId::from_bytes(r.array()?), until: UnixMillis(r.u64()?) },
            KEYS => Change::Keys { version: r.u64()? },
            _ => return Err(r.malformed("unknown kind")),
        };
        r.finish()?;
        Ok(Self { at, revocation, change })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events() -> impl Strategy<Value = Event> {
        let gate =
            (any::<[u8; 16]>(), 0..=Fence::MAX, any::<u64>(), any::<u64>(), any::<bool>(), any::<u64>());
        let change = prop_oneof![
            gate.prop_map(|(key, fence, until, block_version, blocked, end)| Change::Gate(GateState {
                key: DimKey(key),
                fence: Fence::new(fence).unwrap(),
                fence_until: UnixMillis(until),
                block_version,
                blocked,
                block_until: Some(UnixMillis(end)).filter(|t| t.0 != 0),
            })),
            (any::<[u8; 16]>(), any::<u64>()).prop_map(|(lease, until)| Change::Mark {
                lease: LeaseId::from_bytes(lease),
                until: UnixMillis(until)
            }),
            any::<u64>().prop_map(|version| Change::Keys { version }),
        ];
        (any::<u64>(), any::<Option<[u8; 16]>>(), change).prop_map(|(at, revocation, change)| Event {
            at: UnixMillis(at),
            revocation: revocation.filter(|id| *id != [0; 16]),
            change,
        })
    }

    proptest! {
        #[test]
        fn an_event_reads_as_it_was_written(event in events()) {
            let bytes = event.encode();
            prop_assert_eq!(Event::decode(&bytes).unwrap(), event);
            for cut in 0..bytes.len() {
                prop_assert!(Event::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn what_is_read_is_in_its_one_form(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            if let Ok(event) = Event::decode(&bytes) {
                prop_assert_eq!(event.encode(), bytes);
            }
        }
    }

    #[test]
    fn versions_and_kinds_are_known_or_refused() {
        let good =
            Event { at: UnixMillis(1), revocation: None, change: Change::Keys { version: 7 } }.encode();
        assert!(Event::decode(&good).is_ok());
        for (at, to) in [(0, 2), (1, 0), (1, 4)] {
            let mut bad = good.clone();
            bad[at] = to;
            assert!(Event::decode(&bad).is_err(), "{at} {to}");
        }
    }
}
