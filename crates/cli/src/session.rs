//! What a command works with: the environment, the printer, and clients for the context that is meant.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use mayfly_client::{
    AcceptorClient, Contexts, Env, Failure, KeyHome, OperatorClient, Source, Target, WorkloadClient,
};
use mayfly_domain::Reason;
use mayfly_domain::time::SharedClock;

use crate::output::Printer;

/// The outcome of a command: its exit code, or why it failed.
pub(crate) type Outcome = Result<u8, Failure>;

/// What every command gets.
pub(crate) struct Session {
    pub(crate) env: Env,
    pub(crate) printer: Printer,
    pub(crate) context: Option<String>,
    pub(crate) patience: Duration,
    pub(crate) clock: SharedClock,
}

/// Where a workload's evidence is.
#[derive(Debug, Args)]
pub(crate) struct EvidenceArgs {
    /// A file with the evidence; else it is found by itself (see `mayfly evidence show`)
    #[arg(long, value_name = "FILE")]
    pub(crate) evidence_file: Option<PathBuf>,
}

impl Session {
    /// The broker that is meant.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        let contexts = Contexts::load(&Contexts::path(&self.env)?)?;
        contexts.target(self.context.as_deref(), &self.env).map_err(|refusal| {
            let unknown = refusal.reason == Reason::NotFound;
            let failure = Failure::from(refusal);
            if unknown { failure.next("name a known one, or add it: mayfly context add") } else { failure }
        })
    }

    /// A client with the operator's certificate of the context.
    pub(crate) async fn operator(&self) -> Result<OperatorClient, Failure> {
        Ok(OperatorClient::connect(&self.target()?).await?.patience(self.patience))
    }

    /// A client with the acceptor's certificate of the context.
    pub(crate) async fn acceptor(&self) -> Result<AcceptorClient, Failure> {
        AcceptorClient::connect(&self.target()?).await
    }

    /// A client with this machine's evidence and the task's key.
    pub(crate) async fn workload(&self, args: &EvidenceArgs) -> Result<WorkloadClient, Failure> {
        let target = self.target()?;
        let source = Source::at(&target, args.evidence_file.as_deref(), &self.env)?;
        let home = KeyHome::find(&self.env)?;
        let client = WorkloadClient::connect(&target, source, &home, self.clock.clone()).await?;
        Ok(client.patience(self.patience))
    }
}
