//! The command line: every command, with help that teaches by examples. No command is run here.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mayfly_domain::{Invalid, Ttl};

use crate::commands::{
    block, check, completions, context, evidence, key, lease, mint, proof, revoke, status, task, why,
};

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON document on standard output, errors as JSON on standard error.
    Json,
}

/// A length of time on the command line: `90s`, `15m`, `1h`, `7d`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Length(pub(crate) Ttl);

impl std::str::FromStr for Length {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        Ttl::parse(s).map(Self)
    }
}

impl From<Length> for Duration {
    fn from(length: Length) -> Self {
        Self::from_secs(length.0.as_secs().into())
    }
}

/// Short-lived credentials that end with their task.
///
/// A workload proves what it is, says what it is doing, and gets a credential that lives exactly as long as
/// that task may last. Every credential has a lease, and every lease can be ended at once.
#[derive(Debug, Parser)]
#[command(name = "mayfly", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  In a CI job, mint a token for the job's task and use it:
    TOKEN=$(mayfly mint token --profile payments-deploy --intent deploy:payments)
    curl -H \"Authorization: DPoP $TOKEN\" -H \"DPoP: $(echo $TOKEN | mayfly proof GET $URL)\" $URL

  End everything that a team holds, and refuse it new credentials for a day:
    mayfly revoke --owner team:payments --block --for 24h --reason \"laptop stolen\"

  Find out why a call was refused:
    mayfly why 0199b1c4-7e5c-7aa3-9f2e-0c6a51d2b9f0

Exit codes: 0 ok, 2 usage, 3 denied, 4 not found, 5 revoked or blocked, 6 quota, 7 unavailable (try
again), 8 incomplete, 64 configuration.";

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// How results are written
    #[arg(long, short, global = true, value_enum, default_value_t, env = "MAYFLY_OUTPUT")]
    pub(crate) output: Format,
    /// The context to use: which broker, and as whom (see `mayfly context`)
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How long a call may take, with what is tried again
    #[arg(long, global = true, value_name = "LENGTH", default_value = "30s")]
    pub(crate) timeout: Length,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Mint(mint::Mint),
    Proof(proof::Proof),
    Check(check::Check),
    #[command(subcommand)]
    Task(task::Task),
    #[command(subcommand)]
    Lease(lease::Lease),
    Revoke(revoke::Revoke),
    #[command(subcommand)]
    Block(block::Block),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    Why(why::Why),
    Status(status::Status),
    #[command(subcommand)]
    Context(context::Context),
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests;
