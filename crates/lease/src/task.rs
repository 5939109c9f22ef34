//! The task record: whose it is, and how long it may last.
//!
//! # Layout (version 1, integers big-endian)
//! | octets | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | state: 0 open, 1 ended |
//! | 2–9 | started, ms |
//! | 10–17 | window ends, ms |
//! | 18–25 | kept until, ms |
//! | 26–41 | dimension key of its workload |
//! | 42– | body (postcard) |

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::{DimKey, Intent, SpiffeId, TaskId, TaskReason, UnixMillis};

const WHAT: &str = "task record";

/// Whether a task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It may be joined until its window ends.
    Open,
    /// It was completed; it is not opened again.
    Ended,
}

/// What a task is about; written once.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskBody {
    /// Its id.
    pub id: TaskId,
    /// Who opened it.
    pub workload: SpiffeId,
    /// What it sets out to do; none where it was opened without saying.
    pub intent: Option<Intent>,
    /// Words for people.
    pub reason: Option<TaskReason>,
    /// Whether the jobs of a run share it.
    pub shared: bool,
}

/// A task as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Whether it goes on.
    pub state: TaskState,
    /// When it was opened.
    pub started: UnixMillis,
    /// When its window ends.
    pub window_ends: UnixMillis,
    /// Until when the record is kept: until no evidence can name the task.
    pub keep_until: UnixMillis,
    /// The dimension key of its workload.
    pub owner: DimKey,
    /// What it is about.
    pub body: TaskBody,
}

impl TaskRecord {
    /// Writes the layout above.
    ///
    /// # Errors
    /// [`Malformed`] where the body can't be written.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut out = vec![1, u8::from(self.state == TaskState::Ended)];
        for time in [self.started, self.window_ends, self.keep_until] {
            out.extend_from_slice(&time.0.to_be_bytes());
        }
        out.extend_from_slice(&self.owner.0);
        out.extend_from_slice(&encode_body(&self.body)?);
        Ok(out)
    }

    /// Reads the layout above.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != 1 {
            return Err(r.malformed("unknown version"));
        }
        let state = match r.u8()? {
            0 => TaskState::Open,
            1 => TaskState::Ended,
            _ => return Err(r.malformed("unknown state")),
        };
        Ok(Self {
            state,
            started: UnixMillis(r.u64()?),
            window_ends: UnixMillis(r.u64()?),
            keep_until: UnixMillis(r.u64()?),
            owner: DimKey(r.array()?),
            body: crate::body::read(WHAT, r.rest())?,
        })
    }
}

/// The body alone, as a script takes it.
///
/// # Errors
/// [`Malformed`] where it can't be written.
pub fn encode_body(body: &TaskBody) -> Result<Vec<u8>, Malformed> {
    postcard::to_allocvec(body).map_err(|_| Malformed { what: WHAT, why: "body can't be written" })
}
