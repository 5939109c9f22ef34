//! Certificates of workloads: X509-SVIDs (SPIFFE X509-SVID section 4), by the workload authority.
//!
//! Must never give one to an identity below the reserved path, with a usage or a name that the lease lacks, or for
//! another key than the lease's.

use mayfly_domain::{CredentialKind, PublicKey, Reason, Refusal, San, UnixMillis};
use mayfly_lease::{LeaseRecord, Pending, Reserved};
use rcgen::string::Ia5String;
use rcgen::{ExtendedKeyUsagePurpose, SanType, SerialNumber};
use subtle::ConstantTimeEq as _;

use super::pointers::Pointers;
use super::spki::Subject;
use super::{IssuedCertificate, leaf, observed, sign};
use crate::authority::AuthorityError;
use crate::keyring::KeyRing;

/// Issues the certificate of a workload's reserved lease for the key that proved itself in its call. Names and
/// usages are the lease's; the serial number is the credential's id, the observation stands in Mayfly's extension.
/// It ends with the lease, or with the authority where that ends first.
///
/// # Errors
/// [`Reason::CsrKey`] for another key than the lease's, [`Reason::LeaseExpired`], [`Reason::SignerUnavailable`]
/// where the authority itself is over or can't sign, [`Reason::RaceLost`] where it is not the one that the lease
/// names, [`Reason::Internal`] where the lease is of another kind, trust domain or a
/// reserved identity, has no usage, or the authority fails.
pub fn workload_certificate(
    ring: &KeyRing,
    reserved: Reserved,
    key: &PublicKey,
    pointers: &Pointers,
    now: UnixMillis,
) -> Result<Pending<IssuedCertificate>, Refusal> {
    let certificate = issue(ring, reserved.record(), key, pointers, now)?;
    Ok(reserved.made(certificate))
}

pub(super) fn issue(
    ring: &KeyRing,
    record: &LeaseRecord,
    key: &PublicKey,
    pointers: &Pointers,
    now: UnixMillis,
) -> Result<IssuedCertificate, Refusal> {
    let no = |why: &'static str| Refusal::new(Reason::Internal, why);
    let body = &record.body;
    let x509 = match (body.kind, &body.x509) {
        (CredentialKind::X509, Some(x509)) => x509,
        _ => return Err(no("the lease is not a certificate's")),
    };
    let id = &body.workload;
    if !id.is_in(ring.trust_domain()) || id.is_reserved() {
        return Err(no("the lease's identity is not a workload's of this trust domain"));
    }
    if !bool::from(key.thumbprint().as_bytes().ct_eq(body.key.as_bytes())) {
        return Err(Refusal::new(Reason::CsrKey, "the public key is not the lease's"));
    }
    let mut usages = Vec::with_capacity(2);
    if x509.server {
        usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if x509.client {
        usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    // Without the extension it would be good for every usage.
    if usages.is_empty() {
        return Err(no("the lease has no usage"));
    }
    if record.expires.secs() <= now.secs() {
        return Err(Reason::LeaseExpired.into());
    }
    let authority = ring.workload_authority();
    if authority.expires().secs() <= now.secs() {
        return Err(Refusal::new(Reason::SignerUnavailable, "the workload authority has expired"));
    }
    // Whatever is withdrawn is told by what the lease says of its signer.
    if record.signer != authority.id() {
        return Err(Refusal::new(
            Reason::RaceLost,
            "the workload authority changed since the lease was written",
        ));
    }
    let serial = record.credential().serial();
    // Verifiers read it back as 20 octets: DER drops leading zeros, and a set top bit would make it negative.
    if !matches!(serial.first(), Some(1..=0x7f)) {
        return Err(no("the lease's id gives no serial of 20 octets"));
    }
    // The whole path, so that it is no host name: a verifier may take a common name for one (RFC 6125 section 6.4.4).
    let mut params = leaf(id, id.path(), usages)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    for name in &x509.names {
        params.subject_alt_names.push(general_name(name)?);
    }
    params.custom_extensions = vec![observed(&record.observation)];
    pointers.add_to(&mut params);
    Ok(sign(authority, params, &Subject(key), now, record.expires)?)
}

fn general_name(name: &San) -> Result<SanType, AuthorityError> {
    match (name.as_dns(), name.as_ip()) {
        (Some(dns), _) => Ok(SanType::DnsName(Ia5String::try_from(dns)?)),
        (None, Some(address)) => Ok(SanType::IpAddress(address)),
        (None, None) => Err(AuthorityError::Invalid("a name is neither a DNS name nor an address".into())),
    }
}

#[cfg(test)]
mod tests;
