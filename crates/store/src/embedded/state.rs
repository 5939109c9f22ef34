//! One consistent state of the file, as the protocol's transitions read it.
//!
//! Over a read transaction it is what was durable when the transaction began; over the writer's, what the
//! commands before left. Must never decide anything: that is what the transitions are for.

use mayfly_domain::codec::Malformed;
use mayfly_domain::{AcceptorMode, DimKey, EvidenceHash, Gate, LeaseId, UnixMillis, defaults};
use mayfly_lease::job::ExposureCount;
use mayfly_lease::transition::{Binding, Bucket, View};
use mayfly_lease::{GenerationRecord, JoinRecord, LeaseRecord, Mark, StoreError, TaskRecord};
use redb::ReadableTable;

use super::file::storage;
use super::layout as at;

/// Any table of the file's one kind.
pub(super) trait Readable: ReadableTable<&'static [u8], &'static [u8]> {}
impl<T: ReadableTable<&'static [u8], &'static [u8]>> Readable for T {}

/// A state at a moment.
#[derive(Debug)]
pub(super) struct State<T> {
    pub(super) table: T,
    /// The moment at which it is looked at: records kept no longer are not seen.
    pub(super) now: UnixMillis,
}

impl<T: Readable> State<T> {
    /// Reads a value.
    pub(super) fn get<R>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> Result<R, Malformed>,
    ) -> Result<Option<R>, StoreError> {
        match self.table.get(key).map_err(storage)? {
            Some(value) => Ok(Some(read(value.value())?)),
            None => Ok(None),
        }
    }

    /// Reads one number; zero where there is none.
    pub(super) fn count(&self, key: &[u8]) -> Result<u64, StoreError> {
        Ok(self.get(key, at::number)?.unwrap_or(0))
    }

    /// Visits keys from `from` up to and without `to`, until `visit` says no.
    pub(super) fn walk(
        &self,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        for entry in self.table.range::<&[u8]>(from..to).map_err(storage)? {
            let (key, value) = entry.map_err(storage)?;
            if !visit(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    /// The stored generation.
    pub(super) fn stored_generation(&self) -> Result<Option<GenerationRecord>, StoreError> {
        self.get(at::GENERATION, GenerationRecord::decode)
    }

    /// Whether something was taken away that may still count: the clock was ahead, and went back.
    pub(super) fn has_forgotten(&self) -> Result<bool, StoreError> {
        Ok(self.count(at::CLOCK)? > self.now.plus(defaults::CLOCK_BACK_MS).0)
    }

    /// Demands that the state is in the adopted generation, and has forgotten nothing of it too early.
    pub(super) fn in_generation(&self, adopted: Option<GenerationRecord>) -> Result<(), StoreError> {
        let stored = self.stored_generation()?;
        let same =
            matches!((&stored, &adopted), (Some(s), Some(a)) if s.settled && s.generation == a.generation);
        match same {
            true if self.has_forgotten()? => Err(StoreError::Forgot),
            true => Ok(()),
            false => Err(StoreError::OtherGeneration(stored)),
        }
    }

    /// How many index entries of a mode end after `now`: all, without those that are over and not cleaned away yet.
    fn live_of(&self, key: DimKey, mode: u8, now: UnixMillis) -> Result<u64, StoreError> {
        let all = self.count(&at::key(at::INDEX_COUNT, &[&key.0, &[mode]]))?;
        let mut over = 0;
        if all > 0 {
            let (to, _) = at::index_after(key, mode, now);
            self.walk(&at::key(at::INDEX, &[&key.0, &[mode]]), &to, |_, _| {
                over += 1;
                Ok(true)
            })?;
        }
        Ok(all.saturating_sub(over))
    }

    /// A lease's record with until when it is kept, though that may be over.
    fn kept_record(&self, id: LeaseId) -> Result<Option<(UnixMillis, LeaseRecord)>, StoreError> {
        self.get(&at::key(at::RECORD, &[id.as_bytes()]), |value| {
            let (until, record) = at::kept(value)?;
            Ok((until, LeaseRecord::decode(id, record)?))
        })
    }
}

impl<T: Readable> View for State<T> {
    type Error = StoreError;

    fn generation(&self) -> Result<GenerationRecord, StoreError> {
        self.stored_generation()?.ok_or(StoreError::OtherGeneration(None))
    }

    fn gate(&self, key: DimKey) -> Result<Option<Gate>, StoreError> {
        self.get(&at::key(at::GATE, &[&key.0]), |value| Ok(mayfly_lease::gate::decode(value)?.1))
    }

    fn record(&self, id: LeaseId) -> Result<Option<LeaseRecord>, StoreError> {
        Ok(self.kept_record(id)?.filter(|(until, _)| self.now < *until).map(|(_, record)| record))
    }

    fn mark(&self, id: LeaseId) -> Result<Option<Mark>, StoreError> {
        self.get(&at::key(at::MARK, &[id.as_bytes()]), Mark::decode)
    }

    fn used(&self, id: LeaseId) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.get(&at::key(at::USED, &[id.as_bytes()]), at::number)?.map(UnixMillis))
    }

    fn binding(&self, hash: EvidenceHash) -> Result<Option<Binding>, StoreError> {
        self.get(&at::key(at::BINDING, &[&hash.0]), Binding::decode)
    }

    fn join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, StoreError> {
        self.get(&at::key(at::JOIN, &[&hash.0]), |value| JoinRecord::decode(hash, value))
    }

    fn task(&self, key: DimKey) -> Result<Option<TaskRecord>, StoreError> {
        self.get(&at::key(at::TASK, &[&key.0]), TaskRecord::decode)
    }

    fn live(&self, key: DimKey, now: UnixMillis) -> Result<u32, StoreError> {
        let mut live = 0_u64;
        for mode in AcceptorMode::ALL {
            live += self.live_of(key, mode.number(), now)?;
        }
        Ok(u32::try_from(live).unwrap_or(u32::MAX))
    }

    fn exposure(&self, key: DimKey, now: UnixMillis) -> Result<ExposureCount, StoreError> {
        let mut exposure = ExposureCount::default();
        for mode in AcceptorMode::ALL {
            let (from, to) = at::index_after(key, mode.number(), now);
            let last =
                self.table.range::<&[u8]>(from.as_slice()..to.as_slice()).map_err(storage)?.next_back();
            if let Some(last) = last.transpose().map_err(storage)? {
                let ends = at::time_and_lease(last.0.value())?.0;
                exposure.add(mode, self.live_of(key, mode.number(), now)?, ends);
            }
        }
        Ok(exposure)
    }

    fn undo_due(&self, id: LeaseId) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.get(&at::key(at::UNDO_OF, &[id.as_bytes()]), at::number)?.map(UnixMillis))
    }

    fn bucket(&self, key: DimKey) -> Result<Option<Bucket>, StoreError> {
        let arrival = self.get(&at::key(at::BUCKET, &[&key.0]), at::number)?;
        Ok(arrival.map(|arrival_us| Bucket { arrival_us }))
    }

    fn changes(&self) -> Result<u64, StoreError> {
        self.count(at::CHANGES)
    }

    fn keys_version(&self) -> Result<u64, StoreError> {
        Ok(self.get(at::KEYS, |value| Ok(at::kept(value)?.0.0))?.unwrap_or(0))
    }
}
