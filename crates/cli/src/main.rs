//! The `mayfly` binary: parses the command line, runs one command, shows its outcome.
//!
//! It installs nothing process-global but its own hardening, and must never take a secret from an argument.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use mayfly_client::{Env, Failure};
use mayfly_domain::{Reason, SystemClock};

mod args;
mod commands;
mod files;
mod harden;
mod loaded;
mod output;
mod prompt;
mod session;
mod subject;
mod supervise;
mod tls_files;
mod views;

use args::Cli;
use output::Printer;
use session::Session;

/// A call makes and frees many small things on whichever thread it runs: with the system's allocator a tenth of its
/// processor time goes there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    harden::process();
    let cli = Cli::parse();
    let clock = Arc::new(SystemClock);
    let printer = Printer::new(cli.global.output, clock.clone());
    let session = Session {
        env: Env::process(),
        printer,
        context: cli.global.context,
        patience: cli.global.timeout.into(),
        clock,
    };
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(commands::run(cli.command, &session)),
        Err(e) => Err(Failure::of(Reason::Internal).fact("problem", e.to_string())),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            session.printer.failure(&failure);
            ExitCode::from(failure.exit_code)
        }
    }
}
