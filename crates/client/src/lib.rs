//! For workloads, operators and acceptors: the way to a broker that is known beforehand, evidence, keys, proofs.
//!
//! A broker is trusted by a pinned CA or not at all: there is no trust on first use and no switch that turns
//! verification off. This crate must never write a token to disk, put a secret into an error or a log, install
//! anything process-global, or judge a credential.

pub mod acceptor;
pub mod bundle;
pub mod channel;
pub mod context;
pub mod env;
pub mod evidence;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod grpc;
pub mod identity;
pub mod keys;
pub mod mtls;
pub mod operator;
mod pem;
pub mod pin;
pub mod proof;
pub mod retry;
pub mod svid;
pub mod workload;

pub use acceptor::AcceptorClient;
pub use bundle::Bundle;
pub use context::{Context, Contexts, Target};
pub use env::Env;
pub use evidence::{Evidence, Source};
pub use failure::Failure;
pub use identity::{Event, State, X509Identity};
pub use keys::{KeyHome, KeyScope, WorkloadKey};
pub use mtls::Peers;
pub use operator::OperatorClient;
pub use pin::Pin;
pub use svid::Svid;
pub use workload::WorkloadClient;
