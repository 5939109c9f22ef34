//! One connection from its handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mayfly_domain::UnixMillis;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::peer::{ConnectionHandle, Peer};
use crate::config::{Limits, Server};
use crate::http::App;
use crate::telemetry::Turned;
use crate::tls::{ALPN_H2, Clients};

/// The largest head of a request, in octets.
const HEAD_OCTETS_MAX: u32 = 32 * 1024;
/// The most headers of an HTTP/1.1 request.
const HEADERS_MAX: usize = 64;
/// What one stream, and one connection, may send before it is read, in octets.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is still read, and for how long, of a caller whose certificate was refused.
const REFUSED_OCTETS: u64 = 128 * 1024;
const REFUSED_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    handshake: Duration,
    header: Duration,
    idle: Duration,
    drain: Duration,
    streams: u32,
}

impl Bounds {
    pub(super) fn new(server: &Server, limits: &Limits) -> Self {
        Self {
            handshake: server.handshake_timeout,
            header: server.header_timeout,
            idle: server.idle_timeout,
            drain: server.drain_timeout,
            streams: limits.streams_per_connection,
        }
    }
}

/// What a connection is served with.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) tls: Arc<ServerConfig>,
    pub(super) clients: Clients,
    pub(super) app: App,
    pub(super) bounds: Bounds,
    pub(super) draining: CancellationToken,
}

impl Served {
    pub(super) async fn run(self, stream: TcpStream, address: SocketAddr) {
        let _open = self.app.metrics().connection();
        // Answers are small and somebody waits for them.
        let _ = stream.set_nodelay(true);
        let handshake = TlsAcceptor::from(self.tls.clone()).accept(stream).into_fallible();
        let handshake = timeout(self.bounds.handshake, handshake);
        let stream = tokio::select! {
            () = self.draining.cancelled() => return,
            done = handshake => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err((e, stream))) => {
                    tracing::debug!(peer = %address, error = %e, "a TLS handshake failed");
                    let why = turned(&e);
                    self.app.metrics().turned(why);
                    if why == Turned::Certificate {
                        tokio::select! {
                            () = self.draining.cancelled() => {}
                            () = hear_out(stream) => {}
                        }
                    }
                    return;
                }
                Err(_) => return self.app.metrics().turned(Turned::HandshakeTimeout),
            },
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = match shown.map(|leaf| self.clients.read(leaf)).transpose() {
            Ok(certificate) => certificate.map(Arc::new),
            // Its authority was withdrawn during the handshake.
            Err(e) => {
                tracing::debug!(peer = %address, error = %e, "a client certificate counts no more");
                return self.app.metrics().turned(Turned::Certificate);
            }
        };
        let peer = Peer { address, certificate, connection: ConnectionHandle::default() };
        self.serve(stream, peer).await;
    }

    async fn serve(self, stream: TlsStream<TcpStream>, peer: Peer) {
        let bounds = self.bounds;
        let builder = builder(bounds, stream.get_ref().1.alpn_protocol() == Some(ALPN_H2));
        let activity = Arc::new(Activity::new());
        let handle = peer.connection.clone();
        let expires = peer.expires().map(|at| self.until(at));
        let (app, doing) = (self.app.clone(), activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (app, peer, running) = (app.clone(), peer.clone(), doing.clone().begin());
            async move {
                let response = app.call(&peer, request.map(Body::new)).await;
                Ok::<_, Infallible>(response.map(|body| Guarded { body, _running: running }))
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        // While the connection lives, the next moment to look whether it is idle; while it drains, its end.
        let mut look = Instant::now() + bounds.header;
        let mut ending = false;
        loop {
            let why = tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(e) = ended {
                        tracing::debug!(error = %e, "a connection ended abnormally");
                    }
                    return;
                }
                () = handle.closed() => return,
                () = self.draining.cancelled(), if !ending => true,
                () = expired(expires), if !ending => true,
                () = sleep_until(look) => {
                    if ending {
                        return;
                    }
                    match activity.idle_since() {
                        Idle::Never => {
                            return self.app.metrics().turned(Turned::Silent);
                        }
                        Idle::No => false,
                        Idle::Since(moment) => moment + bounds.idle <= Instant::now(),
                    }
                }
            };
            if why {
                ending = true;
                connection.as_mut().graceful_shutdown();
                look = Instant::now() + bounds.drain;
            } else {
                look = activity.next_look(bounds.idle);
            }
        }
    }

    /// The moment by the monotonic clock at which a certificate ends.
    fn until(&self, expires: UnixMillis) -> Instant {
        let left = Duration::from_millis(expires.0.saturating_sub(self.app.clock().now().0));
        Instant::now() + left.min(Duration::from_secs(366 * 86_400))
    }
}

fn builder(bounds: Bounds, h2: bool) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if h2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header)
        .max_headers(HEADERS_MAX)
        .max_buf_size(usize::try_from(HEAD_OCTETS_MAX).unwrap_or(8 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(HEAD_OCTETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(bounds.idle / 2)
        .keep_alive_timeout(bounds.header);
    builder
}

/// Whether it was the client's certificate that a handshake failed over.
fn turned(error: &std::io::Error) -> Turned {
    match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Turned::Certificate,
        _ => Turned::Handshake,
    }
}

/// Lets the caller read why its certificate was refused: it sends its first request along with it, and a connection
/// that is closed over unread octets is reset, the alert lost with it.
async fn hear_out(mut stream: TcpStream) {
    let heard = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(REFUSED_OCTETS), &mut tokio::io::sink()).await
    };
    let _ = timeout(REFUSED_WAIT, heard).await;
}

async fn expired(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Whether requests run on a connection, and since when none does.
#[derive(Debug)]
struct Activity {
    running: AtomicU32,
    last: Mutex<Option<Instant>>,
}

enum Idle {
    Never,
    No,
    Since(Instant),
}

impl Activity {
    fn new() -> Self {
        Self { running: AtomicU32::new(0), last: Mutex::new(None) }
    }

    fn begin(self: Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::AcqRel);
        *self.last.lock() = Some(Instant::now());
        Running(self)
    }

    fn idle_since(&self) -> Idle {
        if self.running.load(Ordering::Acquire) > 0 {
            return Idle::No;
        }
        self.last.lock().map_or(Idle::Never, Idle::Since)
    }

    fn next_look(&self, idle: Duration) -> Instant {
        match self.idle_since() {
            Idle::Since(moment) => moment + idle,
            Idle::Never | Idle::No => Instant::now() + idle,
        }
    }
}

/// A request that runs until its answer's body has ended.
#[derive(Debug)]
struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.last.lock() = Some(Instant::now());
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// An answer's body that keeps its request running.
#[derive(Debug)]
struct Guarded {
    body: Body,
    _running: Running,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
