//! The protocol's transitions over maps in memory: the reference that other stores are held against.
//!
//! Nothing here is durable, and nothing here decides: what a command comes to is said by
//! `mayfly_lease::transition` alone.

mod feed;
mod list;
mod store;

use std::collections::{BTreeMap, VecDeque};

use mayfly_domain::feed::Numbered;
use mayfly_domain::{AcceptorMode, DimKey, EvidenceHash, Gate, LeaseId, ProfileName, Subject, UnixMillis};
use mayfly_lease::feed::{FEED_KEPT, FollowerId, FollowerSeen};
use mayfly_lease::job::ExposureCount;
use mayfly_lease::transition::{Binding, Bucket, No, Step, View, Write};
use mayfly_lease::{GenerationRecord, Job, JobId, JoinRecord, LeaseRecord, Mark, StoreError, TaskRecord};

pub use store::MemoryStore;

/// A job as it is kept.
#[derive(Debug, Clone)]
pub struct KeptJob {
    /// The job.
    pub job: Job,
    /// Until when it is claimed.
    pub claimed: UnixMillis,
    /// Until when it is kept, once it is done.
    pub keep: Option<UnixMillis>,
}

/// A state, all of it.
#[derive(Debug, Clone, Default)]
pub struct MemoryView {
    /// The moment at which it is looked at.
    pub now: UnixMillis,
    /// Whether records that are kept no longer are seen all the same, as in a store that removes them later.
    pub lingering: bool,
    /// The generation.
    pub generation: Option<GenerationRecord>,
    /// Gates with their subjects.
    pub gates: BTreeMap<DimKey, (Subject, Gate)>,
    /// Records with until when they are kept.
    pub records: BTreeMap<LeaseId, (LeaseRecord, Option<UnixMillis>)>,
    /// Marks.
    pub marks: BTreeMap<LeaseId, Mark>,
    /// Uses of nonces.
    pub used: BTreeMap<LeaseId, UnixMillis>,
    /// Bindings.
    pub bindings: BTreeMap<EvidenceHash, Binding>,
    /// Join tokens.
    pub joins: BTreeMap<EvidenceHash, JoinRecord>,
    /// Tasks.
    pub tasks: BTreeMap<DimKey, TaskRecord>,
    /// Index entries with the acceptors' mode and their expiry.
    pub index: BTreeMap<DimKey, BTreeMap<LeaseId, (AcceptorMode, UnixMillis)>>,
    /// Partition entries with their expiry.
    pub partitions: BTreeMap<LeaseId, UnixMillis>,
    /// Rate limits.
    pub buckets: BTreeMap<DimKey, Bucket>,
    /// Jobs.
    pub jobs: BTreeMap<JobId, KeptJob>,
    /// The undo queue.
    pub undo: BTreeMap<LeaseId, UnixMillis>,
    /// Sealed keys with their version.
    pub keys: Option<(u64, Vec<u8>)>,
    /// Changes counted.
    pub changes: u64,
    /// The last events.
    pub feed: VecDeque<Numbered>,
    /// The followers.
    pub followers: BTreeMap<FollowerId, FollowerSeen>,
    /// What was used, by profile and day.
    pub usage: BTreeMap<(ProfileName, u32), BTreeMap<Vec<u8>, u64>>,
    /// The identity of the server that answers.
    pub server: [u8; 16],
    /// That of the server which the generation began on.
    pub began_on: [u8; 16],
    /// Whether what it keeps for a time may be gone.
    pub forgot: bool,
    /// Its clock less the brokers', in ms, as a survey says.
    pub clock_difference_ms: i64,
}

impl MemoryView {
    /// A state in a generation, at its start.
    pub fn in_generation(generation: GenerationRecord) -> Self {
        Self { now: generation.started, generation: Some(generation), ..Self::default() }
    }

    /// Decides at `now` and applies; a refusal changes nothing.
    ///
    /// # Errors
    /// The transition's.
    pub fn step<R>(
        &mut self,
        decide: impl FnOnce(&Self, UnixMillis) -> Result<Step<R>, StoreError>,
    ) -> Result<R, StoreError> {
        let (outcome, writes) = decide(self, self.now)?;
        writes.into_iter().for_each(|write| self.apply(write));
        Ok(outcome)
    }

    /// Applies one write.
    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Used(id, until) => {
                self.used.insert(id, until);
            }
            Write::Binding(hash, binding) => {
                self.bindings.insert(hash, binding);
            }
            Write::Join(record) => {
                self.joins.insert(record.hash, *record);
            }
            Write::Index(key, id, mode, expires) => {
                self.index.entry(key).or_default().insert(id, (mode, expires));
            }
            Write::Partition(id, expires) => {
                self.partitions.insert(id, expires);
            }
            Write::Record(record, keep) => {
                self.records.insert(record.id, (*record, keep));
            }
            Write::Undo(id, due) => {
                self.undo.insert(id, due);
            }
            Write::UndoDone(id) => {
                self.undo.remove(&id);
            }
            Write::Task(key, task) => {
                self.tasks.insert(key, task);
            }
            Write::Bucket(key, bucket) => {
                self.buckets.insert(key, bucket);
            }
            Write::Gate(subject, gate) => {
                self.gates.insert(subject.key(), (subject, gate));
            }
            Write::Mark(id, mark) => {
                self.marks.insert(id, mark);
            }
            Write::Job(job) => {
                self.jobs.insert(job.id, KeptJob { job: *job, claimed: UnixMillis(0), keep: None });
            }
            Write::Change(event) => {
                self.changes += 1;
                self.feed.push_back(Numbered { number: self.changes, event });
                while u64::try_from(self.feed.len()).unwrap() > FEED_KEPT {
                    self.feed.pop_front();
                }
            }
        }
    }

    /// Loses a lease's record, as a fail-over may.
    pub fn lose_record(&mut self, id: LeaseId) {
        self.records.remove(&id);
    }

    /// The refusal in a store's error.
    ///
    /// # Panics
    /// Where it is another error.
    pub fn no(error: StoreError) -> No {
        match error {
            StoreError::Refused(no) => no,
            other => panic!("not a refusal: {other}"),
        }
    }
}

impl View for MemoryView {
    type Error = StoreError;

    fn generation(&self) -> Result<GenerationRecord, StoreError> {
        self.generation.ok_or(StoreError::OtherGeneration(None))
    }

    fn gate(&self, key: DimKey) -> Result<Option<Gate>, StoreError> {
        Ok(self.gates.get(&key).map(|(_, gate)| gate.clone()))
    }

    fn record(&self, id: LeaseId) -> Result<Option<LeaseRecord>, StoreError> {
        let kept =
            self.records.get(&id).filter(|(_, keep)| self.lingering || keep.is_none_or(|k| self.now < k));
        Ok(kept.map(|(record, _)| record.clone()))
    }

    fn mark(&self, id: LeaseId) -> Result<Option<Mark>, StoreError> {
        Ok(self.marks.get(&id).copied())
    }

    fn used(&self, id: LeaseId) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.used.get(&id).copied())
    }

    fn binding(&self, hash: EvidenceHash) -> Result<Option<Binding>, StoreError> {
        Ok(self.bindings.get(&hash).cloned())
    }

    fn join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, StoreError> {
        Ok(self.joins.get(&hash).cloned())
    }

    fn task(&self, key: DimKey) -> Result<Option<TaskRecord>, StoreError> {
        Ok(self.tasks.get(&key).cloned())
    }

    fn live(&self, key: DimKey, now: UnixMillis) -> Result<u32, StoreError> {
        let live = self.index.get(&key).map_or(0, |e| e.values().filter(|(_, end)| *end > now).count());
        Ok(u32::try_from(live).unwrap())
    }

    fn exposure(&self, key: DimKey, now: UnixMillis) -> Result<ExposureCount, StoreError> {
        let mut exposure = ExposureCount::default();
        let entries = self.index.get(&key).into_iter().flat_map(BTreeMap::values);
        entries.filter(|(_, end)| *end > now).for_each(|(mode, end)| exposure.add(*mode, 1, *end));
        Ok(exposure)
    }

    fn undo_due(&self, id: LeaseId) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.undo.get(&id).copied())
    }

    fn bucket(&self, key: DimKey) -> Result<Option<Bucket>, StoreError> {
        Ok(self.buckets.get(&key).copied())
    }

    fn changes(&self) -> Result<u64, StoreError> {
        Ok(self.changes)
    }

    fn keys_version(&self) -> Result<u64, StoreError> {
        Ok(self.keys.as_ref().map_or(0, |(version, _)| *version))
    }
}
