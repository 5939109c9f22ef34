//! The handle by which every task records: serializes in the caller's task, waits for the writer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal};
use tokio::sync::{Semaphore, oneshot};

use crate::chain::Head;
use crate::counters::{Counters, Shared};
use crate::error::AuditError;
use crate::record::Record;
use crate::reserve::Reserve;
use crate::writer::{Item, Message, Waiter, Writer, open_log};

/// How long a record that may be deferred waits for a file that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// When a record is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// With all that waited at the same time: one `fdatasync` for each batch.
    #[default]
    Batch,
    /// By itself: one `fdatasync` for each record.
    Each,
}

/// Where and how the record is kept.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// The file.
    pub path: PathBuf,
    /// The reserve's file; best on another disk.
    pub reserve: PathBuf,
    /// The reserve's size, in octets; set aside at start.
    pub reserve_octets: u64,
    /// When a record is durable.
    pub sync: SyncMode,
    /// How many records may wait; more are refused, but for those that may be deferred.
    pub queue: usize,
}

impl AuditConfig {
    /// The reserve's size where nothing is said: 256 MiB.
    pub const RESERVE_OCTETS: u64 = 256 * 1024 * 1024;
    /// How many records may wait where nothing is said.
    pub const QUEUE: usize = 8192;
}

/// What became of a record that may be deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is in the chain, durably.
    Written,
    /// It is in the reserve and comes into the chain as soon as that can be written.
    Deferred,
}

impl Stored {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Deferred => "deferred",
        }
    }
}

/// Sees records as they are kept. It must not wait, and nothing depends on what it does.
pub trait Observer: Send + Sync {
    /// Whether it wants the next one.
    fn wants(&self) -> bool;
    /// A record that is durable or deferred: what it is about was decided and is in force.
    fn recorded(&self, record: Record);
}

/// The audit record. Clones share one writer.
#[derive(Clone)]
pub struct Audit {
    inbox: Sender<Message>,
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    clock: SharedClock,
    observer: Option<Arc<dyn Observer>>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

impl Audit {
    /// Opens the files, repairs a torn end, writes what an earlier process had to defer, and starts the writer.
    ///
    /// Does blocking I/O.
    ///
    /// # Errors
    /// [`AuditError`] where a file can't be opened, is in use by another process, or is damaged.
    pub fn open(config: &AuditConfig, clock: SharedClock) -> Result<Self, AuditError> {
        let reserve = Reserve::open(&config.reserve, config.reserve_octets)?;
        let opened = open_log(&config.path)?;
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(
            config.path.clone(),
            opened,
            reserve,
            config.sync,
            Arc::clone(&clock),
            Arc::clone(&shared),
        )?;
        Self::start(writer, config.queue, clock, shared)
    }

    pub(crate) fn start(
        writer: Writer,
        queue: usize,
        clock: SharedClock,
        shared: Arc<Shared>,
    ) -> Result<Self, AuditError> {
        let (inbox, messages) = channel();
        std::thread::Builder::new()
            .name("mayfly-audit".into())
            .spawn(move || writer.run(&messages))
            .map_err(AuditError::Thread)?;
        let room = Arc::new(Semaphore::new(queue.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self { inbox, room, shared, clock, observer: None })
    }

    /// The same record with somebody who sees what is recorded from now on by this handle and its clones.
    #[must_use]
    pub fn observed(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Records a decision; returns when it is durable.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE` where it can't be written now, or where too much waits already: the answer must then not
    /// leave.
    pub async fn record(&self, record: Record) -> Result<(), Refusal> {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            Shared::add(&self.shared.failed, 1);
            return Err(unavailable("too many records wait to be written"));
        };
        let seen = self.seen(&record);
        let members = self.members(record)?;
        let (answer, answered) = oneshot::channel();
        let item = Item { members, waiter: Waiter::Strict(answer, permit) };
        self.inbox.send(Message::Record(item)).map_err(|_| unavailable("the audit record is closed"))?;
        match answered.await {
            Ok(true) => {
                self.tell(seen);
                Ok(())
            }
            Ok(false) => Err(unavailable("the audit file can't be written")),
            Err(_) => Err(unavailable("the audit record was closed")),
        }
    }

    /// Records what must not be refused: a revocation, a block, a completion. Never full, never an error; at the
    /// latest after two seconds it is deferred.
    pub async fn record_or_defer(&self, record: Record) -> Stored {
        let seen = self.seen(&record);
        let stored = self.defer(record).await;
        self.tell(seen);
        stored
    }

    async fn defer(&self, record: Record) -> Stored {
        let Ok(members) = self.members(record) else {
            return self.lost("an audit record could not be written as JSON");
        };
        let (answer, answered) = oneshot::channel();
        let item = Item { members, waiter: Waiter::Deferrable(answer) };
        if self.inbox.send(Message::Record(item)).is_err() {
            return self.lost("an audit record came after the writer's end");
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(_)) => self.lost("the audit writer ended"),
            // It waits in the writer's queue: a disk that hangs must not hold up a revocation.
            Err(_) => Stored::Deferred,
        }
    }

    /// The record as an observer gets it; none where nobody wants it.
    fn seen(&self, record: &Record) -> Option<Record> {
        self.observer.as_ref().filter(|observer| observer.wants())?;
        let mut seen = record.clone();
        seen.time_ms.get_or_insert_with(|| self.clock.now());
        Some(seen)
    }

    fn tell(&self, seen: Option<Record>) {
        if let (Some(observer), Some(record)) = (&self.observer, seen) {
            observer.recorded(record);
        }
    }

    fn lost(&self, why: &'static str) -> Stored {
        Shared::add(&self.shared.lost, 1);
        tracing::error!("{why}");
        Stored::Deferred
    }

    fn members(&self, record: Record) -> Result<Vec<u8>, Refusal> {
        record
            .body(self.clock.now())
            .map_err(|e| Refusal::new(Reason::Internal, format!("an audit record could not be written: {e}")))
    }

    /// Goes on in a new file where the old one was moved away (log rotation); the chain continues in it.
    ///
    /// # Errors
    /// [`AuditError`] where the new file can't be opened; the old one is then kept in use.
    pub async fn reopen(&self) -> Result<(), AuditError> {
        let (answer, answered) = oneshot::channel();
        let ended = || AuditError::Thread(std::io::Error::other("it has ended"));
        self.inbox.send(Message::Reopen(answer)).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }

    /// The chain's last record, to be kept elsewhere; `None` when the writer has ended.
    pub async fn head(&self) -> Option<Head> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(Message::Head(answer)).ok()?;
        answered.await.ok()
    }

    /// Writes what waits and ends the writer; later records are refused.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.inbox.send(Message::Close(answer)).is_ok() {
            let _ = answered.await;
        }
    }

    /// What the writer has counted.
    pub fn counters(&self) -> Counters {
        self.shared.read()
    }
}

fn unavailable(why: &'static str) -> Refusal {
    Refusal::new(Reason::AuditUnavailable, why).after(Duration::from_secs(1))
}
