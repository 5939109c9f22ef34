//! The issuer's signing keys and their public halves. Private octets never leave this module.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};
use serde_json::{Value, json};

/// A JWS algorithm (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alg {
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256: what GitHub and GitLab use.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

impl Alg {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
    ];

    /// The `alg` of a header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    fn rsa_encoding(self) -> Option<&'static dyn RsaEncoding> {
        Some(match self {
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
            Self::Rs256 => &RSA_PKCS1_SHA256,
            Self::Rs384 => &RSA_PKCS1_SHA384,
            Self::Rs512 => &RSA_PKCS1_SHA512,
            Self::Ps256 => &RSA_PSS_SHA256,
            Self::Ps384 => &RSA_PSS_SHA384,
            Self::Ps512 => &RSA_PSS_SHA512,
        })
    }
}

#[derive(Debug)]
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair),
}

/// A private key with its algorithm and key id.
#[derive(Debug)]
pub struct SigningKey {
    alg: Alg,
    kid: String,
    pair: Pair,
}

impl SigningKey {
    /// A new key. RSA keys (2048 bits) are made by the `openssl` program, since ring makes none.
    ///
    /// # Panics
    /// For RSA, where `openssl` is not installed.
    pub fn generate(alg: Alg, kid: &str) -> Self {
        let rng = SystemRandom::new();
        let ecdsa = |curve| {
            let der = EcdsaKeyPair::generate_pkcs8(curve, &rng).unwrap();
            Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(curve, der.as_ref(), &rng).unwrap())
        };
        let pair = match alg {
            Alg::Es256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Alg::Es384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Alg::EdDsa => {
                let der = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap())
            }
            _ => Pair::Rsa(generate_rsa()),
        };
        Self { alg, kid: kid.to_owned(), pair }
    }

    /// The algorithm that it signs with.
    pub fn alg(&self) -> Alg {
        self.alg
    }

    /// The key id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half as a JWK (RFC 7517).
    pub fn jwk(&self) -> Value {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (kid, alg) = (&self.kid, self.alg.as_str());
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let crv = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "use": "sig", "crv": crv, "x": b64(x), "y": b64(y), "kid": kid, "alg": alg })
            }
            Pair::Ed25519(pair) => {
                let x = b64(pair.public_key().as_ref());
                json!({ "kty": "OKP", "use": "sig", "crv": "Ed25519", "x": x, "kid": kid, "alg": alg })
            }
            Pair::Rsa(pair) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                let (n, e) = (b64(&public.n), b64(&public.e));
                json!({ "kty": "RSA", "use": "sig", "n": n, "e": e, "kid": kid, "alg": alg })
            }
        }
    }

    /// Signs octets; ECDSA as `r || s`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&rng, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let encoding = self.alg.rsa_encoding().expect("an RSA algorithm has an RSA key");
                pair.sign(encoding, &rng, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

fn generate_rsa() -> rsa::KeyPair {
    let output = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"])
        .output()
        .expect("RSA keys for tests are made by the openssl program: install it");
    // Versions of openssl differ in what DER they write: PKCS#8 or PKCS#1.
    rsa::KeyPair::from_pkcs8(&output.stdout)
        .or_else(|_| rsa::KeyPair::from_der(&output.stdout))
        .expect("openssl makes a 2048-bit RSA key")
}
