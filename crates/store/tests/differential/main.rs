//! Random traces of commands, against a store and against the transitions themselves: each outcome is the same.
//!
//! A failing trace shrinks to a few commands, printed in order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod ops;

use std::sync::Arc;

use mayfly_domain::feed::{Change, Epoch, Event, GateState, Numbered, Position};
use mayfly_domain::{Clock as _, Fence, Gate, LeaseId, SystemClock, UnixMillis};
use mayfly_lease::feed::{FollowerId, FollowerKind, FollowerPing};
use mayfly_lease::{
    Carry, CheckCommand, Job, JoinId, LeaseRecord, LeaseStore, ListQuery, RevokeWhat, Revoked, StoreError,
    gate, sweep,
};
use mayfly_store::embedded::EmbeddedStore;
use mayfly_store::redis::RedisConfig;
use mayfly_store::redis::danger::open_with_brokers_clock;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::feed::{Following, rest};
use mayfly_testkit::memory::MemoryStore;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use mayfly_testkit::words::{self, Wish};
use proptest::prelude::*;

use crate::ops::{Op, op, small};

/// A store, and what its callers remember.
struct Side {
    store: Arc<dyn LeaseStore>,
    minted: Vec<(Wish, LeaseRecord)>,
    start: UnixMillis,
    /// Where the feed stood at the beginning.
    began: Position,
    /// Who began to follow at some step of the trace.
    followers: Vec<Following>,
}

impl Side {
    async fn new(store: Arc<dyn LeaseStore>, start: UnixMillis) -> Self {
        let first = words::generation(1, start);
        store.begin_generation(&first, &Carry::default()).await.unwrap();
        store.adopt(first);
        let began = store.feed_position().await.unwrap();
        Self { store, minted: Vec::new(), start, began, followers: Vec::new() }
    }

    /// The lease at a place, counted round; the first wish of the world where none was minted.
    fn at(&self, place: usize) -> (Wish, LeaseId, Option<LeaseRecord>) {
        match self.minted.get(place.checked_rem(self.minted.len()).unwrap_or(0)) {
            Some((wish, record)) => (wish.clone(), record.id, Some(record.clone())),
            None => (Wish::new(0, self.start), words::lease(0), None),
        }
    }

    /// A lease was renewed: its caller remembers it as it is now.
    fn changed(&mut self, now: &LeaseRecord, key: Option<u8>) {
        if let Some((wish, record)) = self.minted.iter_mut().find(|(_, record)| record.id == now.id) {
            record.clone_from(now);
            wish.key = key.unwrap_or(wish.key);
        }
    }

    /// Somebody else's wish about the lease at a place.
    fn as_other(&self, wish: Wish, other: Option<&Wish>) -> Wish {
        other.map_or(wish.clone(), |other| Wish { lease: wish.lease, issued_at: self.start, ..other.clone() })
    }

    /// Runs one command and tells its outcome.
    async fn run(&mut self, op: &Op, step: u32, now: UnixMillis) -> String {
        let s = Arc::clone(&self.store);
        let nonce = |replays: &Option<usize>| replays.map_or(step, |place| self.at(place).0.lease);
        match op {
            Op::Mint { wish, replays, parent } => {
                let mut wish = Wish { lease: nonce(replays), issued_at: self.start, ..wish.clone() };
                if let Some(parent) = parent.and_then(|place| self.at(place).2) {
                    let token = wish.token;
                    wish = wish.child_of(&parent);
                    wish.token = token.filter(|n| n % 4 == 0);
                }
                let outcome = s.mint(&wish.mint(now)).await;
                if let Ok(minted) = &outcome {
                    self.minted.push((wish, minted.record.clone()));
                }
                told(outcome)
            }
            Op::Descend { lease, wish, generations } => {
                let (mut all, mut last) = (String::new(), self.at(*lease).2);
                for n in 0..*generations {
                    let Some(parent) = last.take() else { break };
                    let number = step * 100 + u32::try_from(n).unwrap();
                    let wish =
                        Wish { lease: number, issued_at: self.start, ..wish.clone() }.child_of(&parent);
                    let outcome = s.mint(&wish.mint(now)).await;
                    if let Ok(minted) = &outcome {
                        last = Some(minted.record.clone());
                        self.minted.push((wish, minted.record.clone()));
                    }
                    all += &told(outcome);
                }
                all
            }
            Op::Confirm(place) => told(s.confirm(self.at(*place).1).await),
            Op::Renew { lease, ttl_s, as_other, replays, next, body_of } => {
                let wish = self.as_other(self.at(*lease).0, as_other.as_ref());
                let mut command = Wish { ttl_s: *ttl_s, ..wish }.renewal(nonce(replays), now);
                if let Some(read) = self.at(body_of.unwrap_or(*lease)).2 {
                    command.body = read.body;
                }
                command.next = next.map(words::key);
                let outcome = s.renew(&command).await;
                if let Ok(renewed) = &outcome {
                    self.changed(&renewed.record, *next);
                }
                told(outcome)
            }
            Op::Check { lease, observation_of } => {
                let observation = observation_of.and_then(|place| self.at(place).2).map(|r| r.observation);
                told(s.check(&CheckCommand { id: self.at(*lease).1, observation }).await)
            }
            Op::Release { lease, as_other } => {
                told(s.end(&self.as_other(self.at(*lease).0, as_other.as_ref()).release()).await)
            }
            Op::Start(wish) if wish.task.is_some() => {
                told(s.start_task(&self.as_other(self.at(0).0, Some(wish)).start(step, now)).await)
            }
            Op::Start(_) | Op::Advance(_) => String::new(),
            Op::Complete { lease, as_other, operator } => {
                let wish = self.as_other(self.at(*lease).0, as_other.as_ref());
                let mut command = wish.complete(step, step, now);
                if let RevokeWhat::Task { by, spend, evidence, .. } = &mut command.what
                    && *operator
                {
                    (*by, *spend, *evidence) = (None, None, None);
                }
                told_revoked(s.revoke(&command).await, now)
            }
            Op::RevokeLease(place) => {
                let until = now.plus(words::LONGEST_LIFE_MS);
                told_revoked(s.revoke(&words::revoke_lease(step, self.at(*place).1, until)).await, now)
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
            Op::PutJoin(wish, n) => told(s.put_join(&wish.join_token(*n, now)).await),
            Op::WithdrawJoin(n) => told(s.withdraw_join(JoinId([*n; 8])).await),
            Op::Sweep => told(self.sweep().await),
            Op::Reap => told(self.reap().await),
            Op::Undone(place) => match s.get(self.at(*place).1).await.unwrap().or(self.at(*place).2) {
                Some(record) => told(s.undone(&record).await),
                None => String::new(),
            },
            Op::List(along) => {
                let along = along.map(|(dimension, n)| words::subject(dimension, n).key());
                let page = s.list(&ListQuery { along, after: None, limit: 1_000 }).await;
                told(page.map(|page| page.records))
            }
            Op::Knows(dimension, n) => told(s.knows(&words::subject(*dimension, *n)).await),
            Op::Keys(expected) => told(s.put_keys(*expected, expected + 1, b"sealed").await),
            Op::Follow(limit) => {
                self.followers.push(Following::start(&*s, *limit).await);
                let told = self.followers.last().map(|follower| (follower.at.number, shown(follower, now)));
                format!("{told:?}")
            }
            Op::CatchUp => {
                for follower in &mut self.followers {
                    follower.catch_up(&*s).await;
                    follower.table.clean(now);
                }
                String::new()
            }
            Op::Ping { follower, applied, epoch_of_another } => {
                let mut epoch = Epoch(s.identity());
                epoch.0[0] ^= u8::from(*epoch_of_another);
                told(
                    s.ping(&[ping(*follower, *applied, epoch)])
                        .await
                        .map(|ponged| (ponged.position.number, ponged.at)),
                )
            }
            Op::Behind(number) => {
                let mut behind = s.followers_behind(*number).await.unwrap();
                behind.all.sort_by_key(|seen| seen.ping.id);
                let all = behind.all.iter().map(|seen| (seen.ping.id, seen.ping.applied, seen.at));
                format!("{:?} {:?}", all.collect::<Vec<_>>(), behind.now)
            }
            Op::Counts => {
                let blocks = s.blocks().await.map(|mut blocks| {
                    blocks.sort_by_key(|(subject, _)| subject.to_string());
                    blocks.into_iter().map(|(s, gate)| (s, standing(gate, now))).collect::<Vec<_>>()
                });
                told(blocks) + &told(s.counts().await) + &told(s.joins().await)
            }
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
            self.store.undone(record).await?;
        }
        Ok(due)
    }

    /// Everything that is shown at the end.
    async fn everything(&self) -> String {
        let mut all = String::new();
        for (_, record) in &self.minted {
            all += &told(self.store.get(record.id).await);
        }
        for n in small() {
            all += &told(self.store.task(&words::task(n)).await);
        }
        all + &told(self.store.counts().await) + &told(self.store.joins().await)
    }

    /// Every event, and what each follower came to: the same for all, and what the gates say.
    async fn followed(&self, now: UnixMillis) -> (Vec<Numbered>, Vec<Told>) {
        let events = rest(&*self.store, self.began, 9).await;
        let truth = Following::start(&*self.store, 4).await;
        let (gates, _) = truth.shown(now);
        let keys: Vec<_> = gates.keys().copied().collect();
        for ((key, told), stored) in gates.iter().zip(self.store.gates(&keys).await.unwrap()) {
            let stored = gate::state(*key, &stored.unwrap());
            assert_eq!(plain(stored, now), plain(*told, now), "a snapshot is not what is stored");
        }
        let truth = shown(&truth, now);
        let mut all = Vec::new();
        for follower in &self.followers {
            let mut follower = follower.clone();
            follower.catch_up(&*self.store).await;
            all.push(shown(&follower, now));
            assert_eq!(all.last(), Some(&truth), "a follower is not where a snapshot is");
        }
        all.push(truth);
        (events.into_iter().map(|event| Numbered { event: plain_event(event.event), ..event }).collect(), all)
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

/// What a follower came to, without what a store may forget.
type Told = (Vec<GateState>, Vec<(LeaseId, UnixMillis)>);

fn shown(follower: &Following, now: UnixMillis) -> Told {
    let (gates, marks) = follower.shown(now);
    let gates = gates.into_values().map(|gate| plain(gate, now));
    let mattering = |gate: &GateState| gate.blocked || gate.fence != Fence::NONE;
    (gates.filter(mattering).collect(), marks.into_iter().collect())
}

/// A gate without the version of a block that does not stand, and without the end of a fence that is none.
fn plain(mut gate: GateState, at: UnixMillis) -> GateState {
    gate = gate.standing(at);
    if !(gate.blocked && gate.block_until.is_none_or(|end| at < end)) {
        (gate.blocked, gate.block_version, gate.block_until) = (false, 0, None);
    }
    if gate.fence == Fence::NONE {
        gate.fence_until = UnixMillis(0);
    }
    gate
}

fn plain_event(mut event: Event) -> Event {
    if let Change::Gate(gate) = &mut event.change {
        *gate = plain(*gate, event.at);
    }
    event
}

fn ping(n: u8, applied: u64, epoch: Epoch) -> FollowerPing {
    FollowerPing {
        id: FollowerId([n; 16]),
        kind: FollowerKind::Acceptor,
        name: format!("acceptor-{n}"),
        broker: "broker".to_owned(),
        bound_ms: 5_000,
        reuse_ms: 0,
        applied,
        epoch,
    }
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
        let should = expected.run(op, number, clock.now()).await;
        let is = found.run(op, number, clock.now()).await;
        prop_assert_eq!(is, should, "step {}: {:?}", step, op);
    }
    prop_assert_eq!(found.everything().await, expected.everything().await, "at the end");
    prop_assert_eq!(found.followed(clock.now()).await, expected.followed(clock.now()).await, "the feed");
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 2_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(48))]

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

#[test]
fn the_redis_scripts_do_what_the_transitions_say() {
    let server = RedisServer::start(RedisOptions { appendonly: false, ..RedisOptions::default() });
    let traces = prop::collection::vec(op(), 1..80);
    let mut runner =
        proptest::test_runner::TestRunner::new(ProptestConfig { source_file: Some(file!()), ..config(300) });
    runner
        .run(&traces, |ops| {
            server.flushall();
            runtime().block_on(async {
                // Ahead of the server's own clock, which must not take away what this clock still sees.
                let clock = TestClock::at(SystemClock.now().floor_secs().plus(3_600_000));
                let config = RedisConfig::new(server.url());
                let store = open_with_brokers_clock(config, Arc::new(clock.clone())).unwrap();
                let reference = Arc::new(MemoryStore::lingering(Arc::new(clock.clone())));
                compare(&ops, &clock, reference, Arc::new(store)).await
            })
        })
        .unwrap();
}
