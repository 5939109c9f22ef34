//! Serving HTTP to services whose leases live.
//!
//! When a peer's lease ends, no request is begun on its connection any more, the peer is told (GOAWAY), and after the
//! grace the connection is dropped with every stream on it.

use std::io;
use std::time::Duration;

use http::{Extensions, Request, Response};
use hyper::body::{Body, Incoming};
use mayfly_client::mtls::Peers;
use mayfly_client::serve::{Admission, Admitted, GRACE, Peer as Caller};
use mayfly_client::{X509Identity, serve};
use mayfly_credential::Usage;
use mayfly_domain::{Reason, Refusal};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tower::Service;

use crate::peer::Peer;
use crate::verifier::Verifier;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// A server for services; HTTP/2 and HTTP/1.1.
#[derive(Debug)]
pub struct Server<'a> {
    identity: &'a X509Identity,
    peers: Peers,
    gate: Gate,
}

impl<'a> Server<'a> {
    /// Shows the identity's newest certificate to these peers, and admits those whose leases live.
    pub fn new(identity: &'a X509Identity, verifier: &Verifier, peers: Peers) -> Self {
        Self { identity, peers, gate: Gate { verifier: verifier.clone(), grace: Duration::ZERO } }
    }

    /// How long requests under way may take when their peer's lease was revoked. Nothing by default: they end with it.
    /// Where only the certificate came to its end they have half a minute.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.gate.grace = grace;
        self
    }

    /// Serves an axum router, tonic's `Routes::prepare()`, or any other service, until `shutdown`; then lets requests
    /// under way finish. Each request has its [`Peer`] among its extensions. The verifier goes on, for others that may
    /// use it: a process that ends calls [`Verifier::shutdown`] after this.
    ///
    /// # Errors
    /// Where the listener fails for good.
    pub async fn run<S, B>(
        self,
        listener: TcpListener,
        service: S,
        shutdown: impl Future<Output = ()> + Send,
    ) -> io::Result<()>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<Fault>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Fault>,
    {
        let mut config = self.identity.server_config(self.peers).map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        serve::serve(listener, config, self.gate, service, shutdown).await
    }
}

#[derive(Debug, Clone)]
struct Gate {
    verifier: Verifier,
    grace: Duration,
}

impl Admission for Gate {
    async fn admit(&self, leaf: CertificateDer<'static>) -> Result<Admitted, Refusal> {
        let peer = Peer::admit(&self.verifier, &leaf, Usage::Client)?;
        let mut extensions = Extensions::new();
        extensions.insert(Caller(peer.judged().workload.clone()));
        extensions.insert(peer.clone());
        let revoked = self.grace;
        let over = Box::pin(async move {
            match peer.over().await.reason {
                Reason::LeaseExpired => GRACE,
                _ => revoked,
            }
        });
        Ok(Admitted { extensions, over })
    }
}
