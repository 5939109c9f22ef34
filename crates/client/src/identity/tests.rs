use std::collections::VecDeque;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use mayfly_domain::{Clock as _, ProfileName, UnixMillis};
use mayfly_proto::v1 as pb;
use tokio::time::Instant;

use super::*;
use crate::fixture::broker::{DOMAIN, WORKLOAD, World};
use crate::fixture::clock::Wall;
use crate::fixture::workloads::Workloads;
use crate::keys::WorkloadKey;

fn ask() -> CertificateAsk {
    CertificateAsk::new(ProfileName::parse("x509-api").unwrap())
}

// ---- the keeper, by a paused clock and an issuer that is scripted ----

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

// ---- against a broker ----

async fn start(world: &World, source: Source) -> X509Identity {
    X509Identity::start(&world.target, source, Options::new(ask())).await.unwrap()
}

fn leaf(state: &watch::Receiver<State>) -> Vec<u8> {
    state.borrow().svid().unwrap().chain[0].to_vec()
}

#[tokio::test]
async fn the_first_certificate_takes_one_connection_one_nonce_and_one_mint() {
    let world = World::new().await;
    let identity = start(&world, Source::File(world.token.clone())).await;
    let script = world.broker.script();
    assert_eq!((script.connections, script.nonces_asked, script.calls.len()), (1, 1, 1));
    let svid = identity.svid().unwrap();
    assert!(svid.expires > UnixMillis(0));
    assert!(!format!("{identity:?} {svid:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_renewal_proves_the_old_key_by_the_handshake_and_brings_a_new_one() {
    let world = World::new().await;
    let identity = start(&world, Source::File(world.token.clone())).await;
    let (mut events, state) = (identity.events(), identity.state());
    let first = identity.svid().unwrap();
    let before = leaf(&state);
    for renewal in 1..=3 {
        identity.renew_now();
        let Ok(Event::Renewed(svid)) = events.recv().await else { unreachable!("a renewal") };
        assert_eq!(svid.lease, first.lease);
        assert_ne!(svid.key.public(), first.key.public());
        assert_eq!(world.broker.script().leases[&first.lease.to_string()].renewals, renewal);
    }
    assert_ne!(leaf(&state), before);
    assert_eq!(world.broker.script().nonces_asked, 1, "each answer brought the next nonce");
}

#[tokio::test]
async fn a_renewal_whose_answer_is_lost_is_made_again_with_the_same_key() {
    let world = World::new().await;
    let identity = start(&world, Source::File(world.token.clone())).await;
    let (mut events, first) = (identity.events(), identity.svid().unwrap());
    world.broker.script().lost = 2;
    identity.renew_now();
    let Ok(Event::Renewed(svid)) = events.recv().await else { unreachable!("a renewal") };
    assert_eq!(svid.lease, first.lease);
    assert_eq!(world.broker.script().leases[&first.lease.to_string()].renewals, 3);
}

#[tokio::test]
async fn an_attempt_that_failed_keeps_its_key_for_the_next() {
    let world = World::new().await;
    let mut at = AtBroker {
        line: Line::connect(&world.target, retry::CALL).await.unwrap(),
        target: world.target.clone(),
        source: Arc::new(Source::File(world.token.clone())),
        ask: ask(),
        home: None,
        keep_key: false,
        clock: Arc::new(SystemClock),
        first_key: None,
        next_key: None,
    };
    let held = at.first(retry::CALL).await.unwrap();
    world.broker.script().lost = 1;
    // Too short for another try within the attempt.
    at.renew(&held, Duration::from_millis(90)).await.unwrap_err();
    let renewed = at.renew(&held, retry::CALL).await.unwrap();
    assert_eq!(renewed.lease, held.lease);
}

#[tokio::test]
async fn the_key_is_kept_on_request() {
    let world = World::new().await;
    let options = Options { keep_key: true, ..Options::new(ask()) };
    let source = Source::File(world.token.clone());
    let identity = X509Identity::start(&world.target, source, options).await.unwrap();
    let (mut events, first) = (identity.events(), identity.svid().unwrap());
    identity.renew_now();
    let Ok(Event::Renewed(svid)) = events.recv().await else { unreachable!("a renewal") };
    assert_eq!(svid.key.public(), first.key.public());
}

#[tokio::test]
async fn a_revoked_lease_falls_back_to_first_evidence() {
    let world = World::new().await;
    let identity = start(&world, Source::File(world.token.clone())).await;
    let (mut events, first) = (identity.events(), identity.svid().unwrap());
    let lease = first.lease.to_string();
    world.broker.script().leases.get_mut(&lease).unwrap().dead = Some(Reason::LeaseRevoked);
    identity.renew_now();
    assert!(matches!(events.recv().await, Ok(Event::Revoked(_))));
    assert!(matches!(events.recv().await, Ok(Event::FellBack(_))));
    let Ok(Event::Issued(svid)) = events.recv().await else { unreachable!("another lease") };
    assert_ne!(svid.lease, first.lease);
    assert_eq!(svid.key.public(), first.key.public(), "the token belongs to its first key");
}

#[tokio::test]
async fn a_change_of_the_bundle_comes_by_its_stream() {
    let world = World::new().await;
    let identity = start(&world, Source::File(world.token.clone())).await;
    let mut bundle = identity.bundle();
    let rotated = Workloads::new("rotated");
    world.broker.bundle.send_modify(|sent| {
        sent.version += 1;
        sent.workload_anchors.push(rotated.anchor.to_vec());
    });
    let known = bundle.wait_for(|b| b.workload_anchors.contains(&rotated.anchor)).await.unwrap().clone();
    assert_eq!(known.version, 2);
}

#[tokio::test]
async fn a_live_certificate_is_evidence_and_ends_with_its_release() {
    let world = World::new().await;
    let token = mayfly_domain::JoinToken::new(&[3; 24]);
    let file = world.dir.path().join("join");
    std::fs::write(&file, token.expose()).unwrap();
    let identity = start(&world, Source::File(file)).await;
    let child = crate::workload::Ask {
        profile: ProfileName::parse("payments-deploy").unwrap(),
        intent: None,
        reason: None,
        ttl: None,
        scopes: mayfly_domain::Scopes::default(),
    };
    let client = identity.client().await.unwrap();
    client.mint(&child).await.unwrap();
    // A call that meets a renewal goes over the connection with the new certificate.
    let mut events = identity.events();
    for _ in 0..5 {
        identity.renew_now();
        assert!(matches!(events.recv().await, Ok(Event::Renewed(_))));
        client.mint(&child).await.unwrap();
    }
    drop(client);
    // Something that was made from it lives on; it must not bring another certificate.
    let mut state = identity.state();
    identity.release().await.unwrap();
    assert_eq!(world.broker.script().calls.last().unwrap().0, mayfly_proto::rpc::RELEASE);
    let ended = state.wait_for(|s| s.svid().is_none()).await.unwrap().clone();
    assert!(matches!(ended, State::Ended(why) if why.is(Reason::LeaseEnded)));
    assert!(state.changed().await.is_err(), "nobody keeps it any more");
}

#[tokio::test]
async fn a_ca_that_was_withdrawn_is_refused_in_the_handshake_and_first_evidence_follows() {
    let world = World::new().await;
    let identity = start(&world, Source::File(world.token.clone())).await;
    let (mut events, first) = (identity.events(), identity.svid().unwrap());
    world.broker.withdraw_ca();
    identity.renew_now();
    assert!(matches!(events.recv().await, Ok(Event::FellBack(_))));
    let Ok(Event::Issued(svid)) = events.recv().await else { unreachable!("another lease") };
    assert_ne!(svid.lease, first.lease);
}

#[tokio::test]
async fn nothing_is_kept_that_nobody_uses() {
    let world = World::new().await;
    let identity = start(&world, Source::File(world.token.clone())).await;
    let events = identity.events.downgrade();
    drop(identity);
    // The keeper holds the last sender of events.
    while events.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
}
