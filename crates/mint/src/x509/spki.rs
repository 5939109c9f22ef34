//! Public keys in the form in which certificates are made of them.

use mayfly_domain::{KeyAlg, PublicKey};
use rcgen::{PublicKeyData, SignatureAlgorithm};

/// A holder's key, for its certificate.
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
