//! The way to the brokers, one after the other.

use std::pin::Pin;

use mayfly_client::{Failure, Target, channel};
use mayfly_domain::Reason;
use tonic::transport::Channel;

/// A connection that is being made.
pub(crate) type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Channel, Failure>> + Send + 'a>>;

/// Connects to brokers.
pub(crate) trait Dial: Send + Sync + std::fmt::Debug {
    /// Connects to the broker whose turn it is.
    fn dial(&self, turn: usize) -> Dialling<'_>;

    /// How many brokers there are.
    fn brokers(&self) -> usize;
}

/// Brokers that contexts describe.
#[derive(Debug)]
pub(crate) struct Targets(Vec<Target>);

impl Targets {
    pub(crate) fn new(targets: Vec<Target>) -> Self {
        Self(targets)
    }
}

impl Dial for Targets {
    fn dial(&self, turn: usize) -> Dialling<'_> {
        Box::pin(async move {
            let target = self.0.get(turn % self.0.len().max(1));
            // The certificate's files are read each time: it was renewed, perhaps.
            channel::connect(target.ok_or(Reason::ConfigInvalid)?).await
        })
    }

    fn brokers(&self) -> usize {
        self.0.len()
    }
}
