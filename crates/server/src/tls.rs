//! TLS for the one listener: version 1.3 only, the broker's own certificate, client certificates where a
//! client has one.
//!
//! Session resumption, tickets and early data are off: a resumed session would skip the verification of the
//! client's certificate. A client certificate is trusted by the system's issuing CAs and by nothing else.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mayfly_domain::time::SharedClock;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// The protocols that a client may choose by ALPN.
pub const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1, for the plain HTTPS routes.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Why a certificate or key can't be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain, the key or the two together are refused.
    #[error("the broker's certificate can't be served: {0}")]
    Identity(#[source] rustls::Error),
    /// An issuing CA is not a certificate.
    #[error("the issuing CA can't verify clients: {0}")]
    Anchor(String),
}

/// The TLS settings in force. Each connection takes those of the moment in which it is accepted.
#[derive(Debug)]
pub struct Tls {
    clock: SharedClock,
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Serves `chain` (leaf first) with `key`, and trusts clients whose certificate one of `client_anchors`
    /// issued.
    ///
    /// # Errors
    /// [`TlsError`] says which of them can't be used.
    pub fn new(
        clock: SharedClock,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_anchors: &[CertificateDer<'static>],
    ) -> Result<Self, TlsError> {
        let config = config(&clock, chain, key, client_anchors)?;
        Ok(Self { clock, current: ArcSwap::from_pointee(config) })
    }

    /// Serves another certificate from the next connection on. The running ones keep theirs.
    ///
    /// # Errors
    /// As [`Tls::new`]; then the present one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        client_anchors: &[CertificateDer<'static>],
    ) -> Result<(), TlsError> {
        self.current.store(Arc::new(config(&self.clock, chain, key, client_anchors)?));
        Ok(())
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn config(
    clock: &SharedClock,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_anchors: &[CertificateDer<'static>],
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut anchors = RootCertStore::empty();
    for anchor in client_anchors {
        anchors.add(anchor.clone()).map_err(|e| TlsError::Anchor(e.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|e| TlsError::Anchor(e.to_string()))?;
    let time = Arc::new(Time(clock.clone()));
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Certificates are judged by the broker's own clock.
#[derive(Debug)]
struct Time(SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now().0)))
    }
}
