//! The reserve: a preallocated file that keeps what must be recorded while the audit file can't be written.
//!
//! # Layout
//! 24 octets header: `mfaudrs` and version 1, epoch, checksum. From octet 512 on, entries: 4 octets length, 8
//! octets checksum over epoch, index and body, body. Integers are big-endian; the first entry that does not check
//! is the end. Emptying raises the epoch, which no old entry's checksum fits: one small write, nothing to erase.

use std::io;
use std::path::Path;

use ring::digest::{Context, SHA256};
use rustix::fs::FallocateFlags;

use crate::chain::{BODY_OCTETS_MAX, Place};
use crate::disk::{Disk, open};
use crate::error::AuditError;

const MAGIC: &[u8; 8] = b"mfaudrs\x01";
const HEADER_LEN: usize = 24;
const ENTRIES_AT: u64 = 512;
const ENTRY_HEAD: u64 = 12;

/// Where an entry stands: its octet and its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    at: u64,
    index: u64,
}

impl Spot {
    const FIRST: Self = Self { at: ENTRIES_AT, index: 0 };
}

struct Entry {
    body: Vec<u8>,
    after: Spot,
}

/// Entries on their way into the chain.
pub(crate) struct Peeked {
    /// Their places and members.
    pub(crate) entries: Vec<(Place, Vec<u8>)>,
    /// The spot after them.
    pub(crate) after: Spot,
}

pub(crate) struct Reserve {
    disk: Box<dyn Disk>,
    capacity: u64,
    epoch: u64,
    /// Where the next entry goes.
    end: Spot,
    /// The first entry that is not in the chain yet.
    next: Spot,
}

fn checksum(parts: &[&[u8]]) -> [u8; 8] {
    let mut ctx = Context::new(&SHA256);
    for part in parts {
        ctx.update(part);
    }
    ctx.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

fn header(epoch: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&checksum(&[MAGIC, &epoch.to_be_bytes()]));
    out
}

/// The header's epoch: zero for a file of zeros, `None` for a damaged header.
fn epoch(disk: &dyn Disk) -> io::Result<Option<u64>> {
    let mut found = [0; HEADER_LEN];
    if disk.len()? < ENTRIES_AT {
        return Ok(None);
    }
    disk.read_at(&mut found, 0)?;
    if found == [0; HEADER_LEN] {
        return Ok(Some(0));
    }
    let epoch = found.get(8..16).and_then(|e| e.first_chunk()).copied().map_or(0, u64::from_be_bytes);
    Ok((header(epoch) == found).then_some(epoch))
}

impl Reserve {
    /// Opens the reserve and has the system set its room aside.
    pub(crate) fn open(path: &Path, octets: u64) -> Result<Self, AuditError> {
        let damaged = || AuditError::Reserve { path: path.to_owned() };
        let file = open(path, 0o600)?;
        // Another's file must not be filled up with zeros.
        if Disk::len(&file).map_err(AuditError::file(path))? > 0 {
            epoch(&file).map_err(AuditError::file(path))?.ok_or_else(damaged)?;
        }
        let octets = octets.max(ENTRIES_AT + ENTRY_HEAD + BODY_OCTETS_MAX as u64);
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, octets)
            .map_err(|e| AuditError::file(path)(e.into()))?;
        file.sync_all().map_err(AuditError::file(path))?;
        Self::on(Box::new(file)).map_err(AuditError::file(path))?.ok_or_else(damaged)
    }

    /// Reads what a disk holds; `None` where its header is damaged.
    pub(crate) fn on(disk: Box<dyn Disk>) -> io::Result<Option<Self>> {
        let epoch = match epoch(&*disk)? {
            None => return Ok(None),
            Some(0) => {
                disk.write_at(&header(1), 0)?;
                disk.sync()?;
                1
            }
            Some(epoch) => epoch,
        };
        let capacity = disk.len()?;
        let mut reserve = Self { disk, capacity, epoch, end: Spot::FIRST, next: Spot::FIRST };
        while let Some(entry) = reserve.entry(reserve.end)? {
            reserve.end = entry.after;
        }
        Ok(Some(reserve))
    }

    /// Whether every entry is in the chain.
    pub(crate) fn is_drained(&self) -> bool {
        self.next == self.end
    }

    /// Whether there is no entry at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.end.index == 0
    }

    /// How many entries are not in the chain yet.
    pub(crate) fn pending(&self) -> u64 {
        self.end.index.saturating_sub(self.next.index)
    }

    /// Passes over the entries that the chain holds already, up to `last`.
    pub(crate) fn skip_written(&mut self, last: Place) -> io::Result<()> {
        while last.epoch == self.epoch && self.next.index <= last.index {
            match self.entry(self.next)? {
                Some(entry) => self.next = entry.after,
                None => break,
            }
        }
        Ok(())
    }

    fn entry(&self, Spot { at, index }: Spot) -> io::Result<Option<Entry>> {
        if at + ENTRY_HEAD > self.capacity {
            return Ok(None);
        }
        let mut head = [0; ENTRY_HEAD as usize];
        self.disk.read_at(&mut head, at)?;
        let [a, b, c, d, sum @ ..] = head;
        let len = u32::from_be_bytes([a, b, c, d]);
        let after = at + ENTRY_HEAD + u64::from(len);
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        if len == 0 || size > BODY_OCTETS_MAX || after > self.capacity {
            return Ok(None);
        }
        let mut body = vec![0; size];
        self.disk.read_at(&mut body, at + ENTRY_HEAD)?;
        let good = checksum(&[&self.epoch.to_be_bytes(), &index.to_be_bytes(), &body]) == sum;
        Ok(good.then_some(Entry { body, after: Spot { at: after, index: index + 1 } }))
    }

    /// Keeps a record's members durably.
    pub(crate) fn push(&mut self, body: &[u8]) -> io::Result<()> {
        let Spot { at, index } = self.end;
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let after = at + ENTRY_HEAD + u64::from(len);
        if after > self.capacity || body.len() > BODY_OCTETS_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut entry = Vec::with_capacity(body.len() + ENTRY_HEAD as usize);
        entry.extend_from_slice(&len.to_be_bytes());
        entry.extend_from_slice(&checksum(&[&self.epoch.to_be_bytes(), &index.to_be_bytes(), body]));
        entry.extend_from_slice(body);
        self.disk.write_at(&entry, at)?;
        self.disk.sync()?;
        self.end = Spot { at: after, index: index + 1 };
        Ok(())
    }

    /// The next entries that are not in the chain, about `octets` of them.
    pub(crate) fn peek(&self, octets: usize) -> io::Result<Peeked> {
        let (mut entries, mut after, mut taken) = (Vec::new(), self.next, 0);
        while after != self.end && taken < octets {
            let Some(entry) = self.entry(after)? else {
                return Err(io::Error::other("an entry of the audit reserve was changed"));
            };
            taken += entry.body.len();
            entries.push((Place { epoch: self.epoch, index: after.index }, entry.body));
            after = entry.after;
        }
        Ok(Peeked { entries, after })
    }

    /// Notes that everything before `spot` is in the chain.
    pub(crate) fn written(&mut self, spot: Spot) {
        self.next = spot;
    }

    /// Empties the reserve, durably.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.disk.write_at(&header(self.epoch + 1), 0)?;
        self.disk.sync()?;
        self.epoch += 1;
        self.end = Spot::FIRST;
        self.next = Spot::FIRST;
        Ok(())
    }
}
