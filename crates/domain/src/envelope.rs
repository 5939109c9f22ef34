//! The envelope's signing input: what a workload's key signs with every request.

use crate::key::{KeyAlg, PublicKey};
use crate::spiffe::TrustDomain;

/// The signing input: a domain tag, then trust domain, full name of the RPC (`mayfly.v1.WorkloadService/Mint`),
/// nonce, key algorithm and key, payload; each with its length in 4 octets, big-endian, in front.
///
/// An envelope for one RPC, broker or trust domain is none for another.
pub fn signing_input(
    trust_domain: &TrustDomain,
    rpc: &str,
    nonce: &[u8],
    key: &PublicKey,
    payload: &[u8],
) -> Vec<u8> {
    let alg: &[u8] = match key.alg() {
        KeyAlg::P256 => b"ES256",
        KeyAlg::Ed25519 => b"EdDSA",
    };
    let parts = [trust_domain.as_str().as_bytes(), rpc.as_bytes(), nonce, alg, key.as_bytes(), payload];
    let mut out = Vec::with_capacity(64 + parts.iter().map(|p| p.len() + 4).sum::<usize>());
    out.extend_from_slice(b"mayfly envelope v1\0");
    for part in parts {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}
