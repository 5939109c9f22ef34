//! Join tokens as the store knows them: by the token's hash, never by the token.
//!
//! # Layout (version 1, integers big-endian)
//! | octets | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | state: 0 open, 1 used, 2 withdrawn |
//! | 2–9 | kept until, ms |
//! | 10–17 | expires, ms |
//! | 18–33 | the lease that it was used for, zeros for none |
//! | 34– | body (postcard) |

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::{
    Dimension, Environment, EvidenceHash, Invalid, LeaseId, Owners, SpiffeId, Subject, TaskId, UnixMillis,
};

const VERSION: u8 = 1;
const WHAT: &str = "join token";

/// How long after its expiry a join token is still listed, in ms.
pub const KEEP_MS: u64 = 24 * 3_600_000;

/// A join token's id, for lists and audit: 16 hexadecimal digits. It is not the token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct JoinId(pub [u8; 8]);

impl JoinId {
    /// Parses the text form.
    ///
    /// # Errors
    /// [`Invalid`] for any other form.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let no = || Invalid::new("join token id", input, "must be 16 hexadecimal digits");
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if input.len() != 16 || !input.bytes().all(lower) {
            return Err(no());
        }
        u64::from_str_radix(input, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| no())
    }

    /// The task of what is minted with it: `join-` and the id.
    ///
    /// # Errors
    /// None that can be met: the text is of a task id's form.
    pub fn task(&self) -> Result<TaskId, Invalid> {
        TaskId::parse(&format!("join-{self}"))
    }
}

impl std::fmt::Display for JoinId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl std::fmt::Debug for JoinId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Where a join token stands. One that has expired is open all the same, and mints nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinState {
    /// It may be used.
    Open,
    /// One mint has used it up.
    Used(LeaseId),
    /// An operator took it back before it was used.
    Withdrawn,
}

impl JoinState {
    /// The state's word in lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used(_) => "used",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A join token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRecord {
    /// The token's hash: the key that it is stored by.
    pub hash: EvidenceHash,
    /// Its id.
    pub id: JoinId,
    /// Whom it vouches for.
    pub workload: SpiffeId,
    /// Who answers for that workload.
    pub owners: Owners,
    /// The environment that policies see.
    pub environment: Option<Environment>,
    /// When it was made.
    pub created: UnixMillis,
    /// When it expires.
    pub expires: UnixMillis,
    /// Who made it.
    pub author: String,
    /// Where it stands.
    pub state: JoinState,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Body {
    id: JoinId,
    workload: SpiffeId,
    owners: Owners,
    environment: Option<Environment>,
    created: u64,
    author: String,
}

impl JoinRecord {
    /// The lease that it was used for.
    pub const fn lease(&self) -> Option<LeaseId> {
        match self.state {
            JoinState::Used(lease) => Some(lease),
            JoinState::Open | JoinState::Withdrawn => None,
        }
    }

    /// Until when it is listed.
    pub fn keep_until(&self) -> UnixMillis {
        self.expires.plus(KEEP_MS)
    }

    /// What it observes when it is made: its workload, owners and trust domain.
    ///
    /// # Errors
    /// None that can be met: a SPIFFE ID's trust domain is one.
    pub fn observes(&self) -> Result<Vec<Subject>, Malformed> {
        let everything = Subject::parse(Dimension::Everything, self.workload.trust_domain())
            .map_err(|_| Malformed { what: WHAT, why: "no trust domain" })?;
        let mut all = vec![Subject::Workload(self.workload.clone())];
        all.extend(self.owners.iter().cloned().map(Subject::Owner));
        all.push(everything);
        Ok(all)
    }

    /// Writes the layout above.
    ///
    /// # Errors
    /// [`Malformed`] where the body can't be written.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let (state, lease) = match self.state {
            JoinState::Open => (0, [0; 16]),
            JoinState::Used(lease) => (1, *lease.as_bytes()),
            JoinState::Withdrawn => (2, [0; 16]),
        };
        let mut out = vec![VERSION, state];
        out.extend_from_slice(&self.keep_until().0.to_be_bytes());
        out.extend_from_slice(&self.expires.0.to_be_bytes());
        out.extend_from_slice(&lease);
        let body = Body {
            id: self.id,
            workload: self.workload.clone(),
            owners: self.owners.clone(),
            environment: self.environment.clone(),
            created: self.created.0,
            author: self.author.clone(),
        };
        postcard::to_extend(&body, out).map_err(|_| Malformed { what: WHAT, why: "body can't be written" })
    }

    /// Reads the layout above.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(hash: EvidenceHash, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed("unknown version"));
        }
        let state = r.u8()?;
        let keep = UnixMillis(r.u64()?);
        let expires = UnixMillis(r.u64()?);
        let lease: [u8; 16] = r.array()?;
        let state = match (state, lease) {
            (0, _) if lease == [0; 16] => JoinState::Open,
            (1, _) => JoinState::Used(LeaseId::from_bytes(lease)),
            (2, _) if lease == [0; 16] => JoinState::Withdrawn,
            _ => return Err(r.malformed("unknown state")),
        };
        let body: Body = crate::body::read(WHAT, r.rest())?;
        let record = Self {
            hash,
            id: body.id,
            workload: body.workload,
            owners: body.owners,
            environment: body.environment,
            created: UnixMillis(body.created),
            expires,
            author: body.author,
            state,
        };
        if record.keep_until() != keep {
            return Err(Malformed { what: WHAT, why: "kept for another time than its own" });
        }
        Ok(record)
    }
}
