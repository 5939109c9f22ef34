//! Attestation: what makes a request believed to come from a workload.
//!
//! Owns the key binding (nonce, envelope), the trust rules, the [`Attestor`] port and the verifier, which
//! alone makes [`Attested`]. This crate must never touch the network: attestors live in `attestors`.

pub mod attested;
pub mod envelope;
pub mod evidence;
pub mod issuer;
pub mod nonce;
pub mod preset;
pub mod raw;
pub mod rule;
pub mod ruleset;
pub mod template;
pub mod verifier;

pub use attested::{Attested, AttestedFacts, EvidenceFacts, OnOtherKey, Parent, TaskClaim};
pub use envelope::{Envelope, Opened};
pub use evidence::{
    Attestor, Challenge, ClaimValue, Claims, Evidence, Judged, Known, MtlsCertificate, Shown, Verified,
    X509Proof,
};
pub use issuer::{Algorithm, Authority, Issuer, Trusted};
pub use nonce::{NonceKeys, NonceScope};
pub use raw::{RawMatch, RawTask, RawTrustRule};
pub use rule::{FailedMatch, Identity, TrustRule};
pub use ruleset::{RuleExplanation, RuleSet};
pub use verifier::Verifier;
