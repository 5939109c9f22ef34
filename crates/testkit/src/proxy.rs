//! A small TCP proxy between two processes, whose faults a test turns on and off: what a network does to them.
//!
//! It must never change what it passes on, nor its order within a connection: TCP doesn't.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// How much one read takes, and how many of them may lie in the proxy: a peer that does not read is felt soon.
const CHUNK: usize = 16 * 1024;
const CHUNKS: usize = 4;

/// Which way octets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to the proxy.
    ToServer,
    /// To whoever connected to the proxy.
    ToClient,
}

/// What connections meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Whole,
    Cut,
    HalfOpen,
}

#[derive(Debug, Clone, Default)]
struct State {
    line: Line,
    delay: Duration,
    paused: [bool; 2],
    /// A connection of another count was there when the line was cut or swallowed octets: it must not go on.
    era: u64,
}

impl State {
    fn is_paused(&self, direction: Direction) -> bool {
        self.paused[direction as usize]
    }
}

#[derive(Debug, Default)]
struct Establishing {
    held: bool,
    waiting: Vec<oneshot::Sender<oneshot::Sender<()>>>,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    establishing: Mutex<Establishing>,
    waiting: watch::Sender<usize>,
    open: watch::Sender<usize>,
}

/// A proxy in front of one server. It ends with this value, and its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port of the loopback and passes each connection on to `target`.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            establishing: Mutex::default(),
            waiting: watch::Sender::new(0),
            open: watch::Sender::new(0),
        });
        let (state, seen) = watch::channel(State::default());
        tokio::spawn(accept(listener, seen, shared.clone()));
        Self { address, state, shared }
    }

    /// Where it listens, as long as it is there.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections go to another server; open ones stay where they are.
    pub fn to(&self, target: SocketAddr) {
        *self.shared.target.lock() = target;
    }

    /// Ends each connection at once, and each new one too.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.line = Line::Cut;
            state.era += 1;
        });
    }

    /// Swallows all octets of both directions; nothing is closed, new connections are taken and never answered.
    pub fn half_open(&self) {
        self.state.send_modify(|state| state.line = Line::HalfOpen);
    }

    /// Octets arrive this much later.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Stops reading what goes this way, as a process does that never reads: its peer's buffers fill.
    pub fn pause(&self, direction: Direction) {
        self.state.send_modify(|state| state.paused[direction as usize] = true);
    }

    /// Reads again what goes this way.
    pub fn resume(&self, direction: Direction) {
        self.state.send_modify(|state| state.paused[direction as usize] = false);
    }

    /// Takes connections but does not establish them.
    pub fn hold(&self) {
        self.shared.establishing.lock().held = true;
    }

    /// Establishes those that were held, the last one first, each when the one before is.
    pub async fn release_reversed(&self) {
        let waiting = {
            let mut establishing = self.shared.establishing.lock();
            establishing.held = false;
            self.shared.waiting.send_replace(0);
            std::mem::take(&mut establishing.waiting)
        };
        for go in waiting.into_iter().rev() {
            let (established, done) = oneshot::channel();
            // One whose client has gone is passed over.
            if go.send(established).is_ok() {
                let _ = done.await;
            }
        }
    }

    /// Ends every fault. Connections whose octets were swallowed end now: no connection has a gap.
    pub async fn mend(&self) {
        self.state.send_modify(|state| {
            let gap = state.line == Line::HalfOpen;
            *state = State { era: state.era + u64::from(gap), ..State::default() };
        });
        self.release_reversed().await;
    }

    /// Waits until so many connections are held.
    pub async fn held(&self, count: usize) {
        let _ = self.shared.waiting.subscribe().wait_for(|n| *n >= count).await;
    }

    /// Waits until exactly so many connections are passed on.
    pub async fn connections(&self, count: usize) {
        let _ = self.shared.open.subscribe().wait_for(|n| *n == count).await;
    }
}

async fn accept(listener: TcpListener, seen: watch::Receiver<State>, shared: Arc<Shared>) {
    let mut ended = seen.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The proxy is gone.
            _ = ended.wait_for(|_| false) => return,
        };
        let Ok((client, _)) = accepted else { continue };
        tokio::spawn(connection(client, seen.clone(), shared.clone()));
    }
}

async fn connection(client: TcpStream, mut seen: watch::Receiver<State>, shared: Arc<Shared>) {
    let era = {
        let state = seen.borrow();
        if state.line == Line::Cut {
            reset(&client);
            return;
        }
        state.era
    };
    let mut over = seen.clone();
    let over = async move {
        // Also where the proxy is gone.
        let _ = over.wait_for(|state| state.era != era).await;
    };
    tokio::pin!(over);
    let turn = {
        let mut establishing = shared.establishing.lock();
        establishing.held.then(|| {
            let (go, turn) = oneshot::channel();
            establishing.waiting.push(go);
            shared.waiting.send_replace(establishing.waiting.len());
            turn
        })
    };
    let established = match turn {
        None => None,
        Some(turn) => tokio::select! {
            turn = turn => turn.ok(),
            () = &mut over => return reset(&client),
        },
    };
    // A line that swallows swallows the handshake too.
    if seen.wait_for(|state| state.line != Line::HalfOpen || state.era != era).await.is_err() {
        return;
    }
    let target = *shared.target.lock();
    let server = tokio::select! {
        server = TcpStream::connect(target) => server,
        () = &mut over => return reset(&client),
    };
    drop(established);
    let (mut client, Ok(mut server)) = (client, server) else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    shared.open.send_modify(|n| *n += 1);
    let whole = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pass(from_client, to_server, Direction::ToServer, seen.clone());
        let down = pass(from_server, to_client, Direction::ToClient, seen.clone());
        tokio::select! {
            _ = async { tokio::join!(up, down) } => true,
            () = &mut over => false,
        }
    };
    if !whole {
        reset(&client);
        reset(&server);
    }
    shared.open.send_modify(|n| *n -= 1);
}

/// The next end of this stream is a reset, not an end as if all had been said.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut seen: watch::Receiver<State>,
) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let writing_seen = seen.clone();
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            if seen.wait_for(|state| !state.is_paused(direction)).await.is_err() {
                return;
            }
            let read = tokio::select! {
                biased;
                _ = seen.wait_for(|state| state.is_paused(direction)) => continue,
                read = from.read(&mut buffer) => read.unwrap_or(0),
            };
            let (swallows, delay) = {
                let state = seen.borrow();
                (state.line == Line::HalfOpen, state.delay)
            };
            if read == 0 {
                break;
            }
            if !swallows && queue.send((Instant::now() + delay, buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
        // Nor does an end arrive over a line that swallows.
        let _ = seen.wait_for(|state| state.line != Line::HalfOpen).await;
    };
    let writing = async move {
        while let Some((due, octets)) = queued.recv().await {
            sleep_until(due).await;
            let swallows = writing_seen.borrow().line == Line::HalfOpen;
            if !swallows && to.write_all(&octets).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests;
