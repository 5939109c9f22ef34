//! The certificate authorities: a root, and issuing authorities for workloads and for Mayfly's own people and
//! machines.
//!
//! Issuing authorities have path length 0 and are limited to client and server authentication. No URI name
//! constraints: rustls-webpki 0.103 refuses every SPIFFE leaf below one. Must never issue a leaf; that is `x509`'s
//! work.

use std::sync::Arc;

use mayfly_credential::BadAnchor;
use mayfly_domain::defaults::SKEW_MS;
use mayfly_domain::{KeyAlg, Reason, Refusal, SecretBytes, TrustDomain, UnixMillis, oid};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::custody::{Custody, Material};
use crate::issuing::{AuthorityKey, IssuingAuthority, Role, not_after};
use crate::keyset::{KeySetError, KeyState};
use crate::signer::{MemorySigner, Signer};

pub(crate) mod import;

pub use import::{Unfit, chain_from_pem};

/// How long the authorities live: ten years of 365 days.
pub const AUTHORITY_LIFE_S: u64 = 10 * 365 * 86_400;

/// Why an authority could not be made or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Its key can't sign now.
    #[error("certificate authority: the holder of its key can't sign now")]
    Unavailable,
    /// A company's certificate for it can't be used.
    #[error("the CA certificate can't be used: {0}")]
    Unfit(#[from] Unfit),
    /// Anything else.
    #[error("certificate authority: {0}")]
    Invalid(String),
}

impl From<BadAnchor> for AuthorityError {
    fn from(e: BadAnchor) -> Self {
        Self::Invalid(e.to_string())
    }
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
        match e {
            AuthorityError::Unavailable => Self::new(Reason::SignerUnavailable, e.to_string()),
            AuthorityError::Unfit(why) => why.into(),
            AuthorityError::Invalid(_) => Self::new(Reason::Internal, e.to_string()),
        }
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

/// The root: it certifies the issuing authorities and does nothing else.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pkcs8: SecretBytes,
}

impl Root {
    pub(crate) fn new(domain: &TrustDomain, now: UnixMillis) -> Result<Self, KeySetError> {
        let pkcs8 = MemorySigner::generate_pkcs8(KeyAlg::P256)?;
        let key = key_pair(&pkcs8)?;
        let until = now.plus(AUTHORITY_LIFE_S * 1_000);
        let certificate =
            params(domain, None, &key, now, until)?.self_signed(&key).map_err(AuthorityError::from)?;
        Ok(Self { certificate: certificate.into(), pkcs8 })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
        Ok(Issuer::from_ca_cert_der(&self.certificate, key_pair(&self.pkcs8)?)?)
    }

    pub(crate) fn copy(&self) -> Self {
        Self { certificate: self.certificate.clone(), pkcs8: SecretBytes::new(self.pkcs8.expose().clone()) }
    }
}

/// What may be known of an issuing authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityInfo {
    /// Its id: the RFC 7638 thumbprint of its key.
    pub id: String,
    /// What it issues to.
    pub role: Role,
    /// Where it stands.
    pub state: KeyState,
    /// Since when.
    pub since: UnixMillis,
    /// The algorithm of its key.
    pub alg: KeyAlg,
    /// Whether its private key is in a module.
    pub module: bool,
    /// The certificate that its holders present: the root's, or a company's where one was imported.
    pub certificate: CertificateDer<'static>,
    /// Whether that is a company's.
    pub imported: bool,
}

/// An issuing authority.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) state: KeyState,
    pub(crate) since: UnixMillis,
    pub(crate) alg: KeyAlg,
    pub(crate) key: Material,
    /// By the root.
    pub(crate) certificate: CertificateDer<'static>,
    /// By itself, of the same name and key: what a verifier trusts, where it trusts this authority and nothing
    /// above it.
    pub(crate) anchor: CertificateDer<'static>,
    /// By a company's CA, with the same name and key: then the parents, the company's root last. Empty: none.
    pub(crate) imported: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// Makes an authority with a new key, certified by the root.
    pub(crate) fn new(
        domain: &TrustDomain,
        role: Role,
        state: KeyState,
        root: &Root,
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<Self, KeySetError> {
        let alg = KeyAlg::P256;
        let key = custody.generate(role.into(), alg)?;
        let signer = AuthorityKey::new(custody.signer(alg, &key)?);
        let until = now.plus(AUTHORITY_LIFE_S * 1_000).min(not_after(&root.certificate)?);
        if until <= now {
            return Err(AuthorityError::Invalid("the root has expired".into()).into());
        }
        let params = params(domain, Some(role), &signer, now, until)?;
        let issuer = root.issuer()?;
        let certificate = params.signed_by(&signer, &issuer).map_err(AuthorityError::from)?;
        let anchor = params.self_signed(&signer).map_err(AuthorityError::from)?;
        Ok(Self {
            id: signer.signer().kid().to_owned(),
            role,
            state,
            since: now,
            alg,
            key,
            certificate: certificate.into(),
            anchor: anchor.into(),
            imported: Vec::new(),
        })
    }

    pub(crate) fn info(&self) -> AuthorityInfo {
        AuthorityInfo {
            id: self.id.clone(),
            role: self.role,
            state: self.state,
            since: self.since,
            alg: self.alg,
            module: self.key.is_in_module(),
            certificate: self.imported.first().unwrap_or(&self.certificate).clone(),
            imported: !self.imported.is_empty(),
        }
    }

    /// The authority ready to issue.
    pub(crate) fn issuing(
        &self,
        root: &CertificateDer<'static>,
        signer: Arc<dyn Signer>,
    ) -> Result<IssuingAuthority, AuthorityError> {
        IssuingAuthority::new(self.role, signer, &self.certificate, &self.imported, root)
    }

    /// A request (PKCS #10) for a certificate of this authority by another CA, as PEM.
    pub(crate) fn csr(&self, domain: &TrustDomain, custody: &Custody) -> Result<String, KeySetError> {
        let key = AuthorityKey::new(custody.signer(self.alg, &self.key)?);
        // The life is the other CA's to decide; requests have none.
        let mut params = params(domain, Some(self.role), &key, UnixMillis(0), UnixMillis(0))?;
        let id = key_id(&key);
        params.is_ca = IsCa::NoCa;
        params.serial_number = None;
        params.use_authority_key_identifier_extension = false;
        let (length, mut key_identifier) = (u8::try_from(id.len()).unwrap_or(u8::MAX), Vec::new());
        key_identifier.extend([0x04, length]);
        key_identifier.extend(id);
        // SEQUENCE { cA TRUE, pathLenConstraint 0 } (RFC 5280 section 4.2.1.9).
        let mut constraints = CustomExtension::from_oid_content(
            &[2, 5, 29, 19],
            vec![0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00],
        );
        constraints.set_criticality(true);
        params.custom_extensions =
            vec![constraints, CustomExtension::from_oid_content(&[2, 5, 29, 14], key_identifier)];
        let request = params.serialize_request(&key).map_err(AuthorityError::from)?;
        Ok(request.pem().map_err(AuthorityError::from)?)
    }

    /// The authority with a company's certificate: that, its parents, the company's root last.
    pub(crate) fn under(
        &self,
        chain: &[CertificateDer<'static>],
        domain: &TrustDomain,
        root: &Root,
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<Self, KeySetError> {
        import::judge(self, chain, now).map_err(AuthorityError::from)?;
        let mut next = self.copy();
        next.imported = chain.to_vec();
        let issuing = next.issuing(&root.certificate, custody.signer(self.alg, &self.key)?)?;
        import::probe(&issuing, chain, domain, now)?;
        Ok(next)
    }

    pub(crate) fn copy(&self) -> Self {
        Self {
            id: self.id.clone(),
            role: self.role,
            state: self.state,
            since: self.since,
            alg: self.alg,
            key: self.key.copy(),
            certificate: self.certificate.clone(),
            anchor: self.anchor.clone(),
            imported: self.imported.clone(),
        }
    }
}

pub(crate) fn key_pair(pkcs8: &SecretBytes) -> Result<KeyPair, AuthorityError> {
    let der = PrivatePkcs8KeyDer::from(pkcs8.expose().as_slice());
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?)
}

/// A key's identifier by the first method of RFC 5280 section 4.2.1.2, which every CA computes alike: so a
/// company's certificate of our key has the one that our leaves name.
fn key_id(key: &impl PublicKeyData) -> Vec<u8> {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, key.der_bytes()).as_ref().to_vec()
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
    key: &impl PublicKeyData,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<CertificateParams, AuthorityError> {
    let mut name = DistinguishedName::new();
    // An organisation's name has at most 64 characters (RFC 5280, upper bounds); a trust domain may be longer.
    name.push(DnType::OrganizationName, domain.as_str().chars().take(64).collect::<String>());
    // Authorities that follow each other have names of their own: some verifiers look an issuer up by name alone.
    let short: String = key_id(key).iter().take(4).map(|b| format!("{b:02x}")).collect();
    name.push(DnType::CommonName, format!("{} {short}", common_name(role)));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(random_serial()?);
    set_validity(&mut params, now.minus(SKEW_MS), until);
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}"))?];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_id(key));
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(u8::from(role.is_none())));
    if role.is_some() {
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    }
    if role == Some(Role::System) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::Other(oid::SYSTEM_AUTHORITY.to_vec()));
    }
    Ok(params)
}
