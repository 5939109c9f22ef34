//! The file: opening it, holding it alone, opening it again after a failed write.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_domain::UnixMillis;
use mayfly_lease::StoreError;
use parking_lot::RwLock;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, ReadOnlyTable, ReadableDatabase as _, StorageError, WriteTransaction};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::layout as at;
use super::state::State;

/// Memory for pages of the file, in octets.
const CACHE_OCTETS: usize = 64 * 1024 * 1024;

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("`{0}` is locked: another process, most likely a running mayfly, has it open")]
    Locked(PathBuf),
    /// It can't be opened, created or written.
    #[error("`{path}` can't be opened: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// It has a layout that this version does not know.
    #[error("`{0}` was written by another version of mayfly")]
    OtherLayout(PathBuf),
}

/// How the file is opened, each time anew.
pub(super) type Opener = Arc<dyn Fn() -> Result<Database, OpenError> + Send + Sync>;

/// The open file; absent while it is being opened again.
pub(super) struct Store {
    open: Opener,
    database: RwLock<Option<Database>>,
    pub(super) identity: [u8; 16],
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// The opener of a path: the file is made for its owner alone, and its name is made durable.
pub(super) fn at_path(path: &Path) -> Opener {
    let path = path.to_path_buf();
    Arc::new(move || {
        let unusable =
            |why: &dyn std::fmt::Display| OpenError::Unusable { path: path.clone(), why: why.to_string() };
        let new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| unusable(&e))?;
        if new {
            let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| unusable(&e))?;
        }
        let backend = FileBackend::new(file).map_err(|e| unusable(&e))?;
        Database::builder().set_cache_size(CACHE_OCTETS).create_with_backend(backend).map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => OpenError::Locked(path.clone()),
            other => unusable(&other),
        })
    })
}

impl Store {
    /// Opens the file, and gives a new one its identity.
    pub(super) fn open(path: &Path, open: Opener) -> Result<Self, OpenError> {
        let database = open()?;
        let unusable = |e: StoreError| OpenError::Unusable { path: path.to_path_buf(), why: e.to_string() };
        let identity = found(&database).map_err(unusable)?;
        let identity = match identity {
            Some((at::VERSION, identity)) => identity,
            Some(_) => return Err(OpenError::OtherLayout(path.to_path_buf())),
            None => founded(&database).map_err(unusable)?,
        };
        Ok(Self { open, database: RwLock::new(Some(database)), identity })
    }

    /// Reads what is durable now.
    pub(super) fn read<R>(
        &self,
        now: UnixMillis,
        read: impl FnOnce(&State<ReadOnlyTable<&'static [u8], &'static [u8]>>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let transaction = match &*self.database.read() {
            Some(database) => database.begin_read().map_err(unavailable)?,
            None => return Err(closed()),
        };
        let table = transaction.open_table(at::TABLE).map_err(unavailable)?;
        read(&State { table, now })
    }

    /// Begins the writer's transaction.
    pub(super) fn begin(&self) -> Result<WriteTransaction, StoreError> {
        match &*self.database.read() {
            Some(database) => database.begin_write().map_err(unavailable),
            None => Err(closed()),
        }
    }

    /// Opens the file again: after a failed write the library refuses everything else.
    pub(super) fn reopen(&self) {
        drop(self.database.write().take());
        match (self.open)() {
            Ok(database) => {
                // A file that was replaced meanwhile is another store; this one stays closed.
                match found(&database) {
                    Ok(Some((at::VERSION, identity))) if identity == self.identity => {
                        *self.database.write() = Some(database);
                    }
                    _ => tracing::error!("the store's file is another one now"),
                }
            }
            Err(e) => tracing::error!(error = %e, "the store's file can't be opened again"),
        }
    }
}

/// The layout and identity of a file, where it has been founded.
fn found(database: &Database) -> Result<Option<(u8, [u8; 16])>, StoreError> {
    let transaction = database.begin_read().map_err(unavailable)?;
    let table = match transaction.open_table(at::TABLE) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(e) => return Err(unavailable(e)),
    };
    let state = State { table, now: UnixMillis(0) };
    let layout = state.get(at::LAYOUT, |v| Ok(v.first().copied().unwrap_or_default()))?;
    let identity = state.get(at::IDENTITY, |v| mayfly_domain::codec::Reader::new("identity", v).array())?;
    Ok(layout.zip(identity))
}

/// Gives a new file its layout and identity.
fn founded(database: &Database) -> Result<[u8; 16], StoreError> {
    let mut identity = [0; 16];
    SystemRandom::new()
        .fill(&mut identity)
        .map_err(|_| StoreError::Unavailable("no randomness".to_owned()))?;
    let transaction = database.begin_write().map_err(unavailable)?;
    {
        let mut table = transaction.open_table(at::TABLE).map_err(unavailable)?;
        table.insert(at::LAYOUT, [at::VERSION].as_slice()).map_err(storage)?;
        table.insert(at::IDENTITY, identity.as_slice()).map_err(storage)?;
    }
    transaction.commit().map_err(unavailable)?;
    Ok(identity)
}

fn closed() -> StoreError {
    StoreError::Unavailable("the file is closed after a failed write".to_owned())
}

/// An error of the library in which nothing can be said about the content.
pub(super) fn unavailable(e: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(e.to_string())
}

/// An error of reading or writing.
pub(super) fn storage(e: StorageError) -> StoreError {
    match e {
        StorageError::Corrupted(why) => StoreError::Corrupt(why),
        other => StoreError::Unavailable(other.to_string()),
    }
}
