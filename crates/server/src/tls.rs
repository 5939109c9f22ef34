//! TLS for the one listener: version 1.3 only, the broker's own certificate, client certificates where a
//! client has one.
//!
//! Session resumption, tickets and early data are off: a resumed session would skip the verification of the
//! client's certificate. A client certificate is trusted by the authority that issued it and by nothing above it;
//! which authorities those are is read anew at each handshake, so that one that was withdrawn opens no connection.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mayfly_credential::{Anchors, ClientCertificate};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal, UnixMillis};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme, version,
};
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
}

/// Gives the authorities of this moment.
type Source = Arc<dyn Fn() -> Arc<Anchors> + Send + Sync>;

/// Verifies clients' certificates by the authorities of the moment.
#[derive(Clone)]
pub struct Clients {
    anchors: Source,
    clock: SharedClock,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    /// Trusts what `anchors` gives at each handshake.
    pub fn new(clock: SharedClock, anchors: impl Fn() -> Arc<Anchors> + Send + Sync + 'static) -> Self {
        Self { anchors: Arc::new(anchors), clock, provider: Arc::new(ring::default_provider()) }
    }

    /// Whose certificate the leaf is, by chain, dates, usage and form. Whether its lease is live is for each call to
    /// ask.
    ///
    /// # Errors
    /// As [`Anchors::client_chain`].
    pub fn read(&self, leaf: &CertificateDer<'_>) -> Result<ClientCertificate, Refusal> {
        (self.anchors)().client_chain(std::slice::from_ref(leaf), self.clock.now())
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: which authorities there are changes while clients decide.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let now = UnixMillis::from_secs(now.as_secs());
        match (self.anchors)().client_chain(std::slice::from_ref(leaf), now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => {
                tracing::debug!(error = %refusal, "a client certificate was refused");
                Err(Error::InvalidCertificate(match refusal.reason {
                    Reason::EvidenceExpired => CertificateError::Expired,
                    Reason::EvidenceNotYetValid => CertificateError::NotValidYet,
                    Reason::EvidenceMalformed => CertificateError::BadEncoding,
                    _ => CertificateError::UnknownIssuer,
                }))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not served".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The TLS settings in force. Each connection takes those of the moment in which it is accepted.
#[derive(Debug)]
pub struct Tls {
    clock: SharedClock,
    clients: Clients,
    current: ArcSwap<ServerConfig>,
}

impl Tls {
    /// Serves `chain` (leaf first) with `key`, and trusts the clients that `clients` verifies.
    ///
    /// # Errors
    /// [`TlsError`] says what can't be used.
    pub fn new(
        clock: SharedClock,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clients: Clients,
    ) -> Result<Self, TlsError> {
        let config = config(&clock, chain, key, &clients)?;
        Ok(Self { clock, clients, current: ArcSwap::from_pointee(config) })
    }

    /// Serves another certificate from the next connection on. The running ones keep theirs.
    ///
    /// # Errors
    /// As [`Tls::new`]; then the present one stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        self.current.store(Arc::new(config(&self.clock, chain, key, &self.clients)?));
        Ok(())
    }

    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn config(
    clock: &SharedClock,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: &Clients,
) -> Result<ServerConfig, TlsError> {
    let time = Arc::new(Time(clock.clone()));
    let mut config = ServerConfig::builder_with_details(clients.provider.clone(), time)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(Arc::new(clients.clone()))
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
