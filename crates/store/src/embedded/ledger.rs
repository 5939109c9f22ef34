//! The state inside the writer's transaction: applies what transitions decided.

use mayfly_domain::{DimKey, LeaseId, UnixMillis};
use mayfly_lease::transition::{Step, Write};
use mayfly_lease::{Job, StoreError};
use redb::Table;

use super::file::storage;
use super::layout as at;
use super::state::State;

/// Expired entries that a new index entry takes away with it, at most: more than it adds.
const TIDY_PER_ENTRY: usize = 8;

/// The state that a batch of commands changes.
pub(super) type Ledger<'t> = State<Table<'t, &'static [u8], &'static [u8]>>;

/// What a batch has come to.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether anything was written.
    pub(super) dirty: bool,
    /// Whether the feed has something to read that it had not before.
    pub(super) told: bool,
    /// Why the batch must not be committed: a write failed half-way.
    pub(super) broken: Option<StoreError>,
}

/// The ledger with the batch's progress.
#[derive(Debug)]
pub(super) struct Work<'w, 't> {
    pub(super) ledger: &'w mut Ledger<'t>,
    pub(super) progress: &'w mut Progress,
}

impl<'t> Work<'_, 't> {
    /// The moment at which this command is decided.
    pub(super) fn now(&self) -> UnixMillis {
        self.ledger.now
    }

    /// Decides and applies: a refusal writes nothing, a failed write spoils the batch.
    pub(super) fn step<R>(
        &mut self,
        decide: impl FnOnce(&Ledger<'t>, UnixMillis) -> Result<Step<R>, StoreError>,
    ) -> Result<R, StoreError> {
        let (outcome, writes) = decide(self.ledger, self.ledger.now)?;
        self.progress.told |= writes.iter().any(|write| matches!(write, Write::Change(_)));
        self.write(|ledger| writes.into_iter().try_for_each(|write| ledger.apply(write)))?;
        Ok(outcome)
    }

    /// Writes; a failure spoils the batch, since it may have left half of what belongs together.
    pub(super) fn write<R>(
        &mut self,
        write: impl FnOnce(&mut Ledger<'t>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.progress.dirty = true;
        write(self.ledger).inspect_err(|e| self.progress.broken = Some(e.clone()))
    }
}

impl Ledger<'_> {
    /// Writes a value.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.table.insert(key, value).map_err(storage)?;
        Ok(())
    }

    /// Removes a value.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.table.remove(key).map_err(storage)?;
        Ok(())
    }

    /// Notes that at this moment something is taken away because it is over.
    pub(super) fn forgets(&mut self) -> Result<(), StoreError> {
        if self.count(at::CLOCK)? < self.now.0 {
            self.put(at::CLOCK, &self.now.0.to_be_bytes())
        } else {
            Ok(())
        }
    }

    /// Applies one write of a transition.
    fn apply(&mut self, write: Write) -> Result<(), StoreError> {
        match write {
            Write::Used(id, until) => self.put(&at::key(at::USED, &[id.as_bytes()]), &until.0.to_be_bytes()),
            Write::Binding(hash, binding) => self.put(&at::key(at::BINDING, &[&hash.0]), &binding.encode()),
            Write::Join(record) => self.put(&at::key(at::JOIN, &[&record.hash.0]), &record.encode()?),
            Write::Index(key, id, mode, expires) => self.put_index(key, id, mode.number(), expires),
            Write::Partition(id, expires) => self.put_partition(id, expires),
            Write::Record(record, keep) => {
                let value = at::keep(keep.unwrap_or(at::FOR_EVER), &record.encode()?);
                self.put(&at::key(at::RECORD, &[record.id.as_bytes()]), &value)
            }
            Write::Undo(id, due) => {
                self.drop_undo(id)?;
                self.put(&at::key(at::UNDO_OF, &[id.as_bytes()]), &due.0.to_be_bytes())?;
                self.put(&at::undo(due, id), &[])
            }
            Write::UndoDone(id) => self.drop_undo(id),
            Write::Task(key, task) => self.put(&at::key(at::TASK, &[&key.0]), &task.encode()?),
            Write::Bucket(key, bucket) => {
                self.put(&at::key(at::BUCKET, &[&key.0]), &bucket.arrival_us.to_be_bytes())
            }
            Write::Gate(subject, gate) => {
                let value = mayfly_lease::gate::encode(&subject, &gate)?;
                self.put(&at::key(at::GATE, &[&subject.key().0]), &value)
            }
            Write::Mark(id, mark) => self.put(&at::key(at::MARK, &[id.as_bytes()]), &mark.encode()),
            Write::Job(job) => self.put_job(&job, Some(UnixMillis(0)), at::FOR_EVER),
            Write::Change(event) => self.publish(&event),
        }
    }

    /// Stores a job; `claimed`: until when nobody else claims it, none where it is done.
    pub(super) fn put_job(
        &mut self,
        job: &Job,
        claimed: Option<UnixMillis>,
        keep: UnixMillis,
    ) -> Result<(), StoreError> {
        self.put(&at::key(at::JOB, &[&job.id.0]), &at::keep(keep, &job.encode()?))?;
        let open = at::key(at::JOB_OPEN, &[&job.id.0]);
        match claimed {
            Some(until) => self.put(&open, &until.0.to_be_bytes()),
            None => self.remove(&open),
        }
    }

    /// Removes an index entry that is over.
    pub(super) fn drop_index(
        &mut self,
        key: DimKey,
        id: LeaseId,
        mode: u8,
        expires: UnixMillis,
    ) -> Result<(), StoreError> {
        self.remove(&at::index(key, mode, expires, id))?;
        self.remove(&at::key(at::INDEX_OF, &[&key.0, id.as_bytes()]))?;
        self.bump(&at::key(at::INDEX_COUNT, &[&key.0, &[mode]]), -1)
    }

    /// Removes a partition's entry that is over.
    pub(super) fn drop_partition(&mut self, id: LeaseId, expires: UnixMillis) -> Result<(), StoreError> {
        self.remove(&at::partition(mayfly_lease::LeaseRecord::partition(id), expires, id))?;
        self.remove(&at::key(at::PARTITION_OF, &[id.as_bytes()]))?;
        self.bump(at::LEASES, -1)
    }

    fn put_index(
        &mut self,
        key: DimKey,
        id: LeaseId,
        mode: u8,
        expires: UnixMillis,
    ) -> Result<(), StoreError> {
        let of = at::key(at::INDEX_OF, &[&key.0, id.as_bytes()]);
        if let Some((old_mode, old)) = self.get(&of, at::mode_and_time)? {
            self.drop_index(key, id, old_mode, old)?;
        }
        self.bump(&at::key(at::INDEX_COUNT, &[&key.0, &[mode]]), 1)?;
        self.put(&of, &[&[mode][..], &expires.0.to_be_bytes()].concat())?;
        self.put(&at::index(key, mode, expires, id), &[])?;
        let mut over = Vec::new();
        let (to, _) = at::index_after(key, mode, self.now);
        self.walk(&at::key(at::INDEX, &[&key.0, &[mode]]), &to, |entry, _| {
            over.push(at::time_and_lease(entry)?);
            Ok(over.len() < TIDY_PER_ENTRY)
        })?;
        if !over.is_empty() {
            self.forgets()?;
        }
        over.into_iter().try_for_each(|(expires, id)| self.drop_index(key, id, mode, expires))
    }

    fn put_partition(&mut self, id: LeaseId, expires: UnixMillis) -> Result<(), StoreError> {
        let partition = mayfly_lease::LeaseRecord::partition(id);
        let of = at::key(at::PARTITION_OF, &[id.as_bytes()]);
        match self.get(&of, at::number)? {
            Some(old) => self.remove(&at::partition(partition, UnixMillis(old), id))?,
            None => self.bump(at::LEASES, 1)?,
        }
        self.put(&of, &expires.0.to_be_bytes())?;
        self.put(&at::partition(partition, expires, id), &[])
    }

    fn drop_undo(&mut self, id: LeaseId) -> Result<(), StoreError> {
        let of = at::key(at::UNDO_OF, &[id.as_bytes()]);
        if let Some(due) = self.get(&of, at::number)? {
            self.remove(&at::undo(UnixMillis(due), id))?;
            self.remove(&of)?;
        }
        Ok(())
    }

    /// Counts up or down; a counter at zero is removed.
    fn bump(&mut self, key: &[u8], by: i64) -> Result<(), StoreError> {
        let count = self.count(key)?.saturating_add_signed(by);
        if count == 0 { self.remove(key) } else { self.put(key, &count.to_be_bytes()) }
    }
}
