//! Public keys that workloads hold, and their RFC 7638 thumbprints.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::text::Invalid;

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyAlg {
    /// ECDSA on P-256 with SHA-256, signatures as `r || s`.
    P256,
    /// Ed25519.
    Ed25519,
}

/// A public key with its algorithm: the uncompressed point of P-256 (65 octets) or the 32 octets of Ed25519.
///
/// INVARIANT: of its algorithm's length; a P-256 point starts with 4. Whether the point is on its curve is
/// decided by the first verification.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    alg: KeyAlg,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Takes a key's octets.
    ///
    /// # Errors
    /// [`Invalid`] for another length or a compressed point.
    pub fn new(alg: KeyAlg, bytes: &[u8]) -> Result<Self, Invalid> {
        let good = match alg {
            KeyAlg::P256 => bytes.len() == 65 && bytes.first() == Some(&4),
            KeyAlg::Ed25519 => bytes.len() == 32,
        };
        if !good {
            return Err(Invalid::new("public key", "", "is not of its algorithm's form"));
        }
        Ok(Self { alg, bytes: bytes.to_vec() })
    }

    /// The algorithm.
    pub fn alg(&self) -> KeyAlg {
        self.alg
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Verifies a signature over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let alg: &dyn ring::signature::VerificationAlgorithm = match self.alg {
            KeyAlg::P256 => &ring::signature::ECDSA_P256_SHA256_FIXED,
            KeyAlg::Ed25519 => &ring::signature::ED25519,
        };
        ring::signature::UnparsedPublicKey::new(alg, &self.bytes).verify(message, signature).is_ok()
    }

    /// The key as a JWK with its required members in the order of RFC 7638 (which is what is hashed).
    pub fn canonical_jwk(&self) -> String {
        match self.alg {
            KeyAlg::P256 => {
                let (x, y) = self.bytes.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                format!(
                    r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#,
                    URL_SAFE_NO_PAD.encode(x),
                    URL_SAFE_NO_PAD.encode(y)
                )
            }
            KeyAlg::Ed25519 => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(&self.bytes))
            }
        }
    }

    /// The RFC 7638 SHA-256 thumbprint.
    pub fn thumbprint(&self) -> Thumbprint {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.canonical_jwk().as_bytes());
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Thumbprint(out)
    }
}

/// A key's RFC 7638 thumbprint: SHA-256, shown as base64url without padding (the form of `cnf.jkt`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The thumbprint from its octets.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The octets.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses base64url without padding.
    ///
    /// # Errors
    /// [`Invalid`] for any other form.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        let no = || Invalid::new("thumbprint", input, "must be 43 characters of base64url");
        let bytes = URL_SAFE_NO_PAD.decode(input).map_err(|_| no())?;
        Ok(Self(bytes.try_into().map_err(|_| no())?))
    }
}

impl std::fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl std::fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Which key signed a credential: the first 16 octets of that key's RFC 7638 thumbprint, for token keys and
/// certificate authorities alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignerId([u8; 16]);

impl SignerId {
    /// The id from its octets, as stored.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The octets.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<Thumbprint> for SignerId {
    fn from(thumbprint: Thumbprint) -> Self {
        Self(crate::dimension::first16(thumbprint.as_bytes()))
    }
}

impl std::fmt::Display for SignerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl std::fmt::Debug for SignerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ed25519_thumbprint_of_rfc_8037() {
        let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = PublicKey::new(KeyAlg::Ed25519, &x).unwrap();
        assert_eq!(key.thumbprint().to_string(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(PublicKey::new(KeyAlg::P256, &x).is_err());
    }
}
