//! The command line: every command, with help that teaches by examples. No command is run here.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mayfly_domain::{Invalid, TaskReason, Ttl};

use crate::commands::{
    audit, block, ca, check, completions, config, context, dev, evidence, exec, follower, init, join, key,
    lease, mint, policy, proof, revoke, server, staff, status, task, trust, usage, watch, why,
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

/// Words for people that a script may leave empty.
#[derive(Debug, Clone)]
pub(crate) struct Words(pub(crate) Option<TaskReason>);

impl std::str::FromStr for Words {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let given = Some(s).filter(|s| !s.is_empty());
        given.map(TaskReason::parse).transpose().map(Self)
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
again), 8 incomplete (a barrier), 64 configuration.";

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "With every command")]
pub(crate) struct Global {
    /// `table` for people; `json` for programs: one document on standard output, errors on standard error
    #[arg(long, short, global = true, value_enum, default_value_t, env = "MAYFLY_OUTPUT")]
    #[arg(value_name = "FORM", hide_possible_values = true, hide_env_values = true)]
    pub(crate) output: Format,
    /// The context to use: which broker, and as whom (see `mayfly context`)
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How long a call may take, with what is tried again
    #[arg(long, global = true, value_name = "LENGTH", default_value = "30s")]
    pub(crate) timeout: Length,
}

/// In the order in which people meet them: workloads, acceptors, operators, a broker's host, this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Mint(mint::Mint),
    Exec(Box<exec::Exec>),
    Proof(proof::Proof),
    #[command(subcommand)]
    Task(task::Task),
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    Check(check::Check),
    #[command(subcommand)]
    Lease(lease::Lease),
    Revoke(Box<revoke::Revoke>),
    #[command(subcommand)]
    Block(block::Block),
    #[command(subcommand)]
    Follower(follower::Follower),
    Watch(watch::Watch),
    Usage(usage::Usage),
    #[command(subcommand)]
    Join(join::Join),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand)]
    Ca(ca::Ca),
    Why(why::Why),
    Status(status::Status),
    Dev(Box<dev::Dev>),
    Server(server::Server),
    Init(init::Init),
    #[command(subcommand)]
    Operator(staff::Operator),
    #[command(subcommand)]
    Acceptor(staff::Acceptor),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Trust(trust::Trust),
    #[command(subcommand)]
    Config(config::Config),
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Context(context::Context),
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests;
