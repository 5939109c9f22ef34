//! The certificate authorities: a root, and one issuing authority each for workloads and for Mayfly's own
//! people and machines.
//!
//! Made once, in their final form: P-256, the issuing ones with path length 0 and limited to client and server
//! authentication. No URI name constraints: rustls-webpki 0.103 refuses every SPIFFE leaf below one. Must never
//! issue a leaf; that is `x509`'s work.

use mayfly_domain::defaults::SKEW_MS;
use mayfly_domain::{KeyAlg, SecretBytes, TrustDomain, UnixMillis};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::signer::MemorySigner;

/// How long the authorities live: ten years of 365 days.
pub const AUTHORITY_LIFE_S: u64 = 10 * 365 * 86_400;

/// Why an authority could not be made or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate authority: {0}")]
pub struct AuthorityError(pub(crate) String);

impl From<rcgen::Error> for AuthorityError {
    fn from(e: rcgen::Error) -> Self {
        Self(e.to_string())
    }
}

/// Which authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Root,
    Workload,
    System,
}

impl Role {
    const fn common_name(self) -> &'static str {
        match self {
            Self::Root => "Mayfly root CA",
            Self::Workload => "Mayfly workload CA",
            Self::System => "Mayfly system CA",
        }
    }
}

/// An authority: its certificate and private key.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pkcs8: SecretBytes,
}

/// An authority that can sign.
pub(crate) type SigningAuthority = Issuer<'static, KeyPair>;

impl Authority {
    /// Makes the root.
    pub(crate) fn root(domain: &TrustDomain, now: UnixMillis) -> Result<Self, AuthorityError> {
        let pkcs8 = new_key()?;
        let certificate = params(domain, Role::Root, now)?.self_signed(&key_pair(&pkcs8)?)?;
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
        let certificate = params(domain, role, now)?.signed_by(&key_pair(&pkcs8)?, &self.signing()?)?;
        Ok(Self { certificate: certificate.into(), pkcs8 })
    }

    /// The authority ready to sign.
    pub(crate) fn signing(&self) -> Result<SigningAuthority, AuthorityError> {
        Ok(Issuer::from_ca_cert_der(&self.certificate, key_pair(&self.pkcs8)?)?)
    }

    pub(crate) fn copy(&self) -> Self {
        Self { certificate: self.certificate.clone(), pkcs8: SecretBytes::new(self.pkcs8.expose().clone()) }
    }
}

fn new_key() -> Result<SecretBytes, AuthorityError> {
    MemorySigner::generate_pkcs8(KeyAlg::P256).map_err(|e| AuthorityError(e.to_string()))
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
    SystemRandom::new().fill(&mut serial).map_err(|_| AuthorityError("no randomness".into()))?;
    if let Some(first) = serial.first_mut() {
        // Positive and of full length: the top bit clear, the next one set.
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(rcgen::SerialNumber::from_slice(&serial))
}

pub(crate) fn uri(text: &str) -> Result<SanType, AuthorityError> {
    Ok(SanType::URI(Ia5String::try_from(text).map_err(AuthorityError::from)?))
}

fn params(domain: &TrustDomain, role: Role, now: UnixMillis) -> Result<CertificateParams, AuthorityError> {
    let mut name = DistinguishedName::new();
    // An organisation's name has at most 64 characters (RFC 5280, upper bounds); a trust domain may be longer.
    name.push(DnType::OrganizationName, domain.as_str().chars().take(64).collect::<String>());
    name.push(DnType::CommonName, role.common_name());
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(random_serial()?);
    let until = UnixMillis::from_secs(now.secs().saturating_add(AUTHORITY_LIFE_S));
    set_validity(&mut params, now.minus(SKEW_MS), until);
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(u8::from(role == Role::Root)));
    if role != Role::Root {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    }
    Ok(params)
}
