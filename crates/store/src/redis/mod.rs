//! The lease store on one Redis (7.0 or later): every transition is one Lua script, judged by the server's own
//! clock, in one round trip.
//!
//! `keys.rs` tells where each value lives. The scripts under `scripts/` decide exactly as
//! `mayfly_lease::transition` does and are held against it. A script does nothing in another generation than
//! the adopted one. Four connections keep apart what is hot, what must be durable, what nobody waits for
//! and what waits in the server; each knows which server it leads to. This module must never retry what may have been done, answer from
//! memory, or hold a connection's secret longer than it takes to open one.

mod answer;
mod config;
pub mod danger;
mod dial;
mod evidence;
mod facts;
mod feed;
mod jobs;
mod join;
mod keys;
mod lease;
mod link;
mod mint;
mod pack;
mod revoke;
mod run;
mod script;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mayfly_domain::feed::Position;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Block, DimKey, EvidenceHash, Gate, LeaseId, ProfileName, Subject, TaskId};
use mayfly_lease::command::{
    CheckCommand, Checked, EndCommand, ListQuery, MintCommand, Minted, Page, RenewCommand, Renewed,
    RevokeCommand, Revoked, StartTaskCommand, Swept, TaskStarted,
};
use mayfly_lease::feed::{
    FEED_WAIT_MAX, FeedCursor, FeedPage, FeedRead, FollowerId, FollowerPing, Followers, Pinged, UsageCount,
};
use mayfly_lease::store::{BrokerSeen, LeaseStore, StoreCounts};
use mayfly_lease::{
    Carry, GenerationRecord, Job, JobId, JoinId, JoinRecord, LeaseRecord, StoreError, Survey, TaskRecord,
};
use parking_lot::RwLock;

pub use config::{ConfigError, RedisConfig};
pub use facts::refused_risks;
use link::{Dialer, Known, Link};
use run::Lane;

use crate::unreadable::Unreadable;

/// A lease store on Redis.
#[derive(Debug)]
pub struct RedisStore {
    hot: Link,
    durable: Link,
    back: Link,
    feed: Link,
    /// Held by who reads the feed: while the server waits, its connection takes nothing else.
    reading: tokio::sync::Mutex<()>,
    response_timeout: Duration,
    known: Arc<Known>,
    adopted: RwLock<Option<GenerationRecord>>,
    clock: SharedClock,
    brokers_clock: bool,
    skew_ms: u32,
    wait_replicas: u32,
    wait_ms: u64,
    unreadable: Unreadable,
}

impl RedisStore {
    /// Starts connecting; calls wait for a connection as long as one may take to open, then say that the
    /// store is unavailable. Must be called within a tokio runtime. `clock` is the broker's own, held
    /// against the server's.
    ///
    /// # Errors
    /// [`ConfigError`] where the configuration can't be used.
    pub fn open(config: RedisConfig, clock: SharedClock) -> Result<Self, ConfigError> {
        Self::open_by(config, clock, false)
    }

    fn open_by(
        mut config: RedisConfig,
        clock: SharedClock,
        brokers_clock: bool,
    ) -> Result<Self, ConfigError> {
        let known = Arc::new(Known::default());
        let dialer = Arc::new(Dialer {
            target: dial::Target::new(&mut config)?,
            wait_replicas: config.wait_replicas,
            connect_timeout: config.connect_timeout,
            known: Arc::clone(&known),
        });
        Ok(Self {
            hot: Link::start(Arc::clone(&dialer), "hot", Duration::ZERO),
            durable: Link::start(Arc::clone(&dialer), "durable", Duration::ZERO),
            back: Link::start(Arc::clone(&dialer), "back", Duration::ZERO),
            feed: Link::start(dialer, "feed", FEED_WAIT_MAX),
            reading: tokio::sync::Mutex::default(),
            response_timeout: config.response_timeout,
            known,
            adopted: RwLock::new(None),
            clock,
            brokers_clock,
            skew_ms: u32::try_from(config.skew.as_millis()).unwrap_or(u32::MAX),
            wait_replicas: config.wait_replicas,
            // It ends before the answer counts as missing; 0 would wait for ever.
            wait_ms: u64::try_from(config.wait_timeout.min(config.response_timeout / 2).as_millis())
                .unwrap_or(u64::MAX)
                .max(1),
            unreadable: Unreadable::default(),
        })
    }

    fn link(&self, lane: Lane) -> &Link {
        match lane {
            Lane::Hot => &self.hot,
            Lane::Durable => &self.durable,
            Lane::Back => &self.back,
            Lane::Feed => &self.feed,
        }
    }
}

#[async_trait]
impl LeaseStore for RedisStore {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn survey(&self) -> Result<Survey, StoreError> {
        self.do_survey().await
    }

    async fn begin_generation(
        &self,
        next: &GenerationRecord,
        carry: &Carry,
    ) -> Result<GenerationRecord, StoreError> {
        self.do_begin_generation(next, carry).await
    }

    fn adopt(&self, generation: GenerationRecord) {
        let before = self.adopted.write().replace(generation);
        if before.is_none_or(|before| before.generation != generation.generation) {
            self.known.begins_anew();
        }
    }

    fn generation(&self) -> Option<GenerationRecord> {
        *self.adopted.read()
    }

    fn identity(&self) -> [u8; 16] {
        *self.known.identity.lock()
    }

    async fn mint(&self, command: &MintCommand) -> Result<Minted, StoreError> {
        self.do_mint(command).await
    }

    async fn confirm(&self, id: LeaseId) -> Result<LeaseRecord, StoreError> {
        self.do_confirm(id).await
    }

    async fn renew(&self, command: &RenewCommand) -> Result<Renewed, StoreError> {
        self.do_renew(command).await
    }

    async fn check(&self, command: &CheckCommand) -> Result<Checked, StoreError> {
        self.do_check(command).await
    }

    async fn end(&self, command: &EndCommand) -> Result<(LeaseRecord, bool), StoreError> {
        self.do_end(command).await
    }

    async fn get(&self, id: LeaseId) -> Result<Option<LeaseRecord>, StoreError> {
        self.do_get(id).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError> {
        self.do_list(query).await
    }

    async fn start_task(&self, command: &StartTaskCommand) -> Result<TaskStarted, StoreError> {
        self.do_start_task(command).await
    }

    async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StoreError> {
        self.do_task(id).await
    }

    async fn put_join(&self, record: &JoinRecord) -> Result<(), StoreError> {
        self.do_put_join(record).await
    }

    async fn join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, StoreError> {
        self.do_join(hash).await
    }

    async fn joins(&self) -> Result<Vec<JoinRecord>, StoreError> {
        self.do_joins().await
    }

    async fn withdraw_join(&self, id: JoinId) -> Result<Option<JoinRecord>, StoreError> {
        self.do_withdraw_join(id).await
    }

    async fn revoke(&self, command: &RevokeCommand) -> Result<Revoked, StoreError> {
        self.do_revoke(command).await
    }

    async fn set_block(&self, subject: &Subject, block: Option<Block>) -> Result<Gate, StoreError> {
        self.do_set_block(subject, block).await
    }

    async fn blocks(&self) -> Result<Vec<(Subject, Gate)>, StoreError> {
        self.do_blocks().await
    }

    async fn gates(&self, keys: &[DimKey]) -> Result<Vec<Option<Gate>>, StoreError> {
        self.do_gates(keys).await
    }

    async fn knows(&self, subject: &Subject) -> Result<bool, StoreError> {
        self.do_knows(subject).await
    }

    async fn claim_job(&self, lease_ms: u64) -> Result<Option<Job>, StoreError> {
        self.do_claim_job(lease_ms).await
    }

    async fn sweep(&self, job: &Job, limit: u32, lease_ms: u64) -> Result<Swept, StoreError> {
        self.do_sweep(job, limit, lease_ms).await
    }

    async fn save_job(&self, job: &Job, lease_ms: u64) -> Result<(), StoreError> {
        self.do_save_job(job, lease_ms).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.do_job(id).await
    }

    async fn due_undos(&self, limit: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        self.do_due_undos(limit).await
    }

    async fn undone(&self, due: &LeaseRecord) -> Result<(), StoreError> {
        self.do_undone(due).await
    }

    async fn keys(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.do_keys().await
    }

    async fn put_keys(&self, expected: u64, version: u64, sealed: &[u8]) -> Result<bool, StoreError> {
        self.do_put_keys(expected, version, sealed).await
    }

    async fn heartbeat(&self, id: &str, keys_version: u64, for_ms: u64) -> Result<(), StoreError> {
        self.do_heartbeat(id, keys_version, for_ms).await
    }

    async fn brokers(&self) -> Result<Vec<BrokerSeen>, StoreError> {
        self.do_brokers().await
    }

    async fn counts(&self) -> Result<StoreCounts, StoreError> {
        self.do_counts().await
    }

    async fn feed_position(&self) -> Result<Position, StoreError> {
        self.do_feed_position().await
    }

    async fn feed_page(&self, after: Option<&FeedCursor>, limit: u32) -> Result<FeedPage, StoreError> {
        self.do_feed_page(after, limit).await
    }

    async fn feed_read(&self, after: &Position, limit: u32, wait: Duration) -> Result<FeedRead, StoreError> {
        self.do_feed_read(after, limit, wait).await
    }

    async fn ping(&self, pings: &[FollowerPing]) -> Result<Pinged, StoreError> {
        self.do_ping(pings).await
    }

    async fn followers_behind(&self, number: u64) -> Result<Followers, StoreError> {
        self.do_followers_behind(number).await
    }

    async fn forget_follower(&self, id: FollowerId) -> Result<(), StoreError> {
        self.do_forget_follower(id).await
    }

    async fn add_usage(&self, counts: &[UsageCount]) -> Result<(), StoreError> {
        self.do_add_usage(counts).await
    }

    async fn usage(&self, profile: &ProfileName) -> Result<Vec<UsageCount>, StoreError> {
        self.do_usage(profile).await
    }
}
