//! The embedded store: one file, one process, durable at acknowledgement.
//!
//! The protocol's transitions run inside the writer's transaction, unchanged; reads see what is durable. It
//! must never decide anything by itself, and never answer before the answer is on disk.

mod clean;
mod feed;
mod file;
mod jobs;
mod layout;
mod ledger;
mod list;
mod port;
mod state;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mayfly_domain::UnixMillis;
use mayfly_domain::time::SharedClock;
use mayfly_lease::store::BrokerSeen;
use mayfly_lease::{GenerationRecord, StoreError};
use parking_lot::{Mutex, RwLock};
use redb::ReadOnlyTable;

pub use file::OpenError;
use file::{Opener, Store};
use ledger::Work;
use state::State;
use writer::{Lane, Writer};

use crate::unreadable::Unreadable;

#[cfg(test)]
mod tests;

/// The store in one file.
///
/// Only one process may have the file open. What it was told of other brokers is not stored, since there are
/// none.
#[derive(Debug)]
pub struct EmbeddedStore {
    store: Arc<Store>,
    writer: Writer,
    clock: SharedClock,
    adopted: RwLock<Option<GenerationRecord>>,
    brokers: Mutex<BTreeMap<String, BrokerSeen>>,
    unreadable: Arc<Unreadable>,
}

impl EmbeddedStore {
    /// Opens the file at `path`, or makes it (mode 0600); `clock` is the store's clock.
    ///
    /// # Errors
    /// [`OpenError`]: another process has it, it can't be used, or another version wrote it.
    pub fn open(path: impl AsRef<Path>, clock: SharedClock) -> Result<Self, OpenError> {
        Self::open_with(path.as_ref(), file::at_path(path.as_ref()), clock)
    }

    fn open_with(path: &Path, opener: Opener, clock: SharedClock) -> Result<Self, OpenError> {
        let store = Arc::new(Store::open(path, opener)?);
        let writer = Writer::start(Arc::clone(&store), Arc::clone(&clock))
            .map_err(|e| OpenError::Unusable { path: path.to_path_buf(), why: e.to_string() })?;
        Ok(Self {
            store,
            writer,
            clock,
            adopted: RwLock::default(),
            brokers: Mutex::default(),
            unreadable: Arc::default(),
        })
    }

    /// Reads what is durable, in the adopted generation.
    fn read<R>(
        &self,
        read: impl FnOnce(&State<ReadOnlyTable<&'static [u8], &'static [u8]>>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let adopted = *self.adopted.read();
        self.store.read(self.clock.now(), |state| {
            state.in_generation(adopted)?;
            read(state)
        })
    }

    /// Has the writer decide a command, in the adopted generation.
    async fn write<R: Send + 'static>(
        &self,
        lane: Lane,
        command: impl for<'w, 't> FnOnce(&mut Work<'w, 't>) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let adopted = *self.adopted.read();
        self.writer
            .submit(lane, move |work| {
                work.ledger.in_generation(adopted)?;
                command(work)
            })
            .await
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}
