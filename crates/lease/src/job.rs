//! A revocation as a stored job: what it names, who asked for it, and how far its sweep has come.

use mayfly_domain::{AcceptorMode, EndReason, Fence, LeaseId, Subject, TaskReason, UnixMillis};
use uuid::Uuid;

use crate::generation::GenerationRecord;

/// How long a revocation that nobody will ask about is kept once it is done, in ms.
const BRIEF_MS: u64 = 3_600_000;

/// A revocation's id, shown as `rev_` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct JobId(pub [u8; 16]);

impl JobId {
    /// A new id: time and randomness.
    pub fn new(now: UnixMillis, random: &[u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now.0, random).into_uuid().into_bytes())
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// [`mayfly_domain::Invalid`] for any other form.
    pub fn parse(input: &str) -> Result<Self, mayfly_domain::Invalid> {
        let no = || {
            mayfly_domain::Invalid::new("revocation id", input, "must be `rev_` and 32 hexadecimal digits")
        };
        let digits = input.strip_prefix("rev_").filter(|d| d.len() == 32).ok_or_else(no)?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(no());
        }
        Ok(Self(Uuid::try_parse(digits).map_err(|_| no())?.into_bytes()))
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rev_{}", Uuid::from_bytes(self.0).simple())
    }
}

impl std::fmt::Debug for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What a job ends.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum JobTarget {
    /// One lease, and its descendants with side effects.
    Lease(LeaseId),
    /// Every lease that observed another fence of this subject.
    Subject(Subject, Fence),
}

/// How the leases that a job ended are checked by whoever accepts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExposureCount {
    /// Checked online at each request.
    pub online: u64,
    /// Checked in-process against the feed.
    pub feed: u64,
    /// Accepted by signature until expiry.
    pub offline: u64,
    /// When the last of them ends.
    pub last_ends: UnixMillis,
}

impl ExposureCount {
    /// Counts `leases` of a mode, the last of which ends at `last_ends`.
    pub fn add(&mut self, mode: AcceptorMode, leases: u64, last_ends: UnixMillis) {
        match mode {
            AcceptorMode::Online => self.online += leases,
            AcceptorMode::Feed => self.feed += leases,
            AcceptorMode::Offline => self.offline += leases,
        }
        self.last_ends = self.last_ends.max(last_ends);
    }
}

/// A revocation and its sweep.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Job {
    /// The revocation's id.
    pub id: JobId,
    /// What it ends.
    pub target: JobTarget,
    /// How the ended leases are marked.
    pub end: EndReason,
    /// Why, for people.
    pub reason: Option<TaskReason>,
    /// Who.
    pub author: String,
    /// A ticket's number or link.
    pub ticket: Option<String>,
    /// When it was acknowledged.
    pub since: UnixMillis,
    /// Where the sweep goes on.
    pub cursor: Option<crate::command::Cursor>,
    /// Leases ended so far.
    pub ended: u64,
    /// Of these, how many have side effects that wait to be undone or were.
    pub with_side_effects: u64,
    /// How the ended leases are checked.
    pub exposure: ExposureCount,
    /// Whether the sweep is complete.
    pub done: bool,
}

impl Job {
    /// A job at its beginning.
    pub fn new(
        command: &crate::command::RevokeCommand,
        target: JobTarget,
        end: EndReason,
        since: UnixMillis,
    ) -> Self {
        Self {
            id: command.id,
            target,
            end,
            reason: command.reason.clone(),
            author: command.author.clone(),
            ticket: command.ticket.clone(),
            since,
            cursor: None,
            ended: 0,
            with_side_effects: 0,
            exposure: ExposureCount::default(),
            done: false,
        }
    }

    /// Until when it is kept once it is done, in `generation`: as long as fences. A revocation of one lease that nobody gave
    /// a reason for is a broker's own, of which there are many: it is kept for an hour.
    pub fn kept_until(&self, generation: &GenerationRecord, now: UnixMillis) -> UnixMillis {
        let longest = generation.fence_until(now);
        self.brief_ms().map_or(longest, |brief| longest.min(now.plus(brief)))
    }

    /// How long it is kept at most once it is done, where that is less than fences are, in ms.
    pub fn brief_ms(&self) -> Option<u64> {
        let is_brief = matches!(self.target, JobTarget::Lease(_)) && self.reason.is_none();
        is_brief.then_some(BRIEF_MS)
    }

    /// The stored form (postcard after a version octet).
    ///
    /// # Errors
    /// [`mayfly_domain::codec::Malformed`] where it can't be written.
    pub fn encode(&self) -> Result<Vec<u8>, mayfly_domain::codec::Malformed> {
        postcard::to_extend(self, vec![1])
            .map_err(|_| mayfly_domain::codec::Malformed { what: "job", why: "can't be written" })
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`mayfly_domain::codec::Malformed`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, mayfly_domain::codec::Malformed> {
        let mut r = mayfly_domain::codec::Reader::new("job", bytes);
        if r.u8()? != 1 {
            return Err(r.malformed("unknown version"));
        }
        crate::body::read("job", r.rest())
    }
}
