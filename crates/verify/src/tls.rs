//! TLS between services that ends with the peer's lease: raw connections both ways, and a channel for gRPC.
//!
//! A handshake verifies the peer's certificate by the trust bundle as it is then, and its SPIFFE ID by the peers that
//! are expected; TLS 1.3 only, without resumption, tickets and early data, each of which would skip that. Right after
//! it, and before an octet of the connection is handed on, the peer's lease is guarded and judged.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mayfly_client::channel::{Through, Unconnected};
use mayfly_client::mtls::Peers;
use mayfly_client::{RotatingChannel, X509Identity};
use mayfly_credential::Usage;
use mayfly_domain::Refusal;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use url::Url;

use crate::peer::{Peer, leaf};
use crate::stream::GuardedStream;
use crate::verifier::Verifier;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long before a server's certificate ends a channel looks for a connection with the next one, at most.
const AHEAD_MAX: Duration = Duration::from_secs(30);
/// A certificate that ends sooner than that is not waited for.
const AHEAD_LEAST: Duration = Duration::from_secs(1);

/// Takes connections of peers whose leases live, and cuts each when its peer's does not any more.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    verifier: Verifier,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Shows the identity's newest certificate to these peers; `protocols` are what ALPN offers, none by default.
    ///
    /// # Errors
    /// Where the provider has no TLS 1.3, which does not happen.
    pub fn new(
        identity: &X509Identity,
        verifier: &Verifier,
        peers: Peers,
        protocols: &[&str],
    ) -> Result<Self, rustls::Error> {
        let mut config = identity.server_config(peers)?;
        config.alpn_protocols = alpn(protocols);
        Ok(Self { tls: TlsAcceptor::from(Arc::new(config)), verifier: verifier.clone() })
    }

    /// Shakes hands, within ten seconds, and admits the peer.
    ///
    /// # Errors
    /// The handshake's; `PermissionDenied` with the [`Refusal`] within where the peer's lease is not accepted.
    pub async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(GuardedStream<server::TlsStream<TcpStream>>, Peer)> {
        tcp.set_nodelay(true)?;
        let tls = timeout(HANDSHAKE, self.tls.accept(tcp)).await??;
        let peer = leaf(tls.get_ref().1)
            .and_then(|leaf| Peer::admit(&self.verifier, leaf, Usage::Client))
            .map_err(denied)?;
        Ok((GuardedStream::new(tls, over(peer.clone())), peer))
    }
}

/// Connects to peers whose leases live, and cuts each connection when its peer's does not any more.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    verifier: Verifier,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// Shows the identity's newest certificate to these peers; `protocols` are what ALPN offers, none by default.
    ///
    /// # Errors
    /// Where the provider has no TLS 1.3, which does not happen.
    pub fn new(
        identity: &X509Identity,
        verifier: &Verifier,
        peers: Peers,
        protocols: &[&str],
    ) -> Result<Self, rustls::Error> {
        let mut config = identity.client_config(peers)?;
        config.alpn_protocols = alpn(protocols);
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), verifier: verifier.clone() })
    }

    /// Shakes hands, within ten seconds, and admits the peer. It is known by its SPIFFE ID; the address that `tcp`
    /// leads to proves nothing.
    ///
    /// # Errors
    /// As [`Acceptor::accept`].
    pub async fn connect(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(GuardedStream<client::TlsStream<TcpStream>>, Peer)> {
        tcp.set_nodelay(true)?;
        let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
        let tls = timeout(HANDSHAKE, self.tls.connect(name, tcp)).await??;
        let peer = leaf(tls.get_ref().1)
            .and_then(|leaf| Peer::admit(&self.verifier, leaf, Usage::Server))
            .map_err(denied)?;
        Ok((GuardedStream::new(tls, over(peer.clone())), peer))
    }
}

/// A channel, for any generated tonic client, to a service at this address that must be one of these peers. When its
/// lease ends, so does the connection with every call on it, and no other is made. Ahead of the end of its certificate
/// new calls move to another connection.
///
/// # Errors
/// Why there is no connection.
pub async fn channel(
    identity: &X509Identity,
    verifier: &Verifier,
    url: &Url,
    peers: Peers,
) -> Result<RotatingChannel, Unconnected> {
    identity.channel_through(url, peers, Gate(verifier.clone())).await
}

#[derive(Debug, Clone)]
struct Gate(Verifier);

impl Through for Gate {
    type Io = GuardedStream<client::TlsStream<TcpStream>>;

    async fn through(
        &self,
        tls: client::TlsStream<TcpStream>,
        wanted: Arc<Notify>,
    ) -> Result<Self::Io, Unconnected> {
        let peer = leaf(tls.get_ref().1)
            .and_then(|leaf| Peer::admit(&self.0, leaf, Usage::Server))
            .map_err(Unconnected::Refused)?;
        let ends = peer.judged().expires;
        let left = Duration::from_millis(ends.0.saturating_sub(self.0.shared().clock.now().0));
        let over = async move {
            if left > AHEAD_LEAST {
                tokio::select! {
                    why = peer.over() => return why,
                    () = sleep(left.saturating_sub((left / 5).min(AHEAD_MAX))) => wanted.notify_one(),
                }
            }
            peer.over().await
        };
        Ok(GuardedStream::new(tls, over))
    }
}

async fn over(peer: Peer) -> Refusal {
    peer.over().await
}

fn denied(why: Refusal) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}
