//! The public keys that verify access tokens: those of a key ring, or those of the JWKS document that a broker sends.
//!
//! A token names its key by one exact header, so that type, algorithm and key are settled by one comparison. Must
//! never take a key of another algorithm, or one whose `kid` is not its own thumbprint.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::defaults::JWKS_OCTETS_MAX;
use mayfly_domain::{KeyAlg, PublicKey, SignerId};
use serde::Deserialize;

use crate::compact::decode;
use crate::token::TYP;

/// The most keys of a JWKS document.
pub const KEYS_MAX: usize = 64;

/// A key's name in JOSE headers (RFC 7518 section 3.1, RFC 8037 section 3.1).
pub const fn jose_name(alg: KeyAlg) -> &'static str {
    match alg {
        KeyAlg::P256 => "ES256",
        KeyAlg::Ed25519 => "EdDSA",
    }
}

/// A public key that verifies tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    public: PublicKey,
    kid: String,
    header: String,
    signer: SignerId,
}

impl TokenKey {
    /// A key with its id and its header.
    pub fn new(public: PublicKey) -> Self {
        let thumbprint = public.thumbprint();
        let kid = thumbprint.to_string();
        // A kid is base64url: nothing in it needs escaping.
        let header = format!(r#"{{"alg":"{}","typ":"{TYP}","kid":"{kid}"}}"#, jose_name(public.alg()));
        Self { header: URL_SAFE_NO_PAD.encode(header), kid, signer: thumbprint.into(), public }
    }

    /// The key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its id: the RFC 7638 thumbprint as text.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The one header that its tokens have, as base64url.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Its id as leases remember it.
    pub fn signer(&self) -> SignerId {
        self.signer
    }
}

/// The keys that verify tokens now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenKeys(Vec<TokenKey>);

/// Why a JWKS document is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the JWKS document is not one of a broker: {0}")]
pub struct JwksRefused(&'static str);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kid: String,
    #[serde(rename = "use")]
    purpose: String,
    alg: String,
    kty: String,
    crv: String,
    x: String,
    y: Option<String>,
}

impl TokenKeys {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self(keys.into_iter().map(TokenKey::new).collect())
    }

    /// Reads the JWKS document (RFC 7517) of a broker: its form and no other, at most 256 KiB and 64 keys.
    ///
    /// # Errors
    /// [`JwksRefused`] where it is another document, holds a key twice, or names one by anything but its thumbprint.
    pub fn from_jwks(document: &[u8]) -> Result<Self, JwksRefused> {
        if document.len() > JWKS_OCTETS_MAX {
            return Err(JwksRefused("it is too long"));
        }
        let read: Document = serde_json::from_slice(document)
            .map_err(|_| JwksRefused("a member is missing, unknown, or there twice"))?;
        if read.keys.len() > KEYS_MAX {
            return Err(JwksRefused("it holds more keys than can be right"));
        }
        let mut keys: Vec<TokenKey> = Vec::with_capacity(read.keys.len());
        for jwk in read.keys {
            let key = jwk.key()?;
            if keys.iter().any(|other| other.kid == key.kid) {
                return Err(JwksRefused("a key is in it twice"));
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Writes the JWKS document.
    pub fn jwks(&self) -> Vec<u8> {
        let keys: Vec<String> = self.0.iter().map(TokenKey::jwk).collect();
        format!(r#"{{"keys":[{}]}}"#, keys.join(",")).into_bytes()
    }

    /// The key whose tokens have this header.
    pub fn by_header(&self, header: &str) -> Option<&TokenKey> {
        self.0.iter().find(|key| key.header == header)
    }

    /// Whether what this key signed still counts.
    pub fn knows(&self, signer: &SignerId) -> bool {
        self.0.iter().any(|key| key.signer == *signer)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, TokenKey> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TokenKey {
    fn jwk(&self) -> String {
        let members =
            format!(r#""kid":"{}","use":"sig","alg":"{}","#, self.kid, jose_name(self.public.alg()));
        let key = self.public.canonical_jwk();
        format!("{{{members}{}", key.strip_prefix('{').unwrap_or_default())
    }
}

impl Jwk {
    fn key(&self) -> Result<TokenKey, JwksRefused> {
        if self.purpose != "sig" {
            return Err(JwksRefused("a key is not for signatures"));
        }
        let public = public_key(&self.kty, &self.crv, &self.x, self.y.as_deref()).map_err(JwksRefused)?;
        if self.alg != jose_name(public.alg()) {
            return Err(JwksRefused("an `alg` is not its key's"));
        }
        let key = TokenKey::new(public);
        if self.kid != key.kid {
            return Err(JwksRefused("a `kid` is not its key's thumbprint"));
        }
        Ok(key)
    }
}

/// Reads the public members of a JWK (RFC 7518 section 6.2, RFC 8037 section 2).
pub(crate) fn public_key(kty: &str, crv: &str, x: &str, y: Option<&str>) -> Result<PublicKey, &'static str> {
    let octets = |text: &str| decode(text).filter(|o| o.len() == 32);
    match (kty, crv, y) {
        ("EC", "P-256", Some(y)) => {
            let (x, y) = octets(x).zip(octets(y)).ok_or("a coordinate is not 32 octets")?;
            let point: Vec<u8> = std::iter::once(4).chain(x).chain(y).collect();
            PublicKey::new(KeyAlg::P256, &point).map_err(|_| "the key is not of its form")
        }
        ("OKP", "Ed25519", None) => {
            let x = octets(x).ok_or("the key is not 32 octets")?;
            PublicKey::new(KeyAlg::Ed25519, &x).map_err(|_| "the key is not of its form")
        }
        _ => Err("the key is neither P-256 nor Ed25519"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Key;

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let keys = TokenKeys::new([KeyAlg::P256, KeyAlg::Ed25519].map(|alg| Key::new(alg).public().clone()));
        let document = keys.jwks();
        assert_eq!(TokenKeys::from_jwks(&document).unwrap(), keys);
        assert_eq!(TokenKeys::from_jwks(&document).unwrap().jwks(), document);
        for key in keys.iter() {
            assert_eq!(keys.by_header(key.header()).unwrap(), key);
            assert!(keys.knows(&key.signer()));
        }
        assert!(!keys.knows(&Key::new(KeyAlg::P256).public().thumbprint().into()));
        assert!(TokenKeys::from_jwks(br#"{"keys":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn each_other_document_is_refused() {
        let keys = TokenKeys::new([Key::new(KeyAlg::P256).public().clone()]);
        let text = String::from_utf8(keys.jwks()).unwrap();
        let kid = keys.iter().next().unwrap().kid().to_owned();
        let swapped = TokenKeys::new([Key::new(KeyAlg::P256).public().clone()]);
        let swapped = swapped.iter().next().unwrap().kid().to_owned();
        let one = text.trim_start_matches(r#"{"keys":["#).trim_end_matches("]}").to_owned();
        for bad in [
            text.replace(r#""alg":"ES256""#, r#""alg":"EdDSA""#),
            text.replace(r#""alg":"ES256""#, r#""alg":"none""#),
            text.replace(r#""use":"sig""#, r#""use":"enc""#),
            text.replace(r#""kty":"EC""#, r#""kty":"oct""#),
            text.replace(r#""crv":"P-256""#, r#""crv":"P-384""#),
            text.replace(&kid, &swapped),
            text.replace(r#""use":"sig""#, r#""use":"sig","use":"sig""#),
            text.replace(r#""use":"sig""#, r#""use":"sig","d":"AA""#),
            text.replace(r#""use":"sig","#, ""),
            text.replace(r#"{"keys":"#, r#"{"more":1,"keys":"#),
            format!(r#"{{"keys":[{one},{one}]}}"#),
            format!("{text} x"),
            format!("{text}{}", " ".repeat(JWKS_OCTETS_MAX)),
            String::new(),
        ] {
            assert_ne!(bad, text);
            assert!(TokenKeys::from_jwks(bad.as_bytes()).is_err(), "{bad:.200}");
        }
        let many = TokenKeys::new((0..=KEYS_MAX).map(|_| Key::new(KeyAlg::Ed25519).public().clone()));
        assert!(TokenKeys::from_jwks(&many.jwks()).is_err());
    }

    proptest! {
        #[test]
        fn no_document_upsets_the_parser(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(TokenKeys::from_jwks(&bytes).is_err());
        }
    }
}
