//! The key set: every key of a trust domain, one sealed and versioned document.
//!
//! Transitions are pure: each gives a new set with a higher version. Must never be stored but through the seal;
//! nothing private leaves this crate, and no `Debug` shows it.

use mayfly_domain::{KeyAlg, SecretBytes, TrustDomain, UnixMillis};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;

use crate::authority::{Authority, Root};
use crate::custody::Custody;
use crate::issuing::Role;
use crate::seal::Seal;

mod authorities;
mod error;
mod stored;
mod tokens;

pub use authorities::LiveLeases;
pub use error::KeySetError;
pub(crate) use tokens::TokenKey;
pub use tokens::{ACTIVATION_LAG_MS, Live, TokenKeyInfo};

/// The seal's purpose under which key sets are kept.
pub const PURPOSE: &str = "keyset";

/// Where a token key or an authority stands.
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

    /// What it becomes when the prepared one is activated; none: it stays.
    const fn activated(self) -> Option<Self> {
        match self {
            Self::Prepared => Some(Self::Active),
            Self::Active => Some(Self::Retiring),
            Self::Retiring => None,
        }
    }
}

/// Every key of a trust domain.
///
/// INVARIANT: one active token key and at most one prepared, at most
/// [`MAX_TOKEN_KEYS`](Self::MAX_TOKEN_KEYS) in all; for each role one active authority and at most one prepared,
/// at most [`MAX_AUTHORITIES`](Self::MAX_AUTHORITIES); one or two nonce keys.
#[derive(Debug)]
pub struct KeySet {
    version: u64,
    trust_domain: TrustDomain,
    pub(crate) tokens: Vec<TokenKey>,
    pub(crate) nonces: Vec<SecretBytes>,
    pub(crate) evidence: SecretBytes,
    pub(crate) root: Root,
    pub(crate) authorities: Vec<Authority>,
}

impl KeySet {
    /// Makes every key of a new trust domain; the token key is ES256 and active.
    ///
    /// # Errors
    /// [`KeySetError`] where the system has no randomness or the module can't make its keys.
    pub fn init(trust_domain: &TrustDomain, custody: &Custody, now: UnixMillis) -> Result<Self, KeySetError> {
        let mut set = Self {
            version: 1,
            trust_domain: trust_domain.clone(),
            tokens: vec![TokenKey::new(KeyAlg::P256, KeyState::Active, custody, now)?],
            nonces: vec![random_key()?],
            evidence: random_key()?,
            root: Root::new(trust_domain, now)?,
            authorities: Vec::new(),
        };
        for role in Role::ALL {
            let authority = set.new_authority(role, KeyState::Active, custody, now)?;
            set.authorities.push(authority);
        }
        Ok(set)
    }

    /// The version, raised by each transition.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
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
    /// [`KeySetError::Seal`] where it does not open, [`KeySetError::Malformed`] where its content is no key set,
    /// [`KeySetError::Format`] where it is one of another format.
    pub fn open(seal: &Seal, sealed: &[u8]) -> Result<Self, KeySetError> {
        let (version, content) = seal.open(PURPOSE, sealed)?;
        stored::read(version, &content)
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

    fn next(&self) -> Self {
        Self {
            version: self.version.saturating_add(1),
            trust_domain: self.trust_domain.clone(),
            tokens: self.tokens.iter().map(TokenKey::copy).collect(),
            nonces: self.nonces.iter().map(copy).collect(),
            evidence: copy(&self.evidence),
            root: self.root.copy(),
            authorities: self.authorities.iter().map(Authority::copy).collect(),
        }
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
