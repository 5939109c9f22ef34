//! Where each value lives. Everything about one value shares a hash tag, so that a cluster keeps it in one
//! slot; the letter in the tag keeps a raw octet `}` away from the tag's start.
//!
//! | key | type | what |
//! | --- | --- | --- |
//! | `mf:gen` | string | the generation, 30 octets |
//! | `mf:server` | string | identity (16 octets) of the server that the generation began on |
//! | `mf:clock` | string | the highest time at which a script looked, number of the last tick (8 octets each) |
//! | `mf:tick:<n>` | string | empty, there until n times five minutes since the epoch: `scripts/begin.lua` |
//! | `mf:changes` | integer | revocations, blocks, takeovers and key changes counted: the number of the last event |
//! | `mf:feed` | stream | the feed: field `e` under the id `NUMBER-0` is `mayfly_domain::feed::Event` |
//! | `mf:keys` | string | version (8 octets), the sealed keys |
//! | `mf:brokers` | hash | broker id to alive until (8), keys' version (8) |
//! | `mf:blocks` | set | dimension keys of gates with a block that was not lifted, standing or over |
//! | `mf:gates` | sorted set | dimension keys of gates by when nothing of them matters any more, ms |
//! | `mf:marks` | sorted set | marked leases by until when that is kept, ms |
//! | `mf:followers` | hash | follower to `mayfly_lease::feed::FollowerSeen` |
//! | `mf:followers:applied` | sorted set | followers by the number that they have applied |
//! | `mf:followers:known` | sorted set | followers by when they are forgotten, ms |
//! | `mf:jobs` | sorted set | open jobs by the time from which they may be claimed |
//! | `mf:u` | sorted set | leases with side effects by the time when their undo is due |
//! | `mf:f:{d<16>}` | string | gate of a dimension key: `mayfly_lease::gate` |
//! | `mf:i:{d<16>}` | sorted set | index of a dimension key: lease ids by the acceptors' mode times 2^44 and hard expiry, ms |
//! | `mf:q:{d<16>}` | string | rate limit: theoretical arrival time in microseconds, 8 octets |
//! | `mf:t:{d<16>}` | string | task: `mayfly_lease::task` |
//! | `mf:l:{l<16>}` | string | lease: `mayfly_lease::record` |
//! | `mf:m:{l<16>}` | string | mark of a lease: `mayfly_lease::record::Mark` |
//! | `mf:n:{l<16>}` | string | a nonce's used mark: until, 8 octets |
//! | `mf:b:{b<32>}` | string | binding of evidence: `mayfly_lease::transition::Binding` |
//! | `mf:w:{b<32>}` | string | join token: `mayfly_lease::join` |
//! | `mf:joins` | hash | join token's id (8 octets) to its hash (32) |
//! | `mf:j:{j<16>}` | string | job: since (8), fence (8), kept until (8, 0 while open), `mayfly_lease::Job` |
//! | `mf:s:{s<profile>}:<day>` | hash | what was used (`mayfly_lease::feed::UsageCount`) to how often |
//! | `mf:x:{<n>}` | sorted set | expiry partition n of 256: lease ids by hard expiry, ms |
//!
//! Integers are big-endian; ids and dimension keys are raw octets.

use mayfly_domain::{DimKey, EvidenceHash, LeaseId, ProfileName};
use mayfly_lease::{JobId, LeaseRecord};

pub(super) const GENERATION: &[u8] = b"mf:gen";
pub(super) const SERVER: &[u8] = b"mf:server";
pub(super) const CHANGES: &[u8] = b"mf:changes";
pub(super) const FEED: &[u8] = b"mf:feed";
pub(super) const SEALED: &[u8] = b"mf:keys";

fn tagged(kind: u8, tag: u8, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.len() + 8);
    key.extend_from_slice(&[b'm', b'f', b':', kind, b':', b'{', tag]);
    key.extend_from_slice(id);
    key.push(b'}');
    key
}

pub(super) fn gate(key: DimKey) -> Vec<u8> {
    tagged(b'f', b'd', &key.0)
}

pub(super) fn index(key: DimKey) -> Vec<u8> {
    tagged(b'i', b'd', &key.0)
}

pub(super) fn bucket(key: DimKey) -> Vec<u8> {
    tagged(b'q', b'd', &key.0)
}

pub(super) fn task(key: DimKey) -> Vec<u8> {
    tagged(b't', b'd', &key.0)
}

pub(super) fn record(id: LeaseId) -> Vec<u8> {
    tagged(b'l', b'l', id.as_bytes())
}

pub(super) fn mark(id: LeaseId) -> Vec<u8> {
    tagged(b'm', b'l', id.as_bytes())
}

pub(super) fn used(id: LeaseId) -> Vec<u8> {
    tagged(b'n', b'l', id.as_bytes())
}

pub(super) fn binding(hash: EvidenceHash) -> Vec<u8> {
    tagged(b'b', b'b', &hash.0)
}

pub(super) fn join(hash: EvidenceHash) -> Vec<u8> {
    tagged(b'w', b'b', &hash.0)
}

pub(super) fn job(id: JobId) -> Vec<u8> {
    tagged(b'j', b'j', &id.0)
}

/// What was used with a profile on a day since 1970-01-01.
pub(super) fn usage(profile: &ProfileName, day: u32) -> Vec<u8> {
    format!("mf:s:{{s{profile}}}:{day}").into_bytes()
}

pub(super) fn partition(id: LeaseId) -> Vec<u8> {
    format!("mf:x:{{{}}}", LeaseRecord::partition(id)).into_bytes()
}

/// The keys of one call, each once, in the order in which the script sees them.
#[derive(Debug)]
pub(super) struct Keys(Vec<Vec<u8>>);

impl Keys {
    /// More than these do not fit the scripts' one-octet places. No command of ours comes near.
    const MAX: usize = 250;

    /// The generation, then `keys`.
    pub(super) fn new(keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut all = Vec::with_capacity(32);
        all.push(GENERATION.to_vec());
        all.extend(keys);
        Self(all)
    }

    /// The place of `key` from one, added where it is not there yet.
    pub(super) fn place(&mut self, key: Vec<u8>) -> u8 {
        let found = self.0.iter().position(|k| *k == key);
        let index = found.unwrap_or_else(|| {
            self.0.push(key);
            self.0.len() - 1
        });
        u8::try_from(index + 1).unwrap_or(u8::MAX)
    }

    /// Adds `key` behind all others, also where it is there already, and returns its place.
    pub(super) fn push(&mut self, key: Vec<u8>) -> u8 {
        self.0.push(key);
        self.len()
    }

    /// How many there are.
    pub(super) fn len(&self) -> u8 {
        u8::try_from(self.0.len()).unwrap_or(u8::MAX)
    }

    /// Whether the scripts' one-octet places suffice.
    pub(super) fn fit(&self) -> bool {
        self.0.len() <= Self::MAX
    }

    pub(super) fn as_slice(&self) -> &[Vec<u8>] {
        &self.0
    }
}
