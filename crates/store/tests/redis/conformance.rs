//! The conformance suite on Redis, by a clock of the test's own.

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_domain::{LeaseId, UnixMillis};
use mayfly_lease::LeaseStore;
use mayfly_store::redis::danger::open_with_brokers_clock;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::conformance::Fixture;
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use crate::support::config;

struct Redis {
    server: RedisServer,
    clock: TestClock,
}

impl Redis {
    fn new() -> Self {
        let clock = TestClock::at(UnixMillis::from_secs(1_800_000_000));
        Self { server: RedisServer::start(RedisOptions::default()), clock }
    }
}

#[async_trait]
impl Fixture for Redis {
    fn clock(&self) -> TestClock {
        self.clock.clone()
    }

    async fn store(&mut self) -> Arc<dyn LeaseStore> {
        let clock = Arc::new(self.clock.clone());
        let store = open_with_brokers_clock(config(&self.server), clock).unwrap();
        // As a broker does before it serves.
        store.survey().await.unwrap();
        Arc::new(store)
    }

    fn shared(&self) -> bool {
        true
    }

    async fn restart(&mut self) {
        self.server.restart();
    }

    async fn lose_record(&mut self, id: LeaseId) -> bool {
        let key = [b"mf:l:{l".as_slice(), id.as_bytes(), b"}"].concat();
        ::redis::cmd("DEL").arg(key).query::<i64>(&mut self.server.admin()).unwrap() == 1
    }
}

mayfly_testkit::lease_store_conformance!(Redis::new());
