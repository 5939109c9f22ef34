//! A store that fails where a test wants it to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mayfly_domain::feed::Position;
use mayfly_domain::{Block, DimKey, EvidenceHash, Gate, LeaseId, ProfileName, Subject, TaskId};
use mayfly_lease::command::{EndCommand, StartTaskCommand};
use mayfly_lease::feed::{
    FeedCursor, FeedPage, FeedRead, FollowerId, FollowerPing, Followers, Pinged, UsageCount,
};
use mayfly_lease::store::{BrokerSeen, StoreCounts};
use mayfly_lease::{
    Carry, CheckCommand, Checked, GenerationRecord, Job, JobId, JoinId, JoinRecord, LeaseRecord, LeaseStore,
    ListQuery, MintCommand, Minted, Page, RenewCommand, Renewed, RevokeCommand, Revoked, StoreError, Survey,
    Swept, TaskRecord, TaskStarted,
};
use parking_lot::Mutex;

/// What goes wrong, and what the survey says of the server.
#[derive(Debug, Default, Clone)]
pub(super) struct Faults {
    /// Every call fails so.
    pub(super) all: Option<StoreError>,
    /// The call of this name fails so.
    pub(super) one: Option<(&'static str, StoreError)>,
    /// Settings that could forget a revocation.
    pub(super) risks: Vec<String>,
    /// The store's clock less the broker's.
    pub(super) clock_difference_ms: i64,
}

/// One broker's connection to a store.
pub(super) struct Flaky {
    inner: Arc<dyn LeaseStore>,
    pub(super) faults: Mutex<Faults>,
}

impl Flaky {
    pub(super) fn new(inner: Arc<dyn LeaseStore>) -> Self {
        Self { inner, faults: Mutex::default() }
    }

    fn fail(&self, call: &'static str) -> Result<(), StoreError> {
        let faults = self.faults.lock();
        match (&faults.all, &faults.one) {
            (Some(error), _) => Err(error.clone()),
            (None, Some((name, error))) if *name == call => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

macro_rules! pass {
    ($($name:ident($($arg:ident: $of:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl LeaseStore for Flaky {
            fn kind(&self) -> &'static str {
                self.inner.kind()
            }

            fn adopt(&self, generation: GenerationRecord) {
                self.inner.adopt(generation);
            }

            fn generation(&self) -> Option<GenerationRecord> {
                self.inner.generation()
            }

            fn identity(&self) -> [u8; 16] {
                self.inner.identity()
            }

            async fn survey(&self) -> Result<Survey, StoreError> {
                self.fail("survey")?;
                let mut survey = self.inner.survey().await?;
                let faults = self.faults.lock();
                survey.risks.clone_from(&faults.risks);
                survey.clock_difference_ms = faults.clock_difference_ms;
                Ok(survey)
            }

            $(async fn $name(&self, $($arg: $of),*) -> Result<$out, StoreError> {
                self.fail(stringify!($name))?;
                self.inner.$name($($arg),*).await
            })*
        }
    };
}

pass! {
    begin_generation(next: &GenerationRecord, carry: &Carry) -> GenerationRecord;
    mint(command: &MintCommand) -> Minted;
    confirm(id: LeaseId) -> LeaseRecord;
    renew(command: &RenewCommand) -> Renewed;
    check(command: &CheckCommand) -> Checked;
    end(command: &EndCommand) -> (LeaseRecord, bool);
    get(id: LeaseId) -> Option<LeaseRecord>;
    list(query: &ListQuery) -> Page;
    start_task(command: &StartTaskCommand) -> TaskStarted;
    task(id: &TaskId) -> Option<TaskRecord>;
    put_join(record: &JoinRecord) -> ();
    join(hash: EvidenceHash) -> Option<JoinRecord>;
    joins() -> Vec<JoinRecord>;
    withdraw_join(id: JoinId) -> Option<JoinRecord>;
    revoke(command: &RevokeCommand) -> Revoked;
    set_block(subject: &Subject, block: Option<Block>) -> Gate;
    blocks() -> Vec<(Subject, Gate)>;
    gates(keys: &[DimKey]) -> Vec<Option<Gate>>;
    knows(subject: &Subject) -> bool;
    claim_job(lease_ms: u64) -> Option<Job>;
    sweep(job: &Job, limit: u32, lease_ms: u64) -> Swept;
    save_job(job: &Job, lease_ms: u64) -> ();
    job(id: JobId) -> Option<Job>;
    due_undos(limit: u32) -> Vec<LeaseRecord>;
    undone(due: &LeaseRecord) -> ();
    keys() -> Option<(u64, Vec<u8>)>;
    put_keys(expected: u64, version: u64, sealed: &[u8]) -> bool;
    heartbeat(id: &str, keys_version: u64, for_ms: u64) -> ();
    brokers() -> Vec<BrokerSeen>;
    counts() -> StoreCounts;
    feed_position() -> Position;
    feed_page(after: Option<&FeedCursor>, limit: u32) -> FeedPage;
    feed_read(after: &Position, limit: u32, wait: Duration) -> FeedRead;
    ping(pings: &[FollowerPing]) -> Pinged;
    followers_behind(number: u64) -> Followers;
    forget_follower(id: FollowerId) -> ();
    add_usage(counts: &[UsageCount]) -> ();
    usage(profile: &ProfileName) -> Vec<UsageCount>;
}
