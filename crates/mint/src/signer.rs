//! The `Signer` port: whatever holds a private key that signs tokens, in memory or in a token of hardware.
//!
//! Must never give the private key to anyone.

use mayfly_domain::{KeyAlg, PublicKey, Reason, Refusal, SecretBytes};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

/// Signs with one private key.
pub trait Signer: Send + Sync + std::fmt::Debug {
    /// The public key that verifies.
    fn public_key(&self) -> &PublicKey;

    /// The key's id: its RFC 7638 thumbprint as text.
    fn kid(&self) -> &str;

    /// The algorithm.
    fn alg(&self) -> KeyAlg {
        self.public_key().alg()
    }

    /// Whether signing may block for long: the key is in a module, not in memory.
    fn blocks(&self) -> bool {
        false
    }

    /// Signs `message`: `r || s` for P-256, 64 octets for Ed25519.
    ///
    /// # Errors
    /// A refusal where the key's holder can't sign now.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Refusal>;
}

/// A private key that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the private key is not a PKCS #8 document of its algorithm")]
pub struct KeyRejected;

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A signer that holds its key in memory.
pub struct MemorySigner {
    pair: Pair,
    public: PublicKey,
    kid: String,
    rng: SystemRandom,
}

impl std::fmt::Debug for MemorySigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemorySigner").field("alg", &self.public.alg()).field("kid", &self.kid).finish()
    }
}

impl MemorySigner {
    /// Takes a private key.
    ///
    /// # Errors
    /// [`KeyRejected`] where it is not PKCS #8 of `alg`.
    pub fn from_pkcs8(alg: KeyAlg, pkcs8: &SecretBytes) -> Result<Self, KeyRejected> {
        let rng = SystemRandom::new();
        let (pair, public) = match alg {
            KeyAlg::P256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose(), &rng)
                    .map_err(|_| KeyRejected)?;
                let public = PublicKey::new(alg, pair.public_key().as_ref());
                (Pair::P256(pair), public)
            }
            KeyAlg::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8.expose()).map_err(|_| KeyRejected)?;
                let public = PublicKey::new(alg, pair.public_key().as_ref());
                (Pair::Ed25519(pair), public)
            }
        };
        let public = public.map_err(|_| KeyRejected)?;
        let kid = public.thumbprint().to_string();
        Ok(Self { pair, public, kid, rng })
    }

    /// Makes a new private key, as PKCS #8.
    ///
    /// # Errors
    /// [`KeyRejected`] where the system has no randomness.
    pub fn generate_pkcs8(alg: KeyAlg) -> Result<SecretBytes, KeyRejected> {
        let rng = SystemRandom::new();
        let document = match alg {
            KeyAlg::P256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng),
            KeyAlg::Ed25519 => Ed25519KeyPair::generate_pkcs8(&rng),
        };
        document.map(|d| SecretBytes::new(d.as_ref().to_vec())).map_err(|_| KeyRejected)
    }
}

impl Signer for MemorySigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn kid(&self) -> &str {
        &self.kid
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        match &self.pair {
            Pair::P256(pair) => pair
                .sign(&self.rng, message)
                .map(|s| s.as_ref().to_vec())
                .map_err(|_| Refusal::new(Reason::Internal, "the P-256 key could not sign")),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_verify_and_the_wrong_kind_of_key_is_refused() {
        for (alg, other) in [(KeyAlg::P256, KeyAlg::Ed25519), (KeyAlg::Ed25519, KeyAlg::P256)] {
            let pkcs8 = MemorySigner::generate_pkcs8(alg).unwrap();
            let signer = MemorySigner::from_pkcs8(alg, &pkcs8).unwrap();
            let signature = signer.sign(b"message").unwrap();
            assert_eq!(signature.len(), 64);
            assert!(signer.public_key().verifies(b"message", &signature));
            assert!(!signer.public_key().verifies(b"massage", &signature));
            assert_eq!(signer.kid(), signer.public_key().thumbprint().to_string());
            assert_eq!(MemorySigner::from_pkcs8(other, &pkcs8).unwrap_err(), KeyRejected);
            let shown = format!("{signer:?}");
            assert!(shown.len() < 120 && !shown.contains("pair"), "{shown}");
        }
    }
}
