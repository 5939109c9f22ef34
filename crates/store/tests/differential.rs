//! Random traces of commands, against a store and against the transitions themselves: each outcome is the same.
//!
//! A failing trace shrinks to a few commands, printed in order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use mayfly_domain::{Clock as _, CredentialKind, Dimension, Gate, UnixMillis};
use mayfly_lease::{
    Carry, CheckCommand, Job, LeaseRecord, LeaseStore, ListQuery, RevokeWhat, Revoked, StoreError, sweep,
};
use mayfly_store::embedded::EmbeddedStore;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::memory::MemoryStore;
use mayfly_testkit::words::{self, Wish};
use proptest::prelude::*;

/// One command of a trace; leases, tasks and the rest by their small numbers.
#[derive(Debug, Clone)]
enum Op {
    Mint { wish: Wish, parent: Option<u32> },
    Confirm(u32),
    Renew { wish: Wish, nonce: u32 },
    Check { lease: u32, observation_of: Option<u32> },
    Release(Wish),
    Start { wish: Wish, nonce: u32 },
    Complete { wish: Wish, nonce: u32, operator: bool },
    RevokeLease(u32),
    Revoke { dimension: Dimension, n: u8, block: Option<Option<u64>> },
    Block { dimension: Dimension, n: u8, block: Option<Option<u64>> },
    Sweep,
    Reap,
    Undone(u32),
    List(Option<(Dimension, u8)>),
    Knows(Dimension, u8),
    Counts,
    Advance(u64),
}

const LEASES: u32 = 12;

fn dimension() -> impl Strategy<Value = Dimension> {
    prop::sample::select(vec![
        Dimension::Workload,
        Dimension::Owner,
        Dimension::Task,
        Dimension::Profile,
        Dimension::Integration,
        Dimension::Everything,
    ])
}

fn small() -> std::ops::RangeInclusive<u8> {
    1..=3
}

fn block() -> impl Strategy<Value = Option<Option<u64>>> {
    prop_oneof![
        2 => Just(None),
        1 => Just(Some(None)),
        2 => prop::sample::select(vec![Some(Some(1_000)), Some(Some(60_000))]),
    ]
}

prop_compose! {
    fn wish()(
        lease in 1..=LEASES,
        workload in prop_oneof![3 => Just(1_u8), 1 => small()],
        owners in prop::collection::btree_set(small(), 1..=2),
        task in prop::option::weighted(0.8, small()),
        profile in 1_u8..=2,
        key in prop_oneof![3 => Just(1_u8), 1 => small()],
        token in prop::option::weighted(0.9, 1_u32..=4),
        alias in prop::option::weighted(0.2, 1_u8..=2),
        supersede in prop::bool::weighted(0.3),
        account in prop::bool::weighted(0.4),
        ttl_s in prop::sample::select(vec![1, 30, 300, 4_000]),
        lineage_s in prop::sample::select(vec![60, 3_600, 86_400]),
        window_s in prop::sample::select(vec![60, 1_800]),
        (live_max, per_min, burst) in prop::sample::select(vec![
            (100, 1_000, 100), (100, 1_000, 100), (100, 1_000, 100), (2, 1_000, 100), (100, 2, 1), (100, 60, 2),
        ]),
    ) -> Wish {
        let kind = if account { CredentialKind::Account } else { CredentialKind::Token };
        let owners = owners.into_iter().collect();
        // Every token of the small world is as old as the world.
        let issued_at = UnixMillis(0);
        Wish {
            lease, workload, owners, task, profile, key, token, alias, issued_at, supersede, kind, ttl_s,
            lineage_s, window_s, live_max, per_min, burst, parent: None,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let nonce = || 1..=2 * LEASES;
    let lease = || 1..=LEASES;
    prop_oneof![
        8 => (wish(), prop::option::weighted(0.2, lease())).prop_map(|(wish, parent)| Op::Mint { wish, parent }),
        3 => lease().prop_map(Op::Confirm),
        4 => (wish(), nonce()).prop_map(|(wish, nonce)| Op::Renew { wish, nonce }),
        6 => (lease(), prop::option::weighted(0.3, lease()))
            .prop_map(|(lease, observation_of)| Op::Check { lease, observation_of }),
        2 => wish().prop_map(Op::Release),
        2 => (wish(), nonce()).prop_map(|(wish, nonce)| Op::Start { wish, nonce }),
        2 => (wish(), nonce(), prop::bool::weighted(0.3))
            .prop_map(|(wish, nonce, operator)| Op::Complete { wish, nonce, operator }),
        2 => lease().prop_map(Op::RevokeLease),
        3 => (dimension(), small(), block())
            .prop_map(|(dimension, n, block)| Op::Revoke { dimension, n, block }),
        3 => (dimension(), small(), block())
            .prop_map(|(dimension, n, block)| Op::Block { dimension, n, block }),
        2 => Just(Op::Sweep),
        2 => Just(Op::Reap),
        1 => lease().prop_map(Op::Undone),
        1 => prop::option::weighted(0.7, (dimension(), small())).prop_map(Op::List),
        1 => (dimension(), small()).prop_map(|(dimension, n)| Op::Knows(dimension, n)),
        1 => Just(Op::Counts),
        5 => prop::sample::select(vec![1, 400, 1_000, 20_000, 30_000, 60_000, 1_800_000, 3_600_000, 90_000_000])
            .prop_map(Op::Advance),
    ]
}

/// A store, and what its callers remember.
struct Side {
    store: Arc<dyn LeaseStore>,
    records: BTreeMap<u32, LeaseRecord>,
}

impl Side {
    async fn new(store: Arc<dyn LeaseStore>, start: UnixMillis) -> Self {
        let first = words::generation(1, start);
        store.begin_generation(&first, &Carry::default()).await.unwrap();
        store.adopt(first);
        Self { store, records: BTreeMap::new() }
    }

    /// Runs one command and tells its outcome.
    async fn run(&mut self, op: &Op, step: u32, start: UnixMillis, now: UnixMillis) -> String {
        let s = Arc::clone(&self.store);
        let at = |wish: &Wish| Wish { issued_at: start, ..wish.clone() };
        match op {
            Op::Mint { wish, parent } => {
                let mut wish = at(wish);
                if let Some(parent) = parent.and_then(|n| self.records.get(&n)) {
                    let token = wish.token;
                    wish = wish.child_of(parent);
                    wish.token = token.filter(|n| n % 2 == 0);
                }
                let outcome = s.mint(&wish.mint(now)).await;
                if let Ok(minted) = &outcome {
                    self.records.insert(wish.lease, minted.record.clone());
                }
                told(outcome)
            }
            Op::Confirm(n) => told(s.confirm(words::lease(*n)).await),
            Op::Renew { wish, nonce } => told(s.renew(&at(wish).renewal(*nonce, now)).await),
            Op::Check { lease, observation_of } => {
                let observation =
                    observation_of.and_then(|n| self.records.get(&n)).map(|r| r.observation.clone());
                told(s.check(&CheckCommand { id: words::lease(*lease), observation }).await)
            }
            Op::Release(wish) => told(s.end(&at(wish).release()).await),
            Op::Start { wish, nonce } if wish.task.is_some() => {
                told(s.start_task(&at(wish).start(*nonce, now)).await)
            }
            Op::Start { .. } => String::new(),
            Op::Complete { wish, nonce, operator } => {
                let mut command = at(wish).complete(step, *nonce, now);
                if let RevokeWhat::Task { by, spend, evidence, .. } = &mut command.what
                    && *operator
                {
                    (*by, *spend, *evidence) = (None, None, None);
                }
                told_revoked(s.revoke(&command).await, now)
            }
            Op::RevokeLease(n) => {
                let until = now.plus(words::LONGEST_LIFE_MS);
                told_revoked(s.revoke(&words::revoke_lease(step, words::lease(*n), until)).await, now)
            }
            Op::Revoke { dimension, n, block } => {
                let block = block.map(|for_ms| words::block(now, for_ms));
                let command = words::revoke_subject(step, words::subject(*dimension, *n), block);
                told_revoked(s.revoke(&command).await, now)
            }
            Op::Block { dimension, n, block } => {
                let block = block.map(|for_ms| words::block(now, for_ms));
                let gate = s.set_block(&words::subject(*dimension, *n), block).await;
                told(gate.map(|gate| standing(gate, now)))
            }
            Op::Sweep => told(self.sweep().await),
            Op::Reap => told(self.reap().await),
            Op::Undone(n) => told(s.undone(words::lease(*n)).await),
            Op::List(along) => {
                let along = along.map(|(dimension, n)| words::subject(dimension, n).key());
                let page = s.list(&ListQuery { along, after: None, limit: 1_000 }).await;
                told(page.map(|page| {
                    let mut live = page.records;
                    live.retain(|r| now < r.expires);
                    live.sort_by_key(|r| r.id);
                    live
                }))
            }
            Op::Knows(dimension, n) => told(s.knows(&words::subject(*dimension, *n)).await),
            Op::Counts => {
                let blocks = s.blocks().await.map(|mut blocks| {
                    blocks.sort_by_key(|(subject, _)| subject.to_string());
                    blocks.into_iter().map(|(s, gate)| (s, standing(gate, now))).collect::<Vec<_>>()
                });
                told(blocks) + &told(s.counts().await)
            }
            Op::Advance(_) => String::new(),
        }
    }

    /// Works on every open job, in the order of their ids.
    async fn sweep(&self) -> Result<Vec<Job>, StoreError> {
        let mut jobs = Vec::new();
        while let Some(job) = self.store.claim_job(0).await?.filter(|job: &Job| !jobs.contains(job)) {
            self.store.save_job(&job, sweep::CLAIM_MS).await?;
            jobs.push(job);
        }
        jobs.sort_by_key(|job| job.id);
        let mut done = Vec::new();
        for mut job in jobs {
            while !job.done {
                job = sweep::step(&*self.store, job).await?.job;
            }
            done.push(job);
        }
        Ok(done)
    }

    async fn reap(&self) -> Result<Vec<LeaseRecord>, StoreError> {
        let mut due = self.store.due_undos(1_000).await?;
        due.sort_by_key(|record| record.id);
        for record in &due {
            self.store.undone(record.id).await?;
        }
        Ok(due)
    }

    /// Everything that is shown at the end.
    async fn everything(&self) -> String {
        let mut all = String::new();
        for n in 1..=LEASES {
            all += &told(self.store.get(words::lease(n)).await);
        }
        for n in small() {
            all += &told(self.store.task(&words::task(n)).await);
        }
        all + &told(self.store.counts().await)
    }
}

fn told<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(StoreError::Refused(no)) => format!("no: {no:?}"),
        Err(other) => panic!("neither done nor refused: {other}"),
    }
}

fn told_revoked(outcome: Result<Revoked, StoreError>, now: UnixMillis) -> String {
    told(outcome.map(|revoked| Revoked { gate: revoked.gate.map(|gate| standing(gate, now)), ..revoked }))
}

/// What of a gate means something: a store may have forgotten a block that ended by itself, and its version.
fn standing(mut gate: Gate, now: UnixMillis) -> Gate {
    gate.block = gate.standing_block(now).cloned();
    if gate.block.is_none() {
        gate.block_version = 0;
    }
    gate
}

/// Runs a trace on both, on one clock.
async fn compare(
    ops: &[Op],
    clock: &TestClock,
    reference: Arc<dyn LeaseStore>,
    store: Arc<dyn LeaseStore>,
) -> Result<(), TestCaseError> {
    let start = clock.now();
    let mut expected = Side::new(reference, start).await;
    let mut found = Side::new(store, start).await;
    for (step, op) in ops.iter().enumerate() {
        if let Op::Advance(ms) = op {
            clock.advance(*ms);
        }
        let number = u32::try_from(step).unwrap() + 1;
        let should = expected.run(op, number, start, clock.now()).await;
        let is = found.run(op, number, start, clock.now()).await;
        prop_assert_eq!(is, should, "step {}: {:?}", step, op);
    }
    prop_assert_eq!(found.everything().await, expected.everything().await, "at the end");
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_does_what_the_transitions_say(ops in prop::collection::vec(op(), 1..80)) {
        runtime().block_on(async {
            let clock = TestClock::at(UnixMillis::from_secs(1_800_000_000));
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("mayfly.redb");
            let store = Arc::new(EmbeddedStore::open(path, Arc::new(clock.clone())).unwrap());
            let reference = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
            compare(&ops, &clock, reference, store).await
        })?;
    }
}
