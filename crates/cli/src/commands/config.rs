//! `mayfly config`: what a broker's configuration says in the end.

use clap::{Args, Subcommand};
use mayfly_domain::UnixMillis;
use mayfly_server::config::{Effective, Origin};
use serde::Serialize;

use crate::loaded::ConfigArgs;
use crate::output::{Human, Table, View};
use crate::session::{Outcome, Session};

/// Read a broker's configuration
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    Show(Show),
}

/// Show every value in force and where it comes from
///
/// Reads and checks all files; exit code 64 with every mistake where one is wrong.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly config show --effective --config config/mayfly.toml")]
pub(crate) struct Show {
    #[command(flatten)]
    config: ConfigArgs,
    /// The defaults too, not only what files and variables set
    #[arg(long)]
    effective: bool,
}

#[derive(Serialize)]
struct Shown {
    values: Vec<Value>,
}

#[derive(Serialize)]
struct Value {
    key: String,
    value: String,
    from: String,
}

impl View for Shown {
    fn human(&self, _: UnixMillis) -> Human {
        let row = |v: &Value| [v.key.clone(), v.value.clone(), v.from.clone()];
        Human::Rows(Table::new(
            ["key", "value", "from"],
            self.values.iter().map(row),
            "every value is a default",
        ))
    }
}

impl Config {
    pub(crate) fn run(self, session: &Session) -> Outcome {
        let Self::Show(args) = self;
        let mut all = args.config.load()?.effective;
        all.retain(|e| args.effective || e.origin != Origin::Default);
        let value = |e: Effective| Value { key: e.key, value: e.value, from: e.origin.to_string() };
        let values = all.into_iter().map(value).collect();
        session.printer.show(&Shown { values })?;
        Ok(0)
    }
}
