//! What Mayfly's credentials look like, and how one is verified by public keys: access tokens, DPoP proofs, and the
//! extension of certificates. Brokers and acceptors verify by this one reading.
//!
//! Must never sign, hold a private key, ask anybody, or take a verified credential for a live lease.

pub mod certificate;
mod compact;
pub mod dpop;
pub mod extension;
pub mod keys;
pub mod spki;
#[cfg(test)]
mod testing;
pub mod token;

pub use certificate::{Anchors, BadAnchor, ClientCertificate, SystemCertificate, Usage, WorkloadCertificate};
pub use dpop::{Nonces, Presented, ReplayWindow};
pub use keys::{JwksRefused, TokenKey, TokenKeys};
pub use token::{TokenVerifier, VerifiedToken};
