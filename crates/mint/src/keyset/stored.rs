//! The document in the seal: JSON, private parts as base64. Lives only between the key set and the seal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mayfly_domain::{KeyAlg, PublicKey, SecretBytes, TrustDomain, UnixMillis};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{KeySet, KeySetError, KeyState, TokenKey, TokenKeyInfo};
use crate::authority::{Authority, Root};
use crate::custody::{Material, ModuleKey};
use crate::issuing::Role;

/// Octets as base64, cleared when dropped.
struct Private(Zeroizing<Vec<u8>>);

impl Private {
    fn of(secret: &SecretBytes) -> Self {
        Self(Zeroizing::new(secret.expose().clone()))
    }

    fn octets(octets: &[u8]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.0.to_vec())
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

/// A key where it is kept: exactly one of the two.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum StoredKey {
    Sealed(Private),
    Module { id: [u8; 16], public: Private },
}

impl StoredKey {
    fn of(key: &Material) -> Self {
        match key {
            Material::Sealed(pkcs8) => Self::Sealed(Private::of(pkcs8)),
            Material::Module(key) => {
                Self::Module { id: key.id, public: Private::octets(key.public.as_bytes()) }
            }
        }
    }

    /// The key, which must have this id.
    fn material(&self, alg: KeyAlg, id: &str) -> Result<Material, KeySetError> {
        let key = match self {
            Self::Sealed(pkcs8) => Material::Sealed(pkcs8.secret()),
            Self::Module { id, public } => {
                let public = PublicKey::new(alg, &public.0).map_err(|_| bad("a module's public key"))?;
                Material::Module(ModuleKey { id: *id, public })
            }
        };
        if key.public(alg)?.thumbprint().to_string() == id { Ok(key) } else { Err(bad("a key's id")) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredToken {
    kid: String,
    alg: KeyAlg,
    state: KeyState,
    since: UnixMillis,
    key: StoredKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRoot {
    certificate: Private,
    pkcs8: Private,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAuthority {
    id: String,
    role: Role,
    alg: KeyAlg,
    state: KeyState,
    since: UnixMillis,
    key: StoredKey,
    certificate: Private,
    anchor: Private,
    imported: Vec<Private>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u64,
    version: u64,
    trust_domain: TrustDomain,
    tokens: Vec<StoredToken>,
    nonces: Vec<Private>,
    evidence: Private,
    root: StoredRoot,
    authorities: Vec<StoredAuthority>,
}

/// What every format has.
#[derive(Deserialize)]
struct AnyFormat {
    format: u64,
}

const FORMAT: u64 = 2;

pub(super) fn write(set: &KeySet) -> Result<SecretBytes, KeySetError> {
    let token = |k: &TokenKey| StoredToken {
        kid: k.info.kid.clone(),
        alg: k.info.alg,
        state: k.info.state,
        since: k.info.since,
        key: StoredKey::of(&k.key),
    };
    let authority = |a: &Authority| StoredAuthority {
        id: a.id.clone(),
        role: a.role,
        alg: a.alg,
        state: a.state,
        since: a.since,
        key: StoredKey::of(&a.key),
        certificate: Private::octets(&a.certificate),
        anchor: Private::octets(&a.anchor),
        imported: a.imported.iter().map(|c| Private::octets(c)).collect(),
    };
    let stored = Stored {
        format: FORMAT,
        version: set.version,
        trust_domain: set.trust_domain.clone(),
        tokens: set.tokens.iter().map(token).collect(),
        nonces: set.nonces.iter().map(Private::of).collect(),
        evidence: Private::of(&set.evidence),
        root: StoredRoot {
            certificate: Private::octets(&set.root.certificate),
            pkcs8: Private::of(&set.root.pkcs8),
        },
        authorities: set.authorities.iter().map(authority).collect(),
    };
    // Room enough from the start: a buffer that grows would leave copies behind.
    let certificates: usize =
        set.authorities.iter().flat_map(|a| &a.imported).map(|c| c.len().saturating_mul(2)).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(64 * 1024 + certificates));
    serde_json::to_writer(&mut *out, &stored).map_err(|e| KeySetError::Malformed(e.to_string()))?;
    Ok(SecretBytes::new(std::mem::take(&mut *out)))
}

pub(super) fn read(version: u64, content: &SecretBytes) -> Result<KeySet, KeySetError> {
    // The parser's message may quote the document; its place is enough.
    let unread = |e: serde_json::Error| {
        KeySetError::Malformed(format!("{:?} at line {} column {}", e.classify(), e.line(), e.column()))
    };
    let any: AnyFormat = serde_json::from_slice(content.expose()).map_err(unread)?;
    if any.format != FORMAT {
        return Err(KeySetError::Format(any.format));
    }
    let stored: Stored = serde_json::from_slice(content.expose()).map_err(unread)?;
    if stored.version != version {
        return Err(bad("its version is not the seal's"));
    }
    if !in_order(stored.tokens.iter().map(|k| k.state), KeySet::MAX_TOKEN_KEYS) {
        return Err(bad("not one active and at most one prepared token key"));
    }
    for role in Role::ALL {
        let states = stored.authorities.iter().filter(|a| a.role == role).map(|a| a.state);
        if !in_order(states, KeySet::MAX_AUTHORITIES) {
            return Err(bad("not one active and at most one prepared authority of each role"));
        }
    }
    if !(1..=2).contains(&stored.nonces.len()) {
        return Err(bad("not one or two nonce keys"));
    }
    let token = |k: &StoredToken| {
        let key = k.key.material(k.alg, &k.kid)?;
        let module = key.is_in_module();
        let info = TokenKeyInfo { kid: k.kid.clone(), alg: k.alg, state: k.state, since: k.since, module };
        Ok(TokenKey { info, key })
    };
    let authority = |a: &StoredAuthority| {
        Ok(Authority {
            id: a.id.clone(),
            role: a.role,
            state: a.state,
            since: a.since,
            alg: a.alg,
            key: a.key.material(a.alg, &a.id)?,
            certificate: a.certificate.certificate(),
            anchor: a.anchor.certificate(),
            imported: a.imported.iter().map(Private::certificate).collect(),
        })
    };
    Ok(KeySet {
        version,
        tokens: stored.tokens.iter().map(token).collect::<Result<_, KeySetError>>()?,
        nonces: stored.nonces.iter().map(Private::secret).collect(),
        evidence: stored.evidence.secret(),
        root: Root { certificate: stored.root.certificate.certificate(), pkcs8: stored.root.pkcs8.secret() },
        authorities: stored.authorities.iter().map(authority).collect::<Result<_, KeySetError>>()?,
        trust_domain: stored.trust_domain,
    })
}

/// Whether exactly one is active and at most one prepared, of at most `max`.
fn in_order(states: impl Iterator<Item = KeyState>, max: usize) -> bool {
    let (mut active, mut prepared, mut all) = (0, 0, 0);
    for state in states {
        all += 1;
        match state {
            KeyState::Active => active += 1,
            KeyState::Prepared => prepared += 1,
            KeyState::Retiring => {}
        }
    }
    active == 1 && prepared <= 1 && all <= max
}

fn bad(what: &str) -> KeySetError {
    KeySetError::Malformed(what.to_owned())
}
