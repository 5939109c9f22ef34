//! What scripts answer, and the one place where their codes become errors.
//!
//! | code | meaning | more |
//! | --- | --- | --- |
//! | 0 | done | the script's own |
//! | 1 | another generation | what is stored, or nil |
//! | 2 | the clocks differ | the store's less the broker's, ms |
//! | 3 | a first binding, which this connection must not make | |
//! | 4 | what is kept for a time may be gone | |
//! | 10–35 | [`No`] | position, wait, reason or revocation |

use mayfly_domain::LeaseState;
use mayfly_lease::record::state_from_octets;
use mayfly_lease::transition::No;
use mayfly_lease::{GenerationRecord, JobId, StoreError};
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

/// What a script did.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It decided and wrote.
    Done(Answer),
    /// It wrote nothing, since what it would write must be durable.
    Elsewhere,
}

/// The values of an answer, taken one after the other.
#[derive(Debug)]
pub(super) struct Answer(std::vec::IntoIter<Value>);

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(format!("a script's answer: {what}"))
}

impl Answer {
    pub(super) fn int(&mut self) -> Result<i64, StoreError> {
        match self.0.next() {
            Some(Value::Int(n)) => Ok(n),
            _ => Err(corrupt("no integer")),
        }
    }

    pub(super) fn u64(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.int()?).map_err(|_| corrupt("a negative number"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, StoreError> {
        u32::try_from(self.int()?).map_err(|_| corrupt("a number out of range"))
    }

    pub(super) fn maybe(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(Some(bytes)),
            Some(Value::Nil) => Ok(None),
            _ => Err(corrupt("no octets")),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.maybe()?.ok_or_else(|| corrupt("nothing where octets belong"))
    }

    /// The next sixteen octets.
    pub(super) fn id(&mut self) -> Result<[u8; 16], StoreError> {
        self.bytes()?.try_into().map_err(|_| corrupt("an id of another length"))
    }

    pub(super) fn list(&mut self) -> Result<Self, StoreError> {
        match self.0.next() {
            Some(Value::Array(items)) => Ok(Self(items.into_iter())),
            _ => Err(corrupt("no list")),
        }
    }

    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    fn position(&mut self) -> Result<usize, StoreError> {
        Ok(self.u32()? as usize)
    }

    fn job(&mut self) -> Result<JobId, StoreError> {
        Ok(JobId(self.id()?))
    }
}

/// Reads an answer.
pub(super) fn read(value: Value) -> Result<Outcome, StoreError> {
    let Value::Array(items) = value else { return Err(corrupt("no list")) };
    let mut a = Answer(items.into_iter());
    let no = match a.int()? {
        0 => return Ok(Outcome::Done(a)),
        1 => return Err(StoreError::OtherGeneration(generation(a.maybe()?)?)),
        2 => return Err(StoreError::ClockSkew(a.int()?)),
        3 => return Ok(Outcome::Elsewhere),
        4 => return Err(StoreError::Forgot),
        10 => No::NonceUsed,
        11 => No::EvidencePredatesGeneration,
        12 => No::EvidenceOfOtherKey,
        13 => No::EvidencePredatesRevocation(a.position()?),
        14 => No::Blocked(a.position()?),
        15 => No::QuotaLeases(a.position()?),
        16 => No::QuotaRate(a.position()?, a.u64()?),
        17 => No::TaskEnded,
        18 => No::TaskOfAnother,
        19 => No::TaskIntent,
        20 => No::WindowOver,
        21 => No::AncestorDead,
        22 => No::LineageLimit,
        23 => No::NotFound,
        24 => No::NotActive,
        25 => No::Expired,
        26 => {
            let reason = u8::try_from(a.u32()?).unwrap_or(u8::MAX);
            let Some(LeaseState::Ended(reason)) = state_from_octets(2, reason) else {
                return Err(corrupt("an unknown end"));
            };
            let revocation = a.job()?;
            No::Ended(reason, (revocation.0 != [0; 16]).then_some(revocation))
        }
        27 => No::FenceMoved,
        28 => No::Marked(a.job()?),
        29 => No::OtherObservation,
        30 => No::OfAnother,
        31 => No::LineageOver,
        32 => No::RaceLost,
        33 => No::NoBlock,
        34 => No::EvidenceUsed,
        35 => No::EvidenceUnknown,
        _ => return Err(corrupt("an unknown code")),
    };
    Err(no.into())
}

/// Reads a stored generation.
pub(super) fn generation(stored: Option<Vec<u8>>) -> Result<Option<GenerationRecord>, StoreError> {
    Ok(stored.map(|bytes| GenerationRecord::decode(&bytes)).transpose()?)
}

/// What an error of the connection or the server means. A script that stumbles over a value has read
/// something that is none of ours; everything else is a matter of being reached.
pub(super) fn failed(script: &str, e: &RedisError) -> StoreError {
    let words = e.detail().unwrap_or_default();
    let acl = words.contains("ACL failure");
    let stumbled = e.code() == Some("WRONGTYPE")
        || (e.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) && !acl);
    let words: String = words.chars().take(200).collect();
    let code = e.code().unwrap_or(e.category());
    if stumbled {
        StoreError::Corrupt(format!("`{script}`: {code} {words}"))
    } else {
        StoreError::Unavailable(format!("`{script}`: {code} {words}; whether it was done is unknown"))
    }
}

/// The words for a connection that does not open. The server's own words may quote what was sent.
pub(super) fn not_open(e: &RedisError) -> String {
    match e.code() {
        Some(code) => format!("{} ({code})", e.category()),
        None if e.is_io_error() => e.to_string(),
        None => e.category().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly_domain::EndReason;

    fn told(items: Vec<Value>) -> Result<Outcome, StoreError> {
        read(Value::Array(items))
    }

    fn octets(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    #[test]
    fn codes_are_the_protocols_refusals() {
        let job = JobId([5; 16]);
        for (items, no) in [
            (vec![Value::Int(10)], No::NonceUsed),
            (vec![Value::Int(13), Value::Int(2)], No::EvidencePredatesRevocation(2)),
            (vec![Value::Int(14), Value::Int(0)], No::Blocked(0)),
            (vec![Value::Int(16), Value::Int(1), Value::Int(500)], No::QuotaRate(1, 500)),
            (vec![Value::Int(26), Value::Int(2), octets(&[0; 16])], No::Ended(EndReason::Released, None)),
            (vec![Value::Int(26), Value::Int(4), octets(&job.0)], No::Ended(EndReason::Revoked, Some(job))),
            (vec![Value::Int(28), octets(&job.0)], No::Marked(job)),
            (vec![Value::Int(33)], No::NoBlock),
            (vec![Value::Int(34)], No::EvidenceUsed),
            (vec![Value::Int(35)], No::EvidenceUnknown),
        ] {
            assert_eq!(told(items).unwrap_err(), StoreError::Refused(no));
        }
        assert_eq!(told(vec![Value::Int(2), Value::Int(-9)]).unwrap_err(), StoreError::ClockSkew(-9));
        assert_eq!(told(vec![Value::Int(4)]).unwrap_err(), StoreError::Forgot);
        let none = told(vec![Value::Int(1), Value::Nil]).unwrap_err();
        assert_eq!(none, StoreError::OtherGeneration(None));
    }

    #[test]
    fn anything_else_is_corrupt_and_never_done() {
        for value in [
            Value::Nil,
            Value::Okay,
            Value::Array(vec![]),
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![Value::Int(99)]),
            Value::Array(vec![Value::Int(-1)]),
            Value::Array(vec![Value::Int(13)]),
            Value::Array(vec![Value::Int(14), Value::Int(-1)]),
            Value::Array(vec![Value::Int(26), Value::Int(9), octets(&[0; 16])]),
            Value::Array(vec![Value::Int(28), octets(&[0; 15])]),
            Value::Array(vec![Value::Int(1), octets(b"short")]),
        ] {
            let words = format!("{value:?}");
            assert!(matches!(read(value), Err(StoreError::Corrupt(_))), "{words}");
        }
    }
}
