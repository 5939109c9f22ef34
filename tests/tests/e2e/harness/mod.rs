//! Whole deployments for the end-to-end tests: brokers with their configuration and people, and CI jobs.
//!
//! Everything is real but the CI provider, whose stand-in signs real tokens with the real issuer's name.

mod ci;
mod held;
mod job;
mod node;
mod people;
mod secrets;
mod server;
mod service;
mod site;

use std::time::Duration;

use mayfly_client::Failure;
use mayfly_domain::Deadline;
use mayfly_proto::v1 as pb;

pub(crate) use held::{Held, Over};
pub(crate) use job::{API, Job, Spec, new_key, oidc, proof_of};
pub(crate) use node::{Node, metrics};
pub(crate) use people::{Acceptor, Operator, question};
pub(crate) use secrets::Secrets;
pub(crate) use server::Server;
pub(crate) use service::Service;
pub(crate) use site::{Site, load_spec};

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

/// Asks again and again until there is an answer: for what another process does, of which no event tells.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Deadline::after(Duration::from_secs(60));
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(!give_up.has_passed(), "it did not happen within a minute");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
