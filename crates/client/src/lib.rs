//! For workloads, operators and acceptors: the way to a broker that is known beforehand, evidence, keys, proofs.
//!
//! A broker is trusted by a pinned CA or not at all: there is no trust on first use and no switch that turns
//! verification off. This crate must never write a token to disk, put a secret into an error or a log, install
//! anything process-global, or judge a credential.

pub mod acceptor;
pub mod channel;
pub mod context;
pub mod env;
pub mod evidence;
pub mod failure;
#[cfg(test)]
mod fixture;
pub mod keys;
pub mod operator;
pub mod pin;
pub mod proof;
pub mod retry;
pub mod workload;

pub use acceptor::AcceptorClient;
pub use context::{Context, Contexts, Target};
pub use env::Env;
pub use evidence::{Evidence, Source};
pub use failure::Failure;
pub use keys::{KeyHome, KeyScope, WorkloadKey};
pub use operator::OperatorClient;
pub use pin::Pin;
pub use workload::WorkloadClient;
