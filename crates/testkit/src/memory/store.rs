//! The port over the state in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mayfly_domain::feed::{Change, Event, Position};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Block, DimKey, EvidenceHash, Gate, LeaseId, ProfileName, Subject, TaskId, UnixMillis};
use mayfly_lease::command::{EndCommand, StartTaskCommand, is_indexed, sweep_key};
use mayfly_lease::feed::{
    FeedCursor, FeedPage, FeedRead, FollowerId, FollowerPing, Followers, Pinged, UsageCount,
};
use mayfly_lease::store::{BrokerSeen, StoreCounts};
use mayfly_lease::transition::{self, View as _, Write};
use mayfly_lease::{
    Carry, CheckCommand, Checked, GenerationRecord, Job, JobId, JobTarget, JoinId, JoinRecord, LeaseRecord,
    LeaseStore, ListQuery, MintCommand, Minted, Page, RenewCommand, Renewed, RevokeCommand, Revoked,
    StoreError, Survey, Swept, TaskRecord, TaskStarted,
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::MemoryView;
use super::list::places;

/// A store in memory. Clones are other brokers on the same store.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    clock: SharedClock,
    shared: Arc<Mutex<Shared>>,
    pub(super) adopted: Arc<Mutex<Option<GenerationRecord>>>,
    /// Told whenever something was done.
    pub(super) told: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Shared {
    view: MemoryView,
    brokers: BTreeMap<String, BrokerSeen>,
}

impl MemoryStore {
    /// An empty store whose clock is `clock`.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, shared: Arc::default(), adopted: Arc::default(), told: watch::Sender::new(()) }
    }

    /// An empty store that goes on seeing records which are kept no longer.
    pub fn lingering(clock: SharedClock) -> Self {
        let store = Self::new(clock);
        store.shared.lock().view.lingering = true;
        store
    }

    /// Another broker on the same store, which has adopted nothing.
    pub fn another(&self) -> Self {
        Self { adopted: Arc::default(), ..self.clone() }
    }

    /// Does something to the state behind everybody's back.
    pub fn tamper<R>(&self, with: impl FnOnce(&mut MemoryView) -> R) -> R {
        with(&mut self.shared.lock().view)
    }

    pub(super) fn run<R>(
        &self,
        act: impl FnOnce(&mut MemoryView) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let adopted = *self.adopted.lock();
        let mut shared = self.shared.lock();
        let changes = shared.view.changes;
        let view = &mut shared.view;
        view.now = self.clock.now();
        let outcome = match (&view.generation, &adopted) {
            _ if view.server != view.began_on => Err(StoreError::ServerChanged),
            (Some(s), Some(a)) if s.settled && s.generation == a.generation => match view.forgot {
                true => Err(StoreError::Forgot),
                false => act(view),
            },
            (stored, _) => Err(StoreError::OtherGeneration(*stored)),
        };
        if shared.view.changes != changes {
            self.told.send_replace(());
        }
        outcome
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn survey(&self) -> Result<Survey, StoreError> {
        let view = &self.shared.lock().view;
        Ok(Survey {
            generation: view.generation,
            changes: view.changes,
            identity: view.server,
            keys_version: view.keys.as_ref().map(|(version, _)| *version),
            clock_difference_ms: view.clock_difference_ms,
            forgot: view.forgot,
            risks: Vec::new(),
        })
    }

    async fn begin_generation(
        &self,
        next: &GenerationRecord,
        carry: &Carry,
    ) -> Result<GenerationRecord, StoreError> {
        let view = &mut self.shared.lock().view;
        if let Some(stored) = view.generation.filter(|s| s.generation.number >= next.generation.number) {
            return Ok(stored);
        }
        for (subject, gate) in &carry.blocks {
            let stored = view.gate(subject.key())?;
            if let Some(gate) = mayfly_lease::gate::carried(stored.as_ref(), gate) {
                view.apply(Write::Gate(subject.clone(), gate));
            }
        }
        let version = view.keys.as_ref().map_or(0, |(version, _)| *version);
        if let Some(keys) = carry.keys.as_ref().filter(|(carried, _)| *carried > version) {
            view.keys = Some(keys.clone());
        }
        view.changes = view.changes.max(carry.changes);
        view.feed.clear();
        view.generation = Some(*next);
        view.began_on = view.server;
        view.forgot = false;
        self.told.send_replace(());
        Ok(*next)
    }

    fn adopt(&self, generation: GenerationRecord) {
        *self.adopted.lock() = Some(generation);
    }

    fn generation(&self) -> Option<GenerationRecord> {
        *self.adopted.lock()
    }

    fn identity(&self) -> [u8; 16] {
        self.shared.lock().view.server
    }

    async fn mint(&self, command: &MintCommand) -> Result<Minted, StoreError> {
        self.run(|view| view.step(|view, now| transition::mint(view, command, now)))
    }

    async fn confirm(&self, id: LeaseId) -> Result<LeaseRecord, StoreError> {
        self.run(|view| view.step(|view, now| transition::confirm(view, id, now)))
    }

    async fn renew(&self, command: &RenewCommand) -> Result<Renewed, StoreError> {
        self.run(|view| view.step(|view, now| transition::renew(view, command, now)))
    }

    async fn check(&self, command: &CheckCommand) -> Result<Checked, StoreError> {
        self.run(|view| transition::check(view, command, view.now))
    }

    async fn end(&self, command: &EndCommand) -> Result<(LeaseRecord, bool), StoreError> {
        self.run(|view| view.step(|view, now| transition::end(view, command, now)))
    }

    async fn get(&self, id: LeaseId) -> Result<Option<LeaseRecord>, StoreError> {
        self.run(|view| view.record(id)?.map(|r| transition::shown(view, r, view.now)).transpose())
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.run(|view| {
            let (ids, next) = places(view, query);
            let mut records = Vec::new();
            for id in ids {
                if let Some(record) = view.record(id)? {
                    records.push(transition::shown(view, record, view.now)?);
                }
            }
            Ok(Page { records, next })
        })
    }

    async fn start_task(&self, command: &StartTaskCommand) -> Result<TaskStarted, StoreError> {
        self.run(|view| view.step(|view, now| transition::start_task(view, command, now)))
    }

    async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let key = Subject::Task(id.clone()).key();
        self.run(|view| Ok(view.task(key)?.filter(|task| view.now < task.keep_until)))
    }

    async fn put_join(&self, record: &JoinRecord) -> Result<(), StoreError> {
        self.run(|view| view.step(|view, now| transition::put_join(view, record, now)))
    }

    async fn join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, StoreError> {
        self.run(|view| Ok(view.join(hash)?.filter(|record| view.now < record.keep_until())))
    }

    async fn joins(&self) -> Result<Vec<JoinRecord>, StoreError> {
        self.run(|view| {
            let known = view.joins.values().filter(|record| view.now < record.keep_until());
            let mut known: Vec<_> = known.cloned().collect();
            known.sort_by_key(|record| (record.created, record.id));
            Ok(known)
        })
    }

    async fn withdraw_join(&self, id: JoinId) -> Result<Option<JoinRecord>, StoreError> {
        self.run(|view| {
            let known = view.joins.values().find(|record| record.id == id);
            let Some(hash) = known.map(|record| record.hash) else { return Ok(None) };
            view.step(|view, now| transition::withdraw_join(view, hash, now))
        })
    }

    async fn revoke(&self, command: &RevokeCommand) -> Result<Revoked, StoreError> {
        self.run(|view| view.step(|view, now| transition::revoke(view, command, now)))
    }

    async fn set_block(&self, subject: &Subject, block: Option<Block>) -> Result<Gate, StoreError> {
        self.run(|view| view.step(|view, now| transition::set_block(view, subject, block, now)))
    }

    async fn blocks(&self) -> Result<Vec<(Subject, Gate)>, StoreError> {
        self.run(|view| {
            let standing = view.gates.values().filter(|(_, gate)| gate.standing_block(view.now).is_some());
            Ok(standing.cloned().collect())
        })
    }

    async fn gates(&self, keys: &[DimKey]) -> Result<Vec<Option<Gate>>, StoreError> {
        self.run(|view| keys.iter().map(|key| view.gate(*key)).collect())
    }

    async fn knows(&self, subject: &Subject) -> Result<bool, StoreError> {
        self.run(|view| {
            let key = subject.key();
            Ok(view.gate(key)?.is_some_and(|gate| !gate.is_over(view.now))
                || view.task(key)?.is_some_and(|task| view.now < task.keep_until)
                || (is_indexed(subject) && view.live(key, view.now)? > 0))
        })
    }

    async fn claim_job(&self, lease_ms: u64) -> Result<Option<Job>, StoreError> {
        self.run(|view| {
            let now = view.now;
            let open = view.jobs.values_mut().find(|kept| !kept.job.done && kept.claimed <= now);
            Ok(open.map(|kept| {
                kept.claimed = now.plus(lease_ms);
                kept.job.clone()
            }))
        })
    }

    async fn sweep(&self, job: &Job, limit: u32, lease_ms: u64) -> Result<Swept, StoreError> {
        let query = ListQuery { along: sweep_key(&job.target), after: job.cursor, limit };
        self.run(|view| {
            let now = view.now;
            let Some(kept) = view.jobs.get_mut(&job.id).filter(|kept| !kept.job.done) else {
                return Ok(Swept::default());
            };
            kept.job = job.clone();
            kept.claimed = now.plus(lease_ms);
            let (mut ids, next) = places(view, &query);
            if let JobTarget::Lease(id) = &job.target
                && job.cursor.is_none()
            {
                ids.push(*id);
            }
            let mut swept = Swept { next, ..Swept::default() };
            for id in ids {
                let found = view.step(|view, now| transition::end_swept(view, job, id, now))?;
                if let Some((record, now)) = found {
                    swept.ended.extend(now.then_some(id));
                    swept.found.push(record);
                }
            }
            Ok(swept)
        })
    }

    async fn save_job(&self, job: &Job, lease_ms: u64) -> Result<(), StoreError> {
        self.run(|view| {
            let (now, keep) = (view.now, job.kept_until(&view.generation()?, view.now));
            if let Some(kept) = view.jobs.get_mut(&job.id).filter(|kept| !kept.job.done) {
                kept.job = job.clone();
                kept.claimed = now.plus(lease_ms);
                kept.keep = job.done.then_some(keep);
            }
            Ok(())
        })
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.run(|view| {
            let kept = view.jobs.get(&id).filter(|kept| kept.keep.is_none_or(|keep| view.now < keep));
            Ok(kept.map(|kept| kept.job.clone()))
        })
    }

    async fn due_undos(&self, limit: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        self.run(|view| {
            let mut due: Vec<(UnixMillis, LeaseId)> =
                view.undo.iter().filter(|(_, due)| **due <= view.now).map(|(id, due)| (*due, *id)).collect();
            due.sort_unstable();
            let mut records = Vec::new();
            for (_, id) in due.into_iter().take(usize::try_from(limit).unwrap()) {
                records.extend(view.step(|view, now| transition::overdue(view, id, now))?);
            }
            Ok(records)
        })
    }

    async fn undone(&self, due: &LeaseRecord) -> Result<(), StoreError> {
        self.run(|view| view.step(|view, now| transition::undone(view, due, now)))
    }

    async fn keys(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.run(|view| Ok(view.keys.clone()))
    }

    async fn put_keys(&self, expected: u64, version: u64, sealed: &[u8]) -> Result<bool, StoreError> {
        self.run(|view| {
            let as_expected = view.keys.as_ref().map_or(0, |(version, _)| *version) == expected;
            if as_expected {
                view.keys = Some((version, sealed.to_vec()));
                let change = Change::Keys { version };
                view.apply(Write::Change(Event { at: view.now, revocation: None, change }));
            }
            Ok(as_expected)
        })
    }

    async fn heartbeat(&self, id: &str, keys_version: u64, for_ms: u64) -> Result<(), StoreError> {
        self.run(|_| Ok(()))?;
        let seen = BrokerSeen { id: id.to_owned(), keys_version, until: self.clock.now().plus(for_ms) };
        self.shared.lock().brokers.insert(id.to_owned(), seen);
        Ok(())
    }

    async fn brokers(&self) -> Result<Vec<BrokerSeen>, StoreError> {
        let now = self.clock.now();
        Ok(self.shared.lock().brokers.values().filter(|broker| now < broker.until).cloned().collect())
    }

    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        self.run(|view| {
            let live = view.partitions.values().filter(|end| **end > view.now).count();
            let open = view.jobs.values().filter(|kept| !kept.job.done).count();
            Ok(StoreCounts {
                live_leases: live.try_into().unwrap(),
                open_jobs: open.try_into().unwrap(),
                undo_pending: view.undo.len().try_into().unwrap(),
                unreadable: 0,
            })
        })
    }

    async fn feed_position(&self) -> Result<Position, StoreError> {
        self.run(|view| view.position())
    }

    async fn feed_page(&self, after: Option<&FeedCursor>, limit: u32) -> Result<FeedPage, StoreError> {
        self.run(|view| Ok(view.feed_page(after, limit)))
    }

    async fn feed_read(&self, after: &Position, limit: u32, wait: Duration) -> Result<FeedRead, StoreError> {
        self.read_feed(after, limit, wait).await
    }

    async fn ping(&self, pings: &[FollowerPing]) -> Result<Pinged, StoreError> {
        self.run(|view| view.ping(pings))
    }

    async fn followers_behind(&self, number: u64) -> Result<Followers, StoreError> {
        self.run(|view| Ok(view.followers_behind(number)))
    }

    async fn forget_follower(&self, id: FollowerId) -> Result<(), StoreError> {
        self.run(|view| {
            view.followers.remove(&id);
            Ok(())
        })
    }

    async fn add_usage(&self, counts: &[UsageCount]) -> Result<(), StoreError> {
        self.run(|view| {
            view.add_usage(counts);
            Ok(())
        })
    }

    async fn usage(&self, profile: &ProfileName) -> Result<Vec<UsageCount>, StoreError> {
        self.run(|view| Ok(view.usage(profile)))
    }
}
