//! Files of Cedar as they were given: where something stands in them, and the mistakes found there.
//!
//! This module must never read a file by itself.

use std::sync::Arc;

use mayfly_domain::text;
use miette::Diagnostic;

/// A mistake in the policies or in an acceptor's schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct PolicyError {
    /// The file's name, as it was given.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong; lower case, no full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// Where a policy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// A mistake here.
    pub(crate) fn error(&self, message: impl Into<String>, help: Option<String>) -> PolicyError {
        PolicyError {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            message: message.into(),
            help,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One file while it is read.
pub(crate) struct Source<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) text: &'a str,
}

impl<'a> Source<'a> {
    pub(crate) fn all(files: &'a [(String, String)]) -> Vec<Self> {
        files.iter().map(|(name, text)| Self { name: name.as_str().into(), text }).collect()
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let from_one = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
        Place { file: self.name.clone(), line: from_one(line), column: from_one(column) }
    }

    pub(crate) fn error(
        &self,
        offset: usize,
        message: impl Into<String>,
        help: Option<String>,
    ) -> PolicyError {
        self.place(offset).error(message, help)
    }

    pub(crate) fn diagnosed(&self, error: &dyn Diagnostic, fallback: usize) -> PolicyError {
        let offset = error.labels().and_then(|mut l| l.next()).map_or(fallback, |l| l.offset());
        self.error(offset, error.to_string(), error.help().map(|h| h.to_string()))
    }

    /// Text that a reader could take for something else.
    pub(crate) fn deceptive(&self) -> Option<PolicyError> {
        let deceptive = |c: char| text::is_deceptive(c) && !matches!(c, '\n' | '\r' | '\t');
        let (at, c) = self.text.char_indices().find(|(_, c)| deceptive(*c))?;
        let what = format!("control, invisible or bidirectional character U+{:04X}", c as u32);
        Some(self.error(at, what, None))
    }
}

/// A mistake of no file in particular.
pub(crate) fn general(message: impl ToString) -> PolicyError {
    PolicyError { file: String::new(), line: 0, column: 0, message: message.to_string(), help: None }
}

/// `text` with every comment blanked, octet by octet.
pub(crate) fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut quoted, mut escaped, mut comment) = (false, false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        comment = (comment && c != '\n') || (!quoted && c == '/' && chars.peek() == Some(&'/'));
        if comment {
            out.extend(std::iter::repeat_n(' ', c.len_utf8()));
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        out.push(c);
    }
    out
}
