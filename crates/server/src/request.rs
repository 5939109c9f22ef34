//! The id of one call: in its answer, its audit record and the log, so that people can find it again.

use mayfly_domain::UnixMillis;
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;

/// A call's id: a `UUIDv7`, made by the broker and never taken from a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// A new id for a call that arrived at `now`.
    pub fn new(now: UnixMillis) -> Self {
        let mut random = [0; 10];
        // Ids tell calls apart and guard nothing: without the system's random numbers the time remains.
        let _ = SystemRandom::new().fill(&mut random);
        Self(uuid::Builder::from_unix_timestamp_millis(now.0, &random).into_uuid())
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
