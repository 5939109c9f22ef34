//! The file below the audit record and its reserve, behind a port so that tests can fill the disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::chain::{Head, LINE_OCTETS_MAX, Link, read_line};
use crate::error::AuditError;

/// A file, as far as the writer needs it.
pub(crate) trait Disk: Send {
    fn len(&self) -> io::Result<u64>;
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;
    fn cut(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    /// Device and inode: which file it is, whatever its name.
    fn identity(&self) -> io::Result<(u64, u64)>;
}

impl Disk for File {
    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|m| m.len())
    }

    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(buf, at)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.metadata().map(|m| (m.dev(), m.ino()))
    }
}

/// How much of a file's end is searched for its last valid line: more than a batch.
const END_OCTETS: u64 = 16 * 1024 * 1024;

/// Opens a regular file of this process alone, making it where it is missing.
pub(crate) fn open(path: &Path, mode: u32) -> Result<File, AuditError> {
    let new = !path.exists();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .open(path)
        .map_err(AuditError::file(path))?;
    if !file.metadata().map_err(AuditError::file(path))?.is_file() {
        return Err(AuditError::NotRegular { path: path.to_owned() });
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(AuditError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => {
            return Err(AuditError::File { path: path.to_owned(), source });
        }
    }
    if new && let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        // A new name is durable when its directory is.
        File::open(dir).and_then(|d| d.sync_all()).map_err(AuditError::file(path))?;
    }
    Ok(file)
}

/// The chain's file: appends whole batches or nothing.
pub(crate) struct Log {
    disk: Box<dyn Disk>,
    len: u64,
    // A write failed: what stands behind `len` must be cut off before the next one.
    dirty: bool,
}

/// What was found at the end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// The last valid line; none: the file is empty.
    pub(crate) last: Option<Link>,
    /// What stood behind it.
    pub(crate) torn: Vec<u8>,
}

impl End {
    pub(crate) fn head(&self) -> Head {
        self.last.map_or(Head::START, |l| l.head)
    }
}

impl Log {
    /// Finds the last valid line and cuts off what a crash left behind it. `None` where the file's end holds no
    /// valid line at all.
    pub(crate) fn recover(disk: Box<dyn Disk>) -> io::Result<Option<(Self, End)>> {
        let len = disk.len()?;
        let start = len.saturating_sub(END_OCTETS);
        let mut tail = vec![0; usize::try_from(len - start).unwrap_or(0)];
        disk.read_at(&mut tail, start)?;
        let mut end = tail.len();
        // Whole lines, the last one first; the first piece is whole only where it is the file's start.
        while let Some(newline) = tail.get(..end).and_then(|t| t.iter().rposition(|b| *b == b'\n')) {
            let before = tail.get(..newline).unwrap_or_default();
            let from = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
            if let Some(Ok(link)) = before.get(from..).map(read_line) {
                let keep = start + u64::try_from(newline + 1).unwrap_or(0);
                let torn = tail.split_off(newline + 1);
                if !torn.is_empty() {
                    disk.cut(keep)?;
                    disk.sync()?;
                }
                let log = Self { disk, len: keep, dirty: false };
                return Ok(Some((log, End { last: Some(link), torn })));
            }
            end = newline;
        }
        // Nothing but the torn beginning of a first line: there was no record yet.
        if start == 0 && tail.len() < LINE_OCTETS_MAX && !tail.contains(&b'\n') {
            if !tail.is_empty() {
                disk.cut(0)?;
                disk.sync()?;
            }
            return Ok(Some((Self { disk, len: 0, dirty: false }, End { last: None, torn: tail })));
        }
        Ok(None)
    }

    /// Appends `bytes` durably. After an error nothing of them counts.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.dirty {
            self.disk.cut(self.len)?;
            self.disk.sync()?;
            self.dirty = false;
        } else if self.disk.len()? != self.len {
            return Err(io::Error::other("another hand changed the audit file; reopen it to go on"));
        }
        let written = self.disk.write_at(bytes, self.len).and_then(|()| self.disk.sync());
        match written {
            Ok(()) => {
                self.len += u64::try_from(bytes.len()).unwrap_or(0);
                Ok(())
            }
            Err(e) => {
                // After a failed sync the pages' fate is unknown: they are written again from a known length.
                self.dirty = self.disk.cut(self.len).and_then(|()| self.disk.sync()).is_err();
                Err(e)
            }
        }
    }

    /// Whether the file at `path` is still this one.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let there = std::fs::metadata(path).map(|m| (m.dev(), m.ino()));
        matches!((there, self.disk.identity()), (Ok(there), Ok(here)) if there == here)
    }

    /// Goes on at the file's present end, whatever another hand did to it; the chain shows that.
    pub(crate) fn resume(&mut self) -> io::Result<()> {
        let len = self.disk.len()?;
        let mut last = [b'\n'];
        if len > 0 {
            self.disk.read_at(&mut last, len - 1)?;
        }
        self.len = len;
        self.dirty = false;
        // A line that was cut in the middle must not swallow the next one.
        if last == [b'\n'] { Ok(()) } else { self.append(b"\n") }
    }
}
