//! `mayfly key`: the keys that sign tokens, and their rotation.

use clap::{Args, Subcommand, ValueEnum};
use mayfly_domain::UnixMillis;
use mayfly_proto::v1 as pb;
use serde::Serialize;

use crate::output::{Human, Moment, Table, View};
use crate::session::{Outcome, Session};

/// List and rotate the keys that sign tokens
///
/// A new key is prepared (published, not used), activated (signs), and the old one retired when nothing that it
/// signed lives any more. No token is refused on the way.
#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// List the keys
    List,
    /// Publish a new key
    Prepare(Prepare),
    /// Sign with the prepared key
    Activate,
    /// Remove keys whose tokens have all ended
    Retire,
    /// Prepare a key, and activate it once every live broker has it
    Rotate(Prepare),
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
}

impl From<pb::Key> for KeyView {
    fn from(k: pb::Key) -> Self {
        Self { kid: k.kid, algorithm: k.algorithm, state: k.state, since: Moment(k.since_ms) }
    }
}

/// Keys as rows.
pub(crate) fn rows(keys: &[KeyView], now: UnixMillis) -> Human {
    let row = |k: &KeyView| [k.kid.clone(), k.algorithm.clone(), k.state.clone(), k.since.human(now)];
    Human::Rows(Table::new(["kid", "algorithm", "state", "since"], keys.iter().map(row), "no keys"))
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<KeyView>,
}

impl View for Keys {
    fn human(&self, now: UnixMillis) -> Human {
        rows(&self.keys, now)
    }
}

impl Key {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        use pb::rotate_key_request::Step;
        let client = session.operator().await?;
        let (step, algorithm) = match self {
            Self::List => {
                let keys = client.list_keys(pb::ListKeysRequest {}).await?.keys;
                session.printer.show(&Keys { keys: keys.into_iter().map(KeyView::from).collect() })?;
                return Ok(0);
            }
            Self::Prepare(args) => (Step::Prepare, args.algorithm),
            Self::Activate => (Step::Activate, None),
            Self::Retire => (Step::Retire, None),
            Self::Rotate(args) => (Step::Unspecified, args.algorithm),
        };
        let algorithm = algorithm.map(Algorithm::as_str).unwrap_or_default().to_owned();
        let answer =
            client.rotate_key(pb::RotateKeyRequest { step: step.into(), algorithm, force: false }).await?;
        session.printer.show(&Keys { keys: answer.keys.into_iter().map(KeyView::from).collect() })?;
        session.printer.note(&format!("request {}", answer.request));
        Ok(0)
    }
}
