//! The words of Mayfly: always-valid types for identities, tasks, leases and the revocation protocol.
//!
//! Every type here is parsed once and cannot hold an invalid value afterwards. This crate must never do
//! I/O, spawn, block or know a wire format other than the ones that the protocol itself signs (the
//! envelope, the observation and the proof that comes with a foreign certificate).

pub mod codec;
pub mod defaults;
pub mod dimension;
pub mod envelope;
pub mod feed;
pub mod fence;
pub mod follow;
pub mod join;
pub mod key;
pub mod lease;
pub mod names;
pub mod nonce;
pub mod observation;
pub mod oid;
pub mod owner;
pub mod reason;
pub mod san;
pub mod scope;
pub mod secret;
pub mod spiffe;
pub mod task;
pub mod text;
pub mod time;
pub mod ttl;

pub use dimension::{DimKey, Dimension, EvidenceHash, Subject};
pub use fence::{Block, Fence, Gate, Generation, GenerationId};
pub use join::JoinToken;
pub use key::{KeyAlg, PublicKey, SignerId, Thumbprint};
pub use lease::{AcceptorMode, Binding, CredentialId, CredentialKind, EndReason, LeaseId, LeaseState};
pub use names::{
    AcceptorName, BrokerName, Environment, GroupName, IntegrationName, Intent, OperatorName, PolicyId,
    ProfileName, RuleName,
};
pub use observation::{Observation, Pair};
pub use owner::{Owner, Owners};
pub use reason::{Fault, Reason, Refusal};
pub use san::San;
pub use scope::{Audience, Scope, Scopes};
pub use secret::{Secret, SecretBytes};
pub use spiffe::{SpiffeId, TrustDomain};
pub use task::{TaskId, TaskReason};
pub use text::{FieldError, Invalid};
pub use time::{BootClock, BootTime, Clock, Deadline, SystemBootClock, SystemClock, UnixMillis};
pub use ttl::Ttl;
