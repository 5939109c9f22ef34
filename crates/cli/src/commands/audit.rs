//! `mayfly audit`: the record of every decision, read from its file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use mayfly_audit::query::{READ_OCTETS_MAX, tail};
use mayfly_audit::verify;
use mayfly_client::Failure;
use mayfly_domain::{Reason, UnixMillis};
use mayfly_server::compose::audit_file;
use serde::Serialize;
use serde_json::Value;

use crate::loaded::ConfigArgs;
use crate::output::{Human, Moment, Printer, Table, View};
use crate::session::{Outcome, Session};

/// The exit code where the chain does not hold.
const BROKEN: u8 = 3;
/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(250);

/// Read the record of every decision
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    Verify(Verify),
    Tail(Tail),
}

/// Verify that no record was changed, removed, moved or inserted
///
/// Exit code 3 at the first line that does not fit. A chain can't show that its newest lines were cut off:
/// keep the head that this prints somewhere else, and give it as --head the next time.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly audit verify /var/log/mayfly/audit.jsonl
  mayfly audit verify audit.jsonl.1 audit.jsonl --head 4f1d3a9c...")]
pub(crate) struct Verify {
    /// The files of one chain, oldest first; else the configuration's
    files: Vec<PathBuf>,
    /// The hash of a record that must be in the chain
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Show the newest records
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly audit tail -n 50 --outcome denied
  mayfly audit tail --follow --output json | jq -r .reason")]
pub(crate) struct Tail {
    /// The file; else the configuration's
    file: Option<PathBuf>,
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: usize,
    /// Only records of this kind: mint, renew, revoke, block, check, ...
    #[arg(long)]
    kind: Option<String>,
    /// Only records of this outcome: allowed, denied
    #[arg(long)]
    outcome: Option<String>,
    /// Go on with new records as they come, one a line
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Serialize)]
struct Verified {
    intact: bool,
    records: u64,
    first: u64,
    deferred: u64,
    unfinished_octets: u64,
    head: Option<Head>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Head {
    seq: u64,
    hash: String,
}

impl View for Verified {
    fn human(&self, _: UnixMillis) -> Human {
        let verdict = if self.intact { "the chain holds" } else { "the chain is broken" };
        let older = if self.first > 1 {
            format!("from record {}; older files were not given", self.first)
        } else {
            String::new()
        };
        let unfinished = match self.unfinished_octets {
            0 => String::new(),
            n => format!("{n} octets of an unfinished line at the end"),
        };
        Human::Fields(vec![
            ("verdict", verdict.to_owned()),
            ("problem", self.problem.clone().unwrap_or_default()),
            ("records", self.records.to_string()),
            ("begins", older),
            ("written late", self.deferred.to_string()),
            ("unfinished", unfinished),
            ("head", self.head.as_ref().map(|h| format!("{} {}", h.seq, h.hash)).unwrap_or_default()),
        ])
    }
}

fn unreadable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::of(Reason::InputInvalid)
        .fact("file", path.display().to_string())
        .fact("problem", e.to_string())
        .next("name the audit file, or the configuration with --config")
}

impl Verify {
    fn run(self, session: &Session) -> Outcome {
        let files = match self.files.is_empty() {
            true => vec![audit_file(&self.config.load()?.settings)],
            false => self.files,
        };
        let open = |path: &PathBuf| File::open(path).map(BufReader::new).map_err(|e| unreadable(path, &e));
        let readers = files.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut verified = match verify(readers) {
            Ok(summary) => Verified {
                intact: true,
                records: summary.records,
                first: summary.first,
                deferred: summary.deferred,
                unfinished_octets: summary.unfinished,
                head: Some(Head { seq: summary.head.seq, hash: summary.head.hash_hex() }),
                problem: None,
            },
            Err(at) => {
                let file = at.file.checked_sub(1).and_then(|n| files.get(n));
                let file = file.map(|f| f.display().to_string()).unwrap_or_default();
                let problem = Some(format!("{file}:{}: {}", at.line, at.why));
                let (records, first, deferred, unfinished_octets) = (0, 0, 0, 0);
                Verified { intact: false, records, first, deferred, unfinished_octets, head: None, problem }
            }
        };
        if let (true, Some(head)) = (verified.intact, &self.head)
            && !holds(&files, head)?
        {
            verified.intact = false;
            verified.problem = Some("the record with the given hash is not in the chain".to_owned());
        }
        session.printer.show(&verified)?;
        Ok(if verified.intact { 0 } else { BROKEN })
    }
}

/// Whether a record of a chain that verifies has this hash.
fn holds(files: &[PathBuf], hash: &str) -> Result<bool, Failure> {
    let named = |line: &str| parsed(line).get("hash").and_then(Value::as_str) == Some(hash);
    for path in files {
        let found = tail(path, 1, u64::MAX, |line| line.contains(hash) && named(line));
        if !found.map_err(|e| unreadable(path, &e))?.lines.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_default()
}

#[derive(Serialize)]
struct Records {
    records: Vec<Value>,
    complete: bool,
}

impl View for Records {
    fn human(&self, _: UnixMillis) -> Human {
        let rows = self.records.iter().map(row);
        Human::Rows(Table::new(["time", "kind", "outcome", "who", "about", "request"], rows, "no records"))
    }
}

fn row(record: &Value) -> [String; 6] {
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let first = |names: &[&str]| names.iter().map(|n| text(n)).find(|t| !t.is_empty()).unwrap_or_default();
    let time = record.get("time_ms").and_then(Value::as_u64).unwrap_or_default();
    let outcome = match text("reason") {
        reason if reason.is_empty() => text("outcome"),
        reason => reason,
    };
    let about = match record.get("subject") {
        Some(subject) => {
            let part = |name: &str| subject.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("{} {}", part("dimension"), part("value"))
        }
        None => first(&["task", "profile", "lease"]),
    };
    [
        Moment(time).text(),
        text("kind"),
        outcome,
        first(&["operator", "acceptor", "workload"]),
        about,
        text("request"),
    ]
}

impl Tail {
    fn keeps(&self, line: &str) -> bool {
        let record = parsed(line);
        let is = |name: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|w| record.get(name).and_then(Value::as_str) == Some(w))
        };
        is("kind", &self.kind) && is("outcome", &self.outcome)
    }

    async fn run(self, session: &Session) -> Outcome {
        let path = match &self.file {
            Some(file) => file.clone(),
            None => audit_file(&self.config.load()?.settings),
        };
        let read = std::fs::metadata(&path).map_err(|e| unreadable(&path, &e))?.len();
        let found = tail(&path, self.lines, READ_OCTETS_MAX, |line| self.keeps(line))
            .map_err(|e| unreadable(&path, &e))?;
        let records: Vec<_> = found.lines.iter().map(|line| parsed(line)).collect();
        if !self.follow {
            session.printer.show(&Records { records, complete: found.complete })?;
            return Ok(0);
        }
        for record in &records {
            line(record, session)?;
        }
        let mut place = Place { read, seq: records.last().map(seq).unwrap_or_default() };
        loop {
            tokio::time::sleep(POLL).await;
            for record in place.new_records(&path).map_err(|e| unreadable(&path, &e))? {
                if self.keeps(&record) {
                    line(&parsed(&record), session)?;
                }
            }
        }
    }
}

fn seq(record: &Value) -> u64 {
    record.get("seq").and_then(Value::as_u64).unwrap_or_default()
}

/// One record on one line.
fn line(record: &Value, session: &Session) -> Result<(), Failure> {
    let text = match session.printer.is_json() {
        true => record.to_string(),
        false => mayfly_client::failure::clean(&row(record).join("  "), 1_024),
    };
    Printer::write(&format!("{text}\n"))
}

/// How far a file was followed.
struct Place {
    read: u64,
    seq: u64,
}

impl Place {
    /// The whole lines that came since; one that is being written is taken the next time.
    fn new_records(&mut self, path: &Path) -> std::io::Result<Vec<String>> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() < self.read {
            // The old file was moved away.
            self.read = 0;
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut reader = BufReader::new(file);
        let mut new = Vec::new();
        loop {
            let mut record = String::new();
            let length = reader.read_line(&mut record)?;
            if !record.ends_with('\n') {
                return Ok(new);
            }
            self.read = self.read.saturating_add(u64::try_from(length).unwrap_or_default());
            let number = seq(&parsed(&record));
            if number > self.seq {
                self.seq = number;
                new.push(record);
            }
        }
    }
}

impl Audit {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Verify(args) => args.run(session),
            Self::Tail(args) => args.run(session).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_followed_file_gives_each_whole_line_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let add = |text: &str| {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        add("{\"seq\":1}\n");
        let mut place = Place { read: 0, seq: 1 };
        assert!(place.new_records(&path).unwrap().is_empty(), "it was shown before");
        add("{\"seq\":2}\n{\"seq\"");
        assert_eq!(place.new_records(&path).unwrap(), ["{\"seq\":2}\n"]);
        add(":3}\n");
        assert_eq!(place.new_records(&path).unwrap(), ["{\"seq\":3}\n"]);
        std::fs::write(&path, "{\"seq\":4}\n").unwrap();
        assert_eq!(place.new_records(&path).unwrap(), ["{\"seq\":4}\n"]);
    }

    #[test]
    fn a_record_is_one_row() {
        let record = serde_json::json!({
            "seq": 1, "time_ms": 1_777_000_000_000_u64, "kind": "revoke", "outcome": "allowed", "request": "r",
            "operator": "alice", "subject": {"dimension": "owner", "value": "team:a"},
        });
        assert_eq!(
            row(&record),
            ["2026-04-24T03:06:40.000Z", "revoke", "allowed", "alice", "owner team:a", "r"]
        );
        let denied = serde_json::json!({"outcome": "denied", "reason": "BLOCKED", "profile": "p"});
        assert_eq!(row(&denied)[2..5], ["BLOCKED", "", "p"]);
    }
}
