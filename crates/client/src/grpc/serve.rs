//! Serving tonic to peers that are known by SPIFFE ID.
//!
//! A connection was authenticated once, by a certificate that ends: so does the connection. It must never outlive
//! that certificate by more than the grace for requests under way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{SpiffeId, UnixMillis};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::service::Routes;
use tower::ServiceExt as _;

use crate::identity::X509Identity;
use crate::mtls::{Peers, peer_id};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long requests under way may take after their connection is to end.
const GRACE: Duration = Duration::from_secs(30);
/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// The most requests under way on one connection.
const STREAMS_MAX: u32 = 256;

/// Who calls: in the extensions of every request that [`serve`] hands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub SpiffeId);

/// Who makes this call, where [`serve`] accepted it.
pub fn peer<T>(request: &tonic::Request<T>) -> Option<&SpiffeId> {
    request.extensions().get::<Peer>().map(|peer| &peer.0)
}

/// Serves these peers, with the newest certificate, until `shutdown`; then lets requests under way finish.
///
/// # Errors
/// Where the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    identity: &X509Identity,
    peers: Peers,
    routes: Routes,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let config = identity.server_config(peers).map_err(io::Error::other)?;
    let (over, ends) = watch::channel(());
    let server = Server {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        routes: routes.prepare(),
        clock: identity.clock(),
        over: ends,
    };
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
struct Server {
    acceptor: TlsAcceptor,
    routes: Routes,
    clock: SharedClock,
    /// Closes when the server is to end.
    over: watch::Receiver<()>,
}

impl Server {
    async fn connection(mut self, tcp: TcpStream) {
        let _ = tcp.set_nodelay(true);
        let tls = match timeout(HANDSHAKE, self.acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(e)) => return tracing::debug!(problem = %e, "a peer was not accepted"),
            Err(_) => return tracing::debug!("a handshake took too long"),
        };
        let Some((peer, ends)) = authenticated(&tls) else { return };
        let left = Duration::from_millis(ends.0.saturating_sub(self.clock.now().0));
        let routes = self.routes;
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer.clone()));
            routes.clone().oneshot(request)
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .serve_connection(TokioIo::new(tls), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = &mut connection => return,
            () = sleep(left) => {}
            // Nothing is ever sent: only the end is awaited.
            _ = self.over.changed() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(GRACE, connection).await;
    }
}

/// Who the peer is, and until when.
fn authenticated(tls: &TlsStream<TcpStream>) -> Option<(SpiffeId, UnixMillis)> {
    let leaf: &CertificateDer<'_> = tls.get_ref().1.peer_certificates()?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let ends = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some((peer_id(leaf)?, UnixMillis::from_secs(ends)))
}
