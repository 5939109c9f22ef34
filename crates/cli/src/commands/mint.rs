//! `mayfly mint`: a credential for this machine's task.
//!
//! Standard output gets the token and nothing else, so that `TOKEN=$(mayfly mint token ...)` works; what a
//! person wants to know beside it goes to standard error. A certificate goes into files.

mod x509;

use clap::{Args, Subcommand};
use mayfly_client::workload::{Ask, Minted};
use mayfly_domain::{Intent, ProfileName, Scope, Scopes, UnixMillis};
use serde::Serialize;

use crate::args::{Length, Words};
use crate::output::{Human, Moment, Printer, View};
use crate::session::{EvidenceArgs, Outcome, Session};

/// Mint a credential for this job's task
#[derive(Debug, Subcommand)]
pub(crate) enum Mint {
    Token(Token),
    X509(Box<x509::X509>),
}

/// Mint an access token
///
/// The token alone goes to standard output; its lease, task and expiry go to standard error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  TOKEN=$(mayfly mint token --profile payments-deploy --intent deploy:payments)
  mayfly mint token --profile payments-deploy --ttl 2m --scope deploy:write --output json")]
pub(crate) struct Token {
    /// The profile: what the token opens
    #[arg(long, value_name = "NAME")]
    profile: ProfileName,
    /// What it is for; may be left out where the profile lists exactly one
    #[arg(long, value_name = "VERB:OBJECT")]
    intent: Option<Intent>,
    /// Why, in words for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<Words>,
    /// How long it should live, at most; else the profile's default
    #[arg(long, value_name = "LENGTH")]
    ttl: Option<Length>,
    /// A scope; may be given several times; else all that the profile grants
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// Have GitHub Actions mask the token in the job's log (a workflow command on standard error)
    #[arg(long)]
    mask: bool,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

/// What a mint or a renewal gave. The token is in the JSON only.
#[derive(Serialize)]
pub(crate) struct MintedView<'a> {
    token: &'a str,
    lease: &'a str,
    task: &'a str,
    expires: Moment,
    renewable_until: Moment,
    scopes: &'a [String],
    audience: &'a str,
    binding: &'a str,
    request: &'a str,
    warnings: &'a [String],
}

impl View for MintedView<'_> {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Fields(vec![
            ("lease", self.lease.to_owned()),
            ("task", self.task.to_owned()),
            ("expires", self.expires.human(now)),
            ("scopes", self.scopes.join(" ")),
            ("audience", self.audience.to_owned()),
            ("binding", self.binding.to_owned()),
            ("request", self.request.to_owned()),
            ("warning", self.warnings.join("; ")),
        ])
    }
}

/// Shows a new credential: the token on standard output, the rest on standard error, or all of it as JSON.
pub(crate) fn show(minted: &Minted, mask: bool, session: &Session) -> Outcome {
    let token = minted.token.expose();
    let view = MintedView {
        token,
        lease: &minted.lease,
        task: minted.task.as_ref().map(|t| t.id.as_str()).unwrap_or_default(),
        expires: Moment(minted.expires.0),
        renewable_until: Moment(minted.renewable_until.0),
        scopes: &minted.scopes,
        audience: &minted.audience,
        binding: &minted.binding,
        request: &minted.request,
        warnings: &minted.warnings,
    };
    if mask {
        // The runner reads commands from both streams; standard output is the caller's.
        Printer::command(&format!("::add-mask::{token}"));
    }
    if session.printer.is_json() {
        session.printer.show(&view)?;
    } else {
        session.printer.aside(&view);
        Printer::write(&format!("{token}\n"))?;
    }
    Ok(0)
}

impl Mint {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let args = match self {
            Self::Token(args) => args,
            Self::X509(args) => return args.run(session).await,
        };
        let ask = Ask {
            profile: args.profile,
            intent: args.intent,
            reason: args.reason.and_then(|words| words.0),
            ttl: args.ttl.map(|l| l.0),
            scopes: Scopes::new(args.scopes)?,
        };
        let client = session.workload(&args.evidence).await?;
        show(&client.mint(&ask).await?, args.mask, session)
    }
}
