//! The verifier of a peer's certificate.

use std::sync::Arc;

use mayfly_domain::{SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::GeneralName;

use super::Peers;
use crate::bundle::Bundle;
use crate::pin::refused;

/// Why a peer was not accepted, beyond what X.509 itself says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has not exactly one URI, or that is no SPIFFE ID.
    #[error("the certificate does not carry exactly one SPIFFE ID")]
    NoId,
    /// It is of another trust domain.
    #[error("`{0}` is of another trust domain")]
    OtherDomain(SpiffeId),
    /// Nobody expects it here.
    #[error("`{0}` is not a peer that is expected here")]
    Unexpected(SpiffeId),
}

impl From<Refused> for Error {
    fn from(why: Refused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// Verifies peers by SPIFFE ID, in both directions.
#[derive(Debug)]
pub struct PeerVerifier {
    bundle: watch::Receiver<Arc<Bundle>>,
    trust_domain: TrustDomain,
    peers: Peers,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The SPIFFE ID of a certificate: of its only URI (X.509-SVID, section 2). It is not verified here.
pub fn peer_id(leaf: &CertificateDer<'_>) -> Option<SpiffeId> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|n| match n {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return None };
    SpiffeId::parse(uri).ok()
}

impl PeerVerifier {
    /// By the workload anchors of the bundle as it is at each handshake, for peers of one trust domain.
    pub fn new(bundle: watch::Receiver<Arc<Bundle>>, trust_domain: TrustDomain, peers: Peers) -> Self {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        Self { bundle, trust_domain, peers, algorithms }
    }

    fn verify(&self, leaf: &CertificateDer<'_>, usage: KeyUsage, now: UnixTime) -> Result<(), Error> {
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let bundle = Arc::clone(&self.bundle.borrow());
        let anchors: Vec<_> = bundle
            .workload_anchors
            .iter()
            .map(|der| anchor_from_trusted_cert(der).map_err(bad))
            .collect::<Result<_, _>>()?;
        let parsed = EndEntityCert::try_from(leaf).map_err(bad)?;
        // No intermediates, whatever the peer sent: an issuing CA of workloads issues leaves and nothing else.
        parsed
            .verify_for_usage(self.algorithms.all, &anchors, &[], now, usage, None, None)
            .map_err(refused)?;
        let id = peer_id(leaf).ok_or(Refused::NoId)?;
        if !id.is_in(&self.trust_domain) {
            return Err(Refused::OtherDomain(id).into());
        }
        if !self.peers.expect(&id) {
            return Err(Refused::Unexpected(id).into());
        }
        Ok(())
    }
}

fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, KeyUsage::server_auth(), now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, KeyUsage::client_auth(), now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
