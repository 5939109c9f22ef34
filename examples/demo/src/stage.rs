//! The stage: plays one line after the other, shows each with its time, and stops at the first that is not as it
//! should be.

use std::io::Write as _;

use anstyle::{AnsiColor, Style};
use tokio::time::Instant;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const TITLE: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// What is not as it should be.
#[derive(Debug)]
pub(crate) struct Wrong(pub(crate) String);

impl Wrong {
    /// With these words.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// What the demonstration itself could not do.
    pub(crate) fn of(what: &str, e: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {e}"))
    }
}

impl From<mayfly_client::Failure> for Wrong {
    fn from(failure: mayfly_client::Failure) -> Self {
        Self(failure.to_string())
    }
}

/// Counts the lines and shows them.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    lines: u32,
    at: &'static str,
    /// Whether the line was as it should be: what comes before the next one is no line's.
    passed: bool,
}

impl Stage {
    /// Begins a scene.
    pub(crate) fn scene(&self, title: &str) {
        show(&format!("\n{TITLE}{title}{TITLE:#}\n"));
    }

    /// Plays a line: `what` happens, `proves` says what that shows, `act` does it and gives what was seen.
    pub(crate) async fn line<T>(
        &mut self,
        what: &'static str,
        proves: &str,
        act: impl Future<Output = Result<(T, String), Wrong>>,
    ) -> Result<T, Wrong> {
        self.lines += 1;
        self.at = what;
        self.passed = false;
        let begun = Instant::now();
        let outcome = act.await;
        let took = begun.elapsed().as_millis();
        match outcome {
            Ok((value, seen)) => {
                self.passed = true;
                show(&format!("  {GOOD}ok{GOOD:#} {:>2} {took:>6} ms  {what}\n", self.lines));
                show(&format!("                    {seen} {DIM}- {proves}{DIM:#}\n"));
                Ok(value)
            }
            Err(wrong) => {
                show(&format!("  {BAD}NO{BAD:#} {:>2} {took:>6} ms  {what}\n", self.lines));
                Err(wrong)
            }
        }
    }

    /// The end, where every line was as it should be.
    pub(crate) fn curtain(&self, seconds: f32) {
        let lines = self.lines;
        show(&format!("\n{GOOD}All {lines} lines were as they should be{GOOD:#}, in {seconds:.1} s.\n"));
    }

    /// The end, where a line was not, or the next one could not begin.
    pub(crate) fn failed(&self, wrong: &Wrong) {
        let _ = writeln!(anstream::stderr(), "\n{BAD}demo:{BAD:#} {}\n  {}", self.place(), wrong.0);
    }

    fn place(&self) -> String {
        if self.passed {
            return format!("line {} can't begin, after: {}", self.lines + 1, self.at);
        }
        format!("line {} is not as it should be: {}", self.lines, self.at)
    }
}

/// Writes to standard output; colours reach a terminal only.
pub(crate) fn show(text: &str) {
    let _ = anstream::stdout().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_wrong_is_named() {
        let mut stage = Stage::default();
        let fine = stage.line("first", "x", async { Ok((7, "seen".to_owned())) }).await;
        assert_eq!(fine.unwrap(), 7);
        assert_eq!(stage.place(), "line 2 can't begin, after: first");
        let wrong = stage.line("second", "y", async { Err::<((), String), _>(Wrong::new("accepted")) }).await;
        assert_eq!(wrong.unwrap_err().0, "accepted");
        assert_eq!(stage.place(), "line 2 is not as it should be: second");
    }
}
