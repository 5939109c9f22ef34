//! One command a file: its arguments, what it calls, and how its result looks.

pub(crate) mod audit;
pub(crate) mod barrier;
pub(crate) mod block;
pub(crate) mod ca;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod dev;
pub(crate) mod evidence;
pub(crate) mod exec;
pub(crate) mod follower;
pub(crate) mod init;
pub(crate) mod join;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod mint;
pub(crate) mod policy;
pub(crate) mod proof;
pub(crate) mod revoke;
pub(crate) mod server;
pub(crate) mod staff;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod trust;
pub(crate) mod usage;
pub(crate) mod watch;
pub(crate) mod why;

use crate::args::Command;
use crate::session::{Outcome, Session};

/// Runs one command.
pub(crate) async fn run(command: Command, session: &Session) -> Outcome {
    match command {
        Command::Mint(c) => c.run(session).await,
        Command::Exec(c) => c.run(session).await,
        Command::Proof(c) => c.run(session),
        Command::Task(c) => c.run(session).await,
        Command::Evidence(c) => c.run(session).await,
        Command::Check(c) => c.run(session).await,
        Command::Lease(c) => c.run(session).await,
        Command::Revoke(c) => c.run(session).await,
        Command::Block(c) => c.run(session).await,
        Command::Follower(c) => c.run(session).await,
        Command::Watch(c) => c.run(session).await,
        Command::Usage(c) => c.run(session).await,
        Command::Join(c) => c.run(session).await,
        Command::Ca(c) => c.run(session).await,
        Command::Key(c) => c.run(session).await,
        Command::Why(c) => c.run(session).await,
        Command::Status(c) => c.run(session).await,
        Command::Dev(c) => c.run(session).await,
        Command::Server(c) => c.run(session).await,
        Command::Init(c) => c.run(session).await,
        Command::Operator(c) => c.run(session).await,
        Command::Acceptor(c) => c.run(session).await,
        Command::Policy(c) => c.run(session).await,
        Command::Trust(c) => c.run(session).await,
        Command::Config(c) => c.run(session),
        Command::Audit(c) => c.run(session).await,
        Command::Context(c) => c.run(session),
        Command::Completions(c) => c.run(),
    }
}
