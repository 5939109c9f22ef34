//! The store of a model: what the real transitions read and write, small enough to be kept a million times.
//!
//! Must never decide anything: what a command comes to is said by `mayfly_lease::transition` alone.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use mayfly_domain::feed::{Change, Event, GateState};
use mayfly_domain::follow::FenceTable;
use mayfly_domain::{
    AcceptorMode, DimKey, EvidenceHash, Fence, Gate, LeaseId, Observation, Pair, UnixMillis,
};
use mayfly_lease::job::ExposureCount;
use mayfly_lease::transition::{Binding, Bucket, No, Step, View, Write};
use mayfly_lease::{GenerationRecord, Job, JobId, JoinRecord, LeaseRecord, Mark, TaskRecord};
use mayfly_testkit::words;

/// When every model begins.
pub const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// What is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    /// The store's clock.
    pub now: UnixMillis,
    /// The generation.
    pub generation: GenerationRecord,
    /// Gates.
    pub gates: BTreeMap<DimKey, Gate>,
    /// Records, each with until when it is kept.
    pub records: BTreeMap<LeaseId, (Arc<LeaseRecord>, Option<UnixMillis>)>,
    /// Marks.
    pub marks: BTreeMap<LeaseId, Mark>,
    /// Uses of nonces.
    pub used: BTreeMap<LeaseId, UnixMillis>,
    /// Bindings of evidence.
    pub bindings: BTreeMap<EvidenceHash, Binding>,
    /// Tasks.
    pub tasks: BTreeMap<DimKey, Arc<TaskRecord>>,
    /// Index entries with their expiry.
    pub index: BTreeMap<(DimKey, LeaseId), UnixMillis>,
    /// Entries of the expiry partitions.
    pub partitions: BTreeMap<LeaseId, UnixMillis>,
    /// Jobs that are not done.
    pub jobs: BTreeMap<JobId, Arc<Job>>,
    /// The undo queue.
    pub undo: BTreeMap<LeaseId, UnixMillis>,
    /// The feed: every change that was counted.
    pub feed: Vec<Event>,
}

impl Store {
    /// An empty store in its first generation.
    pub fn new() -> Self {
        Self {
            now: START,
            generation: words::generation(1, START),
            gates: BTreeMap::new(),
            records: BTreeMap::new(),
            marks: BTreeMap::new(),
            used: BTreeMap::new(),
            bindings: BTreeMap::new(),
            tasks: BTreeMap::new(),
            index: BTreeMap::new(),
            partitions: BTreeMap::new(),
            jobs: BTreeMap::new(),
            undo: BTreeMap::new(),
            feed: Vec::new(),
        }
    }

    /// One atomic step: decides and applies. A refusal changes nothing.
    ///
    /// # Errors
    /// The transition's.
    pub fn step<R>(
        &mut self,
        decide: impl FnOnce(&Self, UnixMillis) -> Result<Step<R>, No>,
    ) -> Result<R, No> {
        let (outcome, writes) = decide(self, self.now)?;
        writes.into_iter().for_each(|write| self.apply(write));
        Ok(outcome)
    }

    /// Applies one write.
    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Used(id, until) => drop(self.used.insert(id, until)),
            Write::Binding(hash, binding) => drop(self.bindings.insert(hash, binding)),
            Write::Index(key, id, _, expires) => drop(self.index.insert((key, id), expires)),
            Write::Partition(id, expires) => drop(self.partitions.insert(id, expires)),
            Write::Record(record, keep) => drop(self.records.insert(record.id, (Arc::new(*record), keep))),
            Write::Undo(id, due) => drop(self.undo.insert(id, due)),
            Write::UndoDone(id) => drop(self.undo.remove(&id)),
            Write::Task(key, task) => drop(self.tasks.insert(key, Arc::new(task))),
            Write::Gate(subject, gate) => drop(self.gates.insert(subject.key(), gate)),
            Write::Mark(id, mark) => drop(self.marks.insert(id, mark)),
            Write::Job(job) => drop(self.jobs.insert(job.id, Arc::new(*job))),
            Write::Change(event) => self.feed.push(event),
            // No model joins by token or mints faster than its quota.
            Write::Join(_) | Write::Bucket(..) => {}
        }
    }

    /// A lease's record.
    pub fn lease(&self, id: LeaseId) -> Option<&LeaseRecord> {
        let (record, _) = self.records.get(&id).filter(|(_, keep)| keep.is_none_or(|k| self.now < k))?;
        Some(record)
    }

    /// What a renewal that observes anew would do: the fences of now instead of the first ones.
    pub fn observe_anew(&mut self, id: LeaseId) -> Option<()> {
        let now = self.now;
        let (record, _) = self.records.get(&id)?;
        let pairs: Vec<Pair> = record
            .observation
            .pairs()
            .iter()
            .map(|pair| {
                let fence = self.gates.get(&pair.key).and_then(|gate| gate.standing_fence(now));
                Pair { key: pair.key, fence: fence.unwrap_or(Fence::NONE) }
            })
            .collect();
        let seen =
            Observation::new(record.observation.generation(), pairs, record.observation.ancestors().to_vec())
                .ok()?;
        let (record, _) = self.records.get_mut(&id)?;
        Arc::make_mut(record).observation = seen;
        Some(())
    }

    /// The table of a follower that has heard every event.
    pub fn told(&self) -> FenceTable {
        self.filled(self.feed.iter().map(|event| event.change))
    }

    /// The table of a follower that has a snapshot of now.
    pub fn snapshot(&self) -> FenceTable {
        let gates = self.gates.iter().map(|(key, gate)| {
            Change::Gate(GateState {
                key: *key,
                fence: gate.fence,
                fence_until: gate.fence_until,
                block_version: gate.block_version,
                blocked: gate.block.is_some(),
                block_until: gate.block.as_ref().and_then(|b| b.until),
            })
        });
        let marks = self.marks.iter().map(|(id, mark)| Change::Mark { lease: *id, until: mark.until });
        self.filled(gates.chain(marks))
    }

    fn filled(&self, changes: impl Iterator<Item = Change>) -> FenceTable {
        let mut table = FenceTable::new(64);
        changes.for_each(|change| table.apply(&change).unwrap());
        table.clean(self.now);
        table
    }

    /// Whether an acceptor that has heard of everything accepts what this lease's credential carries.
    pub fn in_process(&self, id: LeaseId, observation: &Observation) -> bool {
        self.told().judge(self.generation.generation, id, observation).is_ok()
    }

    /// Forgets what is over by its own end, and nothing else.
    pub fn clean(&mut self) {
        let now = self.now;
        self.records.retain(|_, (_, keep)| keep.is_none_or(|k| now < k));
        self.index.retain(|_, end| now < *end);
        self.partitions.retain(|_, end| now < *end);
        self.used.retain(|_, until| now < *until);
        self.gates.retain(|_, gate| !gate.is_over(now));
        self.marks.retain(|_, mark| now < mark.until);
        self.bindings.retain(|_, binding| now < binding.until);
        self.tasks.retain(|_, task| now < task.keep_until);
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl View for Store {
    type Error = No;

    fn generation(&self) -> Result<GenerationRecord, No> {
        Ok(self.generation)
    }
    fn gate(&self, key: DimKey) -> Result<Option<Gate>, No> {
        Ok(self.gates.get(&key).cloned())
    }
    fn record(&self, id: LeaseId) -> Result<Option<LeaseRecord>, No> {
        Ok(self.lease(id).cloned())
    }
    fn mark(&self, id: LeaseId) -> Result<Option<Mark>, No> {
        Ok(self.marks.get(&id).copied())
    }
    fn used(&self, id: LeaseId) -> Result<Option<UnixMillis>, No> {
        Ok(self.used.get(&id).copied())
    }
    fn binding(&self, hash: EvidenceHash) -> Result<Option<Binding>, No> {
        Ok(self.bindings.get(&hash).cloned())
    }
    fn join(&self, _: EvidenceHash) -> Result<Option<JoinRecord>, No> {
        Ok(None)
    }
    fn task(&self, key: DimKey) -> Result<Option<TaskRecord>, No> {
        Ok(self.tasks.get(&key).map(|task| (**task).clone()))
    }
    fn exposure(&self, key: DimKey, now: UnixMillis) -> Result<ExposureCount, No> {
        let mut exposure = ExposureCount::default();
        let live = self.index.iter().filter(|((of, _), end)| *of == key && now < **end);
        live.for_each(|(_, end)| exposure.add(AcceptorMode::Online, 1, *end));
        Ok(exposure)
    }

    fn live(&self, key: DimKey, now: UnixMillis) -> Result<u32, No> {
        let live = self.index.iter().filter(|((of, _), end)| *of == key && now < **end).count();
        Ok(u32::try_from(live).unwrap_or(u32::MAX))
    }
    fn undo_due(&self, id: LeaseId) -> Result<Option<UnixMillis>, No> {
        Ok(self.undo.get(&id).copied())
    }
    fn bucket(&self, _: DimKey) -> Result<Option<Bucket>, No> {
        Ok(None)
    }
    fn changes(&self) -> Result<u64, No> {
        Ok(u64::try_from(self.feed.len()).unwrap_or(u64::MAX))
    }
    fn keys_version(&self) -> Result<u64, No> {
        Ok(0)
    }
}

/// Of what never differs within a model (bodies, words, authors) nothing is hashed: two states that differ there
/// would still be told apart by equality.
impl Hash for Store {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.now, self.generation.generation).hash(to);
        self.feed.iter().for_each(|event| event.encode().hash(to));
        for (key, gate) in &self.gates {
            let block = gate.block.as_ref().map(|b| (b.since, b.until));
            (key, gate.fence, gate.fence_until, gate.block_version, block).hash(to);
        }
        for (id, (record, keep)) in &self.records {
            (id, record.state, record.flags, record.counter, record.expires, record.issued, keep).hash(to);
            (record.observation.pairs(), record.observation.ancestors(), record.body.key).hash(to);
            record.revocation.map(|job| job.0).hash(to);
        }
        for (id, mark) in &self.marks {
            (id, mark.until, mark.revocation.0).hash(to);
        }
        for (hash, binding) in &self.bindings {
            (hash, binding.key, binding.superseded, binding.bound_at, &binding.pairs).hash(to);
        }
        for (key, task) in &self.tasks {
            (key, task.state == mayfly_lease::TaskState::Open, task.window_ends, task.keep_until).hash(to);
        }
        for (id, job) in &self.jobs {
            (id.0, job.since, job.done).hash(to);
        }
        (&self.used, &self.index, &self.partitions, &self.undo).hash(to);
    }
}
