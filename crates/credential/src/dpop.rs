//! DPoP proofs (RFC 9449), verified where a credential is checked.
//!
//! Must never accept a proof twice while it counts, accept a private key, or say to the caller which part of a
//! proof was wrong. Proofs are made by the `client` crate.

use mayfly_domain::defaults::{DPOP_LIFE_MS, SKEW_MS};
use mayfly_domain::{KeyAlg, PublicKey, Reason, Refusal, Thumbprint, UnixMillis};
use serde::Deserialize;
use serde::de::IgnoredAny;
use subtle::ConstantTimeEq as _;
use url::Url;

use crate::compact::{Compact, decode};
use crate::keys;

mod nonce;
mod replay;

pub use nonce::Nonces;
pub use replay::ReplayWindow;

/// The longest proof that is looked at, in octets.
pub const PROOF_OCTETS_MAX: usize = 4096;
/// The longest `jti`, in octets.
pub const JTI_OCTETS_MAX: usize = 256;
const URL_OCTETS_MAX: usize = 2048;

/// The request that a proof is for.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's URL; query and fragment don't count.
    pub url: &'a str,
    /// The access token that came with it.
    pub token: &'a str,
    /// The key that the token is bound to: its `cnf.jkt`.
    pub key: &'a Thumbprint,
    /// Whose nonce the proof must carry (section 9); none: it need carry none.
    pub nonces: Option<&'a Nonces>,
}

fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(d).map(|_| true)
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: Option<String>,
    // Private members of any kind of key (RFC 7518 section 6), whatever their value.
    #[serde(default, deserialize_with = "present")]
    d: bool,
    #[serde(default, deserialize_with = "present")]
    p: bool,
    #[serde(default, deserialize_with = "present")]
    q: bool,
    #[serde(default, deserialize_with = "present")]
    dp: bool,
    #[serde(default, deserialize_with = "present")]
    dq: bool,
    #[serde(default, deserialize_with = "present")]
    qi: bool,
    #[serde(default, deserialize_with = "present")]
    oth: bool,
    #[serde(default, deserialize_with = "present")]
    k: bool,
}

impl Jwk {
    fn public_key(&self) -> Result<PublicKey, &'static str> {
        if self.d || self.p || self.q || self.dp || self.dq || self.qi || self.oth || self.k {
            return Err("the proof's header holds a private or symmetric key");
        }
        keys::public_key(&self.kty, &self.crv, &self.x, self.y.as_deref())
    }
}

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Jwk,
    // A critical extension would have to be understood (RFC 7515 section 4.1.11); none is.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    ath: String,
    #[serde(default)]
    nonce: Option<String>,
}

/// Verifies that `proof` was made by the token's key, now, for this token, method and URL, and was not used before.
///
/// The life of a proof is 60 seconds from its `iat`; an `iat` of at most the skew ahead is accepted.
///
/// # Errors
/// [`Reason::ProofInvalid`], [`Reason::ProofNonce`], [`Reason::ProofReplayed`], or [`Reason::Overloaded`] where the
/// window is full.
pub fn verify(
    proof: &str,
    request: &Presented<'_>,
    window: &ReplayWindow,
    now: UnixMillis,
) -> Result<(), Refusal> {
    let no = |why: &'static str| Refusal::new(Reason::ProofInvalid, why);
    let compact = Compact::parse(proof, PROOF_OCTETS_MAX).ok_or_else(|| no("not a compact JWS"))?;
    let header = compact.header_octets().ok_or_else(|| no("the header is not canonical base64url"))?;
    let header: Header =
        serde_json::from_slice(&header).map_err(|_| no("the header lacks a member or has one twice"))?;
    if header.typ != "dpop+jwt" {
        return Err(no("`typ` is not `dpop+jwt`"));
    }
    if header.crit {
        return Err(no("the header names a critical extension"));
    }
    let key = header.jwk.public_key().map_err(no)?;
    match (key.alg(), header.alg.as_str()) {
        // `Ed25519` is the fully specified name of RFC 9864.
        (KeyAlg::P256, "ES256") | (KeyAlg::Ed25519, "EdDSA" | "Ed25519") => {}
        _ => return Err(no("`alg` is not the key's")),
    }
    if !bool::from(key.thumbprint().as_bytes().ct_eq(request.key.as_bytes())) {
        return Err(no("made by another key than the token's"));
    }
    if !key.verifies(compact.signing_input.as_bytes(), &compact.signature) {
        return Err(no("the signature does not verify"));
    }

    let claims = compact.payload_octets().ok_or_else(|| no("the claims are not canonical base64url"))?;
    let claims: Claims =
        serde_json::from_slice(&claims).map_err(|_| no("the claims lack a member or have one twice"))?;
    if claims.jti.is_empty() || claims.jti.len() > JTI_OCTETS_MAX {
        return Err(no("`jti` is empty or longer than 256 octets"));
    }
    if claims.htm != request.method {
        return Err(no("`htm` is not the request's method"));
    }
    if !same_target(&claims.htu, request.url) {
        return Err(no("`htu` is not the request's URL"));
    }
    let hash = ring::digest::digest(&ring::digest::SHA256, request.token.as_bytes());
    let hashed = decode(&claims.ath).is_some_and(|ath| bool::from(ath.as_slice().ct_eq(hash.as_ref())));
    if !hashed {
        return Err(no("`ath` is not the token's hash"));
    }
    let made = UnixMillis::from_secs(claims.iat);
    let expires = made.plus(DPOP_LIFE_MS);
    if made > now.plus(SKEW_MS) {
        return Err(no("`iat` is in the future"));
    }
    if now >= expires {
        return Err(no("made more than 60 seconds ago"));
    }
    if let Some(nonces) = request.nonces {
        nonces.demand(claims.nonce.as_deref(), now)?;
    }
    window.remember(request.key, &claims.jti, expires, now)
}

/// Compares two URLs as RFC 9449 section 4.3 asks: scheme and host without case, default port, no query, no
/// fragment, path after syntax-based normalization.
fn same_target(claimed: &str, actual: &str) -> bool {
    let target = |text: &str| {
        if text.len() > URL_OCTETS_MAX {
            return None;
        }
        let url = Url::parse(text).ok()?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.host_str().is_some_and(|h| !h.is_empty());
        plain.then_some(url)
    };
    let (Some(a), Some(b)) = (target(claimed), target(actual)) else {
        return false;
    };
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
        && a.path() == b.path()
}

#[cfg(test)]
mod tests;
