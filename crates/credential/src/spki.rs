//! Public keys as certificates have them: SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
//!
//! Must never take another algorithm than P-256 and Ed25519, or a key in another form than the one in which
//! certificates are made of it (RFC 5480, RFC 8410).

use mayfly_domain::{KeyAlg, PublicKey, Reason, Refusal};

/// The longest public key that is read, in octets; P-256 takes 91.
pub const SPKI_OCTETS_MAX: usize = 512;

/// What stands before a key's octets: `id-ecPublicKey` on `prime256v1`, and the bit string's head.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// `id-Ed25519`, and the bit string's head.
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Reads the public key of a SubjectPublicKeyInfo, for its thumbprint.
///
/// # Errors
/// [`Reason::InputInvalid`] where it is none, or neither P-256 nor Ed25519.
pub fn public_key(spki: &[u8]) -> Result<PublicKey, Refusal> {
    let no = |why: &'static str| Refusal::new(Reason::InputInvalid, why).fact("problem", why);
    if spki.len() > SPKI_OCTETS_MAX {
        return Err(no("the public key is too long"));
    }
    let (alg, octets) = match (spki.strip_prefix(&P256), spki.strip_prefix(&ED25519)) {
        (Some(point), _) => (KeyAlg::P256, point),
        (None, Some(octets)) => (KeyAlg::Ed25519, octets),
        (None, None) => return Err(no("the public key is neither P-256 nor Ed25519 in its one form")),
    };
    PublicKey::new(alg, octets).map_err(|_| no("the public key is not of its form"))
}

/// The one DER form of a key.
pub fn der(key: &PublicKey) -> Vec<u8> {
    let head: &[u8] = match key.alg() {
        KeyAlg::P256 => &P256,
        KeyAlg::Ed25519 => &ED25519,
    };
    [head, key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_form() {
        for (alg, octets) in [(KeyAlg::P256, vec![4; 65]), (KeyAlg::Ed25519, vec![7; 32])] {
            let key = PublicKey::new(alg, &octets).unwrap();
            let good = der(&key);
            // The length of the whole stands in its second octet.
            assert_eq!(usize::from(good[1]) + 2, good.len());
            assert_eq!(public_key(&good).unwrap(), key);
            for cut in 0..good.len() {
                assert!(public_key(&good[..cut]).is_err());
                let mut other = good.clone();
                other[cut] ^= 1;
                assert!(public_key(&other).map_or(true, |read| read != key), "{cut}");
            }
            assert!(public_key(&[good.as_slice(), &[0]].concat()).is_err());
        }
        assert!(public_key(&[0x30; 600]).is_err());
    }
}
