//! What can go wrong with a measurement, and what the person at the terminal sees meanwhile.

use std::io::Write as _;
use std::process::ExitCode;

/// Why there is no measurement.
#[derive(Debug)]
pub(crate) struct Failed(String);

pub(crate) type Result<T> = std::result::Result<T, Failed>;

impl Failed {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(e: E) -> Self {
        let mut text = e.to_string();
        let mut cause = e.source();
        while let Some(next) = cause {
            text.push_str(": ");
            text.push_str(&next.to_string());
            cause = next.source();
        }
        Self(text)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what goes on, on standard error: the table alone is on standard output.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "bench: {line}");
}

pub(crate) fn failed(e: &Failed) -> ExitCode {
    say(&format!("failed: {e}"));
    ExitCode::FAILURE
}
