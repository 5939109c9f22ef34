//! Makes and verifies nonces: the key that the brokers share, and what a nonce is bound to.
//!
//! A nonce is never stored before it is spent; that it is spent once is the store's business. This module
//! must never tell a caller which part of a foreign nonce was wrong.

use mayfly_domain::nonce::Nonce;
use mayfly_domain::text::Invalid;
use mayfly_domain::{Generation, Reason, Refusal, SecretBytes, UnixMillis, defaults};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;

/// What a nonce is bound to: the store's generation and the identity of the server behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceScope {
    /// The store's generation.
    pub generation: Generation,
    /// The identity of the store's server.
    pub store: [u8; 16],
}

/// The MAC keys that all brokers of a trust domain share: the first makes nonces, every one verifies them.
///
/// INVARIANT: at least one key, each of at least 32 octets.
pub struct NonceKeys {
    first: hmac::Key,
    older: Vec<hmac::Key>,
    random: SystemRandom,
}

impl std::fmt::Debug for NonceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKeys([secret])")
    }
}

impl NonceKeys {
    /// The least length of a key, in octets.
    pub const KEY_MIN: usize = 32;

    /// Takes the keys, newest first.
    ///
    /// # Errors
    /// [`Invalid`] where there is none or one is shorter than 32 octets.
    pub fn new(keys: Vec<SecretBytes>) -> Result<Self, Invalid> {
        if keys.iter().any(|k| k.expose().len() < Self::KEY_MIN) {
            return Err(Invalid::new("nonce key", "", "must have at least 32 octets"));
        }
        let mut all = keys.iter().map(|k| hmac::Key::new(hmac::HMAC_SHA256, k.expose()));
        let first = all.next().ok_or_else(|| Invalid::new("nonce key", "", "there is none"))?;
        Ok(Self { first, older: all.collect(), random: SystemRandom::new() })
    }

    /// Makes a nonce at `now`.
    ///
    /// # Errors
    /// `INTERNAL` where the machine gives no random octets.
    pub fn issue(&self, scope: &NonceScope, now: UnixMillis) -> Result<Nonce, Refusal> {
        let mut random = [0; 10];
        self.random
            .fill(&mut random)
            .map_err(|_| Refusal::new(Reason::Internal, "the machine gives no random octets"))?;
        let mut nonce =
            Nonce { issued: now, random, generation: scope.generation, store: scope.store, mac: [0; 16] };
        nonce.mac = mac(&self.first, &nonce);
        Ok(nonce)
    }

    /// Verifies a nonce at `now`.
    ///
    /// # Errors
    /// `NONCE_INVALID` for another form, MAC, generation or store, and for one from the future by more than
    /// the skew; `NONCE_EXPIRED` for one older than 60 s.
    pub fn verify(&self, scope: &NonceScope, bytes: &[u8], now: UnixMillis) -> Result<Nonce, Refusal> {
        let invalid = |why: &str| Refusal::new(Reason::NonceInvalid, why);
        let nonce = Nonce::decode(bytes).map_err(|e| invalid(&e.to_string()))?;
        let ours = std::iter::once(&self.first)
            .chain(&self.older)
            .map(|key| mac(key, &nonce).ct_eq(&nonce.mac))
            .fold(subtle::Choice::from(0), |any, one| any | one);
        if !bool::from(ours) {
            return Err(invalid("the MAC is none of this trust domain's"));
        }
        if nonce.generation != scope.generation {
            return Err(invalid("made in another generation"));
        }
        if nonce.store != scope.store {
            return Err(invalid("made over another store's server"));
        }
        if nonce.issued > now.plus(defaults::SKEW_MS) {
            return Err(invalid("from the future by more than the skew"));
        }
        if now.0.saturating_sub(nonce.issued.0) > defaults::NONCE_LIFE_MS {
            return Err(Refusal::new(Reason::NonceExpired, "older than a nonce may be"));
        }
        Ok(nonce)
    }
}

fn mac(key: &hmac::Key, nonce: &Nonce) -> [u8; 16] {
    let tag = hmac::sign(key, &nonce.authenticated());
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use mayfly_domain::{GenerationId, Secret};

    use super::*;

    fn keys(seeds: &[u8]) -> NonceKeys {
        NonceKeys::new(seeds.iter().map(|s| Secret::new(vec![*s; 32])).collect()).unwrap()
    }

    fn scope() -> NonceScope {
        NonceScope { generation: Generation { number: 3, id: GenerationId([7; 8]) }, store: [9; 16] }
    }

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn only_ours_of_now_and_here() {
        let keys = keys(&[1]);
        let good = keys.issue(&scope(), NOW).unwrap().encode();
        let verify =
            |scope: &NonceScope, bytes: &[u8], now| keys.verify(scope, bytes, now).map_err(|e| e.reason);
        verify(&scope(), &good, NOW).unwrap();
        verify(&scope(), &good, NOW.plus(60_000)).unwrap();
        verify(&scope(), &good, NOW.minus(30_000)).unwrap();
        assert_eq!(verify(&scope(), &good, NOW.plus(60_001)), Err(Reason::NonceExpired));
        assert_eq!(verify(&scope(), &good, NOW.minus(30_001)), Err(Reason::NonceInvalid));
        assert_eq!(verify(&scope(), &good[1..], NOW), Err(Reason::NonceInvalid));
        assert_eq!(verify(&scope(), b"", NOW), Err(Reason::NonceInvalid));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(verify(&scope(), &bad, NOW), Err(Reason::NonceInvalid), "octet {at}");
        }
        let mut other = scope();
        other.store = [8; 16];
        assert_eq!(verify(&other, &good, NOW), Err(Reason::NonceInvalid));
        let mut other = scope();
        other.generation.number += 1;
        assert_eq!(verify(&other, &good, NOW), Err(Reason::NonceInvalid));
        let mut other = scope();
        other.generation.id = GenerationId([6; 8]);
        assert_eq!(verify(&other, &good, NOW), Err(Reason::NonceInvalid));
    }

    #[test]
    fn the_first_key_makes_and_all_verify() {
        let old = keys(&[1]).issue(&scope(), NOW).unwrap().encode();
        let new = keys(&[2, 1]);
        new.verify(&scope(), &old, NOW).unwrap();
        let fresh = new.issue(&scope(), NOW).unwrap().encode();
        assert!(keys(&[1]).verify(&scope(), &fresh, NOW).is_err());
        assert!(keys(&[2]).verify(&scope(), &old, NOW).is_err());
        assert_ne!(fresh, new.issue(&scope(), NOW).unwrap().encode());
    }

    #[test]
    fn weak_keys_are_refused_and_none_is_shown() {
        assert!(NonceKeys::new(vec![]).is_err());
        assert!(NonceKeys::new(vec![Secret::new(vec![1; 31])]).is_err());
        assert!(!format!("{:?}", keys(&[65])).contains("65"));
    }
}
