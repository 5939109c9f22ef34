//! Paths of the model, replayed against the stores: memory, embedded and a real Redis answer alike, and accept what the
//! model accepts.

use std::sync::Arc;

use mayfly_domain::Clock as _;
use mayfly_lease::{Carry, LeaseStore, StoreError, sweep};
use mayfly_proof::leases::{Act, Asked, Leases, State};
use mayfly_proof::store::START;
use mayfly_store::embedded::EmbeddedStore;
use mayfly_store::redis::RedisConfig;
use mayfly_store::redis::danger::open_with_brokers_clock;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::memory::MemoryStore;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use mayfly_testkit::words;
use stateright::Model as _;

const WALKS: u64 = 150;
const STEPS: usize = 16;

struct Side {
    name: &'static str,
    store: Arc<dyn LeaseStore>,
}

fn told<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(StoreError::Refused(no)) => format!("no: {no:?}"),
        Err(other) => panic!("neither done nor refused: {other}"),
    }
}

impl Side {
    async fn new(name: &'static str, store: Arc<dyn LeaseStore>) -> Self {
        let first = words::generation(1, START);
        store.begin_generation(&first, &Carry::default()).await.unwrap();
        store.adopt(first);
        Self { name, store }
    }

    async fn run(&self, asked: &Asked) -> String {
        let s = &*self.store;
        match asked {
            Asked::Mint(command) => told(s.mint(command).await),
            Asked::Renew(command) => told(s.renew(command).await),
            Asked::End(command) => told(s.end(command).await),
            Asked::Revoke(command) => told(
                s.revoke(command).await.map(|r| (r.job.map(|job| job.id), r.gate.map(|gate| gate.fence))),
            ),
            Asked::Lift(subject) => told(s.set_block(subject, None).await.map(|gate| gate.fence)),
            Asked::Sweep => {
                let mut ended = Vec::new();
                while let Some(mut job) = s.claim_job(sweep::CLAIM_MS).await.unwrap() {
                    while !job.done {
                        let step = sweep::step(s, job).await.unwrap();
                        (job, _) = (step.job, ended.extend(step.ended));
                    }
                }
                ended.sort();
                format!("{ended:?}")
            }
            Asked::Tick(_) => String::new(),
        }
    }
}

/// A walk through the model by a small generator: the same each time.
struct Walk {
    model: Leases,
    state: State,
    dice: u64,
}

impl Walk {
    fn step(&mut self) -> Option<(Act, Asked)> {
        let mut acts = Vec::new();
        self.model.actions(&self.state, &mut acts);
        acts.retain(|act| self.model.asked(&self.state, act).is_some());
        let n = u64::try_from(acts.len()).unwrap();
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let act = acts.swap_remove(usize::try_from(self.dice.checked_rem(n)?).unwrap());
        let asked = self.model.asked(&self.state, &act).unwrap();
        if let Some(next) = self.model.next_state(&self.state, act.clone()) {
            self.state = next;
        }
        Some((act, asked))
    }
}

async fn replay(seed: u64, clock: &TestClock, sides: &[Side]) {
    let model = Leases { broken: None, revocations: 1, renewals: 2 };
    let state = model.init_states().remove(0);
    let mut walk = Walk { model, state, dice: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 };
    let mut path = Vec::new();
    for _ in 0..STEPS {
        let Some((act, asked)) = walk.step() else { break };
        path.push(walk.model.format_action(&act));
        if let Asked::Tick(now) = asked {
            clock.set(now);
        }
        // Each store beside the reference that forgets as it does.
        for pair in sides.chunks(2) {
            let expected = pair[0].run(&asked).await;
            assert_eq!(pair[1].run(&asked).await, expected, "{} in walk {seed}: {path:#?}", pair[1].name);
        }
        for (check, accepted) in walk.state.checks() {
            for side in sides {
                let outcome = side.store.check(&check).await;
                assert_eq!(outcome.is_ok(), accepted, "{} in walk {seed}: {path:#?}", side.name);
            }
        }
    }
    assert!(clock.now() >= START);
}

#[test]
fn the_stores_do_what_the_model_says() {
    let server = RedisServer::start(RedisOptions { appendonly: false, ..RedisOptions::default() });
    for seed in 1..=WALKS {
        server.flushall();
        // Nothing of a walk's stores outlives it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = TestClock::at(START);
            let shared = Arc::new(clock.clone());
            let dir = tempfile::tempdir().unwrap();
            let embedded = EmbeddedStore::open(dir.path().join("mayfly.redb"), shared.clone()).unwrap();
            let redis = open_with_brokers_clock(RedisConfig::new(server.url()), shared.clone()).unwrap();
            let sides = [
                Side::new("memory", Arc::new(MemoryStore::new(shared.clone()))).await,
                Side::new("embedded", Arc::new(embedded)).await,
                Side::new("memory", Arc::new(MemoryStore::lingering(shared))).await,
                Side::new("redis", Arc::new(redis)).await,
            ];
            replay(seed, &clock, &sides).await;
        });
    }
}
