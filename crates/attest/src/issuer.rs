//! What trust rules say about issuers and certificate authorities, as attestors need it: no network here.

use mayfly_domain::UnixMillis;
use mayfly_domain::text::Invalid;

/// A signature algorithm of RFC 7518 or RFC 8037 that evidence may have. HMAC and `none` have no variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
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
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The registered name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Parses the registered name, letter by letter.
    ///
    /// # Errors
    /// [`Invalid`] for any other, `none` and HMAC among them.
    pub fn parse(input: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|a| a.as_str() == input).ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.iter().map(|a| a.as_str()).collect();
            Invalid::new("algorithm", input, format!("must be one of {}", all.join(", ")))
        })
    }
}

/// An issuer that at least one trust rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its URL, letter by letter as in the `iss` of its tokens; `https` only.
    pub url: String,
    /// Where its keys are, in place of what its discovery document says.
    pub jwks_uri: Option<String>,
    /// The host (with its port, where it is not 443) that its discovery document may name for the keys,
    /// besides its own.
    pub jwks_host: Option<String>,
    /// The algorithms that its tokens may have; empty: all that its keys allow.
    pub algorithms: Vec<Algorithm>,
}

/// A certificate authority that at least one trust rule names: the issuer of certificates that are shown with a
/// proof of their keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The name by which its certificates are known: `x509:` and the SHA-256 of its certificate in hexadecimal
    /// digits.
    pub name: String,
    /// Its certificate, in DER.
    pub certificate: Vec<u8>,
    /// SHA-256 over its subject and key: the same for every certificate of one authority.
    pub identity: [u8; 32],
    /// Until when its certificate says that it may issue.
    pub expires: UnixMillis,
}

/// Whose evidence a trust rule accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trusted {
    /// An issuer of tokens.
    Issuer(Issuer),
    /// An authority that issues certificates.
    Authority(Authority),
}

impl Trusted {
    /// What verified evidence names as its issuer.
    pub fn name(&self) -> &str {
        match self {
            Self::Issuer(issuer) => &issuer.url,
            Self::Authority(authority) => &authority.name,
        }
    }
}
