//! The keeper, by a paused clock and an issuer that is scripted.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use mayfly_domain::Clock as _;
use mayfly_proto::v1 as pb;
use tokio::time::Instant;

use super::*;
use crate::fixture::broker::{DOMAIN, WORKLOAD};
use crate::fixture::clock::Wall;
use crate::fixture::workloads::Workloads;
use crate::keys::WorkloadKey;

/// Answers each call by its script, then with certificates.
struct Scripted {
    ca: Arc<Workloads>,
    clock: SharedClock,
    script: Arc<Mutex<VecDeque<Option<Failure>>>>,
    calls: Arc<Mutex<Vec<(&'static str, Duration)>>>,
    life_s: i64,
    budget_s: u32,
    may_change: bool,
    began: Instant,
}

impl Scripted {
    fn svid(&self) -> Svid {
        let key = WorkloadKey::generate().unwrap();
        let leaf = self.ca.leaf(&[WORKLOAD], &crate::keys::spki(key.public().as_bytes()), self.life_s);
        let now = self.clock.now();
        let answer = pb::MintResponse {
            lease: mayfly_domain::LeaseId::from_parts(now, &[1; 10]).to_string(),
            expires_ms: now.0.saturating_add_signed(self.life_s * 1_000),
            certificates: vec![leaf.to_vec()],
            bundle: Some(pb::TrustBundle { trust_domain: DOMAIN.into(), ..Default::default() }),
            outage_budget_s: self.budget_s,
            workload: WORKLOAD.into(),
            ..Default::default()
        };
        Svid::new(answer, Arc::new(key), now).unwrap()
    }

    fn answer(&self, call: &'static str) -> Result<Svid, Failure> {
        self.calls.lock().unwrap().push((call, self.began.elapsed()));
        match self.script.lock().unwrap().pop_front().flatten() {
            Some(failure) => Err(failure),
            None => Ok(self.svid()),
        }
    }
}

impl issuer::Issuer for Scripted {
    async fn first(&mut self, _: Duration) -> Result<Svid, Failure> {
        self.answer("first")
    }

    async fn renew(&mut self, _: &Svid, _: Duration) -> Result<Svid, Failure> {
        self.answer("renew")
    }

    fn evidence_may_change(&self) -> bool {
        self.may_change
    }
}

struct Kept {
    wall: Arc<Wall>,
    wake: Arc<Wake>,
    calls: Arc<Mutex<Vec<(&'static str, Duration)>>>,
    script: Arc<Mutex<VecDeque<Option<Failure>>>>,
    events: broadcast::Receiver<Event>,
    state: watch::Receiver<State>,
    polls: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// A keeper of certificates of this life.
fn keep(life_s: i64, budget_s: u32, may_change: bool, script: Vec<Option<Failure>>) -> Kept {
    let wall = Arc::new(Wall::new());
    let clock: SharedClock = wall.clone();
    let (calls, script) = (Arc::default(), Arc::new(Mutex::new(VecDeque::from(script))));
    let issuer = Scripted {
        ca: Arc::new(Workloads::new("workloads")),
        clock: Arc::clone(&clock),
        script: Arc::clone(&script),
        calls: Arc::clone(&calls),
        life_s,
        budget_s,
        may_change,
        began: Instant::now(),
    };
    let first = Arc::new(issuer.svid());
    let (state, shown) = watch::channel(State::Live(Arc::clone(&first)));
    let (events, heard) = broadcast::channel(64);
    let wake = Arc::new(Wake::default());
    let bundle = watch::channel(Arc::clone(&first.bundle)).0;
    let keeper = Keeper { issuer, clock, state, bundle, events, wake: Arc::clone(&wake), fell_back: false };
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let mut running = Box::pin(keeper.run(first));
    let task = tokio::spawn(std::future::poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::Relaxed);
        running.as_mut().poll(cx)
    }));
    Kept { wall, wake, calls, script, events: heard, state: shown, polls, task }
}

impl Kept {
    fn called(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().iter().map(|(name, _)| *name).collect()
    }

    fn said(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            out.push(match event {
                Event::Issued(_) => "issued".to_owned(),
                Event::Renewed(_) => "renewed".to_owned(),
                Event::FellBack(why) => format!("fell back: {}", why.code),
                Event::Failed { failure, last } => format!("failed: {} {last}", failure.code),
                Event::Revoked(why) => format!("revoked: {}", why.code),
                Event::Expired => "expired".to_owned(),
            });
        }
        out
    }

    async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap()
    }
}

fn no(reason: Reason) -> Option<Failure> {
    Some(Failure::of(reason))
}

#[tokio::test(start_paused = true)]
async fn a_renewal_costs_at_most_three_wake_ups_and_comes_at_two_thirds() {
    let mut kept = keep(3_600, 0, true, vec![]);
    for _ in 0..20 {
        assert!(matches!(kept.next().await, Event::Renewed(_)));
    }
    let polls = kept.polls.load(Ordering::Relaxed);
    assert!(polls <= 3 * 20, "{polls} wake-ups for 20 renewals");
    let mut before = Duration::ZERO;
    for (name, at) in kept.calls.lock().unwrap().iter() {
        assert_eq!(*name, "renew");
        let waited = (*at - before).as_secs();
        assert!((2_159..=2_401).contains(&waited), "after {waited} s of 3600");
        before = *at;
    }
}

#[tokio::test(start_paused = true)]
async fn the_outage_budget_makes_it_earlier() {
    let mut kept = keep(3_600, 2_000, true, vec![]);
    kept.next().await;
    let at = kept.calls.lock().unwrap()[0].1.as_secs();
    assert!((1_439..=1_601).contains(&at), "after {at} s");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_the_brokers_wait_is_honoured() {
    let told = Failure { retry_after: Some(Duration::from_secs(120)), ..Failure::of(Reason::Overloaded) };
    let mut kept = keep(3_600, 0, true, vec![no(Reason::StoreUnavailable), Some(told), None]);
    while !matches!(kept.next().await, Event::Renewed(_)) {}
    let calls = kept.calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 3);
    assert!(calls[2].1 - calls[1].1 >= Duration::from_secs(120));
    assert!(kept.state.borrow().svid().is_some(), "the old one was good all the time");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_outlasts_the_certificate_ends_it_and_first_evidence_follows_once() {
    let mut kept = keep(60, 0, true, vec![no(Reason::BrokerUnreachable); 400]);
    let mut changed = kept.state.clone();
    changed.changed().await.unwrap();
    assert!(matches!(&*changed.borrow_and_update(), State::Ended(why) if why.is(Reason::LeaseExpired)));
    let failures = kept.said();
    assert_eq!(failures.iter().filter(|e| *e == "expired").count(), 1);
    assert_eq!(failures.iter().filter(|e| e.starts_with("fell back")).count(), 1, "said once");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(kept.said().iter().all(|e| e == "failed: BROKER_UNREACHABLE false"));
    kept.script.lock().unwrap().clear();
    while !matches!(kept.next().await, Event::Issued(_)) {}
    assert_eq!(kept.called().last(), Some(&"first"));
    assert!(kept.state.borrow().svid().is_some());
    // From then on by itself again.
    assert!(matches!(kept.next().await, Event::Renewed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_certificate_is_withdrawn_before_a_new_one_is_there() {
    let mut kept = keep(3_600, 0, true, vec![no(Reason::LeaseRevoked), no(Reason::Blocked), None]);
    let mut changed = kept.state.clone();
    changed.changed().await.unwrap();
    assert!(matches!(&*changed.borrow_and_update(), State::Ended(why) if why.is(Reason::LeaseRevoked)));
    changed.changed().await.unwrap();
    assert!(changed.borrow().svid().is_some());
    assert_eq!(
        kept.said(),
        ["revoked: LEASE_REVOKED", "fell back: LEASE_REVOKED", "failed: BLOCKED false", "issued"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lineage_that_is_over_goes_on_with_first_evidence_while_the_certificate_lives() {
    let mut kept = keep(3_600, 0, true, vec![no(Reason::LineageEnded), no(Reason::IssuerUnavailable), None]);
    while kept.state.borrow().svid().is_some() && kept.called().len() < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(kept.called(), ["renew", "first", "first"]);
    assert_eq!(kept.said(), ["fell back: LINEAGE_ENDED", "failed: ISSUER_UNAVAILABLE false", "issued"]);
}

#[tokio::test(start_paused = true)]
async fn falling_back_is_said_once_though_the_certificate_ends_meanwhile() {
    let mut script = vec![no(Reason::LineageEnded)];
    script.extend(vec![no(Reason::IssuerUnavailable); 40]);
    let mut kept = keep(60, 0, true, script);
    let mut said = Vec::new();
    while !said.contains(&"issued".to_owned()) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        said.extend(kept.said());
    }
    assert!(said.contains(&"expired".to_owned()), "{said:?}");
    assert_eq!(said.iter().filter(|e| e.starts_with("fell back")).count(), 1, "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_came_by_a_join_token_says_that_it_needs_a_new_one() {
    let mut kept = keep(3_600, 0, false, vec![no(Reason::LeaseRevoked), no(Reason::EvidenceUsed)]);
    (&mut kept.task).await.unwrap();
    assert_eq!(
        kept.said(),
        ["revoked: LEASE_REVOKED", "fell back: LEASE_REVOKED", "failed: EVIDENCE_USED true"]
    );
    assert!(kept.state.borrow().svid().is_none());
    // A file may hold another one later.
    let mut kept = keep(3_600, 0, true, vec![no(Reason::LeaseRevoked), no(Reason::EvidenceUsed), None]);
    while !matches!(kept.next().await, Event::Issued(_)) {}
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_is_seen_when_the_certificate_is_used() {
    let mut kept = keep(3_600, 0, true, vec![]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    kept.wake.used(kept.wall.now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(kept.called().is_empty(), "a use of a fresh certificate wakes nobody");
    kept.wall.jump(3_000_000);
    kept.wake.used(kept.wall.now());
    kept.wake.used(kept.wall.now());
    assert!(matches!(kept.next().await, Event::Renewed(_)));
    assert!(kept.calls.lock().unwrap()[0].1 < Duration::from_secs(62));
    assert_eq!(kept.called().len(), 1);
    // Back again: the monotonic clock still says when.
    kept.wall.jump(-7_200_000);
    assert!(matches!(kept.next().await, Event::Renewed(_)));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_makes_no_loop() {
    let kept = keep(600, 0, true, vec![]);
    kept.wall.jump(86_400_000);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let made = kept.called().len();
    assert!((5..=20).contains(&made), "{made} renewals of ten-minute certificates in an hour");
}
