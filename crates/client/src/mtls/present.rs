//! What presents a workload's newest certificate, and ready configurations for both ends.

use std::sync::Arc;

use mayfly_domain::time::SharedClock;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use tokio::sync::watch;

use super::{PeerVerifier, Peers};
use crate::channel::strict;
use crate::identity::{State, Wake, X509Identity};

/// Presents the newest certificate; none where there is no live one.
pub struct Resolver {
    state: watch::Receiver<State>,
    wake: Arc<Wake>,
    clock: SharedClock,
}

impl Resolver {
    pub(crate) const fn new(state: watch::Receiver<State>, wake: Arc<Wake>, clock: SharedClock) -> Self {
        Self { state, wake, clock }
    }

    fn newest(&self) -> Option<Arc<CertifiedKey>> {
        self.wake.used(self.clock.now());
        self.state.borrow().svid().map(|svid| Arc::clone(svid.certified()))
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Resolver").field(&self.state.borrow().svid().map(|svid| svid.lease)).finish()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.newest()
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.newest()
    }

    fn has_certs(&self) -> bool {
        self.state.borrow().svid().is_some()
    }
}

impl X509Identity {
    /// What verifies peers, by the bundle as it is at each handshake.
    pub fn verifier(&self, peers: Peers) -> PeerVerifier {
        PeerVerifier::new(self.bundle(), self.trust_domain().clone(), peers)
    }

    /// A server that only these peers can talk to. ALPN is `h2`; set `alpn_protocols` for another protocol.
    ///
    /// # Errors
    /// Where the provider has no TLS 1.3, which does not happen.
    pub fn server_config(&self, peers: Peers) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(self.verifier(peers)))
            .with_cert_resolver(Arc::new(self.resolver()));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// A client of these peers alone. The name of the host is not looked at: the SPIFFE ID says who it is. ALPN is
    /// `h2`; set `alpn_protocols` for another protocol.
    ///
    /// # Errors
    /// Where the provider has no TLS 1.3, which does not happen.
    pub fn client_config(&self, peers: Peers) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(peers)))
            .with_client_cert_resolver(Arc::new(self.resolver()));
        Ok(strict(config))
    }
}
