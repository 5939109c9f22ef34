//! `mayfly key`: the keys that sign tokens, and their rotation.

use clap::{Args, Subcommand, ValueEnum};
use mayfly_client::Failure;
use mayfly_domain::{Reason, TaskReason, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;

use crate::output::{Human, Moment, Table, View};
use crate::prompt;
use crate::session::{Outcome, Session};

/// List, rotate and withdraw the keys that sign tokens
///
/// A new key is prepared (published, not used), activated (signs), and the old one retired when nothing that it
/// signed lives any more. No token is refused on the way. A stolen key is withdrawn at once by `revoke`.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// List the keys
    List,
    /// Publish a new key
    Prepare(Prepare),
    /// Sign with the prepared key
    Activate,
    /// Remove keys whose tokens have all ended
    Retire(Retire),
    /// Prepare a key, and activate it once every live broker has it
    Rotate(Rotate),
    Revoke(Revoke),
}

/// Remove keys whose tokens have all ended
#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// Remove them although tokens that they signed live: those are refused from then on
    #[arg(long)]
    force: bool,
}

/// Prepare a key, and activate it once every live broker has it
///
/// With --retire: the last step instead, which removes keys whose tokens have all ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly key rotate                    a new key signs; the old one is still published
  mayfly key rotate --retire           when the tokens of the old one have ended")]
pub(crate) struct Rotate {
    #[command(flatten)]
    prepare: Prepare,
    /// Remove keys whose tokens have all ended
    #[arg(long, conflicts_with = "algorithm")]
    retire: bool,
    /// Remove them although tokens that they signed live: those are refused from then on
    #[arg(long, requires = "retire")]
    force: bool,
}

/// Withdraw a stolen key at once
///
/// It leaves the published keys in the same step, and everything that it signed is refused by every online check. An
/// active key is replaced by a new one. Whoever verifies signatures by a copy of the published keys goes on accepting
/// until that copy is fetched again or the token ends.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mayfly key revoke 3q2-7w --reason \"copied from a backup\" --ticket SEC-42"
)]
pub(crate) struct Revoke {
    /// The key, as `mayfly key list` shows it
    #[arg(allow_hyphen_values = true)]
    kid: String,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
    /// A ticket
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// Do not ask a person whether it is really meant
    #[arg(long)]
    yes: bool,
}

/// What kind of key.
#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// The algorithm; else that of the active key
    #[arg(long, value_enum)]
    algorithm: Option<Algorithm>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Algorithm {
    /// ECDSA on P-256
    Es256,
    /// Ed25519
    Eddsa,
}

impl Algorithm {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Eddsa => "EdDSA",
        }
    }
}

#[derive(Serialize)]
pub(crate) struct KeyView {
    kid: String,
    algorithm: String,
    state: String,
    since: Moment,
    module: bool,
    live_leases: u64,
    last_ends: Moment,
}

impl From<pb::Key> for KeyView {
    fn from(k: pb::Key) -> Self {
        Self {
            kid: k.kid,
            algorithm: k.algorithm,
            state: k.state,
            since: Moment(k.since_ms),
            module: k.module,
            live_leases: k.live_leases,
            last_ends: Moment(k.last_ends_ms),
        }
    }
}

/// How many leases something signed, and when the last one ends; empty where nobody counted.
pub(crate) fn signed(live_leases: u64, last_ends: Moment, now: UnixMillis) -> String {
    match live_leases {
        0 => String::new(),
        n => format!("{n}, the last one ends {}", last_ends.distance(now)),
    }
}

/// Where a private key is.
pub(crate) const fn home(module: bool) -> &'static str {
    if module { "module" } else { "sealed" }
}

/// Keys as rows.
pub(crate) fn rows(keys: &[KeyView], now: UnixMillis) -> Human {
    let row = |k: &KeyView| {
        [
            k.kid.clone(),
            k.algorithm.clone(),
            k.state.clone(),
            k.since.human(now),
            home(k.module).to_owned(),
            signed(k.live_leases, k.last_ends, now),
        ]
    };
    let headers = ["kid", "algorithm", "state", "since", "key", "live leases"];
    Human::Rows(Table::new(headers, keys.iter().map(row), "no keys"))
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<KeyView>,
}

impl Keys {
    fn of(keys: Vec<pb::Key>) -> Self {
        Self { keys: keys.into_iter().map(KeyView::from).collect() }
    }
}

impl View for Keys {
    fn human(&self, now: UnixMillis) -> Human {
        rows(&self.keys, now)
    }
}

#[derive(Serialize)]
struct Withdrawn {
    #[serde(flatten)]
    keys: Keys,
    acknowledged: Moment,
    request: String,
    audit: String,
}

impl View for Withdrawn {
    fn human(&self, now: UnixMillis) -> Human {
        let told = vec![
            ("acknowledged", self.acknowledged.human(now)),
            ("request", self.request.clone()),
            ("audit", self.audit.clone()),
        ];
        Human::Parts(vec![("withdrawn", Human::Fields(told)), ("keys", self.keys.human(now))])
    }
}

impl Key {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        use pb::rotate_key_request::Step;
        let (step, algorithm, force) = match self {
            Self::List => {
                let keys = session.operator().await?.list_keys(pb::ListKeysRequest {}).await?.keys;
                session.printer.show(&Keys::of(keys))?;
                return Ok(0);
            }
            Self::Revoke(args) => return args.run(session).await,
            Self::Prepare(args) => (Step::Prepare, args.algorithm, false),
            Self::Activate => (Step::Activate, None, false),
            Self::Retire(args) => (Step::Retire, None, args.force),
            Self::Rotate(args) if args.retire => (Step::Retire, None, args.force),
            Self::Rotate(args) => (Step::Unspecified, args.prepare.algorithm, false),
        };
        let algorithm = algorithm.map(Algorithm::as_str).unwrap_or_default().to_owned();
        let call = pb::RotateKeyRequest { step: step.into(), algorithm, force };
        let answer = session.operator().await?.rotate_key(call).await?;
        session.printer.show(&Keys::of(answer.keys))?;
        session.printer.note(&format!("request {}", answer.request));
        Ok(0)
    }
}

/// The next step where nothing has the id that was given.
pub(super) fn not_listed(failure: Failure, list: &str) -> Failure {
    if failure.is(Reason::NotFound) {
        return failure
            .next(format!("take the id from `{list}`; what was withdrawn or retired is not listed"));
    }
    failure
}

impl Revoke {
    async fn run(self, session: &Session) -> Outcome {
        prompt::confirmed(
            &format!("Withdraw the key {} and refuse all that it signed?", self.kid),
            self.yes,
        )?;
        let reason = prompt::reason(self.reason)?.to_string();
        let call = pb::RevokeKeyRequest { kid: self.kid, reason, ticket: self.ticket.unwrap_or_default() };
        let r = session.operator().await?.revoke_key(call).await;
        let r = r.map_err(|failure| not_listed(failure, "mayfly key list"))?;
        session.printer.show(&Withdrawn {
            keys: Keys::of(r.keys),
            acknowledged: Moment(r.acknowledged_ms),
            request: r.request,
            audit: r.audit,
        })?;
        Ok(0)
    }
}
