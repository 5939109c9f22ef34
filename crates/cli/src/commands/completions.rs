//! `mayfly completions`: what a shell completes.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::Printer;
use crate::session::Outcome;

/// Print a shell's completions
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mayfly completions bash > ~/.local/share/bash-completion/completions/mayfly"
)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Outcome {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "mayfly", &mut text);
        Printer::write(&String::from_utf8_lossy(&text))?;
        Ok(0)
    }
}
