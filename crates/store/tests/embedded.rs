//! The conformance suite on the embedded store.
#![allow(clippy::unwrap_used, reason = "a fixture that can't be set up fails its test")]

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use mayfly_domain::{LeaseId, UnixMillis};
use mayfly_lease::LeaseStore;
use mayfly_store::embedded::EmbeddedStore;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::conformance::Fixture;
use redb::{Database, TableDefinition};
use tempfile::TempDir;

struct Embedded {
    dir: TempDir,
    clock: TestClock,
    store: Option<Arc<EmbeddedStore>>,
}

impl Embedded {
    fn new() -> Self {
        let clock = TestClock::at(UnixMillis::from_secs(1_800_000_000));
        Self { dir: tempfile::tempdir().unwrap(), clock, store: None }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mayfly.redb")
    }
}

#[async_trait]
impl Fixture for Embedded {
    fn clock(&self) -> TestClock {
        self.clock.clone()
    }

    async fn store(&mut self) -> Arc<dyn LeaseStore> {
        let path = self.path();
        let open = || Arc::new(EmbeddedStore::open(path, Arc::new(self.clock.clone())).unwrap());
        let store: Arc<EmbeddedStore> = Arc::clone(self.store.get_or_insert_with(open));
        store
    }

    fn shared(&self) -> bool {
        false
    }

    async fn restart(&mut self) {
        let last = Arc::into_inner(self.store.take().unwrap());
        assert!(last.is_some(), "somebody still holds the store");
    }

    async fn lose_record(&mut self, id: LeaseId) -> bool {
        self.restart().await;
        let table: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("mayfly");
        let database = Database::open(self.path()).unwrap();
        let transaction = database.begin_write().unwrap();
        let key = [b"r".as_slice(), id.as_bytes()].concat();
        assert!(transaction.open_table(table).unwrap().remove(key.as_slice()).unwrap().is_some());
        transaction.commit().unwrap();
        true
    }
}

mayfly_testkit::lease_store_conformance!(Embedded::new());
