//! The stored form of a fence and its block: one value, written together.
//!
//! # Layout (version 1, integers big-endian)
//! | octets | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | 1 where a block was set and not lifted, else 0 |
//! | 2–9 | fence, 0 for none |
//! | 10–17 | fence kept until, ms |
//! | 18–25 | the block's version |
//! | 26–33 | the block's end, ms; 0 for none |
//! | 34– | subject, and the block's words (postcard) |

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::feed::GateState;
use mayfly_domain::{Block, DimKey, Fence, Gate, Subject, TaskReason, UnixMillis};

const VERSION: u8 = 1;
const WHAT: &str = "gate";

/// Length of the fixed head.
pub const HEAD_LEN: usize = 34;

#[derive(serde::Serialize, serde::Deserialize)]
struct Tail {
    dimension: u8,
    value: String,
    block: Option<(TaskReason, String, u64)>,
}

/// The words after the head: what the gate is for, and who blocked it why.
///
/// # Errors
/// [`Malformed`] where they can't be written.
pub fn encode_tail(subject: &Subject, block: Option<&Block>) -> Result<Vec<u8>, Malformed> {
    let position = mayfly_domain::Dimension::ALL.iter().position(|d| *d == subject.dimension());
    let tail = Tail {
        dimension: position.and_then(|p| u8::try_from(p).ok()).unwrap_or(u8::MAX),
        value: match subject {
            Subject::Evidence(_) => String::new(),
            other => other.value().into_owned(),
        },
        block: block.map(|b| (b.reason.clone(), b.author.clone(), b.since.0)),
    };
    postcard::to_allocvec(&tail).map_err(|_| Malformed { what: WHAT, why: "tail can't be written" })
}

/// Writes the layout above.
///
/// # Errors
/// [`Malformed`] where the tail can't be written.
pub fn encode(subject: &Subject, gate: &Gate) -> Result<Vec<u8>, Malformed> {
    let mut out = Vec::with_capacity(HEAD_LEN + 64);
    out.push(VERSION);
    out.push(u8::from(gate.block.is_some()));
    out.extend_from_slice(&gate.fence.value().to_be_bytes());
    out.extend_from_slice(&gate.fence_until.0.to_be_bytes());
    out.extend_from_slice(&gate.block_version.to_be_bytes());
    let until = gate.block.as_ref().and_then(|b| b.until).map_or(0, |t| t.0);
    out.extend_from_slice(&until.to_be_bytes());
    out.extend_from_slice(&encode_tail(subject, gate.block.as_ref())?);
    Ok(out)
}

/// What followers are told of a gate.
pub fn state(key: DimKey, gate: &Gate) -> GateState {
    GateState {
        key,
        fence: gate.fence,
        fence_until: gate.fence_until,
        block_version: gate.block_version,
        blocked: gate.block.is_some(),
        block_until: gate.block.as_ref().and_then(|block| block.until),
    }
}

/// What stands after a gate was carried into a new generation: the higher version of the block, the higher
/// fence. Nothing where what is stored has the same or a higher version.
pub fn carried(stored: Option<&Gate>, carried: &Gate) -> Option<Gate> {
    let stored = stored.cloned().unwrap_or_default();
    (carried.block_version > stored.block_version).then(|| Gate {
        fence: stored.fence.max(carried.fence),
        fence_until: stored.fence_until.max(carried.fence_until),
        block_version: carried.block_version,
        block: carried.block.clone(),
    })
}

/// Reads the layout above. The subject is absent for evidence, whose value is not kept.
///
/// # Errors
/// [`Malformed`] says what is wrong.
pub fn decode(bytes: &[u8]) -> Result<(Option<Subject>, Gate), Malformed> {
    let mut r = Reader::new(WHAT, bytes);
    if r.u8()? != VERSION {
        return Err(r.malformed("unknown version"));
    }
    let blocked = r.flag()?;
    let fence = Fence::new(r.u64()?).map_err(|_| r.malformed("fence too large"))?;
    let fence_until = UnixMillis(r.u64()?);
    let block_version = r.u64()?;
    let until = r.u64()?;
    let tail: Tail = crate::body::read(WHAT, r.rest())?;
    let dimension = mayfly_domain::Dimension::ALL
        .get(usize::from(tail.dimension))
        .ok_or(Malformed { what: WHAT, why: "unknown dimension" })?;
    let subject = Subject::parse(*dimension, &tail.value).ok();
    let block = match (blocked, tail.block) {
        (true, Some((reason, author, since))) => Some(Block {
            reason,
            author,
            since: UnixMillis(since),
            until: (until != 0).then_some(UnixMillis(until)),
        }),
        (false, _) => None,
        (true, None) => return Err(Malformed { what: WHAT, why: "a block without words" }),
    };
    Ok((subject, Gate { fence, fence_until, block_version, block }))
}
