//! Reading the record backwards, newest first: `mayfly why` and `mayfly audit tail`.
//!
//! Does blocking I/O, bounded by the octets that a call may read. Must never change the file.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::chain::LINE_OCTETS_MAX;

const CHUNK: u64 = 256 * 1024;
/// How much one call reads at most where nothing else is said: 1 GiB.
pub const READ_OCTETS_MAX: u64 = 1 << 30;

/// What a call found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The lines, oldest first, without their newlines.
    pub lines: Vec<String>,
    /// Whether the file was read to its beginning, so that there are no more.
    pub complete: bool,
}

/// The newest `limit` lines that `keep` keeps, among the last `octets` of the file.
///
/// # Errors
/// The system's, and `InvalidData` for a line longer than any record.
pub fn tail(path: &Path, limit: usize, octets: u64, mut keep: impl FnMut(&str) -> bool) -> io::Result<Found> {
    let file = File::open(path)?;
    let mut at = file.metadata()?.len();
    let floor = at.saturating_sub(octets);
    // The beginning of the line whose end has been read.
    let mut carry: Vec<u8> = Vec::new();
    let mut lines = Vec::new();
    let mut take = |line: &[u8], lines: &mut Vec<String>| {
        if let Ok(text) = std::str::from_utf8(line)
            && !text.is_empty()
            && keep(text)
        {
            lines.push(text.to_owned());
        }
        lines.len() >= limit
    };
    let mut full = limit == 0;
    while at > floor && !full {
        let start = at.saturating_sub(CHUNK).max(floor);
        let mut chunk = vec![0; usize::try_from(at - start).unwrap_or(0)];
        file.read_exact_at(&mut chunk, start)?;
        chunk.extend_from_slice(&carry);
        let mut end = chunk.len();
        while !full && let Some(newline) = chunk.get(..end).and_then(|c| c.iter().rposition(|b| *b == b'\n'))
        {
            full = take(chunk.get(newline + 1..end).unwrap_or_default(), &mut lines);
            end = newline;
        }
        chunk.truncate(end);
        carry = chunk;
        at = start;
        if !full && carry.len() > LINE_OCTETS_MAX {
            let why = "a line is longer than any audit record";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
    }
    if at == 0 && !full {
        take(&carry, &mut lines);
    }
    lines.reverse();
    Ok(Found { lines, complete: at == 0 && !full })
}

/// Every record of a request, among the last [`READ_OCTETS_MAX`] of the file, at most 100.
///
/// # Errors
/// As [`tail`].
pub fn by_request(path: &Path, request: &str) -> io::Result<Found> {
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        #[serde(borrow, default)]
        request: Cow<'a, str>,
    }
    tail(path, 100, READ_OCTETS_MAX, |line| {
        line.contains(request)
            && !request.is_empty()
            && serde_json::from_str::<Line<'_>>(line).is_ok_and(|l| l.request == request)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_whole_and_in_order_across_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let all: Vec<String> =
            (0..20_000).map(|n| format!(r#"{{"request":"r{n}","x":"{}"}}"#, "y".repeat(n % 97))).collect();
        std::fs::write(&path, all.join("\n") + "\n").unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 4 * CHUNK);

        let whole = tail(&path, usize::MAX, u64::MAX, |_| true).unwrap();
        assert!(whole.complete && whole.lines == all);
        let last = tail(&path, 3, u64::MAX, |_| true).unwrap();
        assert_eq!(last.lines, all[19_997..]);
        assert!(!last.complete);
        assert!(tail(&path, 0, u64::MAX, |_| true).unwrap().lines.is_empty());
        let bounded = tail(&path, usize::MAX, 1_000, |_| true).unwrap();
        assert!(!bounded.complete && all.ends_with(&bounded.lines) && bounded.lines.len() > 5);

        assert_eq!(by_request(&path, "r7").unwrap().lines, [all[7].clone()]);
        assert!(by_request(&path, "r").unwrap().lines.is_empty());
        assert!(by_request(&path, "").unwrap().lines.is_empty());

        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&vec![b'z'; 3 * LINE_OCTETS_MAX + CHUNK as usize]).unwrap();
        assert!(tail(&path, 1, u64::MAX, |_| true).is_err());
    }
}
