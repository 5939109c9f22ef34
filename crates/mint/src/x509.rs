//! Certificates for Mayfly's own people and machines: operators, acceptors, brokers.
//!
//! Signed by the system authority from a public key that the holder brings; identity is the SPIFFE ID in the URI
//! name, never the subject. Must never issue below another authority or for longer than the lease.

use std::net::IpAddr;

use mayfly_domain::defaults::SKEW_MS;
use mayfly_domain::{
    CredentialKind, KeyAlg, PublicKey, Reason, Refusal, SpiffeId, TrustDomain, Ttl, UnixMillis,
};
use mayfly_lease::{LeaseRecord, Pending, Reserved};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use subtle::ConstantTimeEq as _;

use crate::authority::{AuthorityError, key_pair, random_serial, set_validity, uri};
use crate::keyring::{KeyRing, pem};
use crate::signer::MemorySigner;

/// The longest public key that is read, in octets; P-256 takes 91.
pub const SPKI_OCTETS_MAX: usize = 512;

/// An issued certificate with its issuing authority.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    chain: Vec<CertificateDer<'static>>,
    expires: UnixMillis,
}

impl IssuedCertificate {
    /// The leaf, the authority that issued it, and what stands between that and a root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The chain as PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(pem).collect()
    }

    /// The leaf's `notAfter`: a whole second.
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }
}

/// A broker's own server certificate with its private key, which never leaves the process.
#[derive(Debug)]
pub struct BrokerIdentity {
    /// The leaf, then its issuing authority.
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

/// Reads the public key of a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), for its thumbprint.
///
/// # Errors
/// [`Reason::InputInvalid`] where it is none, or neither P-256 nor Ed25519.
pub fn public_key(spki: &[u8]) -> Result<PublicKey, Refusal> {
    read_spki(spki).map(|(_, key)| key)
}

fn read_spki(spki: &[u8]) -> Result<(SubjectPublicKeyInfo, PublicKey), Refusal> {
    let no = |why: &'static str| Refusal::new(Reason::InputInvalid, why).fact("problem", why);
    if spki.len() > SPKI_OCTETS_MAX {
        return Err(no("the public key is too long"));
    }
    let info = SubjectPublicKeyInfo::from_der(spki)
        .map_err(|_| no("the public key is not a SubjectPublicKeyInfo of a known algorithm"))?;
    let alg = if info.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256 {
        KeyAlg::P256
    } else if info.algorithm() == &rcgen::PKCS_ED25519 {
        KeyAlg::Ed25519
    } else {
        return Err(no("the public key is neither P-256 nor Ed25519"));
    };
    let key = PublicKey::new(alg, info.der_bytes()).map_err(|_| no("the public key is not of its form"))?;
    Ok((info, key))
}

/// Issues the client certificate of an operator's or acceptor's reserved lease; the serial number is the
/// credential's id.
///
/// # Errors
/// [`Reason::InputInvalid`] for a bad public key, [`Reason::Internal`] where the lease is of another kind, identity
/// or key, or the authority fails.
pub fn staff_certificate(
    ring: &KeyRing,
    reserved: Reserved,
    spki: &[u8],
    now: UnixMillis,
) -> Result<Pending<IssuedCertificate>, Refusal> {
    let certificate = issue_staff(ring, reserved.record(), spki, now)?;
    Ok(reserved.made(certificate))
}

fn issue_staff(
    ring: &KeyRing,
    record: &LeaseRecord,
    spki: &[u8],
    now: UnixMillis,
) -> Result<IssuedCertificate, Refusal> {
    let no = |why: &'static str| Refusal::new(Reason::Internal, why);
    let id = &record.body.workload;
    let prefix = match record.body.kind {
        CredentialKind::Operator => "/mayfly/operator/",
        CredentialKind::Acceptor => "/mayfly/acceptor/",
        CredentialKind::Token | CredentialKind::X509 | CredentialKind::Account => {
            return Err(no("the lease is not an operator's or acceptor's"));
        }
    };
    let name = id.path().strip_prefix(prefix).filter(|n| !n.is_empty() && !n.contains('/'));
    let name = name
        .filter(|_| id.is_in(ring.trust_domain()))
        .ok_or_else(|| no("the lease's identity is not one of its kind"))?;
    let (info, key) = read_spki(spki)?;
    if !bool::from(key.thumbprint().as_bytes().ct_eq(record.body.key.as_bytes())) {
        return Err(no("the public key is not the lease's"));
    }
    if record.expires.secs() <= now.secs() {
        return Err(Reason::LeaseExpired.into());
    }
    let mut params = leaf(id, name)?;
    params.serial_number = Some(SerialNumber::from_slice(&record.credential().serial()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(sign(ring, params, &info, now, record.expires)?)
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
    let mut params = leaf(&id, broker)?;
    for name in names {
        params.subject_alt_names.push(match name {
            ServerName::Dns(name) => SanType::DnsName(Ia5String::try_from(name.as_str())?),
            ServerName::Ip(address) => SanType::IpAddress(*address),
        });
    }
    params.serial_number = Some(random_serial()?);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let issued = sign(ring, params, &key_pair(&pkcs8)?, now, now.plus(ttl.as_millis()))?;
    Ok(BrokerIdentity {
        chain: issued.chain,
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

/// What all leaves share.
fn leaf(id: &SpiffeId, name: &str) -> Result<CertificateParams, AuthorityError> {
    let mut subject = DistinguishedName::new();
    // For people only; a common name has at most 64 characters (RFC 5280, upper bounds).
    subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.subject_alt_names = vec![uri(id.as_str())?];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    Ok(params)
}

fn sign(
    ring: &KeyRing,
    mut params: CertificateParams,
    key: &impl PublicKeyData,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<IssuedCertificate, AuthorityError> {
    let expires = until.floor_secs();
    // The skew is for verifiers whose clock is behind; it is never added to the end.
    set_validity(&mut params, now.minus(SKEW_MS), expires);
    let authority = ring.system_authority();
    let leaf = params.signed_by(key, authority.issuer())?;
    let chain = std::iter::once(leaf.into()).chain(authority.chain().iter().cloned()).collect();
    Ok(IssuedCertificate { chain, expires })
}

#[cfg(test)]
mod tests;
