//! The verifier of the broker's certificate: a pinned CA, the host's name, an issuer that is an authority of
//! brokers, and the broker's reserved SPIFFE ID.
//!
//! It must never accept a chain that does not end at the pin, nor one by the authority of workloads, whatever name
//! it gives; it knows no public roots.

use std::path::Path;
use std::sync::Arc;

use mayfly_domain::{Reason, Refusal, SpiffeId, TrustDomain, oid};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, PeerIncompatible, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};
use x509_parser::extensions::GeneralName;

/// The path prefix of brokers' SPIFFE IDs.
const BROKER_PREFIX: &str = "/mayfly/broker/";
/// The most certificates that a CA file may hold.
const ANCHORS_MAX: usize = 16;

/// What a context knows of the broker's CA beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// CA certificates: a chain must end at one of them.
    Anchors(Vec<CertificateDer<'static>>),
    /// SHA-256 of a CA certificate's DER: the certificate of the presented chain that has it is the only anchor.
    Sha256([u8; 32]),
}

impl Pin {
    /// Reads the CA certificates of a PEM file.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where the file can't be read, holds no certificate or more than 16.
    pub fn from_file(path: &Path) -> Result<Self, Refusal> {
        let no = |why: String| {
            Refusal::new(Reason::ConfigInvalid, "")
                .fact("file", path.display().to_string())
                .fact("problem", why)
        };
        let pem = std::fs::read(path).map_err(|e| no(e.to_string()))?;
        let anchors: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .take(ANCHORS_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|e| no(e.to_string()))?;
        if anchors.is_empty() || anchors.len() > ANCHORS_MAX {
            return Err(no(format!("holds {} certificates, not 1 to {ANCHORS_MAX}", anchors.len())));
        }
        for anchor in &anchors {
            anchor_from_trusted_cert(anchor).map_err(|e| no(e.to_string()))?;
        }
        Ok(Self::Anchors(anchors))
    }

    /// Parses a fingerprint: 64 hexadecimal digits, colons between octets allowed.
    ///
    /// # Errors
    /// [`mayfly_domain::Invalid`] for any other form.
    pub fn from_sha256(text: &str) -> Result<Self, mayfly_domain::Invalid> {
        let no = || mayfly_domain::Invalid::new("CA fingerprint", text, "must be 64 hexadecimal digits");
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()
            .ok_or_else(no)?;
        let octets: Vec<u8> = digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(high << 4 | low),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(no)?;
        Ok(Self::Sha256(octets.try_into().map_err(|_| no())?))
    }

    /// The SHA-256 of each pinned certificate, as [`Pin::from_sha256`] reads it.
    pub fn fingerprints(&self) -> Vec<String> {
        let hex = |digest: [u8; 32]| digest.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Self::Anchors(all) => all.iter().map(|c| hex(fingerprint(c))).collect(),
            Self::Sha256(digest) => vec![hex(*digest)],
        }
    }
}

/// The SHA-256 fingerprint of a certificate, as contexts pin it.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}

/// Why a broker's certificate was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// No certificate of the presented chain has the pinned fingerprint.
    #[error("no certificate of the broker's chain has the pinned fingerprint")]
    NotPinned,
    /// The leaf's issuer is no authority of brokers: that of workloads, say, below the same root.
    #[error("the certificate's issuer is not an authority of brokers")]
    NotTheirAuthority,
    /// The leaf is no broker's of the trust domain.
    #[error("the certificate is not a broker's of this trust domain")]
    NotABroker,
}

impl From<Untrusted> for Error {
    fn from(why: Untrusted) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
    }
}

/// Verifies that the peer is a broker of the pinned CA.
#[derive(Debug)]
pub struct BrokerVerifier {
    pin: Pin,
    trust_domain: Option<TrustDomain>,
    provider: Arc<CryptoProvider>,
}

impl BrokerVerifier {
    /// A verifier for a pin; without a trust domain a broker of any one that the pinned CA certifies.
    pub fn new(pin: Pin, trust_domain: Option<TrustDomain>, provider: Arc<CryptoProvider>) -> Self {
        Self { pin, trust_domain, provider }
    }

    fn anchors<'a>(&'a self, chain: &'a [CertificateDer<'_>]) -> Result<Vec<TrustAnchor<'a>>, Error> {
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        match &self.pin {
            Pin::Anchors(all) => all.iter().map(|c| anchor_from_trusted_cert(c).map_err(bad)).collect(),
            Pin::Sha256(pin) => {
                let pinned = chain.iter().find(|c| &fingerprint(c) == pin).ok_or(Untrusted::NotPinned)?;
                Ok(vec![anchor_from_trusted_cert(pinned).map_err(bad)?])
            }
        }
    }

    /// Whether what issued the leaf is marked as an authority of brokers.
    fn is_theirs(&self, path: &VerifiedPath<'_>, chain: &[CertificateDer<'_>]) -> bool {
        if let Some(issuer) = path.intermediate_certificates().next() {
            return is_marked(&issuer.der());
        }
        // The anchor itself issued it. It is one of the pinned certificates, or of the chain where those are known by
        // their digest; an anchor does not keep its certificate's extensions.
        let is_it = |c: &CertificateDer<'_>| anchor_from_trusted_cert(c).is_ok_and(|a| a == *path.anchor());
        match &self.pin {
            Pin::Anchors(all) => all.iter().any(|c| is_it(c) && is_marked(c)),
            Pin::Sha256(pin) => chain.iter().any(|c| &fingerprint(c) == pin && is_it(c) && is_marked(c)),
        }
    }

    fn is_broker(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else { return false };
        let Ok(Some(names)) = parsed.subject_alternative_name() else { return false };
        let mut uris = names.value.general_names.iter().filter_map(|n| match n {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        // An X.509-SVID has exactly one URI (SPIFFE X.509-SVID, section 2).
        let (Some(uri), None) = (uris.next(), uris.next()) else { return false };
        let Ok(id) = SpiffeId::parse(uri) else { return false };
        id.path().starts_with(BROKER_PREFIX) && self.trust_domain.as_ref().is_none_or(|td| id.is_in(td))
    }
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let anchors = self.anchors(intermediates)?;
        let path = leaf
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &anchors,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(refused)?;
        if !self.is_theirs(&path, intermediates) {
            return Err(Untrusted::NotTheirAuthority.into());
        }
        leaf.verify_is_valid_for_subject_name(server_name)
            .map_err(|_| Error::InvalidCertificate(CertificateError::NotValidForName))?;
        if !self.is_broker(end_entity) {
            return Err(Untrusted::NotABroker.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a CA's certificate has the extended key usage of an authority of brokers (docs/protocol.md).
fn is_marked(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let Ok(Some(usage)) = parsed.extended_key_usage() else { return false };
    usage.value.other.iter().any(|purpose| purpose.iter().is_some_and(|arcs| arcs.eq(oid::SYSTEM_AUTHORITY)))
}

pub(crate) fn refused(e: webpki::Error) -> Error {
    let why = match e {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        // A CA of the same name with another key issued it.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            CertificateError::UnknownIssuer
        }
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(why)
}

#[cfg(feature = "workload")]
#[cfg(test)]
mod tests;
