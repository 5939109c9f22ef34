//! What was asked and answered, by the fault that was on.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mayfly_domain::time::BootTime;

use super::ledger::{Credential, now};

/// Answers about one fault: from its begin to the begin of the next one.
#[derive(Debug, Default)]
struct Row {
    times: AtomicU64,
    online: AtomicU64,
    in_process: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    of_dead: AtomicU64,
    accepted_after_revoke: AtomicU64,
    refused_while_healthy: AtomicU64,
    recoveries: Mutex<Vec<u64>>,
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Online,
    /// May go on for its bound, in milliseconds, after an acknowledgement.
    InProcess(u64),
}

/// A question under way.
#[derive(Debug)]
pub(crate) struct Question {
    sent: BootTime,
    healthy: u64,
    row: usize,
}

/// The counts.
#[derive(Debug)]
pub(crate) struct Tally {
    names: Vec<&'static str>,
    rows: Vec<Row>,
    row: AtomicUsize,
    /// Since when everything has been well; 0: it is not.
    healthy: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn new(names: Vec<&'static str>) -> Self {
        let rows = names.iter().map(|_| Row::default()).collect();
        let (row, healthy) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { names, rows, row, healthy, wrong: Mutex::default() }
    }

    /// A fault begins: nothing is called healthy from now on.
    pub(crate) fn fault(&self, at: usize) {
        self.healthy.store(0, Ordering::SeqCst);
        self.row.store(at, Ordering::SeqCst);
        self.rows[at].times.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything works again, so long after the fault was ended.
    pub(crate) fn recovered(&self, after_ms: u64) {
        self.rows[self.row.load(Ordering::SeqCst)].recoveries.lock().unwrap().push(after_ms);
        self.healthy.store(now().0, Ordering::SeqCst);
    }

    /// What goes on from here is no fault's.
    pub(crate) fn end(&self) {
        self.healthy.store(0, Ordering::SeqCst);
    }

    /// To be called before a question is sent.
    pub(crate) fn ask(&self) -> Question {
        let row = self.row.load(Ordering::SeqCst);
        let healthy = self.healthy.load(Ordering::SeqCst);
        Question { sent: now(), healthy, row }
    }

    /// To be called with its answer: nothing where it was accepted, else why not.
    pub(crate) fn answer(
        &self,
        question: &Question,
        about: &Credential,
        asked: Asked,
        answer: &Result<(), String>,
    ) {
        let row = &self.rows[question.row];
        let count = |of: &AtomicU64| of.fetch_add(1, Ordering::Relaxed);
        let bound_ms = match asked {
            Asked::Online => {
                count(&row.online);
                0
            }
            Asked::InProcess(bound_ms) => {
                count(&row.in_process);
                bound_ms
            }
        };
        let dead = about.lease.is_dead(question.sent, bound_ms);
        if dead {
            count(&row.of_dead);
        }
        match answer {
            Ok(()) => {
                count(&row.accepted);
                if dead {
                    count(&row.accepted_after_revoke);
                    self.note(question, about, asked, "accepted after its revocation");
                }
            }
            Err(why) => {
                count(&row.refused);
                // Read again: what was well when the question left must have been so until the answer came.
                let healthy = self.healthy.load(Ordering::SeqCst);
                if healthy != 0 && healthy == question.healthy && about.lease.is_live() {
                    count(&row.refused_while_healthy);
                    self.note(question, about, asked, &format!("refused while all was well: {why}"));
                }
            }
        }
    }

    fn note(&self, question: &Question, about: &Credential, asked: Asked, what: &str) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.iter().filter(|text| text.contains(what)).count() < 10 {
            let fault = self.names[question.row];
            wrong.push(format!("{fault}: {asked:?} {what}; sent {:?}, {:?}", question.sent, about.lease));
        }
    }

    fn sum(&self, of: impl Fn(&Row) -> &AtomicU64) -> u64 {
        self.rows.iter().map(|row| of(row).load(Ordering::Relaxed)).sum()
    }

    /// All checks so far.
    pub(crate) fn checks(&self) -> u64 {
        self.sum(|row| &row.online) + self.sum(|row| &row.in_process)
    }

    /// The two numbers that have to be 0, and what is known of each case.
    pub(crate) fn wrong(&self) -> (u64, u64, String) {
        let texts = self.wrong.lock().unwrap().join("\n");
        (self.sum(|row| &row.accepted_after_revoke), self.sum(|row| &row.refused_while_healthy), texts)
    }

    /// The table, as docs/chaos.md has it.
    pub(crate) fn table(&self) -> String {
        let mut out = String::from(
            "| fault | times | checks online | in-process | accepted | refused | of revoked | `accepted_after_revoke` \
             | `refused_while_healthy` | recovery ms: median, longest |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
        );
        for (name, row) in self.names.iter().zip(&self.rows) {
            let mut recoveries = row.recoveries.lock().unwrap().clone();
            recoveries.sort_unstable();
            let recovery = match (recoveries.get(recoveries.len() / 2), recoveries.last()) {
                (Some(median), Some(longest)) => format!("{median}, {longest}"),
                _ => String::new(),
            };
            line(&mut out, name, |of| of(row).load(Ordering::Relaxed), &recovery);
        }
        line(&mut out, "**all**", |of| self.sum(of), "");
        out
    }
}

fn line(out: &mut String, name: &str, value: impl Fn(fn(&Row) -> &AtomicU64) -> u64, recovery: &str) {
    let _ = writeln!(
        out,
        "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {recovery} |",
        value(|r| &r.times),
        value(|r| &r.online),
        value(|r| &r.in_process),
        value(|r| &r.accepted),
        value(|r| &r.refused),
        value(|r| &r.of_dead),
        value(|r| &r.accepted_after_revoke),
        value(|r| &r.refused_while_healthy),
    );
}
