//! Certificates: for workloads by the workload authority, for Mayfly's own people and machines by the system's.
//!
//! Made from a public key that the holder brings; identity is the SPIFFE ID in the URI name, never the subject.
//! Must never issue by another authority than the kind's own, or for longer than the lease or the authority.

mod broker;
pub mod csr;
mod pointers;
mod spki;
mod staff;
mod workload;

use mayfly_credential::extension;
use mayfly_domain::defaults::SKEW_MS;
use mayfly_domain::{Observation, SpiffeId, UnixMillis};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::CertificateDer;

use crate::authority::{AuthorityError, set_validity, uri};
use crate::issuing::IssuingAuthority;
use crate::keyring::pem;

pub use broker::{BrokerIdentity, ServerName, broker_id, broker_identity};
pub use pointers::{Pointers, URL_OCTETS_MAX};
pub use staff::staff_certificate;
pub use workload::workload_certificate;

/// An issued certificate with what stands above it.
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

/// What all leaves share. `name` is for people only.
fn leaf(
    id: &SpiffeId,
    name: &str,
    usages: Vec<ExtendedKeyUsagePurpose>,
) -> Result<CertificateParams, AuthorityError> {
    let mut subject = DistinguishedName::new();
    // A common name has at most 64 characters (RFC 5280, upper bounds).
    subject.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.subject_alt_names = vec![uri(id.as_str())?];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    Ok(params)
}

/// Mayfly's extension as it stands in a certificate.
fn observed(observation: &Observation) -> CustomExtension {
    CustomExtension::from_oid_content(&extension::OID, extension::encode(observation))
}

fn sign(
    authority: &IssuingAuthority,
    mut params: CertificateParams,
    key: &impl PublicKeyData,
    now: UnixMillis,
    until: UnixMillis,
) -> Result<IssuedCertificate, AuthorityError> {
    let expires = until.min(authority.expires()).floor_secs();
    // The skew is for verifiers whose clock is behind; it is never added to the end.
    set_validity(&mut params, now.minus(SKEW_MS), expires);
    let leaf = params.signed_by(key, authority.issuer())?;
    let chain = std::iter::once(leaf.into()).chain(authority.chain().iter().cloned()).collect();
    Ok(IssuedCertificate { chain, expires })
}

#[cfg(test)]
mod tests;
