//! Verification of a chain, over one file or several that follow one another. Reads a line at a time.

use std::io::{self, BufRead, Read as _};

use crate::chain::{Head, LINE_OCTETS_MAX, Link, read_line};

/// What a verified chain holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// How many records.
    pub records: u64,
    /// How many of them came late.
    pub deferred: u64,
    /// The number of the first record; more than 1: older files were not given.
    pub first: u64,
    /// The last record. Compare it with one that was kept elsewhere: a chain can't show that its end is missing.
    pub head: Head,
    /// Octets of an unfinished line at the end: one that is just being written, or that a crash tore.
    pub unfinished: u64,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("file {file}, line {line}: {why}")]
pub struct Break {
    /// Which of the given files, from 1.
    pub file: usize,
    /// Which line of it, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// Verifies that each record follows the one before it and that none was changed, over `files` in their order.
///
/// # Errors
/// [`Break`] at the first line that does not fit, or that can't be read.
pub fn verify<R: BufRead>(files: impl IntoIterator<Item = R>) -> Result<Summary, Break> {
    let mut summary = Summary { records: 0, deferred: 0, first: 0, head: Head::START, unfinished: 0 };
    let mut line = Vec::new();
    for (file, mut reader) in files.into_iter().enumerate() {
        let file = file + 1;
        for number in 1.. {
            let broken = |why: &dyn std::fmt::Display| Break { file, line: number, why: why.to_string() };
            if summary.unfinished > 0 {
                return Err(broken(&"the file before it ends in an unfinished line"));
            }
            match next_line(&mut reader, &mut line).map_err(|e| broken(&e))? {
                Found::End => break,
                Found::Unfinished => {
                    summary.unfinished = u64::try_from(line.len()).unwrap_or(u64::MAX);
                    break;
                }
                Found::Line => {}
            }
            let link = read_line(&line).map_err(|why| broken(&why))?;
            follows(&summary, &link).map_err(|why| broken(&why))?;
            if summary.records == 0 {
                summary.first = link.head.seq;
            }
            summary.records += 1;
            summary.deferred += u64::from(link.deferred);
            summary.head = link.head;
        }
    }
    Ok(summary)
}

fn follows(summary: &Summary, link: &Link) -> Result<(), String> {
    if summary.records == 0 {
        // Where the older files are not given, the first record's `prev` can't be checked.
        let genesis = link.head.seq != 1 || link.prev == Head::START.hash;
        return if genesis { Ok(()) } else { Err("the first record names one before it".into()) };
    }
    if link.prev != summary.head.hash {
        return Err(format!(
            "record {} does not follow record {}: a line was removed, inserted or moved",
            link.head.seq, summary.head.seq
        ));
    }
    if link.head.seq != summary.head.seq.saturating_add(1) {
        return Err(format!("record {} stands where {} is due", link.head.seq, summary.head.seq + 1));
    }
    Ok(())
}

enum Found {
    Line,
    Unfinished,
    End,
}

/// Reads one line of bounded length, without its newline.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Found> {
    line.clear();
    let max = u64::try_from(LINE_OCTETS_MAX).unwrap_or(u64::MAX);
    reader.by_ref().take(max).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Found::Line);
    }
    if line.len() >= LINE_OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is longer than any record"));
    }
    Ok(if line.is_empty() { Found::End } else { Found::Unfinished })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::{Late, push_line};

    fn chain(n: usize) -> Vec<Vec<u8>> {
        let mut head = Head::START;
        (0..n)
            .map(|k| {
                let mut line = Vec::new();
                head = push_line(&mut line, head, format!(r#""kind":"mint","n":{k}"#).as_bytes(), Late::No);
                line
            })
            .collect()
    }

    fn judge(lines: &[Vec<u8>]) -> Result<Summary, Break> {
        verify([lines.concat().as_slice()])
    }

    #[test]
    fn a_whole_chain_verifies_over_one_file_or_several() {
        let lines = chain(5);
        let whole = judge(&lines).unwrap();
        assert_eq!((whole.records, whole.first, whole.head.seq), (5, 1, 5));
        let (old, new) = (lines[..2].concat(), lines[2..].concat());
        assert_eq!(verify([old.as_slice(), new.as_slice()]).unwrap(), whole);
        assert_eq!(verify([new.as_slice()]).unwrap().first, 3);
        let swapped = verify([new.as_slice(), old.as_slice()]).unwrap_err();
        assert_eq!((swapped.file, swapped.line), (2, 1));
        assert_eq!(judge(&[]).unwrap().records, 0);
        let cut = &lines.concat()[..lines.concat().len() - 9];
        assert_eq!(verify([cut]).unwrap().records, 4);
        assert!(verify([cut]).unwrap().unfinished > 0);
        assert!(verify([cut, new.as_slice()]).is_err());
    }

    #[test]
    fn changed_removed_moved_and_inserted_lines_are_found() {
        let lines = chain(5);
        let line_of = |lines: &[Vec<u8>]| judge(lines).unwrap_err().line;

        let mut changed = lines.clone();
        changed[2] = String::from_utf8(lines[2].clone()).unwrap().replace("mint", "link").into();
        assert_eq!(line_of(&changed), 3);

        let mut removed = lines.clone();
        removed.remove(2);
        assert_eq!(line_of(&removed), 3);

        let mut moved = lines.clone();
        moved.swap(1, 2);
        assert_eq!(line_of(&moved), 2);

        let mut twice = lines.clone();
        twice.insert(3, lines[2].clone());
        assert_eq!(line_of(&twice), 4);

        // Inserted with its own hash and the right predecessor: the line after it no longer follows.
        let mut forged = lines.clone();
        let mut line = Vec::new();
        let before = read_line(&lines[1][..lines[1].len() - 1]).unwrap().head;
        push_line(&mut line, before, br#""kind":"mint""#, Late::No);
        forged.insert(2, line);
        assert_eq!(line_of(&forged), 4);

        // A line of another chain with the number that is due.
        let mut other = Vec::new();
        push_line(&mut other, Head { seq: 2, hash: [7; 32] }, br#""kind":"mint""#, Late::No);
        let mut replaced = lines.clone();
        replaced[2] = other;
        assert_eq!(line_of(&replaced), 3);

        // A line that names the right one before it and claims another number.
        let mut other = Vec::new();
        push_line(&mut other, Head { seq: 9, ..before }, br#""kind":"mint""#, Late::No);
        let mut renumbered = lines.clone();
        renumbered[2] = other;
        assert_eq!(line_of(&renumbered), 3);

        let mut headless = lines;
        headless[0] = b"{}\n".to_vec();
        assert_eq!(line_of(&headless), 1);
    }

    #[test]
    fn lines_without_end_are_refused() {
        let endless = vec![b'x'; 10 * LINE_OCTETS_MAX];
        assert_eq!(verify([endless.as_slice()]).unwrap_err().line, 1);
    }

    proptest! {
        #[test]
        fn any_changed_octet_is_found(at in 0usize..3000, bit in 0u8..8) {
            let good = chain(4).concat();
            let mut bad = good.clone();
            let at = at % (bad.len() - 1);
            bad[at] ^= 1 << bit;
            prop_assert!(verify([bad.as_slice()]).is_err(), "octet {}", at);
        }

        #[test]
        fn no_octets_upset_it(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = verify([octets.as_slice()]);
        }
    }
}
