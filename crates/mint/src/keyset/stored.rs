//! The document in the seal: JSON, private parts as base64. Lives only between the key set and the seal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_domain::{KeyAlg, SecretBytes, TrustDomain, UnixMillis};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{KeySet, KeySetError, KeyState, TokenKey, TokenKeyInfo};
use crate::authority::Authority;
use crate::signer::{MemorySigner, Signer as _};

/// Octets as base64, cleared when dropped.
struct Private(Zeroizing<Vec<u8>>);

impl Private {
    fn of(secret: &SecretBytes) -> Self {
        Self(Zeroizing::new(secret.expose().clone()))
    }

    fn secret(&self) -> SecretBytes {
        SecretBytes::new(self.0.to_vec())
    }
}

impl Serialize for Private {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for Private {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(d)?);
        // The decoder's own message would quote an octet of the secret.
        let octets = STANDARD.decode(&*text).map_err(|_| serde::de::Error::custom("not base64"))?;
        Ok(Self(Zeroizing::new(octets)))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredToken {
    kid: String,
    alg: KeyAlg,
    state: KeyState,
    since: UnixMillis,
    pkcs8: Private,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAuthority {
    certificate: Private,
    pkcs8: Private,
}

impl StoredAuthority {
    fn of(authority: &Authority) -> Self {
        let certificate = Private(Zeroizing::new(authority.certificate.to_vec()));
        Self { certificate, pkcs8: Private::of(&authority.pkcs8) }
    }

    fn authority(&self) -> Authority {
        let certificate = CertificateDer::from(self.certificate.0.to_vec());
        Authority { certificate, pkcs8: self.pkcs8.secret() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u8,
    version: u64,
    trust_domain: TrustDomain,
    tokens: Vec<StoredToken>,
    nonces: Vec<Private>,
    evidence: Private,
    root: StoredAuthority,
    workload: StoredAuthority,
    system: StoredAuthority,
}

const FORMAT: u8 = 1;

pub(super) fn write(set: &KeySet) -> Result<SecretBytes, KeySetError> {
    let token = |k: &TokenKey| StoredToken {
        kid: k.info.kid.clone(),
        alg: k.info.alg,
        state: k.info.state,
        since: k.info.since,
        pkcs8: Private::of(&k.pkcs8),
    };
    let stored = Stored {
        format: FORMAT,
        version: set.version,
        trust_domain: set.trust_domain.clone(),
        tokens: set.tokens.iter().map(token).collect(),
        nonces: set.nonces.iter().map(Private::of).collect(),
        evidence: Private::of(&set.evidence),
        root: StoredAuthority::of(&set.root),
        workload: StoredAuthority::of(&set.workload),
        system: StoredAuthority::of(&set.system),
    };
    // Room enough from the start: a buffer that grows would leave copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(32 * 1024));
    serde_json::to_writer(&mut *out, &stored).map_err(|e| KeySetError::Malformed(e.to_string()))?;
    Ok(SecretBytes::new(std::mem::take(&mut *out)))
}

pub(super) fn read(version: u64, content: &SecretBytes) -> Result<KeySet, KeySetError> {
    let bad = |why: &str| KeySetError::Malformed(why.to_owned());
    // The parser's message may quote the document; its place is enough.
    let stored: Stored = serde_json::from_slice(content.expose()).map_err(|e| {
        KeySetError::Malformed(format!("{:?} at line {} column {}", e.classify(), e.line(), e.column()))
    })?;
    if stored.format != FORMAT {
        return Err(bad("unknown format"));
    }
    if stored.version != version {
        return Err(bad("its version is not the seal's"));
    }
    let in_state = |state| stored.tokens.iter().filter(|k| k.state == state).count();
    if in_state(KeyState::Active) != 1
        || in_state(KeyState::Prepared) > 1
        || stored.tokens.len() > KeySet::MAX_TOKEN_KEYS
    {
        return Err(bad("not one active and at most one prepared token key"));
    }
    if !(1..=2).contains(&stored.nonces.len()) {
        return Err(bad("not one or two nonce keys"));
    }
    let mut tokens = Vec::with_capacity(stored.tokens.len());
    for key in &stored.tokens {
        let pkcs8 = key.pkcs8.secret();
        if MemorySigner::from_pkcs8(key.alg, &pkcs8)?.kid() != key.kid {
            return Err(bad("a token key's id is not its thumbprint"));
        }
        let info = TokenKeyInfo { kid: key.kid.clone(), alg: key.alg, state: key.state, since: key.since };
        tokens.push(TokenKey { info, pkcs8 });
    }
    Ok(KeySet {
        version,
        trust_domain: stored.trust_domain,
        tokens,
        nonces: stored.nonces.iter().map(Private::secret).collect(),
        evidence: stored.evidence.secret(),
        root: stored.root.authority(),
        workload: stored.workload.authority(),
        system: stored.system.authority(),
    })
}
