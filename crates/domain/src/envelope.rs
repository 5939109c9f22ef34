//! Signing inputs: what a workload's key signs with every request, and what the key of a foreign certificate signs
//! where that is the evidence.

use crate::key::{KeyAlg, PublicKey, Thumbprint};
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
    input(b"mayfly envelope v1\0", &parts)
}

/// What the key of a foreign certificate signs to make it evidence for one call: a domain tag, then trust domain,
/// nonce, RFC 7638 thumbprint of the envelope's key (32 octets), the certificate in DER; each with its length
/// in 4 octets, big-endian, in front.
pub fn x509_input(trust_domain: &TrustDomain, nonce: &[u8], key: &Thumbprint, leaf: &[u8]) -> Vec<u8> {
    input(b"mayfly x509 evidence v1\0", &[trust_domain.as_str().as_bytes(), nonce, key.as_bytes(), leaf])
}

fn input(tag: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(tag.len() + parts.iter().map(|p| p.len() + 4).sum::<usize>());
    out.extend_from_slice(tag);
    for part in parts {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}
