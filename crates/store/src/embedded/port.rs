//! The port, call by call.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mayfly_domain::feed::Position;
use mayfly_domain::{Block, DimKey, EvidenceHash, Gate, LeaseId, ProfileName, Subject, TaskId, UnixMillis};
use mayfly_lease::command::EndCommand;
use mayfly_lease::command::StartTaskCommand;
use mayfly_lease::feed::{
    FEED_WAIT_MAX, FeedCursor, FeedPage, FeedRead, FollowerId, FollowerPing, Followers, Pinged, UsageCount,
};
use mayfly_lease::store::{BrokerSeen, StoreCounts};
use mayfly_lease::transition::{self, View as _};
use mayfly_lease::{
    Carry, CheckCommand, Checked, GenerationRecord, Job, JobId, JoinId, JoinRecord, LeaseRecord, LeaseStore,
    ListQuery, MintCommand, Minted, Page, RenewCommand, Renewed, RevokeCommand, Revoked, StoreError, Survey,
    Swept, TaskRecord, TaskStarted,
};

use super::layout as at;
use super::writer::Lane;
use super::{EmbeddedStore, feed, jobs, list};

#[async_trait]
impl LeaseStore for EmbeddedStore {
    fn kind(&self) -> &'static str {
        "embedded"
    }

    async fn survey(&self) -> Result<Survey, StoreError> {
        self.store.read(self.now(), |state| {
            Ok(Survey {
                generation: state.stored_generation()?,
                changes: state.changes()?,
                identity: self.store.identity,
                keys_version: state.get(at::KEYS, |v| Ok(at::kept(v)?.0.0))?,
                clock_difference_ms: 0,
                forgot: state.has_forgotten()?,
                risks: Vec::new(),
            })
        })
    }

    async fn begin_generation(
        &self,
        next: &GenerationRecord,
        carry: &Carry,
    ) -> Result<GenerationRecord, StoreError> {
        let (next, carry) = (*next, carry.clone());
        self.writer.submit(Lane::Urgent, move |work| jobs::begin_generation(work, next, &carry)).await
    }

    fn adopt(&self, generation: GenerationRecord) {
        *self.adopted.write() = Some(generation);
    }

    fn generation(&self) -> Option<GenerationRecord> {
        *self.adopted.read()
    }

    fn identity(&self) -> [u8; 16] {
        self.store.identity
    }

    async fn mint(&self, command: &MintCommand) -> Result<Minted, StoreError> {
        let command = command.clone();
        self.write(Lane::Normal, move |work| work.step(|view, now| transition::mint(view, &command, now)))
            .await
    }

    async fn confirm(&self, id: LeaseId) -> Result<LeaseRecord, StoreError> {
        self.write(Lane::Normal, move |work| work.step(|view, now| transition::confirm(view, id, now))).await
    }

    async fn renew(&self, command: &RenewCommand) -> Result<Renewed, StoreError> {
        let command = command.clone();
        self.write(Lane::Normal, move |work| work.step(|view, now| transition::renew(view, &command, now)))
            .await
    }

    async fn check(&self, command: &CheckCommand) -> Result<Checked, StoreError> {
        self.read(|state| transition::check(state, command, state.now))
    }

    async fn end(&self, command: &EndCommand) -> Result<(LeaseRecord, bool), StoreError> {
        let command = command.clone();
        self.write(Lane::Normal, move |work| work.step(|view, now| transition::end(view, &command, now)))
            .await
    }

    async fn get(&self, id: LeaseId) -> Result<Option<LeaseRecord>, StoreError> {
        self.read(|state| {
            state.record(id)?.map(|record| transition::shown(state, record, state.now)).transpose()
        })
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.read(|state| list::page(state, query, &self.unreadable))
    }

    async fn start_task(&self, command: &StartTaskCommand) -> Result<TaskStarted, StoreError> {
        let command = command.clone();
        self.write(Lane::Normal, move |work| {
            work.step(|view, now| transition::start_task(view, &command, now))
        })
        .await
    }

    async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let key = Subject::Task(id.clone()).key();
        self.read(|state| Ok(state.task(key)?.filter(|task| state.now < task.keep_until)))
    }

    async fn put_join(&self, record: &JoinRecord) -> Result<(), StoreError> {
        let record = record.clone();
        self.write(Lane::Normal, move |work| work.step(|view, now| transition::put_join(view, &record, now)))
            .await
    }

    async fn join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, StoreError> {
        self.read(|state| Ok(state.join(hash)?.filter(|record| state.now < record.keep_until())))
    }

    async fn joins(&self) -> Result<Vec<JoinRecord>, StoreError> {
        self.read(list::joins)
    }

    async fn withdraw_join(&self, id: JoinId) -> Result<Option<JoinRecord>, StoreError> {
        self.write(Lane::Urgent, move |work| {
            let known = list::joins(work.ledger)?.into_iter().find(|record| record.id == id);
            let Some(hash) = known.map(|record| record.hash) else { return Ok(None) };
            work.step(|view, now| transition::withdraw_join(view, hash, now))
        })
        .await
    }

    async fn revoke(&self, command: &RevokeCommand) -> Result<Revoked, StoreError> {
        let command = command.clone();
        self.write(Lane::Urgent, move |work| work.step(|view, now| transition::revoke(view, &command, now)))
            .await
    }

    async fn set_block(&self, subject: &Subject, block: Option<Block>) -> Result<Gate, StoreError> {
        let subject = subject.clone();
        self.write(Lane::Urgent, move |work| {
            work.step(|view, now| transition::set_block(view, &subject, block, now))
        })
        .await
    }

    async fn blocks(&self) -> Result<Vec<(Subject, Gate)>, StoreError> {
        self.read(list::blocks)
    }

    async fn gates(&self, keys: &[DimKey]) -> Result<Vec<Option<Gate>>, StoreError> {
        self.read(|state| keys.iter().map(|key| state.gate(*key)).collect())
    }

    async fn knows(&self, subject: &Subject) -> Result<bool, StoreError> {
        self.read(|state| list::knows(state, subject))
    }

    async fn claim_job(&self, lease_ms: u64) -> Result<Option<Job>, StoreError> {
        // Looked for among what is durable first: an idle sweeper costs no transaction.
        if self.read(jobs::claimable)?.is_none() {
            return Ok(None);
        }
        self.write(Lane::Normal, move |work| jobs::claim(work, lease_ms)).await
    }

    async fn sweep(&self, job: &Job, limit: u32, lease_ms: u64) -> Result<Swept, StoreError> {
        let (job, unreadable) = (job.clone(), Arc::clone(&self.unreadable));
        self.write(Lane::Normal, move |work| jobs::sweep(work, &job, limit, lease_ms, &unreadable)).await
    }

    async fn save_job(&self, job: &Job, lease_ms: u64) -> Result<(), StoreError> {
        let job = job.clone();
        self.write(Lane::Normal, move |work| jobs::save(work, &job, lease_ms)).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.read(|state| jobs::stored(state, id))
    }

    async fn due_undos(&self, limit: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        if self.read(|state| jobs::due(state, 1))?.is_empty() {
            return Ok(Vec::new());
        }
        let unreadable = Arc::clone(&self.unreadable);
        self.write(Lane::Normal, move |work| jobs::due_undos(work, limit, &unreadable)).await
    }

    async fn undone(&self, due: &LeaseRecord) -> Result<(), StoreError> {
        let due = due.clone();
        self.write(Lane::Normal, move |work| work.step(|view, now| transition::undone(view, &due, now))).await
    }

    async fn keys(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.read(|state| {
            state.get(at::KEYS, |value| {
                let (version, sealed) = at::kept(value)?;
                Ok((version.0, sealed.to_vec()))
            })
        })
    }

    async fn put_keys(&self, expected: u64, version: u64, sealed: &[u8]) -> Result<bool, StoreError> {
        let sealed = sealed.to_vec();
        self.write(Lane::Urgent, move |work| jobs::put_keys(work, expected, version, &sealed)).await
    }

    async fn heartbeat(&self, id: &str, keys_version: u64, for_ms: u64) -> Result<(), StoreError> {
        self.read(|_| Ok(()))?;
        let seen = BrokerSeen { id: id.to_owned(), keys_version, until: self.now().plus(for_ms) };
        self.brokers.lock().insert(id.to_owned(), seen);
        Ok(())
    }

    async fn brokers(&self) -> Result<Vec<BrokerSeen>, StoreError> {
        let now: UnixMillis = self.now();
        let mut brokers = self.brokers.lock();
        brokers.retain(|_, broker| now < broker.until);
        Ok(brokers.values().cloned().collect())
    }

    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        self.read(|state| list::counts(state, self.unreadable.count()))
    }

    async fn feed_position(&self) -> Result<Position, StoreError> {
        self.read(|state| feed::position(state, self.store.identity))
    }

    async fn feed_page(&self, after: Option<&FeedCursor>, limit: u32) -> Result<FeedPage, StoreError> {
        self.read(|state| feed::page(state, after, limit))
    }

    async fn feed_read(&self, after: &Position, limit: u32, wait: Duration) -> Result<FeedRead, StoreError> {
        self.read_feed(after, limit, wait.min(FEED_WAIT_MAX)).await
    }

    async fn ping(&self, pings: &[FollowerPing]) -> Result<Pinged, StoreError> {
        let (server, pings) = (self.store.identity, pings.to_vec());
        self.write(Lane::Urgent, move |work| feed::ping(work, server, &pings)).await
    }

    async fn followers_behind(&self, number: u64) -> Result<Followers, StoreError> {
        self.read(|state| feed::behind(state, number))
    }

    async fn forget_follower(&self, id: FollowerId) -> Result<(), StoreError> {
        let key = at::key(at::FOLLOWER, &[&id.0]);
        self.write(Lane::Normal, move |work| work.write(|ledger| ledger.remove(&key))).await
    }

    async fn add_usage(&self, counts: &[UsageCount]) -> Result<(), StoreError> {
        let counts = counts.to_vec();
        self.write(Lane::Normal, move |work| feed::add_usage(work, &counts)).await
    }

    async fn usage(&self, profile: &ProfileName) -> Result<Vec<UsageCount>, StoreError> {
        self.read(|state| feed::usage(state, profile))
    }
}
