//! An issuer's keys (RFC 7517, RFC 7518 section 6, RFC 8037) and verification with them, by ring.
//!
//! The key says which algorithms it allows; a token's header only chooses among them. Symmetric keys,
//! private keys and keys for encryption are left out when a set is read.

use mayfly_attest::Algorithm;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::jws::{Jws, decode};

/// The most keys of a set that are read.
const KEYS_MAX: usize = 64;

/// Why a set could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no JWK set.
    #[error("not a JSON Web Key Set")]
    Form,
    /// It has too many keys.
    #[error("has more than {KEYS_MAX} keys")]
    TooMany,
    /// It has no key that tokens could be verified with.
    #[error("has no usable signing key")]
    Empty,
}

/// Why a token does not verify with a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// No key has the token's `kid`: the issuer may have a newer set.
    #[error("no key of the issuer has the token's `kid`")]
    UnknownKey,
    /// The token names no `kid` and several keys would do.
    #[error("the token names no `kid` and the issuer has several keys")]
    NoKid,
    /// The key does not allow the token's algorithm.
    #[error("the issuer's key does not allow the token's algorithm")]
    Algorithm,
    /// The signature is not the key's.
    #[error("the signature is not the key's")]
    Signature,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// The uncompressed point.
    P256(Vec<u8>),
    /// The uncompressed point.
    P384(Vec<u8>),
    /// The 32 octets.
    Ed25519(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    kid: Option<String>,
    alg: Option<Algorithm>,
    material: Material,
}

/// The signing keys of one issuer.
///
/// INVARIANT: at least one key; RSA keys have 2048 to 8192 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<IgnoredAny>,
}

impl KeySet {
    /// Reads a JWK set; keys that can't verify signatures are left out.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let raw: RawSet = serde_json::from_slice(bytes).map_err(|_| Unreadable::Form)?;
        if raw.keys.len() > KEYS_MAX {
            return Err(Unreadable::TooMany);
        }
        let keys: Vec<Key> = raw.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() { Err(Unreadable::Empty) } else { Ok(Self { keys }) }
    }

    /// Verifies a token's signature with `algorithm`. `configured` are the algorithms that the issuer's rules
    /// name; none: all that a key allows.
    ///
    /// An RSA key without an `alg` of its own allows the configured RSA algorithms, or where there is none
    /// RS256 alone (the default of OpenID Connect).
    ///
    /// # Errors
    /// [`Unverified`].
    pub fn verify(
        &self,
        jws: &Jws<'_>,
        algorithm: Algorithm,
        configured: &[Algorithm],
    ) -> Result<(), Unverified> {
        let kid = jws.header.kid.as_deref();
        let mut named = self.keys.iter().filter(|k| kid.is_none() || k.kid.as_deref() == kid).peekable();
        if named.peek().is_none() {
            return Err(Unverified::UnknownKey);
        }
        let allowed: Vec<&Key> = named.filter(|k| k.allows(algorithm, configured)).collect();
        match allowed.as_slice() {
            [] => Err(Unverified::Algorithm),
            [_, _, ..] if kid.is_none() => Err(Unverified::NoKid),
            keys if keys.iter().take(4).any(|k| k.verifies(jws, algorithm)) => Ok(()),
            _ => Err(Unverified::Signature),
        }
    }
}

impl Key {
    fn read(raw: RawKey) -> Option<Self> {
        let signs = raw.usage.as_deref().is_none_or(|u| u == "sig")
            && raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !signs || raw.d.is_some() {
            return None;
        }
        let part = |text: Option<&String>| text.and_then(|t| decode(t).ok());
        let material = match (raw.kty.as_deref()?, raw.crv.as_deref()) {
            ("RSA", _) => Material::Rsa { n: modulus(&part(raw.n.as_ref())?)?, e: part(raw.e.as_ref())? },
            ("EC", Some("P-256")) => {
                Material::P256(point(part(raw.x.as_ref())?, &part(raw.y.as_ref())?, 32)?)
            }
            ("EC", Some("P-384")) => {
                Material::P384(point(part(raw.x.as_ref())?, &part(raw.y.as_ref())?, 48)?)
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(part(raw.x.as_ref()).filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let alg = match raw.alg {
            Some(alg) => Some(Algorithm::parse(&alg).ok()?),
            None => None,
        };
        Some(Self { kid: raw.kid, alg, material })
    }

    fn allows(&self, algorithm: Algorithm, configured: &[Algorithm]) -> bool {
        let of_family = match self.material {
            Material::Rsa { .. } => rsa_parameters(algorithm).is_some(),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        let is_rsa = matches!(self.material, Material::Rsa { .. });
        let of_key = match self.alg {
            Some(alg) => alg == algorithm,
            None => !is_rsa || algorithm == Algorithm::Rs256 || configured.contains(&algorithm),
        };
        of_family && of_key && (configured.is_empty() || configured.contains(&algorithm))
    }

    fn verifies(&self, jws: &Jws<'_>, algorithm: Algorithm) -> bool {
        let (input, signature) = (jws.signing_input.as_bytes(), jws.signature.as_slice());
        let plain = |alg: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(alg, key).verify(input, signature).is_ok()
        };
        match &self.material {
            Material::Rsa { n, e } => rsa_parameters(algorithm)
                .is_some_and(|p| RsaPublicKeyComponents { n, e }.verify(p, input, signature).is_ok()),
            Material::P256(key) => plain(&ECDSA_P256_SHA256_FIXED, key),
            Material::P384(key) => plain(&ECDSA_P384_SHA384_FIXED, key),
            Material::Ed25519(key) => plain(&ED25519, key),
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
    })
}

/// The modulus without the leading zero that some issuers write, if it has 2048 to 8192 bits.
fn modulus(n: &[u8]) -> Option<Vec<u8>> {
    let start = n.iter().position(|b| *b != 0)?;
    let n = n.get(start..)?;
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    (2048..=8192).contains(&bits).then(|| n.to_vec())
}

fn point(x: Vec<u8>, y: &[u8], octets: usize) -> Option<Vec<u8>> {
    (x.len() == octets && y.len() == octets).then(|| [&[4], x.as_slice(), y].concat())
}

#[cfg(test)]
mod tests;
