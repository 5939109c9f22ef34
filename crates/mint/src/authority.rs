//! The certificate authorities: a root, and one issuing authority each for workloads and for Mayfly's own
//! people and machines.
//!
//! Made once, in their final form: P-256, the issuing ones with path length 0 and limited to client and server
//! authentication. No URI name constraints: rustls-webpki 0.103 refuses every SPIFFE leaf below one. Must never
//! issue a leaf; that is `x509`'s work.

use std::sync::Arc;

use mayfly_domain::defaults::SKEW_MS;
use mayfly_domain::{KeyAlg, Reason, Refusal, SecretBytes, TrustDomain, UnixMillis};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;

use crate::issuing::{IssuingAuthority, Role};
use crate::signer::MemorySigner;

/// How long the authorities live: ten years of 365 days.
pub const AUTHORITY_LIFE_S: u64 = 10 * 365 * 86_400;

/// Why an authority could not be made or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Its key can't sign now.
    #[error("certificate authority: the holder of its key can't sign now")]
    Unavailable,
    /// Anything else.
    #[error("certificate authority: {0}")]
    Invalid(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(e: rcgen::Error) -> Self {
        match e {
            rcgen::Error::RemoteKeyError => Self::Unavailable,
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<AuthorityError> for Refusal {
    fn from(e: AuthorityError) -> Self {
        let reason = match e {
            AuthorityError::Unavailable => Reason::SignerUnavailable,
            AuthorityError::Invalid(_) => Reason::Internal,
        };
        Self::new(reason, e.to_string())
    }
}

/// The common name of the authority of a role; none: the root.
const fn common_name(role: Option<Role>) -> &'static str {
    match role {
        None => "Mayfly root CA",
        Some(Role::Workload) => "Mayfly workload CA",
        Some(Role::System) => "Mayfly system CA",
    }
}

/// An authority: its certificate and private key.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pkcs8: SecretBytes,
}

impl Authority {
    /// Makes the root.
    pub(crate) fn root(domain: &TrustDomain, now: UnixMillis) -> Result<Self, AuthorityError> {
        let pkcs8 = new_key()?;
        let certificate = params(domain, None, now)?.self_signed(&key_pair(&pkcs8)?)?;
        Ok(Self { certificate: certificate.into(), pkcs8 })
    }

    /// Makes an issuing authority below this root.
    pub(crate) fn issuing(
        &self,
        domain: &TrustDomain,
        role: Role,
        now: UnixMillis,
    ) -> Result<Self, AuthorityError> {
        let pkcs8 = new_key()?;
        let certificate = params(domain, Some(role), now)?.signed_by(&key_pair(&pkcs8)?, &self.signing()?)?;
        Ok(Self { certificate: certificate.into(), pkcs8 })
    }

    fn signing(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        Ok(Issuer::from_ca_cert_der(&self.certificate, key_pair(&self.pkcs8)?)?)
    }

    /// The authority ready to issue.
    pub(crate) fn issuer(&self, role: Role) -> Result<IssuingAuthority, AuthorityError> {
        let signer = MemorySigner::from_pkcs8(KeyAlg::P256, &self.pkcs8)
            .map_err(|e| AuthorityError::Invalid(e.to_string()))?;
        IssuingAuthority::new(role, Arc::new(signer), self.certificate.clone(), [])
    }

    /// A certificate of the same name and key that is its own issuer: what a verifier trusts, where it trusts
    /// this authority and nothing above it.
    pub(crate) fn anchor(&self) -> Result<CertificateDer<'static>, AuthorityError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.certificate)
            .map_err(|e| AuthorityError::Invalid(e.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&parsed)?;
        params.serial_number = Some(random_serial()?);
        params.not_before = parsed.validity().not_before.to_datetime();
        params.not_after = parsed.validity().not_after.to_datetime();
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Ok(params.self_signed(&key_pair(&self.pkcs8)?)?.into())
    }

    pub(crate) fn copy(&self) -> Self {
        Self { certificate: self.certificate.clone(), pkcs8: SecretBytes::new(self.pkcs8.expose().clone()) }
    }
}

/// A certificate's subject, as rcgen writes names: one attribute of UTF-8 or printable text at each level.
fn subject(certificate: &X509Certificate<'_>) -> Result<DistinguishedName, AuthorityError> {
    let no = || AuthorityError::Invalid("its subject can't be written again".into());
    let mut name = DistinguishedName::new();
    for attribute in certificate.subject().iter_attributes() {
        let oid: Vec<u64> = attribute.attr_type().iter().ok_or_else(no)?.collect();
        let text = attribute.as_str().map_err(|_| no())?;
        let value = match attribute.attr_value().tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().map_err(|_| no())?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(|_| no())?),
            _ => return Err(no()),
        };
        name.push(DnType::from_oid(&oid), value);
    }
    Ok(name)
}

fn new_key() -> Result<SecretBytes, AuthorityError> {
    MemorySigner::generate_pkcs8(KeyAlg::P256).map_err(|e| AuthorityError::Invalid(e.to_string()))
}

pub(crate) fn key_pair(pkcs8: &SecretBytes) -> Result<KeyPair, AuthorityError> {
    let der = PrivatePkcs8KeyDer::from(pkcs8.expose().as_slice());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?)
}

/// Sets a certificate's validity, in whole seconds and not after the year 9999.
pub(crate) fn set_validity(params: &mut CertificateParams, from: UnixMillis, until: UnixMillis) {
    let moment = |at: UnixMillis| {
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(at.secs().min(253_402_300_799))
    };
    params.not_before = moment(from);
    params.not_after = moment(until);
}

/// A positive serial of 20 octets.
pub(crate) fn random_serial() -> Result<rcgen::SerialNumber, AuthorityError> {
    let mut serial = [0u8; 20];
    SystemRandom::new().fill(&mut serial).map_err(|_| AuthorityError::Invalid("no randomness".into()))?;
    if let Some(first) = serial.first_mut() {
        // Positive and of full length: the top bit clear, the next one set.
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(rcgen::SerialNumber::from_slice(&serial))
}

pub(crate) fn uri(text: &str) -> Result<SanType, AuthorityError> {
    Ok(SanType::URI(Ia5String::try_from(text).map_err(AuthorityError::from)?))
}

fn params(
    domain: &TrustDomain,
    role: Option<Role>,
    now: UnixMillis,
) -> Result<CertificateParams, AuthorityError> {
    let mut name = DistinguishedName::new();
    // An organisation's name has at most 64 characters (RFC 5280, upper bounds); a trust domain may be longer.
    name.push(DnType::OrganizationName, domain.as_str().chars().take(64).collect::<String>());
    name.push(DnType::CommonName, common_name(role));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(random_serial()?);
    let until = UnixMillis::from_secs(now.secs().saturating_add(AUTHORITY_LIFE_S));
    set_validity(&mut params, now.minus(SKEW_MS), until);
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(u8::from(role.is_none())));
    if role.is_some() {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    }
    Ok(params)
}
