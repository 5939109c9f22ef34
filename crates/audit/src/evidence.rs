//! How bearer evidence appears in the record: as a keyed hash, so that who reads the file can tell two uses of
//! one token but can't test a guess.

use mayfly_domain::{EvidenceHash, SecretBytes};
use ring::hmac;

/// The key under which evidence is hashed; it is part of the sealed key set.
pub struct EvidenceKey(hmac::Key);

impl std::fmt::Debug for EvidenceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EvidenceKey([secret])")
    }
}

impl EvidenceKey {
    /// Takes the key.
    pub fn new(key: &SecretBytes) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// HMAC-SHA-256 over the evidence's hash, in hexadecimal.
    pub fn hash(&self, evidence: &EvidenceHash) -> String {
        crate::chain::hex(hmac::sign(&self.0, &evidence.0).as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_key_and_evidence() {
        let key = |n| EvidenceKey::new(&SecretBytes::new(vec![n; 32]));
        let (a, b) = (EvidenceHash::of(b"a"), EvidenceHash::of(b"b"));
        assert_eq!(key(1).hash(&a), key(1).hash(&a));
        assert_ne!(key(1).hash(&a), key(2).hash(&a));
        assert_ne!(key(1).hash(&a), key(1).hash(&b));
        assert_eq!(key(1).hash(&a).len(), 64);
        assert_eq!(format!("{:?}", key(1)), "EvidenceKey([secret])");
    }
}
