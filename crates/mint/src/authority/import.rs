//! What a company's certificate for one of our authorities must be, each refusal by its name.
//!
//! Our own rules come first, so that each says what is wrong; then rustls-webpki, the strictest of the verifiers
//! that will meet the chain, judges a certificate that the authority signs for the purpose. Must never accept a
//! chain that a verifier refuses later: then every credential would be dead at its birth.

use std::time::Duration;

use mayfly_domain::{Reason, Refusal, TrustDomain, UnixMillis, oid};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::public_key::PublicKey;

use super::{Authority, AuthorityError, random_serial, set_validity, uri};
use crate::issuing::{IssuingAuthority, Role};

/// The most certificates of a chain.
const CHAIN_MAX: usize = 8;
/// The longest certificate of a chain, in octets.
const CERTIFICATE_OCTETS_MAX: usize = 16 * 1024;
/// The shortest RSA modulus, in bits.
const RSA_BITS_MIN: usize = 2_048;

/// Why a company's certificate was not taken. Certificates are counted from 1, the authority's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not a certificate, or none.
    #[error("certificate {0} of the chain is malformed or missing")]
    Malformed(usize),
    /// Too many certificates.
    #[error("the chain has more than {CHAIN_MAX} certificates")]
    TooLong,
    /// The certificate is for a key that is not an authority's of the role.
    #[error(
        "its key is not that of a prepared or active {0} authority; have the request of `mayfly ca csr` signed"
    )]
    KeyNotOurs(Role),
    /// The subject was changed.
    #[error("its subject is not the request's")]
    Subject,
    /// The key identifier was changed.
    #[error("its subject key identifier is not the request's")]
    KeyIdentifier,
    /// Not a CA's certificate.
    #[error("certificate {0} of the chain is not a CA's: basic constraints and key usage must both say so")]
    NotCa(usize),
    /// It could certify other CAs.
    #[error("it has no path length of 0: it could certify other CAs")]
    PathLength,
    /// A parent's path length does not allow it.
    #[error("the path length of certificate {0} of the chain does not allow those before it")]
    ParentPathLength(usize),
    /// Not valid yet, or any more.
    #[error("certificate {0} of the chain is expired or not valid yet")]
    NotValidNow(usize),
    /// It ends later than the one above it.
    #[error("certificate {0} of the chain outlives its parent")]
    OutlivesParent(usize),
    /// A constraint on URI names.
    #[error(
        "certificate {0} of the chain carries a name constraint on URIs; rustls refuses every SPIFFE ID below one"
    )]
    UriConstraint(usize),
    /// The extended key usage leaves out clients or servers.
    #[error("the extended key usage of certificate {0} of the chain does not allow both clients and servers")]
    ExtendedKeyUsage(usize),
    /// A key that is too weak, or of a kind that verifiers do not know.
    #[error("the key of certificate {0} of the chain is too weak or of an unknown kind")]
    WeakKey(usize),
    /// The role's mark is missing.
    #[error(
        "it lacks the request's extended key usage 2.25.1946157831.1, by which clients tell the authority of brokers"
    )]
    MarkMissing,
    /// A workload authority with the mark of the other role.
    #[error("a workload authority must not have the extended key usage 2.25.1946157831.1")]
    MarkForeign,
    /// A certificate was not issued by the one after it.
    #[error("certificate {0} of the chain is not issued by the next one")]
    Order(usize),
    /// The chain does not end at a root.
    #[error("the chain does not end at a root that is its own issuer")]
    NoRoot,
    /// A signature does not verify.
    #[error("a signature of the chain does not verify")]
    Signature,
    /// Verifiers would refuse for another reason.
    #[error("verifiers would refuse the chain: {0}")]
    Refused(String),
}

impl From<Unfit> for Refusal {
    fn from(why: Unfit) -> Self {
        Self::new(Reason::CaInvalid, why.to_string()).fact("problem", why.to_string())
    }
}

/// Reads the certificates of a PEM text, in its order.
///
/// # Errors
/// [`Unfit`] where one is malformed, there is none, or there are too many.
pub fn chain_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        chain.push(certificate.map_err(|_| Unfit::Malformed(chain.len() + 1))?);
        if chain.len() > CHAIN_MAX {
            return Err(Unfit::TooLong);
        }
    }
    if chain.is_empty() { Err(Unfit::Malformed(1)) } else { Ok(chain) }
}

/// The public key that a chain's first certificate is for: the octets of its bit string.
pub(crate) fn subject_key(chain: &[CertificateDer<'_>]) -> Result<Vec<u8>, Unfit> {
    if chain.len() > CHAIN_MAX {
        return Err(Unfit::TooLong);
    }
    let first = chain.first().ok_or(Unfit::Malformed(1))?;
    let (_, first) = x509_parser::parse_x509_certificate(first).map_err(|_| Unfit::Malformed(1))?;
    Ok(first.public_key().subject_public_key.data.to_vec())
}

/// Judges `chain` for `authority`: its certificate, its parents, the root last.
pub(super) fn judge(
    authority: &Authority,
    chain: &[CertificateDer<'static>],
    now: UnixMillis,
) -> Result<(), Unfit> {
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .enumerate()
        .map(|(n, der)| match x509_parser::parse_x509_certificate(der) {
            Ok(([], certificate)) if der.len() <= CERTIFICATE_OCTETS_MAX => Ok(certificate),
            _ => Err(Unfit::Malformed(n + 1)),
        })
        .collect::<Result<_, _>>()?;
    let (Some(first), Some(root)) = (parsed.first(), parsed.last()) else { return Err(Unfit::Malformed(1)) };
    ours(authority, first)?;
    for (n, certificate) in parsed.iter().enumerate() {
        each(n, certificate, now)?;
    }
    for (n, pair) in parsed.windows(2).enumerate() {
        let [below, above] = pair else { continue };
        if below.issuer().as_raw() != above.subject().as_raw() {
            return Err(Unfit::Order(n + 1));
        }
        if below.validity().not_after.timestamp() > above.validity().not_after.timestamp() {
            return Err(Unfit::OutlivesParent(n + 1));
        }
    }
    if parsed.len() < 2 || root.issuer().as_raw() != root.subject().as_raw() {
        return Err(Unfit::NoRoot);
    }
    Ok(())
}

/// What the authority's own certificate must be beside.
fn ours(authority: &Authority, certificate: &X509Certificate<'_>) -> Result<(), Unfit> {
    let (_, own) =
        x509_parser::parse_x509_certificate(&authority.certificate).map_err(|_| Unfit::Malformed(1))?;
    if certificate.subject().as_raw() != own.subject().as_raw() {
        return Err(Unfit::Subject);
    }
    if key_identifier(certificate) != key_identifier(&own) {
        return Err(Unfit::KeyIdentifier);
    }
    let constraints = certificate.basic_constraints().map_err(|_| Unfit::Malformed(1))?;
    if constraints.is_some_and(|c| c.value.ca && c.value.path_len_constraint != Some(0)) {
        return Err(Unfit::PathLength);
    }
    let marked = certificate
        .extended_key_usage()
        .map_err(|_| Unfit::Malformed(1))?
        .is_some_and(|usage| usage.value.other.iter().any(is_mark));
    match (authority.role, marked) {
        (Role::System, false) => Err(Unfit::MarkMissing),
        (Role::Workload, true) => Err(Unfit::MarkForeign),
        _ => Ok(()),
    }
}

/// What every certificate of the chain must be; `n` counts those below it.
fn each(n: usize, certificate: &X509Certificate<'_>, now: UnixMillis) -> Result<(), Unfit> {
    let at = n + 1;
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() >= RSA_BITS_MIN => {}
        // Which curve, is webpki's to say; it knows none below P-256.
        Ok(PublicKey::EC(point)) if point.key_size() >= 256 => {}
        _ if is_ed25519(certificate) => {}
        _ => return Err(Unfit::WeakKey(at)),
    }
    let constraints = certificate.basic_constraints().map_err(|_| Unfit::Malformed(at))?;
    let constraints = constraints.map(|c| c.value);
    let usage = certificate.key_usage().map_err(|_| Unfit::Malformed(at))?;
    if !constraints.is_some_and(|c| c.ca) || usage.is_some_and(|u| !u.value.key_cert_sign()) {
        return Err(Unfit::NotCa(at));
    }
    let allowed = constraints.and_then(|c| c.path_len_constraint);
    if allowed.is_some_and(|most| usize::try_from(most).is_ok_and(|most| most < n)) {
        return Err(Unfit::ParentPathLength(at));
    }
    let life = certificate.validity();
    let secs = i64::try_from(now.secs()).unwrap_or(i64::MAX);
    if secs < life.not_before.timestamp() || secs >= life.not_after.timestamp() {
        return Err(Unfit::NotValidNow(at));
    }
    for extension in certificate.extensions() {
        let ParsedExtension::NameConstraints(names) = extension.parsed_extension() else { continue };
        let both = [&names.permitted_subtrees, &names.excluded_subtrees];
        let mut all = both.into_iter().flatten().flatten();
        if all.any(|subtree| matches!(subtree.base, GeneralName::URI(_))) {
            return Err(Unfit::UriConstraint(at));
        }
    }
    let extended = certificate.extended_key_usage().map_err(|_| Unfit::Malformed(at))?;
    if extended.is_some_and(|u| !(u.value.client_auth && u.value.server_auth)) {
        return Err(Unfit::ExtendedKeyUsage(at));
    }
    Ok(())
}

/// Lets webpki verify a certificate that the authority signs now, up to the chain's root.
pub(super) fn probe(
    issuing: &IssuingAuthority,
    chain: &[CertificateDer<'static>],
    domain: &TrustDomain,
    now: UnixMillis,
) -> Result<(), AuthorityError> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}/probe"))?];
    params.serial_number = Some(random_serial()?);
    set_validity(&mut params, now, now.plus(60_000));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    // A probe needs no key that anybody holds: the authority's own is at hand.
    let leaf: CertificateDer<'static> = params.signed_by(issuing.issuer().key(), issuing.issuer())?.into();
    let refused = |why: webpki::Error| match why {
        webpki::Error::InvalidSignatureForPublicKey => Unfit::Signature,
        other => Unfit::Refused(other.to_string()),
    };
    let root = chain.last().ok_or(Unfit::NoRoot)?;
    let anchors = [anchor_from_trusted_cert(root).map_err(refused)?];
    let leaf = EndEntityCert::try_from(&leaf).map_err(refused)?;
    let at = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    for usage in [webpki::KeyUsage::client_auth(), webpki::KeyUsage::server_auth()] {
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, chain, at, usage, None, None)
            .map_err(refused)?;
    }
    Ok(())
}

fn key_identifier<'c>(certificate: &'c X509Certificate<'_>) -> Option<&'c [u8]> {
    certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn is_mark(purpose: &x509_parser::der_parser::Oid<'_>) -> bool {
    purpose.iter().is_some_and(|arcs| arcs.eq(oid::SYSTEM_AUTHORITY))
}

fn is_ed25519(certificate: &X509Certificate<'_>) -> bool {
    certificate.public_key().algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519
}

#[cfg(test)]
mod tests;
