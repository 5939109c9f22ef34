//! `mayfly exec` as a supervisor, without a broker: each test runs the real program, as root and as an ordinary
//! user, where root runs the tests; else as the one user there is, and says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that can't go on fails"
)]

mod init;
mod program;
mod signals;

use std::path::Path;
use std::process::Command;

use mayfly_testkit::user::User;

/// The program below the words `before`.
fn mayfly(user: User, before: &[&str]) -> Command {
    user.command(before, Path::new(env!("CARGO_BIN_EXE_mayfly")))
}

/// `mayfly exec` of a shell script.
fn exec(user: User, options: &[&str], script: &str) -> Command {
    let mut command = mayfly(user, &[]);
    command.arg("exec").args(options).args(["--", "sh", "-c", script]);
    command
}
