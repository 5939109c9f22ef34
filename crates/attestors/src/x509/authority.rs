//! The certificate of an authority, as a trust rule's file names it.

use mayfly_attest::Authority;
use mayfly_domain::UnixMillis;
use ring::digest::{Context, SHA256, digest};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::OCTETS_MAX;
use super::claims::hex;

/// Why a file can't stand for an authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitAuthority {
    /// There is not exactly one certificate in PEM.
    #[error("must hold exactly one certificate in PEM, and holds {0}")]
    Count(usize),
    /// The certificate can't be read.
    #[error("the certificate can't be read: {0}")]
    Malformed(String),
    /// The certificate is not an authority's.
    #[error("the certificate is not an authority's: {0}")]
    NotAuthority(&'static str),
    /// Nothing that its key signs can be verified here.
    #[error("the authority's key must be P-256, P-384, Ed25519, or RSA of 2048 to 8192 bits")]
    Key,
}

/// Reads the one certificate of an authority from PEM text.
///
/// # Errors
/// [`UnfitAuthority`] says why it can't be trusted.
pub fn read_authority(pem: &[u8]) -> Result<Authority, UnfitAuthority> {
    let malformed = |why: &dyn std::fmt::Display| UnfitAuthority::Malformed(why.to_string());
    let mut all = Vec::new();
    for one in CertificateDer::pem_slice_iter(pem) {
        all.push(one.map_err(|e| malformed(&e))?);
    }
    let [der] = all.as_slice() else { return Err(UnfitAuthority::Count(all.len())) };
    if der.len() > OCTETS_MAX {
        return Err(malformed(&"it is too large"));
    }
    let anchor = anchor(der)?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| malformed(&e))?;
    if !certificate.is_ca() {
        return Err(UnfitAuthority::NotAuthority("its basic constraints do not say so"));
    }
    let usage = certificate.key_usage().map_err(|e| malformed(&e))?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(UnfitAuthority::NotAuthority("its key usage is not keyCertSign"));
    }
    if !verifiable(&certificate) {
        return Err(UnfitAuthority::Key);
    }
    let until = certificate.validity().not_after.timestamp();
    let until = u64::try_from(until).map_err(|_| malformed(&"it ended before 1970"))?;
    let mut identity = Context::new(&SHA256);
    // Both are in DER and say themselves how long they are.
    identity.update(anchor.subject.as_ref());
    identity.update(anchor.subject_public_key_info.as_ref());
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(identity.finish().as_ref()) {
        *to = *from;
    }
    Ok(Authority {
        name: format!("x509:{}", hex(digest(&SHA256, der).as_ref())),
        certificate: der.to_vec(),
        identity: out,
        expires: UnixMillis::from_secs(until),
    })
}

/// The form in which chains are built to it.
pub(super) fn anchor(der: &[u8]) -> Result<TrustAnchor<'static>, UnfitAuthority> {
    let certificate = CertificateDer::from(der);
    let anchor = webpki::anchor_from_trusted_cert(&certificate)
        .map_err(|e| UnfitAuthority::Malformed(format!("{e:?}")))?;
    Ok(anchor.to_owned())
}

fn verifiable(certificate: &X509Certificate<'_>) -> bool {
    let key = certificate.public_key();
    let curve = || key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).map(|o| o.to_id_string());
    match (key.algorithm.algorithm.to_id_string().as_str(), key.parsed()) {
        ("1.2.840.113549.1.1.1", Ok(PublicKey::RSA(rsa))) => (2_048..=8_192).contains(&rsa.key_size()),
        ("1.2.840.10045.2.1", Ok(PublicKey::EC(_))) => {
            matches!(curve().as_deref(), Some("1.2.840.10045.3.1.7" | "1.3.132.0.34"))
        }
        ("1.3.101.112", _) => true,
        _ => false,
    }
}
