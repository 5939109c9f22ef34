//! The writer: one thread that owns the files. Takes what waits, writes it, makes it durable once, answers.
//!
//! A thread and not a task, since making a write durable blocks. Must never answer before a record is durable,
//! write a later record before an earlier deferred one, or refuse a record that may be deferred.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use mayfly_domain::Deadline;
use mayfly_domain::time::SharedClock;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::chain::{Head, Late, push_line};
use crate::counters::Shared;
use crate::disk::{End, Log, open};
use crate::error::AuditError;
use crate::handle::{Stored, SyncMode};
use crate::record::{Kind, Outcome, Record};
use crate::reserve::Reserve;

const BATCH_RECORDS: usize = 4096;
const BATCH_OCTETS: usize = 4 * 1024 * 1024;
/// Records that wait in memory where the reserve can't take them either.
const BACKLOG: usize = 10_000;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Who waits for a record, and whether it may be refused.
pub(crate) enum Waiter {
    Strict(oneshot::Sender<bool>, OwnedSemaphorePermit),
    Deferrable(oneshot::Sender<Stored>),
}

pub(crate) struct Item {
    pub(crate) members: Vec<u8>,
    pub(crate) waiter: Waiter,
}

pub(crate) enum Message {
    Record(Item),
    Reopen(oneshot::Sender<Result<(), AuditError>>),
    Head(oneshot::Sender<Head>),
    Close(oneshot::Sender<()>),
}

struct Failing {
    retry: Deadline,
    wait: Duration,
}

pub(crate) struct Writer {
    path: PathBuf,
    log: Log,
    head: Head,
    reserve: Reserve,
    backlog: VecDeque<Vec<u8>>,
    lost: u64,
    failing: Option<Failing>,
    sync: SyncMode,
    clock: SharedClock,
    shared: Arc<Shared>,
}

/// Opens the chain's file and says what was found at its end.
pub(crate) fn open_log(path: &std::path::Path) -> Result<(Log, End), AuditError> {
    let file = open(path, 0o640)?;
    let recovered = Log::recover(Box::new(file)).map_err(AuditError::file(path))?;
    let (log, end) = recovered.ok_or_else(|| AuditError::NoValidEnd { path: path.to_owned() })?;
    if !end.torn.is_empty() {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".torn-{}", end.head().seq));
        let aside = PathBuf::from(aside);
        // What was cut off is kept for whoever wants to know, where there is room for it.
        if let Err(error) = std::fs::write(&aside, &end.torn) {
            tracing::warn!(%error, file = %aside.display(), "torn end of the audit file was not kept");
        }
    }
    Ok((log, end))
}

impl Writer {
    pub(crate) fn new(
        path: PathBuf,
        (log, end): (Log, End),
        mut reserve: Reserve,
        sync: SyncMode,
        clock: SharedClock,
        shared: Arc<Shared>,
    ) -> Result<Self, AuditError> {
        if let Some(place) = end.last.and_then(|l| l.place) {
            reserve.skip_written(place).map_err(AuditError::file(&path))?;
        }
        let mut writer = Self {
            path,
            log,
            head: end.head(),
            reserve,
            backlog: VecDeque::new(),
            lost: 0,
            failing: None,
            sync,
            clock,
            shared,
        };
        if !end.torn.is_empty() {
            let mut record = Record::new(Kind::AuditRepair, Outcome::Allowed);
            record.detail = format!(
                "a torn end of {} octets was cut off after record {}",
                end.torn.len(),
                end.head().seq
            );
            writer.own(record);
        } else if end.last.is_none() {
            writer.own(Record::new(Kind::AuditOpen, Outcome::Allowed));
        }
        // What an earlier process left in the reserve; should that fail, the loop tries again.
        writer.drained();
        Ok(writer)
    }

    /// Serves until it is closed or nobody can send any more.
    pub(crate) fn run(mut self, inbox: &Receiver<Message>) {
        let closing = self.serve(inbox);
        self.drained();
        // The files and their locks are let go before the answer: whoever waited may open them at once.
        drop(self);
        if let Some(answer) = closing {
            let _ = answer.send(());
        }
    }

    fn serve(&mut self, inbox: &Receiver<Message>) -> Option<oneshot::Sender<()>> {
        loop {
            let message = match &self.failing {
                Some(f) if self.pending() > 0 => inbox.recv_timeout(f.retry.left()),
                // With nothing left to write, the next record is what finds out.
                _ => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut next = match message {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => {
                    self.drained();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            let (mut batch, mut octets) = (Vec::new(), 0);
            while let Some(message) = next.take() {
                match message {
                    Message::Record(item) => {
                        octets += item.members.len();
                        batch.push(item);
                    }
                    other => {
                        self.write(std::mem::take(&mut batch));
                        match other {
                            Message::Reopen(answer) => drop(answer.send(self.reopen())),
                            Message::Head(answer) => drop(answer.send(self.head)),
                            Message::Close(answer) => return Some(answer),
                            Message::Record(_) => {}
                        }
                        break;
                    }
                }
                if batch.len() < BATCH_RECORDS && octets < BATCH_OCTETS {
                    next = inbox.try_recv().ok();
                }
            }
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Vec<Item>) {
        if batch.is_empty() {
            return;
        }
        let waiting = self.failing.as_ref().is_some_and(|f| !f.retry.has_passed());
        if waiting || !self.drained() {
            return batch.into_iter().for_each(|item| self.put_aside(item));
        }
        let size = match self.sync {
            SyncMode::Batch => batch.len(),
            SyncMode::Each => 1,
        };
        let mut rest = batch.into_iter();
        loop {
            let chunk: Vec<Item> = rest.by_ref().take(size).collect();
            if chunk.is_empty() {
                return;
            }
            if self.append(chunk.iter().map(|i| (i.members.as_slice(), Late::No))) {
                for item in chunk {
                    match item.waiter {
                        Waiter::Strict(answer, permit) => {
                            drop(permit);
                            let _ = answer.send(true);
                        }
                        Waiter::Deferrable(answer) => drop(answer.send(Stored::Written)),
                    }
                }
            } else {
                return chunk.into_iter().chain(rest).for_each(|item| self.put_aside(item));
            }
        }
    }

    /// Appends records durably, or none of them and notes the failure.
    fn append<'a>(&mut self, records: impl Iterator<Item = (&'a [u8], Late)>) -> bool {
        let (mut out, mut head, mut count) = (Vec::new(), self.head, 0);
        for (members, late) in records {
            head = push_line(&mut out, head, members, late);
            count += 1;
        }
        match self.log.append(&out) {
            Ok(()) => {
                self.head = head;
                Shared::add(&self.shared.written, count);
                Shared::add(&self.shared.batches, 1);
                if self.failing.take().is_some() {
                    self.shared.deferring.store(false, Relaxed);
                    tracing::info!("the audit file is written again");
                }
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        let wait = self.failing.as_ref().map_or(RETRY_FIRST, |f| (f.wait * 2).min(RETRY_MAX));
        if self.failing.is_none() {
            tracing::error!(%error, file = %self.path.display(), "the audit file can't be written: mints are refused");
        }
        self.shared.deferring.store(true, Relaxed);
        self.failing = Some(Failing { retry: Deadline::after(wait), wait });
    }

    /// Keeps a deferrable record for later and refuses the others.
    fn put_aside(&mut self, item: Item) {
        match item.waiter {
            Waiter::Strict(answer, permit) => {
                drop(permit);
                Shared::add(&self.shared.failed, 1);
                let _ = answer.send(false);
            }
            Waiter::Deferrable(answer) => {
                self.defer(item.members);
                let _ = answer.send(Stored::Deferred);
            }
        }
    }

    fn defer(&mut self, members: Vec<u8>) {
        Shared::add(&self.shared.deferred, 1);
        // Once a record waits in memory, later ones wait behind it: the order is kept.
        if self.backlog.is_empty() && self.reserve.push(&members).is_ok() {
            return self.note_pending();
        }
        if self.backlog.len() < BACKLOG {
            self.backlog.push_back(members);
        } else {
            self.lost += 1;
            Shared::add(&self.shared.lost, 1);
            tracing::error!("an audit record found no room in the file, the reserve or memory");
        }
        self.note_pending();
    }

    fn pending(&self) -> u64 {
        self.reserve.pending().saturating_add(u64::try_from(self.backlog.len()).unwrap_or(u64::MAX))
    }

    fn note_pending(&self) {
        self.shared.pending.store(self.pending(), Relaxed);
    }

    /// Writes a record of the writer's own, or defers it.
    fn own(&mut self, record: Record) {
        let Ok(members) = record.body(self.clock.now()) else { return };
        if !(self.drained() && self.append(std::iter::once((members.as_slice(), Late::No)))) {
            self.defer(members);
        }
    }

    /// Writes everything that was deferred; says whether nothing is left.
    fn drained(&mut self) -> bool {
        let done = self.drain();
        self.note_pending();
        done
    }

    fn drain(&mut self) -> bool {
        while !self.reserve.is_drained() {
            let peeked = match self.reserve.peek(BATCH_OCTETS) {
                Ok(found) => found,
                Err(error) => {
                    self.failed(&error);
                    return false;
                }
            };
            if !self.append(peeked.entries.iter().map(|(place, m)| (m.as_slice(), Late::FromReserve(*place))))
            {
                return false;
            }
            self.reserve.written(peeked.after);
        }
        if !self.reserve.is_empty()
            && let Err(error) = self.reserve.clear()
        {
            // Nothing else may be written before it is empty: the chain's last line is what says, after a
            // crash, how far it was drained.
            self.failed(&error);
            return false;
        }
        if self.lost > 0 && !self.backlog.is_empty() {
            let mut record = Record::new(Kind::AuditLost, Outcome::Error);
            record.count = Some(std::mem::take(&mut self.lost));
            self.backlog.extend(record.body(self.clock.now()).ok());
        }
        while !self.backlog.is_empty() {
            let backlog = std::mem::take(&mut self.backlog);
            let take = backlog.len().min(BATCH_RECORDS);
            let written = self.append(backlog.iter().take(take).map(|m| (m.as_slice(), Late::FromMemory)));
            self.backlog = backlog;
            if !written {
                return false;
            }
            self.backlog.drain(..take);
        }
        true
    }

    /// Goes on in the file that stands at the path now: a new one, where the old was moved away.
    fn reopen(&mut self) -> Result<(), AuditError> {
        if self.log.is_at(&self.path) {
            self.log.resume().map_err(AuditError::file(&self.path))?;
        } else {
            (self.log, _) = open_log(&self.path)?;
        }
        let mut record = Record::new(Kind::AuditOpen, Outcome::Allowed);
        record.detail = format!("goes on after record {}", self.head.seq);
        self.own(record);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
