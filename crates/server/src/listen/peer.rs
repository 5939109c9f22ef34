//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use mayfly_domain::{CredentialId, SpiffeId, Thumbprint, UnixMillis};
use mayfly_mint::x509;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The other end of a connection, as extension of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, where it showed one that the system's issuing CA issued. Whether its lease is still
    /// live is for each call to ask.
    pub certificate: Option<Arc<PeerCertificate>>,
    /// Closes the connection.
    pub connection: ConnectionHandle,
}

/// A client certificate whose chain and dates were verified at the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The one SPIFFE ID among its names.
    pub id: SpiffeId,
    /// Its serial number, without leading zeros.
    pub serial: Vec<u8>,
    /// Its key; none where it is neither P-256 nor Ed25519.
    pub key: Option<Thumbprint>,
    /// Until when it is valid. A connection may outlive it by moments: calls look at it too.
    pub expires: UnixMillis,
}

/// Closes one connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectionHandle(CancellationToken);

impl ConnectionHandle {
    /// Closes the connection at once; its open streams break.
    pub fn close(&self) {
        self.0.cancel();
    }

    pub(super) async fn closed(&self) {
        self.0.cancelled().await;
    }
}

/// Why a verified certificate is not one of Mayfly's client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// It can't be read.
    #[error("it can't be read")]
    Malformed,
    /// It has not exactly one URI name, or that is no SPIFFE ID.
    #[error("it does not have exactly one SPIFFE ID")]
    Id,
    /// It is not for clients.
    #[error("it is not meant for clients")]
    Usage,
}

impl PeerCertificate {
    /// The lease and counter that its serial number stands for.
    pub fn credential(&self) -> Option<CredentialId> {
        CredentialId::from_serial(&self.serial).ok()
    }

    /// Reads a certificate whose chain was verified (X509-SVID sections 2 and 5.2).
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, Unfit> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Unfit::Malformed)?;
        if !rest.is_empty() {
            return Err(Unfit::Malformed);
        }
        // Absent usages would mean every usage.
        let usage = certificate.extended_key_usage().map_err(|_| Unfit::Malformed)?;
        if !usage.is_some_and(|usage| usage.value.client_auth) || certificate.is_ca() {
            return Err(Unfit::Usage);
        }
        let names = certificate.subject_alternative_name().map_err(|_| Unfit::Malformed)?.ok_or(Unfit::Id)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let id = match (uris.next(), uris.next()) {
            (Some(uri), None) => SpiffeId::parse(uri).map_err(|_| Unfit::Id)?,
            _ => return Err(Unfit::Id),
        };
        let expires =
            u64::try_from(certificate.validity().not_after.timestamp()).map_err(|_| Unfit::Malformed)?;
        let serial = certificate.raw_serial();
        let zeros = serial.iter().take_while(|b| **b == 0).count();
        Ok(Self {
            id,
            key: x509::public_key(certificate.public_key().raw).ok().map(|key| key.thumbprint()),
            serial: serial.get(zeros..).unwrap_or_default().to_vec(),
            expires: UnixMillis::from_secs(expires),
        })
    }
}
