//! The one writer: takes what waits, decides it in order, commits once, then answers.
//!
//! Commands that arrive during a commit form the next batch, so that the cost of a durable commit is shared.
//! Revocations have a lane of their own that goes first. Nothing is answered before it is durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::time::SharedClock;
use mayfly_lease::StoreError;
use parking_lot::{Condvar, Mutex};
use redb::Durability;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::clean;
use super::file::{Store, storage, unavailable};
use super::layout as at;
use super::ledger::{Progress, Work};
use super::state::State;

/// Commands in one transaction, at most.
const BATCH: usize = 512;
/// Commands that wait in one lane, at most; more wait for a place.
const WAITING: usize = 4_096;
/// Entries that the cleaner looks at for each command, and when nothing else is to do.
const CLEAN_PER_COMMAND: usize = 32;
const CLEAN_IDLE: usize = 2_048;
/// How often it does when nothing else is to do.
const IDLE: Duration = Duration::from_secs(1);

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Revocations, blocks, completions.
    Urgent,
    /// The rest.
    Normal,
}

/// What a command leaves behind: called with how the commit went.
type Answer = Box<dyn FnOnce(Option<&StoreError>) + Send>;
type Command = Box<dyn for<'w, 't> FnOnce(Work<'w, 't>) -> Answer + Send>;

struct Waiting {
    command: Command,
    _place: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Lanes {
    urgent: VecDeque<Waiting>,
    normal: VecDeque<Waiting>,
    closed: bool,
}

struct Queue {
    lanes: Mutex<Lanes>,
    more: Condvar,
    /// Told when the feed has something to read that it had not before.
    told: watch::Sender<()>,
    urgent: Arc<Semaphore>,
    normal: Arc<Semaphore>,
}

/// The writer's handle; dropping it lets the writer finish what waits and end.
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the writer's thread.
    pub(super) fn start(store: Arc<Store>, clock: SharedClock) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            lanes: Mutex::default(),
            more: Condvar::new(),
            told: watch::Sender::new(()),
            urgent: Arc::new(Semaphore::new(WAITING)),
            normal: Arc::new(Semaphore::new(WAITING)),
        });
        let theirs = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("mayfly-store".to_owned()).spawn(move || {
            let close = CloseOnDrop(Arc::clone(&theirs));
            let mut place = Vec::new();
            while let Some(batch) = theirs.next() {
                run(&store, &clock, batch, &mut place, &theirs.told);
            }
            drop(close);
        })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Wakes whenever the feed has something to read that it had not before.
    pub(super) fn told(&self) -> watch::Receiver<()> {
        self.queue.told.subscribe()
    }

    /// Has `command` decided and written, and returns its outcome once that is durable.
    pub(super) async fn submit<R: Send + 'static>(
        &self,
        lane: Lane,
        command: impl for<'w, 't> FnOnce(&mut Work<'w, 't>) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let places = match lane {
            Lane::Urgent => &self.queue.urgent,
            Lane::Normal => &self.queue.normal,
        };
        let place = Arc::clone(places).acquire_owned().await.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let command: Command = Box::new(move |mut work: Work<'_, '_>| {
            let outcome = command(&mut work);
            Box::new(move |failed: Option<&StoreError>| {
                let _ = answer.send(failed.map_or(outcome, |e| Err(e.clone())));
            })
        });
        self.queue.push(lane, Waiting { command, _place: place })?;
        answered.await.map_err(|_| StoreError::Unavailable("the batch was not written".to_owned()))?
    }
}

#[cfg(test)]
impl Writer {
    /// How many commands wait.
    pub(super) fn waiting(&self) -> usize {
        let lanes = self.queue.lanes.lock();
        lanes.urgent.len() + lanes.normal.len()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// However the writer's thread ends, nobody waits for it any more.
struct CloseOnDrop(Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
        let mut lanes = self.0.lanes.lock();
        lanes.urgent.clear();
        lanes.normal.clear();
    }
}

impl Queue {
    fn push(&self, lane: Lane, waiting: Waiting) -> Result<(), StoreError> {
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return Err(ended());
        }
        match lane {
            Lane::Urgent => lanes.urgent.push_back(waiting),
            Lane::Normal => lanes.normal.push_back(waiting),
        }
        drop(lanes);
        self.more.notify_one();
        Ok(())
    }

    fn close(&self) {
        self.lanes.lock().closed = true;
        self.urgent.close();
        self.normal.close();
        self.more.notify_one();
    }

    /// The next batch, empty where nothing came for a while; none at the end.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut lanes = self.lanes.lock();
        if lanes.urgent.is_empty() && lanes.normal.is_empty() {
            if lanes.closed {
                return None;
            }
            self.more.wait_for(&mut lanes, IDLE);
        }
        let Lanes { urgent, normal, .. } = &mut *lanes;
        let urgent_n = urgent.len().min(BATCH);
        let normal_n = normal.len().min(BATCH - urgent_n);
        Some(urgent.drain(..urgent_n).chain(normal.drain(..normal_n)).collect())
    }
}

fn ended() -> StoreError {
    StoreError::Unavailable("the store is closing".to_owned())
}

/// Runs one batch and answers.
fn run(
    store: &Store,
    clock: &SharedClock,
    batch: Vec<Waiting>,
    place: &mut Vec<u8>,
    told: &watch::Sender<()>,
) {
    let mut answers = Vec::with_capacity(batch.len());
    let result = transact(store, clock, batch, place, &mut answers);
    match &result {
        Ok(true) => {
            told.send_replace(());
        }
        Ok(false) => {}
        Err(e) => tracing::error!(error = %e, "a batch was not written"),
    }
    for answer in answers {
        answer(result.as_ref().err());
    }
    if result.is_err() {
        store.reopen();
    }
}

/// One transaction; whether it gave the feed something to read. A command that finds it spoilt is not run: its answer is
/// the error.
fn transact(
    store: &Store,
    clock: &SharedClock,
    batch: Vec<Waiting>,
    place: &mut Vec<u8>,
    answers: &mut Vec<Answer>,
) -> Result<bool, StoreError> {
    let mut progress = Progress::default();
    let mut transaction = store.begin()?;
    transaction.set_durability(Durability::Immediate).map_err(unavailable)?;
    {
        let table = transaction.open_table(at::TABLE).map_err(unavailable)?;
        let mut ledger = State { table, now: clock.now() };
        let budget = if batch.is_empty() { CLEAN_IDLE } else { CLEAN_PER_COMMAND * batch.len() };
        for waiting in batch {
            ledger.now = clock.now();
            answers.push((waiting.command)(Work { ledger: &mut ledger, progress: &mut progress }));
            if let Some(e) = progress.broken {
                return Err(unavailable(e));
            }
        }
        clean::round(&mut Work { ledger: &mut ledger, progress: &mut progress }, place, budget)?;
    }
    if progress.dirty {
        transaction.commit().map_err(unavailable)?;
    } else {
        transaction.abort().map_err(storage)?;
    }
    Ok(progress.told)
}
