//! Policy: who may do what, decided by Cedar. Turns [`Attested`](mayfly_attest::Attested) into [`Authorized`].
//!
//! Default deny; any evaluation error denies. This crate must never read files, know a store or mint.

pub mod authorized;
pub mod profile;

pub use authorized::{
    Act, Authorized, Claimed, Grant, Mint, Operate, OperatorAction, OperatorGrant, Renew, Staff, StaffGrant,
    Target, TaskAct,
};
pub use profile::{Profile, TokenProfile};
