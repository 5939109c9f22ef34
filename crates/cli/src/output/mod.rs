//! The one renderer: a view is shown to a person or written as JSON, an error always in four parts.
//!
//! Results go to standard output, everything else to standard error. Nothing from a broker reaches a terminal
//! with a control character in it.

mod failure;
mod moment;
mod table;

use std::io::{self, Write};

use mayfly_client::Failure;
use mayfly_client::failure::clean;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, UnixMillis};
use serde::Serialize;

use crate::args::Format;

pub(crate) use moment::Moment;
pub(crate) use table::Table;

const HEAD: anstyle::Style = anstyle::Style::new().bold();

/// How a view looks to a person.
pub(crate) enum Human {
    /// A thing: its properties, one a line. An empty value is left out.
    Fields(Vec<(&'static str, String)>),
    /// Many things: one a row.
    Rows(Table),
    /// Several of these, with a title each.
    Parts(Vec<(&'static str, Human)>),
    /// Text as it is.
    Text(String),
}

/// A result: it serializes itself for programs and describes itself for people.
pub(crate) trait View: Serialize {
    /// What a person sees.
    fn human(&self, now: UnixMillis) -> Human;
}

/// Where results and errors go.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    format: Format,
    clock: SharedClock,
}

impl Printer {
    pub(crate) const fn new(format: Format, clock: SharedClock) -> Self {
        Self { format, clock }
    }

    /// Whether a program reads the result.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Shows a result.
    ///
    /// # Errors
    /// `INTERNAL` where standard output can't be written.
    pub(crate) fn show(&self, view: &impl View) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => {
                let mut json = serde_json::to_string_pretty(view)
                    .map_err(|e| Failure::of(Reason::Internal).fact("problem", e.to_string()))?;
                json.push('\n');
                json
            }
            Format::Table => rendered(&view.human(self.clock.now()), table::width()),
        };
        Self::write(&text)
    }

    /// Writes text to standard output as it is.
    ///
    /// # Errors
    /// As [`Printer::show`].
    pub(crate) fn write(text: &str) -> Result<(), Failure> {
        let mut out = anstream::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever read it had enough (`mayfly lease list | head`).
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(e) => Err(Failure::of(Reason::Internal).fact("problem", e.to_string())),
            Ok(()) => Ok(()),
        }
    }

    /// Writes one line to standard output; `false` where nobody reads any more.
    ///
    /// # Errors
    /// As [`Printer::show`].
    pub(crate) fn line(text: &str) -> Result<bool, Failure> {
        let mut out = io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(Failure::of(Reason::Internal).fact("problem", e.to_string())),
        }
    }

    /// Writes a workflow command for the CI system on standard error.
    pub(crate) fn command(text: &str) {
        let _ = writeln!(anstream::stderr(), "{text}");
    }

    /// Tells a person something beside the result; a program is not told.
    pub(crate) fn note(&self, text: &str) {
        if !self.is_json() {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Shows a result on standard error, where standard output belongs to something else.
    pub(crate) fn aside(&self, view: &impl View) {
        if !self.is_json() {
            let text = rendered(&view.human(self.clock.now()), None);
            let _ = anstream::stderr().write_all(text.as_bytes());
        }
    }

    /// Shows why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let text = match self.format {
            Format::Json => failure::json(failure),
            Format::Table => failure::human(failure),
        };
        let _ = anstream::stderr().write_all(text.as_bytes());
    }
}

fn rendered(human: &Human, width: Option<u16>) -> String {
    match human {
        Human::Fields(fields) => {
            let filled = || fields.iter().filter(|(_, value)| !value.is_empty());
            let widest = filled().map(|(name, _)| name.len()).max().unwrap_or_default();
            let line = |(name, value): &(&str, String)| format!("{name:widest$}  {}\n", clean(value, 4_096));
            filled().map(line).collect()
        }
        Human::Rows(table) => table.rendered(width),
        Human::Parts(parts) => {
            let part =
                |(title, body): &(&str, Human)| format!("{HEAD}{title}{HEAD:#}\n{}", rendered(body, width));
            parts.iter().map(part).collect::<Vec<_>>().join("\n")
        }
        Human::Text(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests;
