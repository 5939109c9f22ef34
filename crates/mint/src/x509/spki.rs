//! Public keys as certificates have them: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
//!
//! Must never take another algorithm than P-256 and Ed25519.

use mayfly_domain::{KeyAlg, PublicKey, Reason, Refusal};
use rcgen::{PublicKeyData, SignatureAlgorithm, SubjectPublicKeyInfo};

/// The longest public key that is read, in octets; P-256 takes 91.
pub const SPKI_OCTETS_MAX: usize = 512;

/// Reads the public key of a SubjectPublicKeyInfo, for its thumbprint.
///
/// # Errors
/// [`Reason::InputInvalid`] where it is none, or neither P-256 nor Ed25519.
pub fn public_key(spki: &[u8]) -> Result<PublicKey, Refusal> {
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
    PublicKey::new(alg, info.der_bytes()).map_err(|_| no("the public key is not of its form"))
}

/// A key in the form in which certificates are made of it.
pub(super) struct Subject<'a>(pub(super) &'a PublicKey);

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.alg() {
            KeyAlg::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlg::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

/// The one DER form of a key.
pub(super) fn der(key: &PublicKey) -> Vec<u8> {
    Subject(key).subject_public_key_info()
}
