//! One connection that is opened again and again: who is at its other end is known before it is used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mayfly_lease::StoreError;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::not_open;
use super::dial::Target;
use super::facts::Facts;
use super::keys;
use super::script::SCRIPTS;

/// How long a call waits for a connection at most.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// An open connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) mux: MultiplexedConnection,
    /// Whether what the server acknowledged survives it.
    pub(super) keeps_all: bool,
    /// Who it is.
    pub(super) identity: [u8; 16],
    serial: u64,
}

/// What all connections of a store know together.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The server that the connections lead to.
    pub(super) identity: Mutex<[u8; 16]>,
    /// The server that the stored generation began on.
    pub(super) began_on: Mutex<Option<[u8; 16]>>,
    /// The number of the last change that this broker was told of.
    changes: AtomicU64,
    /// Whether a connection has led to a server that had not all of them: an older copy of the data. What it would say
    /// counts for nothing until another generation is adopted.
    went_back: AtomicBool,
    /// Why no connection opens.
    trouble: Mutex<String>,
}

impl Known {
    /// Takes note of a change's number.
    pub(super) fn told(&self, changes: u64) -> u64 {
        self.changes.fetch_max(changes, Ordering::AcqRel);
        changes
    }

    /// Whether the server has forgotten changes.
    pub(super) fn went_back(&self) -> bool {
        self.went_back.load(Ordering::Acquire)
    }

    /// Another generation counts from where its store stands.
    pub(super) fn begins_anew(&self) {
        self.changes.store(0, Ordering::Release);
        self.went_back.store(false, Ordering::Release);
    }
}

/// How connections are opened.
pub(super) struct Dialer {
    pub(super) target: Target,
    pub(super) wait_replicas: u32,
    pub(super) connect_timeout: Duration,
    pub(super) known: Arc<Known>,
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection with the task that opens it again.
#[derive(Debug)]
pub(super) struct Link {
    conn: watch::Receiver<Option<Arc<Conn>>>,
    suspect: watch::Sender<u64>,
    known: Arc<Known>,
    patience: Duration,
    _task: Owned,
}

impl Link {
    /// Starts opening it. `waits`: how long the server may wait itself before it answers. Needs a tokio runtime.
    pub(super) fn start(dialer: Arc<Dialer>, name: &'static str, waits: Duration) -> Self {
        let (conn_tx, conn) = watch::channel(None);
        let (suspect, suspect_rx) = watch::channel(0);
        let known = Arc::clone(&dialer.known);
        let patience = dialer.connect_timeout.min(PATIENCE);
        let task = Owned(tokio::spawn(supervise(dialer, name, waits, conn_tx, suspect_rx)));
        Self { conn, suspect, known, patience, _task: task }
    }

    /// The open connection; waits for one no longer than opening may take, and never long.
    pub(super) async fn get(&self) -> Result<Arc<Conn>, StoreError> {
        let mut conn = self.conn.clone();
        if let Some(open) = conn.borrow_and_update().clone() {
            return Ok(open);
        }
        let waited = tokio::time::timeout(self.patience, conn.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(open)) => open.clone().ok_or_else(|| self.down()),
            _ => Err(self.down()),
        }
    }

    /// Says that this connection did not answer: it is given up, and another one opened.
    pub(super) fn suspect(&self, conn: &Conn) {
        self.suspect.send_if_modified(|serial| {
            let newer = *serial < conn.serial;
            *serial = (*serial).max(conn.serial);
            newer
        });
    }

    fn down(&self) -> StoreError {
        StoreError::Unavailable(format!("no connection: {}", self.known.trouble.lock()))
    }
}

async fn supervise(
    dialer: Arc<Dialer>,
    name: &'static str,
    waits: Duration,
    conn_tx: watch::Sender<Option<Arc<Conn>>>,
    mut suspect: watch::Receiver<u64>,
) {
    let mut pause = PAUSE_MIN;
    for serial in 1.. {
        let opened = tokio::time::timeout(dialer.connect_timeout, open(&dialer, serial, waits)).await;
        match opened.unwrap_or_else(|_| Err("it took too long".to_owned())) {
            Ok((conn, mut driver)) => {
                tracing::info!(connection = name, "redis connected");
                conn_tx.send_replace(Some(Arc::new(conn)));
                let opened = tokio::time::Instant::now();
                tokio::select! {
                    _ = &mut driver.0 => {}
                    _ = suspect.wait_for(|s| *s >= serial) => {}
                }
                conn_tx.send_replace(None);
                // A server that takes connections only to drop them is not hammered.
                if opened.elapsed() >= PAUSE_MAX {
                    pause = PAUSE_MIN;
                }
                tracing::warn!(connection = name, "redis connection lost");
            }
            Err(why) => {
                tracing::warn!(connection = name, why, "redis does not connect");
                *dialer.known.trouble.lock() = why;
            }
        }
        if conn_tx.is_closed() {
            return;
        }
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Opens a connection, asks who is there and hands over the scripts.
async fn open(dialer: &Dialer, serial: u64, waits: Duration) -> Result<(Conn, Owned), String> {
    let (mut mux, driver) = dialer.target.open(waits).await?;
    let driver = Owned(tokio::spawn(driver));
    // Before it is asked: what others are told meanwhile it need not have.
    let told = dialer.known.changes.load(Ordering::Acquire);
    let greeted = async {
        let facts = Facts::read(&mut mux).await?;
        let stored: (Option<Vec<u8>>, Option<u64>) =
            redis::cmd("MGET").arg(keys::SERVER).arg(keys::CHANGES).query_async(&mut mux).await?;
        let mut load = redis::pipe();
        for script in SCRIPTS.all() {
            load.cmd("SCRIPT").arg("LOAD").arg(&script.source).ignore();
        }
        load.query_async::<()>(&mut mux).await?;
        Ok((facts, stored))
    };
    let (facts, (began_on, changes)) = greeted.await.map_err(|e: redis::RedisError| not_open(&e))?;
    if facts.is_loading() {
        return Err("the server reads its data".to_owned());
    }
    if !facts.is_recent() {
        return Err("the server is older than Redis 7.0".to_owned());
    }
    *dialer.known.identity.lock() = facts.identity;
    *dialer.known.began_on.lock() = began_on.and_then(|b| b.try_into().ok());
    // Unless another generation was adopted while it was asked.
    let counts = dialer.known.changes.load(Ordering::Acquire) >= told;
    if counts && changes.unwrap_or(0) < told {
        dialer.known.went_back.store(true, Ordering::Release);
    }
    let keeps_all = facts.keeps_all(dialer.wait_replicas);
    Ok((Conn { mux, keeps_all, identity: facts.identity, serial }, driver))
}

/// Between half of `pause` and all of it, so that brokers do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness the pause is whole: later, never sooner.
    if SystemRandom::new().fill(&mut random).is_err() {
        return pause;
    }
    pause / 2 + pause.mul_f64(f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX) / 2.0)
}
