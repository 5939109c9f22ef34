//! `mayfly exec`: a command with credentials for exactly as long as it runs.
//!
//! Its own failures before the command starts are exit code 125; from then on the command's end is what counts,
//! and nothing that goes wrong with ending leases fails the job.

pub(crate) mod environment;
mod held;
mod keep;
mod places;
mod token;
mod wants;

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mayfly_client::Failure;
use mayfly_domain::{Intent, ProfileName, Reason};
use tokio::sync::mpsc;

use crate::args::{Length, Words};
use crate::session::{EvidenceArgs, Outcome, Session};
use crate::supervise::{Job, NotStarted, Signals, Supervisor};
use held::{Held, Plan};
use wants::{FileCopy, Variable};

pub(crate) use held::PROOF_KEY_FILE;

/// What failed before the command started.
const FAILED: u8 = 125;
/// How many orders of the keepers may wait.
const ORDERS: usize = 8;

/// Run a command with credentials that end with it
///
/// Mints for each --profile, puts what it got into files of a private directory, keeps them fresh while the command
/// runs, and ends all of it when the command ends. The command gets none of the evidence, so with tokens it can't mint
/// more; a certificate is evidence itself, of the same workload and for no longer than it lives.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly exec --profile payments-deploy --intent deploy:payments -- ./deploy.sh
  mayfly exec --profile api --on-renew HUP -- nginx -g 'daemon off;'
  mayfly exec --profile a --profile b --env B_TOKEN=b.token --file /run/a.pem=a.cert -- ./job

The command finds its files by these variables; with several profiles they name the first of the
kind, and NAME_PROFILE (MAYFLY_TOKEN_FILE_PAYMENTS_DEPLOY) names each:
  MAYFLY_CREDENTIALS_DIR   the directory
  MAYFLY_TOKEN_FILE        an access token
  MAYFLY_PROOF_KEY_FILE    its key, for DPoP proofs: `mayfly proof` finds it
  MAYFLY_CERT_FILE         a certificate and its intermediates
  MAYFLY_KEY_FILE          its key
  MAYFLY_CA_FILE           what verifies its peers

Exit codes: the command's own, or 128 and the signal that ended it; 123 a lease was revoked, 124 its
credentials are over, 125 Mayfly failed before the start, 126 the command can't be run, 127 there is
no such command.")]
pub(crate) struct Exec {
    /// What to get; may be given several times. Without one nothing is minted, and the command only supervised
    #[arg(long = "profile", value_name = "NAME")]
    profiles: Vec<ProfileName>,
    /// What it is for; may be left out where the profiles list exactly one
    #[arg(long, value_name = "VERB:OBJECT", requires = "profiles")]
    intent: Option<Intent>,
    /// Why, in words for people
    #[arg(long, value_name = "TEXT", requires = "profiles")]
    reason: Option<Words>,
    /// Put a token into a variable; it is minted for the whole window of the task, since it can't be renewed there
    #[arg(long = "env", value_name = "NAME=PROFILE.token")]
    variables: Vec<Variable>,
    /// Keep a piece in a file of this path, too: cert, key, ca or token
    #[arg(long = "file", value_name = "PATH=PROFILE.PIECE")]
    copies: Vec<FileCopy>,
    /// What the command is told when its files are new
    #[arg(long, value_enum, default_value_t, value_name = "HOW", ignore_case = true)]
    on_renew: OnRenew,
    /// What happens to the command when a lease is revoked, or its credentials are over
    #[arg(long, value_enum, default_value_t, value_name = "HOW", ignore_case = true)]
    on_revoke: OnRevoke,
    /// How long the command has to end after TERM, before what is left of it is killed
    #[arg(long, value_name = "LENGTH", default_value = "10s")]
    grace: Length,
    /// Leave the variables that hold evidence in the command's environment
    #[arg(long)]
    keep_evidence: bool,
    #[command(flatten)]
    evidence: EvidenceArgs,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What a renewal does to the command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum OnRenew {
    /// Nothing: it reads its files again by itself
    #[default]
    None,
    /// Send it HUP
    #[value(name = "HUP")]
    Hup,
    /// End it with TERM, and start it again
    Restart,
}

/// What the end of its credentials does to the command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum OnRevoke {
    /// TERM to all of it, then KILL to what is left
    #[default]
    #[value(name = "TERM")]
    Term,
    /// Nothing: it goes on without credentials
    None,
}

impl Exec {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        Ok(self.supervised(session).await.unwrap_or_else(|failure| {
            session.printer.failure(&failure);
            if failure.reason.is_some() { FAILED } else { failure.exit_code }
        }))
    }

    async fn supervised(self, session: &Session) -> Outcome {
        let no = |e: std::io::Error| Failure::of(Reason::Internal).fact("problem", e.to_string());
        let mut signals = Signals::take().map_err(no)?;
        let plan = Plan {
            profiles: self.profiles,
            intent: self.intent,
            reason: self.reason.and_then(|words| words.0),
            variables: self.variables,
            copies: self.copies,
            evidence: self.evidence,
            on_renew: self.on_renew,
            on_revoke: self.on_revoke,
        };
        plan.check()?;
        let mut held = None;
        if !plan.profiles.is_empty() {
            let mut filling = tokio::select! {
                connected = Held::nothing(plan, session) => connected?,
                code = signals.ending() => return Ok(code),
            };
            let filled = tokio::select! {
                filled = filling.fill(session) => filled.map(|()| None),
                code = signals.ending() => Ok(Some(code)),
            };
            if !matches!(filled, Ok(None)) {
                filling.undo(session).await;
            } else {
                held = Some(filling);
            }
            if let Some(code) = filled? {
                return Ok(code);
            }
        }
        let mut command = self.command.into_iter();
        let mut job = Job {
            program: command.next().unwrap_or_default(),
            args: command.collect(),
            set: Vec::new(),
            unset: environment::unset(self.keep_evidence),
        };
        let (tell, mut orders) = mpsc::channel(ORDERS);
        if let Some(held) = &mut held {
            if !self.keep_evidence {
                job.unset.extend(held.shown_by.iter().map(|name| (*name).to_owned()));
            }
            job.set = held.set();
            job.set.extend(environment::broker(&job.set, &session.env));
            held.keep(tell, session);
        }
        let mut supervisor = Supervisor::new(job, Duration::from(self.grace), signals).map_err(no)?;
        let outcome = supervisor.run(&mut orders).await;
        let mut signals = supervisor.into_signals();
        if let Some(held) = held {
            tokio::select! {
                () = held.end(session) => {}
                // Whoever asks twice does not want to wait for a broker.
                _ = signals.ending() => {}
            }
        }
        outcome.map_err(|not_started| unstartable(&not_started))
    }
}

/// A failure of the command's own, in the four parts of every other.
fn unstartable(not_started: &NotStarted) -> Failure {
    let code = not_started.code();
    Failure {
        code: if code == 127 { "COMMAND_NOT_FOUND" } else { "COMMAND_NOT_RUNNABLE" }.into(),
        reason: None,
        message: "the command could not be started".into(),
        facts: Vec::new(),
        request: None,
        next: "check its path and its mode".into(),
        retry_after: None,
        exit_code: code,
    }
    .fact("command", &not_started.program)
    .fact("problem", not_started.error.to_string())
}
