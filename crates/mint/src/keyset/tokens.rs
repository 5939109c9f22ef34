//! The token keys of a set: prepare, activate, retire, revoke.

use mayfly_domain::defaults::{SKEW_MAX_MS, TOKEN_TTL_MAX};
use mayfly_domain::{KeyAlg, UnixMillis};

use super::{KeySet, KeySetError, KeyState};
use crate::custody::{Custody, KeyUse, Material};

/// How much later than the others a broker may hear of an activation and sign with the old key until then, in
/// milliseconds.
pub const ACTIVATION_LAG_MS: u64 = 600_000;

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
    /// Whether its private key is in a module.
    pub module: bool,
}

#[derive(Debug)]
pub(crate) struct TokenKey {
    pub(crate) info: TokenKeyInfo,
    pub(crate) key: Material,
}

impl TokenKey {
    pub(super) fn new(
        alg: KeyAlg,
        state: KeyState,
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<Self, KeySetError> {
        let key = custody.generate(KeyUse::Token, alg)?;
        let kid = key.public(alg)?.thumbprint().to_string();
        let module = key.is_in_module();
        Ok(Self { info: TokenKeyInfo { kid, alg, state, since: now, module }, key })
    }

    pub(super) fn copy(&self) -> Self {
        Self { info: self.info.clone(), key: self.key.copy() }
    }
}

/// Whether a key is retired while credentials that it signed may still live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// No: wait until the last has expired, so that a rotation refuses nobody.
    Spare,
    /// Yes: everything that it signed is refused from then on.
    Refuse,
}

impl KeySet {
    /// The most token keys of a set.
    pub const MAX_TOKEN_KEYS: usize = 8;

    /// What may be known of the token keys, oldest first.
    pub fn token_keys(&self) -> impl ExactSizeIterator<Item = &TokenKeyInfo> {
        self.tokens.iter().map(|k| &k.info)
    }

    /// Adds a prepared token key: published, so that everybody knows it before it signs. No algorithm: the
    /// active key's.
    ///
    /// # Errors
    /// [`KeySetError::AlreadyPrepared`], [`KeySetError::TooMany`], the module's refusal.
    pub fn prepare(
        &self,
        alg: Option<KeyAlg>,
        custody: &Custody,
        now: UnixMillis,
    ) -> Result<Self, KeySetError> {
        if let Some(key) = self.token_in(KeyState::Prepared) {
            return Err(KeySetError::AlreadyPrepared(key.kid.clone()));
        }
        if self.tokens.len() >= Self::MAX_TOKEN_KEYS {
            return Err(KeySetError::TooMany);
        }
        let alg = alg.unwrap_or_else(|| self.active_alg());
        let mut next = self.next();
        next.tokens.push(TokenKey::new(alg, KeyState::Prepared, custody, now)?);
        Ok(next)
    }

    /// Makes the prepared key the active one; the old one retires.
    ///
    /// # Errors
    /// [`KeySetError::NothingPrepared`].
    pub fn activate(&self, now: UnixMillis) -> Result<Self, KeySetError> {
        if self.token_in(KeyState::Prepared).is_none() {
            return Err(KeySetError::NothingPrepared);
        }
        let mut next = self.next();
        for key in &mut next.tokens {
            if let Some(state) = key.info.state.activated() {
                (key.info.state, key.info.since) = (state, now);
            }
        }
        Ok(next)
    }

    /// Removes every retiring token key, with [`Live::Spare`] only those whose last token has expired.
    ///
    /// # Errors
    /// [`KeySetError::NothingRetiring`]; [`KeySetError::StillInUse`] where all must wait (the least of their
    /// times).
    pub fn retire(&self, now: UnixMillis, live: Live) -> Result<Self, KeySetError> {
        let wait = |k: &TokenKeyInfo| in_use_until(k).0.saturating_sub(now.0);
        let goes = |k: &TokenKeyInfo| k.state == KeyState::Retiring && (live == Live::Refuse || wait(k) == 0);
        if !self.token_keys().any(goes) {
            let soonest = self.token_keys().filter(|k| k.state == KeyState::Retiring).min_by_key(|k| k.since);
            let soonest = soonest.ok_or(KeySetError::NothingRetiring)?;
            return Err(KeySetError::StillInUse {
                id: soonest.kid.clone(),
                wait_s: wait(soonest).div_ceil(1_000),
                leases: None,
            });
        }
        let mut next = self.next();
        next.tokens.retain(|k| !goes(&k.info));
        Ok(next)
    }

    /// Withdraws a token key at once, whatever its state: everything that it signed is refused from then on. The
    /// active one is replaced in the same step by the prepared one, or by a new one.
    ///
    /// # Errors
    /// [`KeySetError::NoSuchKey`], the module's refusal.
    pub fn revoke(&self, kid: &str, custody: &Custody, now: UnixMillis) -> Result<Self, KeySetError> {
        let Some(revoked) = self.token_keys().find(|k| k.kid == kid) else {
            return Err(KeySetError::NoSuchKey(kid.to_owned()));
        };
        let mut next = self.next();
        next.tokens.retain(|k| k.info.kid != kid);
        if revoked.state == KeyState::Active {
            match next.tokens.iter_mut().find(|k| k.info.state == KeyState::Prepared) {
                Some(prepared) => (prepared.info.state, prepared.info.since) = (KeyState::Active, now),
                None => next.tokens.push(TokenKey::new(revoked.alg, KeyState::Active, custody, now)?),
            }
        }
        Ok(next)
    }

    fn active_alg(&self) -> KeyAlg {
        self.token_in(KeyState::Active).map_or(KeyAlg::P256, |k| k.alg)
    }

    fn token_in(&self, state: KeyState) -> Option<&TokenKeyInfo> {
        self.token_keys().find(|k| k.state == state)
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
