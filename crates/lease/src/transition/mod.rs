//! The protocol's transitions as pure functions: what is read goes in, what is written comes out.
//!
//! A [`View`] reads one consistent state; a transition decides at `now` and returns its outcome with the
//! [`Write`]s that must happen in the same atomic step, or a [`No`] and no write at all. These functions must
//! never read a clock, draw a random number or look at anything but the view and the command.

mod bucket;
mod end;
mod evidence;
mod join;
mod mint;
mod no;
mod renew;
mod revoke;
mod task;

use mayfly_domain::feed::{Change, Event};
use mayfly_domain::{AcceptorMode, DimKey, EvidenceHash, Gate, LeaseId, Observation, Subject, UnixMillis};

use crate::generation::GenerationRecord;
use crate::job::{ExposureCount, Job, JobId};
use crate::join::JoinRecord;
use crate::record::{LeaseRecord, Mark};
use crate::task::TaskRecord;

pub use bucket::Bucket;
pub use end::{check, confirm, end, overdue, shown, undone};
pub use evidence::Binding;
pub use join::{put_join, withdraw_join};
pub use mint::mint;
pub use no::No;
pub use renew::renew;
pub use revoke::{end_swept, revoke, set_block, would_be_refused};
pub use task::start_task;

/// A consistent state that a transition reads. Values past their own end may or may not still be there.
pub trait View {
    /// What goes wrong in reading.
    type Error: From<No>;

    /// The generation that the state is in (adopted and settled: the caller has seen to it).
    fn generation(&self) -> Result<GenerationRecord, Self::Error>;
    /// A subject's gate.
    fn gate(&self, key: DimKey) -> Result<Option<Gate>, Self::Error>;
    /// A lease.
    fn record(&self, id: LeaseId) -> Result<Option<LeaseRecord>, Self::Error>;
    /// A lease's mark.
    fn mark(&self, id: LeaseId) -> Result<Option<Mark>, Self::Error>;
    /// Until when a nonce's use is remembered.
    fn used(&self, id: LeaseId) -> Result<Option<UnixMillis>, Self::Error>;
    /// To whom bearer evidence belongs.
    fn binding(&self, hash: EvidenceHash) -> Result<Option<Binding>, Self::Error>;
    /// A join token.
    fn join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, Self::Error>;
    /// A task, by its dimension key.
    fn task(&self, key: DimKey) -> Result<Option<TaskRecord>, Self::Error>;
    /// How many index entries of `key` end after `now`.
    fn live(&self, key: DimKey, now: UnixMillis) -> Result<u32, Self::Error>;
    /// How the leases are checked whose index entries of `key` end after `now`.
    fn exposure(&self, key: DimKey, now: UnixMillis) -> Result<ExposureCount, Self::Error>;
    /// When a queued undo is due; none where none is queued.
    fn undo_due(&self, id: LeaseId) -> Result<Option<UnixMillis>, Self::Error>;
    /// A rate limit's state.
    fn bucket(&self, key: DimKey) -> Result<Option<Bucket>, Self::Error>;
    /// How many changes were counted.
    fn changes(&self) -> Result<u64, Self::Error>;
    /// The version of the sealed keys; 0 for none.
    fn keys_version(&self) -> Result<u64, Self::Error>;
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Remember a nonce's use.
    Used(LeaseId, UnixMillis),
    /// Bind evidence.
    Binding(EvidenceHash, Binding),
    /// Write a join token.
    Join(Box<JoinRecord>),
    /// Write or extend an index entry of a subject; before the record.
    Index(DimKey, LeaseId, AcceptorMode, UnixMillis),
    /// Write or extend the entry of the lease's expiry partition; before the record.
    Partition(LeaseId, UnixMillis),
    /// Write a lease. `keep`: until when, none for ever (a side effect that waits for its undo).
    Record(Box<LeaseRecord>, Option<UnixMillis>),
    /// Queue an undo, or move it.
    Undo(LeaseId, UnixMillis),
    /// The undo is done.
    UndoDone(LeaseId),
    /// Write a task.
    Task(DimKey, TaskRecord),
    /// Write a rate limit's state.
    Bucket(DimKey, Bucket),
    /// Write a gate.
    Gate(Subject, Gate),
    /// Mark a lease.
    Mark(LeaseId, Mark),
    /// Store an open job.
    Job(Box<Job>),
    /// Count a change and add its event to the feed, under the number that the count comes to.
    Change(Event),
}

/// An outcome and the writes that make it true.
pub type Step<T> = (T, Vec<Write>);

/// Whether an observation still holds: the generation is the present one and every pair matches.
fn observation_holds<V: View>(
    view: &V,
    observation: &Observation,
    now: UnixMillis,
) -> Result<bool, V::Error> {
    if observation.generation() != view.generation()?.generation {
        return Ok(false);
    }
    for pair in observation.pairs() {
        let fence = view.gate(pair.key)?.and_then(|g| g.standing_fence(now));
        if !mayfly_domain::Fence::matches(fence, pair.fence) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first marked lease among `ids`.
fn marked<V: View>(view: &V, ids: &[LeaseId], now: UnixMillis) -> Result<Option<Mark>, V::Error> {
    for id in ids {
        if let Some(mark) = view.mark(*id)?.filter(|m| now < m.until) {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}

/// The position of the first key that a block stands on.
fn blocked<V: View>(
    view: &V,
    keys: impl IntoIterator<Item = DimKey>,
    now: UnixMillis,
) -> Result<Option<usize>, V::Error> {
    for (n, key) in keys.into_iter().enumerate() {
        if view.gate(key)?.is_some_and(|g| g.standing_block(now).is_some()) {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

/// Refuses where a block stands on one of the subjects, in their order, or else on anything that the
/// observation carries: a child stands under its ancestors' values too.
fn refuse_blocked<V: View>(
    view: &V,
    subjects: &[Subject],
    carried: Option<&Observation>,
    now: UnixMillis,
) -> Result<(), V::Error> {
    let named = subjects.iter().map(Subject::key);
    let carried = carried.into_iter().flat_map(|o| o.pairs().iter().map(|p| p.key));
    match blocked(view, named.chain(carried), now)? {
        Some(n) => Err(No::Blocked(n).into()),
        None => Ok(()),
    }
}

/// The event of a gate that was written at `now`.
fn gate_event(subject: &Subject, gate: &Gate, by: Option<JobId>, now: UnixMillis) -> Write {
    let change = Change::Gate(crate::gate::state(subject.key(), gate));
    Write::Change(Event { at: now, revocation: by.map(|job| job.0), change })
}

/// Until when a record without side effects is kept after its expiry: twice the skew.
fn keep_until(expires: UnixMillis) -> UnixMillis {
    expires.plus(2 * mayfly_domain::defaults::SKEW_MS)
}
