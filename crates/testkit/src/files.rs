//! A credential with a side effect, for tests: a file in a directory stands for an account at a target.
//!
//! The file's name derives from the lease id, so that undoing needs nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use mayfly_domain::LeaseId;
use mayfly_lease::undo::Target;
use parking_lot::Mutex;
use tempfile::TempDir;

const PREFIX: &str = "mayfly-";

/// A directory of accounts.
#[derive(Debug)]
pub struct Accounts {
    dir: TempDir,
    undone: Mutex<BTreeMap<LeaseId, u32>>,
    failing: AtomicU32,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Accounts {
    /// An empty directory.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("mayfly-accounts-").tempdir().unwrap();
        Self { dir, undone: Mutex::default(), failing: AtomicU32::new(0) }
    }

    /// Makes a lease's account.
    pub fn make(&self, id: LeaseId) {
        std::fs::write(self.path(id), b"account").unwrap();
    }

    /// Whether it is there.
    pub fn exists(&self, id: LeaseId) -> bool {
        self.path(id).exists()
    }

    /// How often it was undone, whether it was there or not.
    pub fn undone(&self, id: LeaseId) -> u32 {
        self.undone.lock().get(&id).copied().unwrap_or(0)
    }

    /// Lets the next `n` undos fail.
    pub fn fail_next(&self, n: u32) {
        self.failing.store(n, Ordering::SeqCst);
    }

    fn path(&self, id: LeaseId) -> PathBuf {
        self.dir.path().join(format!("{PREFIX}{id}"))
    }
}

#[async_trait]
impl Target for Accounts {
    async fn undo(&self, id: LeaseId) -> Result<(), String> {
        let failing = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err("the target is away".to_owned());
        }
        match std::fs::remove_file(self.path(id)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.to_string()),
            _ => {}
        }
        *self.undone.lock().entry(id).or_default() += 1;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<LeaseId>, String> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(self.dir.path()).map_err(|e| e.to_string())? {
            let name = entry.map_err(|e| e.to_string())?.file_name();
            // What does not bear our prefix is not ours.
            let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).map(LeaseId::parse);
            ids.extend(id.and_then(Result::ok));
        }
        Ok(ids)
    }
}
