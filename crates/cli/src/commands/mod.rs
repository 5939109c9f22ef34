//! One command a file: its arguments, what it calls, and how its result looks.

pub(crate) mod block;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod context;
pub(crate) mod evidence;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod mint;
pub(crate) mod proof;
pub(crate) mod revoke;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod why;

use crate::args::Command;
use crate::session::{Outcome, Session};

/// Runs one command.
pub(crate) async fn run(command: Command, session: &Session) -> Outcome {
    match command {
        Command::Mint(c) => c.run(session).await,
        Command::Proof(c) => c.run(session),
        Command::Check(c) => c.run(session).await,
        Command::Task(c) => c.run(session).await,
        Command::Lease(c) => c.run(session).await,
        Command::Revoke(c) => c.run(session).await,
        Command::Block(c) => c.run(session).await,
        Command::Key(c) => c.run(session).await,
        Command::Evidence(c) => c.run(session).await,
        Command::Why(c) => c.run(session).await,
        Command::Status(c) => c.run(session).await,
        Command::Context(c) => c.run(session),
        Command::Completions(c) => c.run(),
    }
}
