//! TLS between services by SPIFFE ID: what presents the newest certificate, what verifies the peer's, and ready
//! configurations of both.
//!
//! A peer is accepted when its certificate was issued directly by a live issuing CA of workloads (never by the root,
//! nor by the CA of brokers and operators), carries exactly one URI, a SPIFFE ID of the trust domain, and that is
//! one that the caller expects. TLS 1.3 only; no resumption and no early data, since both would skip the verifier.
//! Whether the peer's lease is live is not seen in a handshake: a service that must know asks its broker
//! ([`AcceptorClient`](crate::AcceptorClient)), or relies on short lives.

mod peers;
#[cfg(feature = "workload")]
mod present;
mod verifier;

pub use peers::Peers;
#[cfg(feature = "workload")]
pub use present::Resolver;
pub use verifier::{PeerVerifier, Refused, peer_id};

#[cfg(feature = "workload")]
#[cfg(test)]
mod tests;
