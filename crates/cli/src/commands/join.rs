//! `mayfly join`: first evidence for a machine that no issuer vouches for.
//!
//! The token is shown once, to whoever made it; the broker keeps its hash.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mayfly_client::Failure;
use mayfly_domain::{Environment, Owner, Reason, Secret, TaskReason, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;

use crate::args::Length;
use crate::output::{Human, Moment, Printer, Table, View};
use crate::prompt;
use crate::session::{Outcome, Session};

/// First evidence for a machine that no issuer vouches for
#[derive(Debug, Subcommand)]
pub(crate) enum Join {
    Create(Create),
    /// List the join tokens that are still kept
    List,
    Withdraw(Withdraw),
}

/// Make a join token
///
/// One mint uses it up and binds it to the key that showed it; from then on the machine renews by the certificate that
/// it got. The token alone goes to standard output, or into a file of mode 0600.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly join create --workload /vm/db-1 --owner team:payments --reason \"new database\" --out db-1.join
  mayfly join create --workload /vm/db-1 --owner team:payments --for 1h | ssh db-1 'cat >/run/mayfly.join'

On the machine:
  MAYFLY_JOIN_TOKEN_FILE=/run/mayfly.join mayfly mint x509 --profile db --out /etc/db/tls --watch")]
pub(crate) struct Create {
    /// Whom the machine becomes: a SPIFFE ID of the trust domain, or its path
    #[arg(long, value_name = "ID")]
    workload: String,
    /// Who answers for it, such as `team:payments`; one to four
    #[arg(long = "owner", value_name = "KIND:NAME", required = true)]
    owners: Vec<Owner>,
    /// The environment that its policies see
    #[arg(long, value_name = "NAME")]
    environment: Option<Environment>,
    /// How long it may be used, at most a day
    #[arg(long = "for", value_name = "LENGTH", default_value = "10m")]
    length: Length,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
    /// Write it to this new file, in place of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Make a join token useless
///
/// What was minted with it lives on: `mayfly lease revoke` ends that.
#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    /// The token's id, as `mayfly join list` shows it; never the token
    id: String,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
}

#[derive(Serialize)]
struct TokenView {
    id: String,
    state: String,
    workload: String,
    owners: Vec<String>,
    environment: String,
    created: Moment,
    expires: Moment,
    author: String,
    lease: String,
}

impl From<pb::JoinToken> for TokenView {
    fn from(t: pb::JoinToken) -> Self {
        Self {
            id: t.id,
            state: t.state,
            workload: t.workload,
            owners: t.owners,
            environment: t.environment,
            created: Moment(t.created_ms),
            expires: Moment(t.expires_ms),
            author: t.author,
            lease: t.lease,
        }
    }
}

impl View for TokenView {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Fields(vec![
            ("join token", self.id.clone()),
            ("state", self.state.clone()),
            ("workload", self.workload.clone()),
            ("owners", self.owners.join(", ")),
            ("environment", self.environment.clone()),
            ("expires", self.expires.human(now)),
            ("author", self.author.clone()),
            ("lease", self.lease.clone()),
        ])
    }
}

#[derive(Serialize)]
struct Created<'a> {
    /// The token itself: in the JSON only, and only where it is not in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    #[serde(flatten)]
    described: TokenView,
    request: String,
    audit: String,
}

impl View for Created<'_> {
    fn human(&self, now: UnixMillis) -> Human {
        let mut fields = match self.described.human(now) {
            Human::Fields(fields) => fields,
            _ => Vec::new(),
        };
        let file = self.file.map(|path| path.display().to_string());
        fields.extend([
            ("file", file.unwrap_or_default()),
            ("request", self.request.clone()),
            ("audit", self.audit.clone()),
        ]);
        Human::Fields(fields)
    }
}

#[derive(Serialize)]
struct Tokens {
    tokens: Vec<TokenView>,
}

impl View for Tokens {
    fn human(&self, now: UnixMillis) -> Human {
        let row = |t: &TokenView| {
            [
                t.id.clone(),
                t.state.clone(),
                t.workload.clone(),
                t.owners.join(","),
                t.expires.distance(now),
                t.author.clone(),
                t.lease.clone(),
            ]
        };
        let headers = ["join token", "state", "workload", "owners", "expires", "author", "lease"];
        Human::Rows(Table::new(headers, self.tokens.iter().map(row), "no join tokens"))
    }
}

#[derive(Serialize)]
struct Withdrawn {
    #[serde(flatten)]
    described: TokenView,
    request: String,
    audit: String,
}

impl View for Withdrawn {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Parts(vec![("withdrawn", self.described.human(now))])
    }
}

/// Opens the new file before the token is made: one that can't be kept would be lost.
fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| {
        Failure::of(Reason::InputInvalid)
            .fact("file", path.display().to_string())
            .fact("problem", e.to_string())
            .next("name a file that is not there yet, in a directory that is")
    })
}

impl Create {
    async fn run(self, session: &Session) -> Outcome {
        let call = pb::CreateJoinTokenRequest {
            workload: self.workload,
            owners: self.owners.iter().map(ToString::to_string).collect(),
            environment: self.environment.map(|e| e.to_string()).unwrap_or_default(),
            for_s: self.length.0.as_secs(),
            reason: prompt::reason(self.reason)?.to_string(),
        };
        let client = session.operator().await?;
        let file = self.out.as_deref().map(new_file).transpose()?;
        let answer = client.create_join_token(call).await.inspect_err(|_| {
            // Made above, and empty.
            let _ = self.out.as_deref().map(std::fs::remove_file);
        })?;
        let token = Secret::new(answer.token);
        if let Some(mut file) = file {
            writeln!(file, "{}", token.expose()).and_then(|()| file.sync_all()).map_err(|e| {
                Failure::of(Reason::Internal)
                    .fact("problem", e.to_string())
                    .next("withdraw it (`mayfly join list`, `mayfly join withdraw`) and make another")
            })?;
        }
        let created = Created {
            token: Some(token.expose().as_str()).filter(|_| self.out.is_none()),
            file: self.out.as_deref(),
            described: answer.described.unwrap_or_default().into(),
            request: answer.request,
            audit: answer.audit,
        };
        if session.printer.is_json() {
            session.printer.show(&created)?;
        } else {
            session.printer.aside(&created);
            if let Some(token) = created.token {
                Printer::write(&format!("{token}\n"))?;
            }
        }
        Ok(0)
    }
}

impl Join {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Create(args) => return args.run(session).await,
            Self::List => {
                let r = session.operator().await?.list_join_tokens(pb::ListJoinTokensRequest {}).await?;
                session
                    .printer
                    .show(&Tokens { tokens: r.tokens.into_iter().map(TokenView::from).collect() })?;
            }
            Self::Withdraw(args) => {
                if args.id.starts_with(mayfly_domain::join::PREFIX) {
                    return Err(Failure::of(Reason::InputInvalid)
                        .fact("problem", "this is a token, not its id, and now it is in the shell's history")
                        .next("find its id with `mayfly join list`, and withdraw that"));
                }
                let reason = prompt::reason(args.reason)?.to_string();
                let call = pb::WithdrawJoinTokenRequest { id: args.id, reason };
                let r = session.operator().await?.withdraw_join_token(call).await?;
                let described = r.described.unwrap_or_default().into();
                session.printer.show(&Withdrawn { described, request: r.request, audit: r.audit })?;
            }
        }
        Ok(0)
    }
}
