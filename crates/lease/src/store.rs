//! The port to the lease store.

use std::time::Duration;

use async_trait::async_trait;
use mayfly_domain::feed::Position;
use mayfly_domain::{
    Block, DimKey, EvidenceHash, Gate, LeaseId, ProfileName, Refusal, Subject, TaskId, UnixMillis,
};

use crate::command::{
    CheckCommand, Checked, EndCommand, ListQuery, MintCommand, Minted, Page, RenewCommand, Renewed,
    RevokeCommand, Revoked, StartTaskCommand, Swept, TaskStarted,
};
use crate::feed::{FeedCursor, FeedPage, FeedRead, FollowerId, FollowerPing, Followers, Pinged, UsageCount};
use crate::generation::{Carry, GenerationRecord, Survey};
use crate::job::{Job, JobId};
use crate::join::{JoinId, JoinRecord};
use crate::record::LeaseRecord;
use crate::task::TaskRecord;
use crate::transition::No;

/// Why a store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The protocol says no; nothing was changed.
    #[error("refused: {0}")]
    Refused(No),
    /// The store has another generation than the one that was adopted, or none; nothing was changed.
    #[error("the store's generation is another")]
    OtherGeneration(Option<GenerationRecord>),
    /// The clocks differ by more than the skew (the store's less ours, in ms); nothing was changed.
    #[error("the store's clock differs by {0} ms")]
    ClockSkew(i64),
    /// The server behind the connection is another one, and the deployment does not promise that it has all
    /// that was acknowledged: a new generation must start.
    #[error("the store's server changed")]
    ServerChanged,
    /// Its clock was ahead and went back: what it keeps for a time may be gone, and a new generation must start.
    /// Nothing was changed.
    #[error("the store's clock was ahead: it may have forgotten what still counts")]
    Forgot,
    /// It can't be reached or written, or did not answer in time. Whether the change was made is unknown.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// It holds something that can't be read.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

impl From<No> for StoreError {
    fn from(no: No) -> Self {
        Self::Refused(no)
    }
}

impl From<mayfly_domain::codec::Malformed> for StoreError {
    fn from(e: mayfly_domain::codec::Malformed) -> Self {
        Self::Corrupt(e.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(e: StoreError) -> Self {
        use mayfly_domain::Reason;
        match e {
            StoreError::Refused(no) => no.into(),
            StoreError::OtherGeneration(_) | StoreError::ServerChanged | StoreError::Forgot => {
                Refusal::new(Reason::GenerationChanged, e.to_string())
                    .after(std::time::Duration::from_millis(500))
            }
            StoreError::ClockSkew(_) => Refusal::new(Reason::ClockSkew, e.to_string()),
            StoreError::Unavailable(_) => {
                Refusal::new(Reason::StoreUnavailable, e.to_string()).after(std::time::Duration::from_secs(1))
            }
            StoreError::Corrupt(_) => Refusal::new(Reason::Internal, e.to_string()),
        }
    }
}

/// A broker that is alive, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BrokerSeen {
    /// Its id.
    pub id: String,
    /// The version of the keys that it serves with.
    pub keys_version: u64,
    /// Until when it counts as alive.
    pub until: UnixMillis,
}

/// Counts for `status` and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Index entries not past their hard expiry.
    pub live_leases: u64,
    /// Revocations whose sweep is not complete.
    pub open_jobs: u64,
    /// Leases whose side effects wait to be undone.
    pub undo_pending: u64,
    /// Leases whose records this handle could not read in lists, sweeps and undos.
    pub unreadable: u64,
}

/// The lease store: everything that brokers share.
///
/// Every call works in the adopted generation and changes nothing in another. A change is durable as the
/// deployment declares when the call returns; an error other than [`StoreError::Unavailable`] means that
/// nothing was changed. Scripts and transactions judge by the store's own clock.
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// The kind of store, for people: `embedded`, `redis`.
    fn kind(&self) -> &'static str;

    /// Looks at generation, clock, settings and server identity without needing a generation.
    async fn survey(&self) -> Result<Survey, StoreError>;

    /// Starts `next` where the store has no generation or one with a lower number, after carrying over keys
    /// and blocks by version; otherwise changes nothing. Returns the generation that stands afterwards. Where the
    /// start of `next` is far from the store's time, [`StoreError::ClockSkew`]: its clock was set since the survey.
    async fn begin_generation(
        &self,
        next: &GenerationRecord,
        carry: &Carry,
    ) -> Result<GenerationRecord, StoreError>;

    /// Works in this generation from now on.
    fn adopt(&self, generation: GenerationRecord);

    /// The adopted generation.
    fn generation(&self) -> Option<GenerationRecord>;

    /// The identity of the server that nonces are bound to.
    fn identity(&self) -> [u8; 16];

    /// Mints: one atomic step, one round trip where the credential has no side effect.
    async fn mint(&self, command: &MintCommand) -> Result<Minted, StoreError>;

    /// Moves a reserved lease to active, after reading fences, blocks and marks again.
    async fn confirm(&self, id: LeaseId) -> Result<LeaseRecord, StoreError>;

    /// Renews.
    async fn renew(&self, command: &RenewCommand) -> Result<Renewed, StoreError>;

    /// Judges a credential now.
    async fn check(&self, command: &CheckCommand) -> Result<Checked, StoreError>;

    /// Ends a lease; one that has ended already is returned as it is. `true` where this call ended it.
    async fn end(&self, command: &EndCommand) -> Result<(LeaseRecord, bool), StoreError>;

    /// A lease's record with its mark applied, whatever its state.
    async fn get(&self, id: LeaseId) -> Result<Option<LeaseRecord>, StoreError>;

    /// A page of leases.
    async fn list(&self, query: &ListQuery) -> Result<Page, StoreError>;

    /// Opens a task, or joins it.
    async fn start_task(&self, command: &StartTaskCommand) -> Result<TaskStarted, StoreError>;

    /// A task's record.
    async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StoreError>;

    /// Stores a join token, which observes workload, owners and trust domain in the same step and belongs to no
    /// key yet; durable when it returns.
    async fn put_join(&self, record: &JoinRecord) -> Result<(), StoreError>;

    /// A join token by the token's hash: open, used or withdrawn, and for some time after its expiry.
    async fn join(&self, hash: EvidenceHash) -> Result<Option<JoinRecord>, StoreError>;

    /// Every join token that is still known, oldest first.
    async fn joins(&self) -> Result<Vec<JoinRecord>, StoreError>;

    /// Takes an open join token back, durably; one that is not open is returned as it stands, none where
    /// nothing is known of it.
    async fn withdraw_join(&self, id: JoinId) -> Result<Option<JoinRecord>, StoreError>;

    /// Revokes; when it returns, the fence or mark, the block and the job are durable.
    async fn revoke(&self, command: &RevokeCommand) -> Result<Revoked, StoreError>;

    /// Sets a block (with its next version), or lifts it; durable when it returns.
    async fn set_block(&self, subject: &Subject, block: Option<Block>) -> Result<Gate, StoreError>;

    /// Every gate with a block that was not lifted.
    async fn blocks(&self) -> Result<Vec<(Subject, Gate)>, StoreError>;

    /// The gates of these keys, as they are.
    async fn gates(&self, keys: &[DimKey]) -> Result<Vec<Option<Gate>>, StoreError>;

    /// Whether anything knows this subject: an index entry, a gate or a task record.
    async fn knows(&self, subject: &Subject) -> Result<bool, StoreError>;

    /// Claims an open job for `lease_ms`; after that another broker may.
    async fn claim_job(&self, lease_ms: u64) -> Result<Option<Job>, StoreError>;

    /// One step of a claimed job, as one atomic step: stores its progress so far and claims it for `lease_ms` more,
    /// reads the next `limit` entries of its index and ends what the job's target made dead. Nothing where the
    /// job is done or unknown.
    async fn sweep(&self, job: &Job, limit: u32, lease_ms: u64) -> Result<Swept, StoreError>;

    /// Stores a job's progress; a done job leaves the open ones and is kept as long as fences are.
    async fn save_job(&self, job: &Job, lease_ms: u64) -> Result<(), StoreError>;

    /// A job.
    async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// Leases with side effects that are due: overdue ones are ended first, in the same step that finds them.
    async fn due_undos(&self, limit: u32) -> Result<Vec<LeaseRecord>, StoreError>;

    /// Confirms the undo of `due`, as [`Self::due_undos`] returned it. A lease that ended while reserved stays queued
    /// for a second undo after the grace; only an undo that began after the first one was confirmed is the second.
    async fn undone(&self, due: &LeaseRecord) -> Result<(), StoreError>;

    /// The sealed keys with their version.
    async fn keys(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;

    /// Replaces the sealed keys where the stored version is `expected` (0: none). `false`: it was another.
    async fn put_keys(&self, expected: u64, version: u64, sealed: &[u8]) -> Result<bool, StoreError>;

    /// Tells the other brokers that this one lives, and which keys it has.
    async fn heartbeat(&self, id: &str, keys_version: u64, for_ms: u64) -> Result<(), StoreError>;

    /// The brokers that live.
    async fn brokers(&self) -> Result<Vec<BrokerSeen>, StoreError>;

    /// Counts.
    async fn counts(&self) -> Result<StoreCounts, StoreError>;

    /// Where the feed stands. Every revocation, block, takeover of evidence and change of keys adds one event in its
    /// own atomic step; its number is the count of changes.
    async fn feed_position(&self) -> Result<Position, StoreError>;

    /// A part of a snapshot. Who wants a whole one reads the position first, then every page: what changes meanwhile
    /// comes again as an event and applies by max or version.
    async fn feed_page(&self, after: Option<&FeedCursor>, limit: u32) -> Result<FeedPage, StoreError>;

    /// The events after `after`, at most `limit`; waits up to `wait` (at most [`crate::feed::FEED_WAIT_MAX`]) for the
    /// first. One caller at a time is served.
    async fn feed_read(&self, after: &Position, limit: u32, wait: Duration) -> Result<FeedRead, StoreError>;

    /// Stores signs of life, all in one write that is durable as the deployment declares; returns where the feed
    /// stood in that step.
    async fn ping(&self, pings: &[FollowerPing]) -> Result<Pinged, StoreError>;

    /// The followers that have not applied `number`; every one with `u64::MAX`. Those that were silent for much longer
    /// than their bound are forgotten.
    async fn followers_behind(&self, number: u64) -> Result<Followers, StoreError>;

    /// Forgets a follower that said good-bye: it accepts nothing any more.
    async fn forget_follower(&self, id: FollowerId) -> Result<(), StoreError>;

    /// Adds to what was used; counts are kept for [`crate::feed::USAGE_DAYS`] days and may lose the last seconds.
    async fn add_usage(&self, counts: &[UsageCount]) -> Result<(), StoreError>;

    /// What was used with a profile, day by day.
    async fn usage(&self, profile: &ProfileName) -> Result<Vec<UsageCount>, StoreError>;
}
