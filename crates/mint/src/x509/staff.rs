//! Client certificates of operators and acceptors.
//!
//! Must never name anybody outside of the reserved paths.

use mayfly_credential::spki::public_key;
use mayfly_domain::{CredentialKind, Reason, Refusal, UnixMillis};
use mayfly_lease::{LeaseRecord, Pending, Reserved};
use rcgen::{ExtendedKeyUsagePurpose, SerialNumber};
use subtle::ConstantTimeEq as _;

use super::spki::Subject;
use super::{IssuedCertificate, leaf, sign};
use crate::keyring::KeyRing;

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
    let certificate = issue(ring, reserved.record(), spki, now)?;
    Ok(reserved.made(certificate))
}

pub(super) fn issue(
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
    let key = public_key(spki)?;
    if !bool::from(key.thumbprint().as_bytes().ct_eq(record.body.key.as_bytes())) {
        return Err(no("the public key is not the lease's"));
    }
    if record.expires.secs() <= now.secs() {
        return Err(Reason::LeaseExpired.into());
    }
    let mut params = leaf(id, name, vec![ExtendedKeyUsagePurpose::ClientAuth])?;
    params.serial_number = Some(SerialNumber::from_slice(&record.credential().serial()));
    Ok(sign(ring.system_authority(), params, &Subject(&key), now, record.expires)?)
}
