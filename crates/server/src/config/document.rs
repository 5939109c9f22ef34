//! One TOML file with the place of everything in it.
//!
//! Knows lines and keys, and nothing of what they mean.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// A value with its place.
pub type Value<'t> = Spanned<DeValue<'t>>;

/// A parsed file.
#[derive(Debug)]
pub struct Document<'t> {
    /// Where it was read from.
    pub file: &'t Path,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

impl<'t> Document<'t> {
    /// Parses a file's text.
    ///
    /// # Errors
    /// Every violation of TOML's grammar, by line.
    pub fn parse(file: &'t Path, text: &'t str) -> Result<Self, Vec<Problem>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            return Ok(Self { file, text, root });
        }
        Err(errors
            .iter()
            .map(|e| Problem {
                file: file.to_owned(),
                line: e.span().map_or(1, |span| line_at(text, span.start)),
                key: String::new(),
                message: format!("not valid TOML: {}", e.message()),
            })
            .collect())
    }

    /// The outermost table.
    pub fn root(&self) -> &DeTable<'t> {
        self.root.get_ref()
    }

    /// The line of an octet, from 1.
    pub fn line(&self, offset: usize) -> usize {
        line_at(self.text, offset)
    }

    /// The source text of a value.
    pub fn source(&self, span: Range<usize>) -> &'t str {
        self.text.get(span).unwrap_or_default()
    }

    /// The line of the key at `path` (`task.window.max`, `owners[1]`), or of its nearest parent that exists.
    ///
    /// Keys that hold dots themselves are found too: at each table the longest key that fits is taken.
    pub fn line_of(&self, path: &str) -> usize {
        self.line(offset_in_table(self.root.get_ref(), path).unwrap_or(0))
    }
}

fn offset_in_table(table: &DeTable<'_>, path: &str) -> Option<usize> {
    let ends = std::iter::once(path.len()).chain(path.rmatch_indices(['.', '[']).map(|(at, _)| at));
    for end in ends {
        let (key, rest) = path.split_at_checked(end)?;
        if let Some((key, value)) = table.get_key_value(key) {
            return Some(offset_in_value(value, rest).unwrap_or(key.span().start));
        }
    }
    None
}

fn offset_in_value(value: &Value<'_>, rest: &str) -> Option<usize> {
    if rest.is_empty() {
        return None;
    }
    match value.get_ref() {
        DeValue::Table(table) => offset_in_table(table, rest.strip_prefix('.')?),
        DeValue::Array(items) => {
            let (index, rest) = match rest.strip_prefix('[') {
                Some(tail) => tail.split_once(']')?,
                None => {
                    let tail = rest.strip_prefix('.')?;
                    tail.split_at_checked(tail.find(['.', '[']).unwrap_or(tail.len()))?
                }
            };
            let item = items.get(index.parse::<usize>().ok()?)?;
            Some(offset_in_value(item, rest).unwrap_or(item.span().start))
        }
        _ => None,
    }
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|b| **b == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_keys() {
        let text =
            "a = 1\n[b]\nc = [\n  'x',\n  'y',\n]\n'd.e' = 2\nf = { g = 1 }\n[[h]]\ni = 1\n[[h]]\ni = 2\n";
        let doc = Document::parse(Path::new("t.toml"), text).unwrap();
        for (path, line) in [
            ("a", 1),
            ("b", 2),
            ("b.c", 3),
            ("b.c[1]", 5),
            ("b.c.0", 4),
            ("b.c[9]", 3),
            ("b.d.e", 7),
            ("b.f.g", 8),
            ("b.f.nothing", 8),
            ("b.nothing", 2),
            ("h[1].i", 12),
            ("nothing", 1),
            ("", 1),
            ("b.é[", 2),
        ] {
            assert_eq!(doc.line_of(path), line, "{path}");
        }
    }

    #[test]
    fn every_syntax_error_is_told() {
        let problems = Document::parse(Path::new("t.toml"), "a = \nb = 1\nb = 2\n").unwrap_err();
        let lines: Vec<usize> = problems.iter().map(|p| p.line).collect();
        assert!(lines.contains(&1) && lines.contains(&3), "{problems:?}");
    }
}
