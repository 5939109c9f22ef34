//! Mistakes in configuration, printed as a compiler prints them: all of them, each with file, line and key.
//!
//! A problem's text is shown to whoever starts the broker: it must never hold a secret.

use std::path::{Path, PathBuf};

use mayfly_domain::{Reason, Refusal};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, or `environment`.
    pub file: PathBuf,
    /// The line, from 1; 0 where no line is to blame (the file can't be read).
    pub line: usize,
    /// The key's path (`task.window.max`); empty where no key is to blame.
    pub key: String,
    /// What is wrong and what would be right; lower case, no full stop, input in backticks.
    pub message: String,
}

impl Problem {
    /// A mistake of a whole file.
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, key: String::new(), message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Every mistake of a configuration, by file and line. Nothing of such a configuration is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Collects the mistakes in the order of files and lines, each once.
    pub fn new(mut all: Vec<Problem>) -> Self {
        all.sort();
        all.dedup();
        Self(all)
    }

    /// The mistakes in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.0.iter()
    }

    /// The refusal that carries them: `CONFIG_INVALID`, exit code 64.
    pub fn refusal(&self) -> Refusal {
        Refusal::new(Reason::ConfigInvalid, self.to_string())
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
