//! Policy: who may do what, decided by Cedar. Turns [`Attested`](mayfly_attest::Attested) into [`Authorized`].
//!
//! Default deny; any evaluation error denies. This crate must never read files, know a store or mint.

pub mod authorized;
mod case;
mod decide;
pub mod decision;
pub mod engine;
pub mod explain;
pub mod facts;
#[cfg(test)]
mod fixture;
pub mod follow;
pub mod lint;
pub mod profile;
pub mod request;
mod rules;
mod slice;
mod source;
pub mod staff;
pub mod testing;
pub mod words;

pub use authorized::{
    Act, Authorized, Claimed, Grant, Mint, Operate, OperatorAction, OperatorGrant, Renew, Staff, StaffGrant,
    Target, TaskAct,
};
pub use decision::{Decision, Granted, PolicyFailure};
pub use engine::Engine;
pub use explain::{Explanation, RequestExplanation};
pub use facts::{OperatorPrincipal, RenewClaim, WorkloadAction, WorkloadFacts};
pub use follow::AcceptorPrincipal;
pub use lint::{Lint, Warning};
pub use profile::{Grants, Profile, RawProfile, TokenProfile, TtlLimit, TtlLimits, X509Profile};
pub use request::{RequestAsk, RequestDecision, RequestEngine, RequestFacts, RequestPolicies};
pub use source::{Place, PolicyError};
pub use staff::StaffEntry;
pub use testing::PolicyTests;
pub use words::SCHEMA;
