//! A broker's own certificate, for both ends of TLS.
//!
//! Its private key must never leave the process.

use std::net::IpAddr;

use mayfly_domain::{KeyAlg, SpiffeId, TrustDomain, Ttl, UnixMillis};
use rcgen::string::Ia5String;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{leaf, sign};
use crate::authority::{AuthorityError, key_pair, random_serial};
use crate::keyring::KeyRing;
use crate::signer::MemorySigner;

/// A broker's own server certificate with its private key, which never leaves the process.
#[derive(Debug)]
pub struct BrokerIdentity {
    /// The leaf, then its issuing authority and every way up from that, the roots too.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// The broker's SPIFFE ID.
    pub id: SpiffeId,
    /// The leaf's `notAfter`.
    pub expires: UnixMillis,
}

/// A name under which a broker is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// A DNS name, in its ASCII form.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl ServerName {
    /// Reads a URL's host: an address where it is one, else a DNS name.
    pub fn parse(host: &str) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_or_else(|_| Self::Dns(host.to_ascii_lowercase()), Self::Ip)
    }
}

/// Makes a broker's server certificate and its key: `spiffe://TD/mayfly/broker/ID`, reached under `names`.
///
/// # Errors
/// [`AuthorityError`] where the id or a name can't stand in a certificate.
pub fn broker_identity(
    ring: &KeyRing,
    broker: &str,
    names: &[ServerName],
    ttl: Ttl,
    now: UnixMillis,
) -> Result<BrokerIdentity, AuthorityError> {
    let id = broker_id(ring.trust_domain(), broker)?;
    let pkcs8 =
        MemorySigner::generate_pkcs8(KeyAlg::P256).map_err(|e| AuthorityError::Invalid(e.to_string()))?;
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let mut params = leaf(&id, broker, usages)?;
    for name in names {
        params.subject_alt_names.push(match name {
            ServerName::Dns(name) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
            ServerName::Ip(address) => SanType::IpAddress(*address),
        });
    }
    params.serial_number = Some(random_serial()?);
    let until = now.plus(ttl.as_millis());
    let authority = ring.system_authority();
    let issued = sign(authority, params, &key_pair(&pkcs8)?, now, until)?;
    let chain = issued.chain.into_iter().take(1).chain(authority.every_chain().iter().cloned()).collect();
    Ok(BrokerIdentity {
        chain,
        key: PrivatePkcs8KeyDer::from(pkcs8.expose().clone()).into(),
        id,
        expires: issued.expires,
    })
}

/// A broker's SPIFFE ID.
///
/// # Errors
/// [`AuthorityError`] where `broker` is not one segment of a SPIFFE ID's path.
pub fn broker_id(trust_domain: &TrustDomain, broker: &str) -> Result<SpiffeId, AuthorityError> {
    if broker.contains('/') {
        return Err(AuthorityError::Invalid("a broker's id is one path segment".into()));
    }
    SpiffeId::new(trust_domain, &format!("/mayfly/broker/{broker}"))
        .map_err(|e| AuthorityError::Invalid(e.to_string()))
}
