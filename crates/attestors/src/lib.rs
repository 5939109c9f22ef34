//! Attestors: one module for each kind of evidence, behind the port that `attest` owns.
//!
//! The network lives here, and only to fetch an issuer's keys. This crate must never decide who a workload
//! is: trust rules do that.

pub mod https;
pub mod json;
pub mod jwks;
pub mod jws;
pub mod keys;
pub mod kinds;
pub mod oidc;
pub mod x509;

pub use https::HttpsKeys;
pub use jwks::KeySet;
pub use keys::{KeySource, StaticKeys};
pub use kinds::Attestors;
pub use oidc::OidcAttestor;
pub use x509::X509Attestor;

#[cfg(test)]
mod tests;
