//! Nonces that a service demands in DPoP proofs (RFC 9449 section 9): stateless, known again by a MAC.
//!
//! A proof with one was made after the nonce was given, whatever the client's clock says. Must never take one of
//! another process, or one that is over.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::{Reason, Refusal, UnixMillis};
use ring::hmac;
use ring::rand::SystemRandom;
use subtle::ConstantTimeEq as _;

use super::{Claims, PROOF_OCTETS_MAX};
use crate::compact::{Compact, decode};

const TAG: &[u8] = b"mayfly dpop nonce v1\0";
const MAC_OCTETS: usize = 16;

/// The nonces of one process, from its start to its end.
pub struct Nonces {
    key: hmac::Key,
    life_ms: u64,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").field("life_ms", &self.life_ms).finish_non_exhaustive()
    }
}

impl Nonces {
    /// How long a nonce counts where nothing else is said, in milliseconds.
    pub const LIFE_MS: u64 = 120_000;

    /// Nonces that count for so long, by a key that is made here and never leaves.
    ///
    /// # Errors
    /// [`Reason::Internal`] where the system has no randomness.
    pub fn new(life_ms: u64) -> Result<Self, Refusal> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| Refusal::new(Reason::Internal, "no randomness"))?;
        Ok(Self { key, life_ms })
    }

    /// The nonce to give now, for a `DPoP-Nonce` header: the same within a second.
    pub fn give(&self, now: UnixMillis) -> String {
        let made = now.secs().to_be_bytes();
        URL_SAFE_NO_PAD.encode([made.as_slice(), &self.mac(&made)].concat())
    }

    /// Demands that a proof carries a nonce that was given and is not over, and looks at nothing else of it: somebody
    /// else verifies the proof.
    ///
    /// # Errors
    /// [`Reason::ProofNonce`], [`Reason::ProofInvalid`] where it is no proof.
    pub fn demand_in(&self, proof: &str, now: UnixMillis) -> Result<(), Refusal> {
        let claims = Compact::parse(proof, PROOF_OCTETS_MAX).and_then(|compact| compact.payload_octets());
        let claims: Option<Claims> = claims.and_then(|octets| serde_json::from_slice(&octets).ok());
        let claims = claims.ok_or_else(|| Refusal::new(Reason::ProofInvalid, "not a DPoP proof"))?;
        self.demand(claims.nonce.as_deref(), now)
    }

    pub(super) fn demand(&self, nonce: Option<&str>, now: UnixMillis) -> Result<(), Refusal> {
        if nonce.is_some_and(|nonce| self.knows(nonce, now)) {
            return Ok(());
        }
        Err(Refusal::new(Reason::ProofNonce, "without a nonce of the last minutes"))
    }

    /// Whether this is a nonce that was given and is not over.
    fn knows(&self, nonce: &str, now: UnixMillis) -> bool {
        if nonce.len() > 64 {
            return false;
        }
        let Some(octets) = decode(nonce) else { return false };
        let Some((made, mac)) = octets.split_first_chunk::<8>() else { return false };
        let genuine = bool::from(self.mac(made).ct_eq(mac));
        let made = UnixMillis::from_secs(u64::from_be_bytes(*made));
        // A second more, since the moment was cut to one; and none of later: the clock may have stepped back.
        genuine && made <= now && now < made.plus(self.life_ms).plus(1_000)
    }

    fn mac(&self, made: &[u8; 8]) -> [u8; MAC_OCTETS] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(TAG);
        context.update(made);
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_500);

    #[test]
    fn a_nonce_counts_for_its_life_at_the_process_that_gave_it() {
        let (nonces, other) = (Nonces::new(10_000).unwrap(), Nonces::new(10_000).unwrap());
        let nonce = nonces.give(NOW);
        for (later, known) in [(0, true), (9_999, true), (10_499, true), (10_500, false), (60_000, false)] {
            assert_eq!(nonces.knows(&nonce, NOW.plus(later)), known, "{later}");
        }
        assert!(!nonces.knows(&nonce, NOW.minus(1_000)), "from before it was given");
        assert!(!other.knows(&nonce, NOW), "of another process");
        assert!(!format!("{nonces:?}").contains("key"));
    }

    #[test]
    fn nothing_else_is_a_nonce() {
        let nonces = Nonces::new(10_000).unwrap();
        let nonce = nonces.give(NOW);
        for n in 0..nonce.len() {
            let mut altered = nonce.clone().into_bytes();
            altered[n] = if altered[n] == b'A' { b'B' } else { b'A' };
            assert!(!nonces.knows(std::str::from_utf8(&altered).unwrap(), NOW), "{n}");
            assert!(!nonces.knows(&nonce[..n], NOW));
        }
        for bad in ["", "AAAA", &"A".repeat(200), &format!("{nonce}AAAA")] {
            assert!(!nonces.knows(bad, NOW), "{bad}");
        }
    }
}
