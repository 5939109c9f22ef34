//! The key set: every private key of a trust domain, one sealed and versioned document.
//!
//! Transitions are pure: each gives a new set with a higher version. Must never be stored but through the seal;
//! nothing private leaves this crate, and no `Debug` shows it.

use mayfly_domain::defaults::{SKEW_MAX_MS, TOKEN_TTL_MAX};
use mayfly_domain::{KeyAlg, SecretBytes, TrustDomain, UnixMillis};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;

use crate::authority::{Authority, AuthorityError};
use crate::issuing::Role;
use crate::seal::{Seal, SealError};
use crate::signer::{KeyRejected, MemorySigner, Signer as _};

mod stored;

/// The seal's purpose under which key sets are kept.
pub const PURPOSE: &str = "keyset";
/// How much later than the others a broker may hear of an activation and sign with the old key until then, in
/// milliseconds.
pub const ACTIVATION_LAG_MS: u64 = 600_000;

/// Why a key set could not be made, changed or opened.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A private key.
    #[error(transparent)]
    Key(#[from] KeyRejected),
    /// The document in the seal is not a key set.
    #[error("the sealed key set is malformed: {0}")]
    Malformed(String),
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
    /// The set holds as many token keys as it may.
    #[error("there are {MAX} token keys already; retire one first", MAX = KeySet::MAX_TOKEN_KEYS)]
    TooMany,
    /// A key is prepared already.
    #[error("token key `{0}` is prepared already; activate or retire it first")]
    AlreadyPrepared(String),
    /// There is no key of that id, or none in the state that the step needs.
    #[error("no token key {0}")]
    NoSuchKey(String),
    /// The active key can't be retired.
    #[error("token key `{0}` is the active one; activate another first")]
    Active(String),
    /// Tokens that the key signed may still be in use.
    #[error("tokens of key `{kid}` may live for another {wait_s} s")]
    StillInUse {
        /// The key.
        kid: String,
        /// For how long.
        wait_s: u64,
    },
}

/// Where a token key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, signs nothing yet.
    Prepared,
    /// Signs.
    Active,
    /// Verifies what it signed, signs nothing any more.
    Retiring,
}

impl KeyState {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retiring => "retiring",
        }
    }
}

/// What may be known of a token key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeyInfo {
    /// Its id: the RFC 7638 thumbprint.
    pub kid: String,
    /// Its algorithm.
    pub alg: KeyAlg,
    /// Where it stands.
    pub state: KeyState,
    /// Since when.
    pub since: UnixMillis,
}

#[derive(Debug)]
pub(crate) struct TokenKey {
    pub(crate) info: TokenKeyInfo,
    pub(crate) pkcs8: SecretBytes,
}

impl TokenKey {
    fn new(alg: KeyAlg, state: KeyState, now: UnixMillis) -> Result<Self, KeySetError> {
        let pkcs8 = MemorySigner::generate_pkcs8(alg)?;
        let kid = MemorySigner::from_pkcs8(alg, &pkcs8)?.kid().to_owned();
        Ok(Self { info: TokenKeyInfo { kid, alg, state, since: now }, pkcs8 })
    }
}

/// Whether a key is retired while tokens that it signed may still live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveTokens {
    /// No: wait until the last has expired, so that a rotation refuses nobody.
    Spare,
    /// Yes: the key is compromised; every token that it signed is refused from then on.
    Refuse,
}

/// Every private key of a trust domain.
///
/// INVARIANT: one active token key; at most one prepared; at most [`MAX_TOKEN_KEYS`](Self::MAX_TOKEN_KEYS) in
/// all; one or two nonce keys.
#[derive(Debug)]
pub struct KeySet {
    version: u64,
    trust_domain: TrustDomain,
    pub(crate) tokens: Vec<TokenKey>,
    pub(crate) nonces: Vec<SecretBytes>,
    pub(crate) evidence: SecretBytes,
    pub(crate) root: Authority,
    pub(crate) workload: Authority,
    pub(crate) system: Authority,
}

impl KeySet {
    /// The most token keys of a set.
    pub const MAX_TOKEN_KEYS: usize = 8;

    /// Makes every key of a new trust domain; the token key is ES256 and active.
    ///
    /// # Errors
    /// [`KeySetError`] where the system has no randomness.
    pub fn init(trust_domain: &TrustDomain, now: UnixMillis) -> Result<Self, KeySetError> {
        let root = Authority::root(trust_domain, now)?;
        Ok(Self {
            version: 1,
            trust_domain: trust_domain.clone(),
            tokens: vec![TokenKey::new(KeyAlg::P256, KeyState::Active, now)?],
            nonces: vec![random_key()?],
            evidence: random_key()?,
            workload: root.issuing(trust_domain, Role::Workload, now)?,
            system: root.issuing(trust_domain, Role::System, now)?,
            root,
        })
    }

    /// The version, raised by each transition.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What may be known of the token keys, oldest first.
    pub fn token_keys(&self) -> impl ExactSizeIterator<Item = &TokenKeyInfo> {
        self.tokens.iter().map(|k| &k.info)
    }

    /// The root's certificate: the trust domain's anchor.
    pub fn root_certificate(&self) -> &CertificateDer<'static> {
        &self.root.certificate
    }

    /// Seals the set.
    ///
    /// # Errors
    /// [`KeySetError::Seal`].
    pub fn seal(&self, seal: &Seal) -> Result<Vec<u8>, KeySetError> {
        Ok(seal.seal(PURPOSE, self.version, &stored::write(self)?)?)
    }

    /// Opens a sealed set.
    ///
    /// # Errors
    /// [`KeySetError::Seal`] where it does not open, [`KeySetError::Malformed`] where its content is no key set.
    pub fn open(seal: &Seal, sealed: &[u8]) -> Result<Self, KeySetError> {
        let (version, content) = seal.open(PURPOSE, sealed)?;
        stored::read(version, &content)
    }

    /// Adds a prepared token key: published, so that everybody knows it before it signs. No algorithm: the
    /// active key's.
    ///
    /// # Errors
    /// [`KeySetError::AlreadyPrepared`], [`KeySetError::TooMany`].
    pub fn prepare(&self, alg: Option<KeyAlg>, now: UnixMillis) -> Result<Self, KeySetError> {
        if let Some(key) = self.in_state(KeyState::Prepared) {
            return Err(KeySetError::AlreadyPrepared(key.kid.clone()));
        }
        if self.tokens.len() >= Self::MAX_TOKEN_KEYS {
            return Err(KeySetError::TooMany);
        }
        let alg = alg.or_else(|| self.in_state(KeyState::Active).map(|k| k.alg)).unwrap_or(KeyAlg::P256);
        let mut next = self.next();
        next.tokens.push(TokenKey::new(alg, KeyState::Prepared, now)?);
        Ok(next)
    }

    /// Makes the prepared key the active one; the old one retires.
    ///
    /// # Errors
    /// [`KeySetError::NoSuchKey`] where none is prepared.
    pub fn activate(&self, now: UnixMillis) -> Result<Self, KeySetError> {
        if self.in_state(KeyState::Prepared).is_none() {
            return Err(KeySetError::NoSuchKey("is prepared".into()));
        }
        let mut next = self.next();
        for key in &mut next.tokens {
            key.info.state = match key.info.state {
                KeyState::Prepared => KeyState::Active,
                KeyState::Active => KeyState::Retiring,
                KeyState::Retiring => continue,
            };
            key.info.since = now;
        }
        Ok(next)
    }

    /// Removes one token key, which must not be the active one.
    ///
    /// # Errors
    /// [`KeySetError::NoSuchKey`], [`KeySetError::Active`]; [`KeySetError::StillInUse`] with
    /// [`LiveTokens::Spare`] until the last token that it signed has expired.
    pub fn retire(&self, kid: &str, now: UnixMillis, live: LiveTokens) -> Result<Self, KeySetError> {
        let Some(key) = self.token_keys().find(|k| k.kid == kid) else {
            return Err(KeySetError::NoSuchKey(format!("`{kid}`")));
        };
        if key.state == KeyState::Active {
            return Err(KeySetError::Active(key.kid.clone()));
        }
        let wait_ms = in_use_until(key).0.saturating_sub(now.0);
        if live == LiveTokens::Spare && wait_ms > 0 {
            return Err(KeySetError::StillInUse { kid: key.kid.clone(), wait_s: wait_ms.div_ceil(1_000) });
        }
        let mut next = self.next();
        next.tokens.retain(|k| k.info.kid != kid);
        Ok(next)
    }

    /// Removes every retiring token key whose last token has expired.
    ///
    /// # Errors
    /// [`KeySetError::NoSuchKey`] where none retires, [`KeySetError::StillInUse`] where all must wait (the least
    /// of their times).
    pub fn retire_finished(&self, now: UnixMillis) -> Result<Self, KeySetError> {
        let finished =
            |k: &TokenKeyInfo| k.state == KeyState::Retiring && in_use_until(k).0.saturating_sub(now.0) == 0;
        if !self.token_keys().any(finished) {
            let soonest = self.token_keys().filter(|k| k.state == KeyState::Retiring).min_by_key(|k| k.since);
            let Some(soonest) = soonest else {
                return Err(KeySetError::NoSuchKey("is retiring".into()));
            };
            let wait_ms = in_use_until(soonest).0.saturating_sub(now.0);
            return Err(KeySetError::StillInUse {
                kid: soonest.kid.clone(),
                wait_s: wait_ms.div_ceil(1_000),
            });
        }
        let mut next = self.next();
        next.tokens.retain(|k| !finished(&k.info));
        Ok(next)
    }

    /// Puts a new nonce key in front and keeps the one before it, so that nonces under way still count.
    ///
    /// # Errors
    /// [`KeySetError::Random`].
    pub fn rotate_nonce_key(&self) -> Result<Self, KeySetError> {
        let mut next = self.next();
        next.nonces.truncate(1);
        next.nonces.insert(0, random_key()?);
        Ok(next)
    }

    fn in_state(&self, state: KeyState) -> Option<&TokenKeyInfo> {
        self.token_keys().find(|k| k.state == state)
    }

    fn next(&self) -> Self {
        let token = |k: &TokenKey| TokenKey { info: k.info.clone(), pkcs8: copy(&k.pkcs8) };
        Self {
            version: self.version.saturating_add(1),
            trust_domain: self.trust_domain.clone(),
            tokens: self.tokens.iter().map(token).collect(),
            nonces: self.nonces.iter().map(copy).collect(),
            evidence: copy(&self.evidence),
            root: self.root.copy(),
            workload: self.workload.copy(),
            system: self.system.copy(),
        }
    }
}

/// Until when a token that the key signed may be accepted somewhere. A prepared key has signed nothing.
fn in_use_until(key: &TokenKeyInfo) -> UnixMillis {
    match key.state {
        KeyState::Retiring => {
            key.since.plus(ACTIVATION_LAG_MS).plus(TOKEN_TTL_MAX.as_millis()).plus(SKEW_MAX_MS)
        }
        KeyState::Prepared | KeyState::Active => UnixMillis(0),
    }
}

fn copy(secret: &SecretBytes) -> SecretBytes {
    SecretBytes::new(secret.expose().clone())
}

fn random_key() -> Result<SecretBytes, KeySetError> {
    let mut key = vec![0; 32];
    SystemRandom::new().fill(&mut key).map_err(|_| KeySetError::Random)?;
    Ok(SecretBytes::new(key))
}

#[cfg(test)]
mod tests;
