//! Envelopes: what a workload signs with every request, and the proof that one was opened.
//!
//! An [`Opened`] says that the key's holder sent this payload for this call to this broker's trust domain
//! with a live nonce; it says nothing of who the holder is.

use mayfly_domain::nonce::Nonce;
use mayfly_domain::{
    LeaseId, PublicKey, Reason, Refusal, Thumbprint, TrustDomain, UnixMillis, defaults, envelope,
};

use crate::nonce::{NonceKeys, NonceScope};

/// The length of an envelope's signature, for both algorithms of keys.
const SIGNATURE_OCTETS: usize = 64;

/// A request of a workload, as it came: nothing of it was looked at.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The encoded request message.
    pub payload: Vec<u8>,
    /// The key that is said to have signed.
    pub key: PublicKey,
    /// The nonce, as a broker gave it out.
    pub nonce: Vec<u8>,
    /// `r || s` for P-256, 64 octets for Ed25519.
    pub signature: Vec<u8>,
}

/// Proof that an envelope's size, nonce and signature hold, made by the verifier alone.
#[derive(Debug)]
pub struct Opened {
    payload: Vec<u8>,
    key: PublicKey,
    thumbprint: Thumbprint,
    lease: LeaseId,
    nonce: Vec<u8>,
    nonce_issued: UnixMillis,
}

impl Opened {
    /// Opens an envelope for `rpc` (`mayfly.v1.WorkloadService/Mint`): size, then nonce, then signature.
    pub(crate) fn open(
        trust_domain: &TrustDomain,
        keys: &NonceKeys,
        scope: &NonceScope,
        rpc: &str,
        envelope: Envelope,
        now: UnixMillis,
    ) -> Result<Self, Refusal> {
        let Envelope { payload, key, nonce, signature } = envelope;
        if payload.len() > defaults::PAYLOAD_OCTETS_MAX {
            return Err(Refusal::new(Reason::TooLarge, "the envelope's payload is over the limit")
                .fact("limit", format!("{} octets", defaults::PAYLOAD_OCTETS_MAX)));
        }
        if signature.len() != SIGNATURE_OCTETS {
            return Err(Refusal::new(Reason::EnvelopeInvalid, "the signature is not 64 octets"));
        }
        let known: Nonce = keys.verify(scope, &nonce, now)?;
        let input = envelope::signing_input(trust_domain, rpc, &nonce, &key, &payload);
        if !key.verifies(&input, &signature) {
            return Err(Refusal::new(Reason::EnvelopeSignature, format!("no signature for {rpc}")));
        }
        let thumbprint = key.thumbprint();
        let lease = LeaseId::derive(&known, &thumbprint);
        Ok(Self { payload, key, thumbprint, lease, nonce, nonce_issued: known.issued })
    }

    /// The encoded request message.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that signed.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key's RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> Thumbprint {
        self.thumbprint
    }

    /// The id of the lease that a mint with this envelope makes, and of the nonce's used mark.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// The nonce, as the broker gave it out.
    pub fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// When the nonce was made.
    pub fn nonce_issued(&self) -> UnixMillis {
        self.nonce_issued
    }
}
