//! The conformance suite on the store in memory: the reference keeps the rules that others are held to.

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_domain::{LeaseId, UnixMillis};
use mayfly_lease::LeaseStore;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::conformance::Fixture;
use mayfly_testkit::memory::MemoryStore;

struct Memory {
    clock: TestClock,
    store: MemoryStore,
}

impl Memory {
    fn new() -> Self {
        let clock = TestClock::at(UnixMillis::from_secs(1_800_000_000));
        let store = MemoryStore::new(Arc::new(clock.clone()));
        Self { clock, store }
    }
}

#[async_trait]
impl Fixture for Memory {
    fn clock(&self) -> TestClock {
        self.clock.clone()
    }

    async fn store(&mut self) -> Arc<dyn LeaseStore> {
        Arc::new(self.store.another())
    }

    fn shared(&self) -> bool {
        true
    }

    async fn restart(&mut self) {}

    async fn lose_record(&mut self, id: LeaseId) -> bool {
        self.store.tamper(|view| view.lose_record(id));
        true
    }
}

mayfly_testkit::lease_store_conformance!(Memory::new());
