//! The chain: how lines are linked, written and read.
//!
//! # Line
//! `{"v":1,"seq":N,"prev":"HASH",` members of the record `,"hash":"HASH"}` and a newline. `hash` is SHA-256 in
//! hexadecimal over a domain tag and the line's octets before `,"hash":"`; they hold `prev`, the hash of the line
//! before (zeros for the first). `seq` counts from 1. What is hashed is what stands in the file, octet by octet: no
//! canonical form of JSON is needed to verify.

use std::io::Write as _;

use ring::digest::{Context, SHA256};

/// The longest line, its newline included, in octets.
pub const LINE_OCTETS_MAX: usize = 64 * 1024;
/// The longest body of a record.
pub(crate) const BODY_OCTETS_MAX: usize = LINE_OCTETS_MAX - 512;

const HASH_MEMBER: &[u8] = b",\"hash\":\"";
const TAIL_LEN: usize = HASH_MEMBER.len() + 64 + 2;

/// Where a chain stands: its last record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The record's number; zero: there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl Head {
    /// Before the first record.
    pub const START: Self = Self { seq: 0, hash: [0; 32] };

    /// The hash in hexadecimal.
    pub fn hash_hex(&self) -> String {
        hex(&self.hash)
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash_hex())
    }
}

pub(crate) fn hex(octets: &[u8]) -> String {
    let mut out = Vec::with_capacity(octets.len() * 2);
    push_hex(&mut out, octets);
    String::from_utf8(out).unwrap_or_default()
}

fn push_hex(out: &mut Vec<u8>, octets: &[u8]) {
    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + (n - 10) };
    out.extend(octets.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]));
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (to, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

fn hash(content: &[u8]) -> [u8; 32] {
    let mut ctx = Context::new(&SHA256);
    ctx.update(b"mayfly audit v1\0");
    ctx.update(content);
    ctx.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// A deferred record's place in the reserve: which filling, and which entry of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) index: u64,
}

/// How a record came late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    No,
    FromMemory,
    FromReserve(Place),
}

/// Appends the line of a record's members to `out`; gives the chain's new head.
pub(crate) fn push_line(out: &mut Vec<u8>, head: Head, members: &[u8], late: Late) -> Head {
    let start = out.len();
    let seq = head.seq.saturating_add(1);
    // Writing into a vector can't fail.
    let _ = write!(out, r#"{{"v":1,"seq":{seq},"prev":""#);
    push_hex(out, &head.hash);
    out.extend_from_slice(b"\",");
    out.extend_from_slice(members);
    let _ = match late {
        Late::No => Ok(()),
        Late::FromMemory => out.write_all(br#","deferred":true"#),
        Late::FromReserve(Place { epoch, index }) => {
            write!(out, r#","deferred":true,"reserve":[{epoch},{index}]"#)
        }
    };
    let hash = hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(HASH_MEMBER);
    push_hex(out, &hash);
    out.extend_from_slice(b"\"}\n");
    Head { seq, hash }
}

/// A line whose own hash is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) head: Head,
    pub(crate) prev: [u8; 32],
    pub(crate) deferred: bool,
    pub(crate) place: Option<Place>,
}

/// Reads a line, without its newline; says what is wrong with it otherwise.
pub(crate) fn read_line(line: &[u8]) -> Result<Link, &'static str> {
    let form = "the line is not an audit record";
    let at = line.len().checked_sub(TAIL_LEN).ok_or(form)?;
    let (content, tail) = line.split_at_checked(at).ok_or(form)?;
    let claimed = tail.strip_prefix(HASH_MEMBER).and_then(|t| t.strip_suffix(b"\"}")).and_then(unhex);
    let claimed = claimed.ok_or(form)?;
    let (seq, rest) = content
        .strip_prefix(br#"{"v":1,"seq":"#)
        .and_then(|rest| rest.iter().position(|b| *b == b',').and_then(|n| rest.split_at_checked(n)))
        .ok_or(form)?;
    let canonical = seq.first().is_some_and(|b| *b != b'0') && seq.iter().all(u8::is_ascii_digit);
    let seq = std::str::from_utf8(seq).ok().filter(|_| canonical).and_then(|s| s.parse().ok()).ok_or(form)?;
    let prev = rest.strip_prefix(br#","prev":""#).and_then(|r| r.get(..64)).and_then(unhex).ok_or(form)?;
    if hash(content) != claimed {
        return Err("the line was changed: its hash is another");
    }
    let (deferred, place) = late(content);
    Ok(Link { head: Head { seq, hash: claimed }, prev, deferred, place })
}

/// The mark of a late record, which stands at the content's end and so can't come from a record's own members.
fn late(content: &[u8]) -> (bool, Option<Place>) {
    const MARK: &[u8] = br#","deferred":true"#;
    if content.ends_with(MARK) {
        return (true, None);
    }
    let place = content.strip_suffix(b"]").and_then(|c| {
        let at = c.iter().rposition(|b| *b == b'[')?;
        let (before, numbers) = c.split_at_checked(at)?;
        let before = before.strip_suffix(br#","reserve":"#)?;
        if !before.ends_with(MARK) {
            return None;
        }
        let (epoch, index) = std::str::from_utf8(numbers.get(1..)?).ok()?.split_once(',')?;
        Some(Place { epoch: epoch.parse().ok()?, index: index.parse().ok()? })
    });
    (place.is_some(), place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_json_and_link_to_one_another() {
        let mut out = Vec::new();
        let place = Place { epoch: 7, index: 3 };
        let one = push_line(&mut out, Head::START, br#""kind":"start""#, Late::No);
        let two = push_line(&mut out, one, br#""kind":"mint""#, Late::FromReserve(place));
        let three = push_line(&mut out, two, br#""kind":"stop""#, Late::FromMemory);
        let lines: Vec<&[u8]> = out.split(|b| *b == b'\n').collect();
        let links: Vec<Link> = lines[..3].iter().map(|l| read_line(l).unwrap()).collect();
        assert_eq!(links[0], Link { head: one, prev: [0; 32], deferred: false, place: None });
        assert_eq!(links[1], Link { head: two, prev: one.hash, deferred: true, place: Some(place) });
        assert_eq!(links[2], Link { head: three, prev: two.hash, deferred: true, place: None });
        let json: serde_json::Value = serde_json::from_slice(lines[1]).unwrap();
        assert_eq!(json["prev"], one.hash_hex());
        assert_eq!((json["seq"].as_u64(), &json["reserve"]), (Some(2), &serde_json::json!([7, 3])));
    }

    #[test]
    fn every_octet_of_a_line_counts() {
        let mut out = Vec::new();
        push_line(&mut out, Head { seq: 41, hash: [9; 32] }, br#""kind":"mint","detail":"x""#, Late::No);
        out.pop();
        for n in 0..out.len() {
            let mut changed = out.clone();
            changed[n] ^= 1;
            assert!(read_line(&changed).is_err(), "octet {n}");
            assert!(read_line(&out[..n]).is_err(), "cut at {n}");
        }
    }

    #[test]
    fn a_records_own_text_can_not_pose_as_the_mark() {
        let mut out = Vec::new();
        let members = br#""kind":"mint","detail":",\"deferred\":true,\"reserve\":[1,2]""#;
        push_line(&mut out, Head::START, members, Late::No);
        out.pop();
        assert!(!read_line(&out).unwrap().deferred);
    }
}
