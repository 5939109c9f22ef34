//! One call: who asks from where, and the id by which it is found again.

use std::net::IpAddr;

use mayfly_domain::UnixMillis;
use ring::rand::{SecureRandom, SystemRandom};

/// A request's id: a `UUIDv7`, shown to the caller with every answer and kept in the audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(uuid::Uuid);

impl RequestId {
    /// A new id at `now`.
    pub fn new(now: UnixMillis) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now.0, &random()).into_uuid())
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its id.
    pub request: RequestId,
    /// Where it came from.
    pub peer: Option<IpAddr>,
}

/// Ten random octets for an id. Where the system gives none the id is its time alone: ids name things, they
/// protect nothing.
pub(crate) fn random() -> [u8; 10] {
    let mut out = [0; 10];
    if SystemRandom::new().fill(&mut out).is_err() {
        tracing::error!("the system gives no randomness");
    }
    out
}
