//! Serving HTTP to peers that are known by their certificates, until they have to go.
//!
//! A connection was authenticated once. Whoever admits its peer says when it has to end: from then on no request is
//! begun on it, the peer is told (GOAWAY, RFC 9113, section 6.8), and after the grace for requests under way it is
//! closed, whatever runs on it. It must never hand on a request of a peer that was not admitted.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Extensions, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal, SpiffeId, UnixMillis};
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::{Service, ServiceExt as _};

use crate::mtls::peer_id;

/// How long a handshake may take, and as long again what is decided about the peer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests under way may take after the server or the peer's certificate is to end.
pub const GRACE: Duration = Duration::from_secs(30);
/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// The most requests under way on one connection.
const STREAMS_MAX: u32 = 256;
/// The largest head of a request, in octets.
const HEAD_OCTETS_MAX: u32 = 32 * 1024;
/// How often a peer that says nothing is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Why a request gets no answer.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the peer's time is over")]
    Over,
    #[error("the service failed")]
    Service(#[source] Fault),
}

/// Who calls: in the extensions of every request that [`serve`] hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub SpiffeId);

/// What is decided about peers whose handshake is done.
pub trait Admission: Clone + Send + Sync + 'static {
    /// Admits the peer with this leaf, which the handshake verified and whose key it has seen proven, or does not.
    fn admit(&self, leaf: CertificateDer<'static>) -> impl Future<Output = Result<Admitted, Refusal>> + Send;
}

/// A peer that was admitted.
pub struct Admitted {
    /// What each request of the connection carries.
    pub extensions: Extensions,
    /// Done when the connection has to end; then how long requests under way may take.
    pub over: Pin<Box<dyn Future<Output = Duration> + Send>>,
}

impl std::fmt::Debug for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admitted").finish_non_exhaustive()
    }
}

/// Admits everybody whom the handshake lets in, until the certificate ends.
#[derive(Debug, Clone)]
pub struct ByCertificate(pub SharedClock);

impl Admission for ByCertificate {
    async fn admit(&self, leaf: CertificateDer<'static>) -> Result<Admitted, Refusal> {
        let (peer, ends) = known(&leaf)?;
        let left = Duration::from_millis(ends.0.saturating_sub(self.0.now().0));
        let mut extensions = Extensions::new();
        extensions.insert(peer);
        let over = Box::pin(async move {
            sleep(left).await;
            GRACE
        });
        Ok(Admitted { extensions, over })
    }
}

/// Who a peer is by its leaf, and until when.
///
/// # Errors
/// `CERTIFICATE_NOT_ALLOWED` for a leaf that no handshake would have let in.
pub fn known(leaf: &CertificateDer<'_>) -> Result<(Peer, UnixMillis), Refusal> {
    let no = || Refusal::new(Reason::CertificateNotAllowed, "not one SPIFFE ID");
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| no())?;
    let ends = u64::try_from(parsed.validity().not_after.timestamp()).map_err(|_| no())?;
    Ok((Peer(peer_id(leaf).ok_or_else(no)?), UnixMillis::from_secs(ends)))
}

/// Serves whomever the handshake and then `admission` let in, until `shutdown`; then lets requests under way finish.
/// HTTP/2 and HTTP/1.1, as `config` offers them.
///
/// # Errors
/// Where the listener fails for good.
pub async fn serve<A, S, B>(
    listener: TcpListener,
    config: ServerConfig,
    admission: A,
    service: S,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()>
where
    A: Admission,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Fault>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Fault>,
{
    let (over, ends) = watch::channel(());
    let server = Server { acceptor: TlsAcceptor::from(Arc::new(config)), admission, service, over: ends };
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let room = connections.len() < CONNECTIONS_MAX;
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if room => match accepted {
                Ok((tcp, _)) => {
                    connections.spawn(server.clone().connection(tcp));
                }
                // Too many open files, or a peer that is gone already: neither is the listener's end.
                Err(e) => {
                    tracing::debug!(problem = %e, "a connection was not accepted");
                    sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
    drop(listener);
    drop(over);
    while connections.join_next().await.is_some() {}
    Ok(())
}

#[derive(Clone)]
struct Server<A, S> {
    acceptor: TlsAcceptor,
    admission: A,
    service: S,
    /// Closes when the server is to end.
    over: watch::Receiver<()>,
}

impl<A, S, B> Server<A, S>
where
    A: Admission,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Fault>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Fault>,
{
    async fn connection(mut self, tcp: TcpStream) {
        let _ = tcp.set_nodelay(true);
        let tls = match timeout(HANDSHAKE, self.acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(e)) => return tracing::debug!(problem = %e, "a peer was not accepted"),
            Err(_) => return tracing::debug!("a handshake took too long"),
        };
        let Some(leaf) = leaf(&tls) else { return };
        let Admitted { extensions, over } = match timeout(HANDSHAKE, self.admission.admit(leaf)).await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(refusal)) => return tracing::debug!(%refusal, "a peer was not admitted"),
            Err(_) => return tracing::debug!("a decision about a peer took too long"),
        };
        let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let ended = Arc::new(AtomicBool::new(false));
        let (service, no_more) = (self.service, Arc::clone(&ended));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().extend(extensions.clone());
            let answer = (!no_more.load(Ordering::Acquire)).then(|| service.clone().oneshot(request));
            async move {
                match answer {
                    Some(answer) => answer.await.map_err(|e| Unanswered::Service(e.into())),
                    None => Err(Unanswered::Over),
                }
            }
        });
        let builder = builder(h2);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(tls), service));
        let grace = tokio::select! {
            _ = connection.as_mut() => return,
            grace = over => {
                ended.store(true, Ordering::Release);
                grace
            }
            // Nothing is ever sent: only the end is awaited.
            _ = self.over.changed() => GRACE,
        };
        connection.as_mut().graceful_shutdown();
        // Even without grace the connection gets the one turn in which it says goodbye.
        let _ = timeout(grace, connection).await;
    }
}

fn leaf(tls: &TlsStream<TcpStream>) -> Option<CertificateDer<'static>> {
    Some(tls.get_ref().1.peer_certificates()?.first()?.clone().into_owned())
}

fn builder(h2: bool) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if h2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE)
        .max_buf_size(usize::try_from(HEAD_OCTETS_MAX).unwrap_or(32 * 1024));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_OCTETS_MAX)
        .keep_alive_interval(KEEP_ALIVE);
    builder
}

#[cfg(feature = "workload")]
#[cfg(test)]
mod tests;
