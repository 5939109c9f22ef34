//! Whole deployments for the end-to-end tests: brokers with their configuration and people, and CI jobs.
//!
//! Everything is real but the CI provider, whose stand-in signs real tokens with the real issuer's name.

mod job;
mod node;
mod people;
mod site;

pub(crate) use job::Spec;
pub(crate) use site::Site;

use mayfly_client::Failure;
use mayfly_proto::v1 as pb;

/// The code of the refusal that a call must end with.
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> String {
    outcome.expect_err("the call must be refused").code.into_owned()
}

/// What a revocation or block names.
pub(crate) fn subject(dimension: pb::Dimension, value: &str) -> pb::Subject {
    pb::Subject { dimension: dimension.into(), value: value.to_owned() }
}

/// An owner's subject.
pub(crate) fn owner(value: &str) -> pb::Subject {
    subject(pb::Dimension::Owner, value)
}
