//! Attestation: what makes a request believed to come from a workload.
//!
//! Owns the key binding (nonce, envelope), the trust rules, the [`Attestor`] port and the verifier, which
//! alone makes [`Attested`]. This crate must never touch the network: attestors live in `attestors`.

pub mod attested;
pub mod evidence;

pub use attested::{Attested, AttestedFacts, EvidenceFacts, OnOtherKey, TaskClaim};
pub use evidence::{Attestor, ClaimValue, Claims, Evidence, Verified};
