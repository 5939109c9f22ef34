//! Acceptors that follow a broker: what they are told, in which order, and when they are told nothing more.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::feed::{Change, Position};
use mayfly_domain::follow::{FenceTable, Follower};
use mayfly_domain::{BootTime, Reason, Refusal, UnixMillis};
use mayfly_lease::feed::FollowerKind;

use super::config::running_without_requests;
use super::site::*;
use crate::*;

const BOUND: u32 = 5_000;

pub(super) fn start(id: u8) -> FollowStart {
    FollowStart { follower: [id; 16], bound_ms: None, resume: None, policies: false }
}

pub(super) async fn certificate(node: &Node, name: &str) -> ClientCertificate {
    let (certificate, _) = node.certificate(StaffKind::Acceptor(name.parse().unwrap())).await.unwrap();
    // Its lease is no event, but its evidence may be.
    node.broker.catch_up().await;
    certificate
}

/// An acceptor as it would keep what it is told.
pub(super) struct Api {
    pub(super) follows: Follows,
    pub(super) follower: Follower,
    table: FenceTable,
    pub(super) told: Vec<&'static str>,
    keys: Option<u64>,
    over: UnixMillis,
    pub(super) canary: Option<Arc<Canary>>,
}

pub(super) async fn follow(
    node: &Node,
    certificate: &ClientCertificate,
    start: FollowStart,
) -> Result<Api, Refusal> {
    let seat = node.broker.seat(&node.call(), Some(certificate)).await?;
    let follows = node.broker.follows(seat, &start);
    // Its registration waits for a write, which the workers of a running broker would make.
    let (follows, _) = tokio::join!(follows, async {
        tokio::task::yield_now().await;
        node.broker.ping_all().await
    });
    Ok(Api {
        follows: follows?,
        follower: Follower::new(u64::from(BOUND)),
        table: FenceTable::new(1_000),
        told: Vec::new(),
        keys: None,
        over: UnixMillis(0),
        canary: None,
    })
}

impl Api {
    /// Takes everything that it can be told now.
    pub(super) async fn drain(&mut self) -> Result<(), Refusal> {
        while let Ok(told) = tokio::time::timeout(Duration::from_millis(50), self.follows.next()).await {
            self.take(told?);
        }
        Ok(())
    }

    fn take(&mut self, told: Told) {
        let name = match &told {
            Told::Accepted { .. } => "accepted",
            Told::Keys(_) => "keys",
            Told::SnapshotBegin { .. } => "begin",
            Told::SnapshotPart(_) => "part",
            Told::SnapshotEnd(_) => "end",
            Told::Events(..) => "events",
            Told::Pong(..) => "pong",
            Told::Canary(_) => "canary",
            Told::Policies(_) => "policies",
        };
        self.told.push(name);
        match told {
            Told::Accepted { .. } | Told::Policies(_) => {}
            Told::Keys(bundle) => self.keys = Some(bundle.version),
            Told::SnapshotBegin { at, over, .. } => {
                self.over = over;
                self.table.clear();
                self.follower.snapshot_begins(at);
            }
            Told::SnapshotPart(events) => {
                events.iter().for_each(|event| self.table.apply(&event.change).unwrap());
            }
            Told::SnapshotEnd(at) => self.follower.snapshot_ends(at).unwrap(),
            Told::Events(first, events) => {
                for (event, number) in events.iter().zip(first.number..) {
                    self.table.apply(&event.change).unwrap();
                    self.follower.event(Position { number, ..first }).unwrap();
                    if let Change::Keys { version } = event.change {
                        assert!(self.keys.unwrap() >= version, "the keys come before their event");
                    }
                }
            }
            Told::Pong(id, at) => self.follower.pong(id, at).unwrap(),
            Told::Canary(canary) => self.canary = Some(canary),
        }
    }

    fn ping(&mut self, now: BootTime) -> Result<u64, Refusal> {
        let id = self.follower.ping(now).unwrap();
        let applied = self.follower.position().unwrap().number;
        self.follows.ping(&Ping { id, applied, canaries: Vec::new() })?;
        Ok(id)
    }
}

fn seen(site: &Site) -> Vec<(String, u64)> {
    let all = site.store.tamper(|view| view.followers.values().cloned().collect::<Vec<_>>());
    let acceptors = all.into_iter().filter(|seen| seen.ping.kind == FollowerKind::Acceptor);
    acceptors.map(|seen| (seen.ping.name, seen.ping.applied)).collect()
}

#[tokio::test]
async fn a_follower_is_registered_then_told_all_then_events_then_answered() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let operator = node.operator("alice").await;
    let certificate = certificate(&node, "deploy-api").await;
    node.revoke(&operator, owner("team:old")).await;
    node.broker.catch_up().await;
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    assert_eq!(seen(&site), [("deploy-api".to_owned(), 0)], "before anything was read");
    api.drain().await.unwrap();
    assert_eq!(api.told, ["accepted", "keys", "begin", "part", "keys", "end"]);
    assert_eq!(api.follower.position(), node.broker.feed().position());
    assert_eq!(api.over, START.minus(mayfly_domain::defaults::SKEW_MS));
    assert!(api.table.fence(owner("team:old").key()).is_some());

    node.revoke(&operator, owner("team:payments")).await;
    api.ping(BootTime(7)).unwrap();
    // The write finds the revocation, of which the broker itself has not heard: no answer yet.
    node.broker.ping_all().await.unwrap();
    api.drain().await.unwrap();
    assert!(!api.told.contains(&"pong"), "{:?}", api.told);
    assert_eq!(api.follower.fresh_until(), BootTime(0));
    node.broker.catch_up().await;
    api.drain().await.unwrap();
    assert_eq!(api.told[6..], ["events", "pong"]);
    assert_eq!(api.follower.fresh_until(), BootTime(7).plus_ms(u64::from(BOUND)));
    assert!(api.table.fence(owner("team:payments").key()).is_some());
}

#[tokio::test]
async fn one_that_comes_back_goes_on_where_it_was() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let operator = node.operator("alice").await;
    let certificate = certificate(&node, "deploy-api").await;
    let at = node.broker.feed().position().unwrap();
    node.revoke(&operator, owner("team:payments")).await;
    node.broker.catch_up().await;
    let resume = |at| FollowStart { resume: Some(at), ..start(1) };
    let mut api = follow(&node, &certificate, resume(at)).await.unwrap();
    let Told::Accepted { resumed, .. } = api.follows.next().await.unwrap() else { panic!() };
    assert!(resumed);
    api.follower.snapshot_begins(at);
    api.follower.snapshot_ends(at).unwrap();
    api.drain().await.unwrap();
    assert_eq!(api.told, ["keys", "events"]);
    for elsewhere in [
        Position { number: at.number + 9, ..at },
        Position { epoch: mayfly_domain::feed::Epoch([1; 16]), ..at },
        Position { generation: mayfly_domain::Generation { number: 77, ..at.generation }, ..at },
    ] {
        let mut api = follow(&node, &certificate, resume(elsewhere)).await.unwrap();
        api.drain().await.unwrap();
        assert_eq!(api.told[..3], ["accepted", "keys", "begin"], "{elsewhere:?}");
        // Its first ping may be of the table that it had: it confirms nothing.
        let now = node.broker.feed().position().unwrap().number;
        api.ping(BootTime(1)).unwrap();
        node.broker.ping_all().await.unwrap();
        assert_eq!(seen(&site), [("deploy-api".to_owned(), 0)]);
        api.drain().await.unwrap();
        api.ping(BootTime(2)).unwrap();
        node.broker.ping_all().await.unwrap();
        assert_eq!(seen(&site), [("deploy-api".to_owned(), now)]);
    }
}

#[tokio::test]
async fn a_table_that_the_broker_lost_is_told_anew() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let certificate = certificate(&node, "deploy-api").await;
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();
    node.broker.feed().change(|state| state.resync(mayfly_domain::follow::Resync::Skipped));
    node.broker.catch_up().await;
    api.told.clear();
    api.drain().await.unwrap();
    assert_eq!(api.told, ["begin", "keys", "end"]);
}

#[tokio::test]
async fn changed_keys_are_told_before_their_event() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let operator = node.operator("alice").await;
    let certificate = certificate(&node, "deploy-api").await;
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();
    let before = api.keys;
    node.broker.rotate_keys(&node.call(), &operator, KeyStep::Prepare(None)).await.unwrap();
    node.revoke(&operator, owner("team:payments")).await;
    node.broker.catch_up().await;
    api.told.clear();
    api.drain().await.unwrap();
    assert_eq!(api.told, ["keys", "events"]);
    assert!(api.keys > before);
    assert!(api.table.fence(owner("team:payments").key()).is_some());
}

#[tokio::test]
async fn bounds_and_pings_that_can_not_be_are_refused() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let certificate = certificate(&node, "deploy-api").await;
    for (bound, reason) in
        [(3_600_000, Reason::BoundTooLong), (10_001, Reason::BoundTooLong), (1, Reason::InputInvalid)]
    {
        let start = FollowStart { bound_ms: Some(bound), ..start(1) };
        assert_eq!(follow(&node, &certificate, start).await.err().unwrap().reason, reason, "{bound}");
    }
    let nobody = FollowStart { follower: [0; 16], ..start(1) };
    assert_eq!(follow(&node, &certificate, nobody).await.err().unwrap().reason, Reason::InputInvalid);
    let mut api =
        follow(&node, &certificate, FollowStart { bound_ms: Some(10_000), ..start(1) }).await.unwrap();
    api.drain().await.unwrap();
    let told = node.broker.feed().position().unwrap().number;
    let ping = |id, applied| Ping { id, applied, canaries: Vec::new() };
    assert_eq!(api.follows.ping(&ping(0, 0)).unwrap_err().reason, Reason::InputInvalid);
    assert_eq!(
        api.follows.ping(&ping(1, told + 1)).unwrap_err().reason,
        Reason::InputInvalid,
        "not told yet"
    );
    api.follows.ping(&ping(2, told)).unwrap();
    assert_eq!(api.follows.ping(&ping(2, told)).unwrap_err().reason, Reason::InputInvalid, "again");
}

#[tokio::test]
async fn who_may_not_follow_is_refused_and_who_may_no_more_is_told_nothing() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let operator = node.operator("alice").await;
    let certificate = certificate(&node, "deploy-api").await;
    let why = |outcome: Result<Seat, Refusal>| outcome.err().unwrap().reason;
    assert_eq!(why(node.broker.seat(&node.call(), None).await), Reason::CertificateRequired);
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();

    let mut without = running();
    without.engine = mayfly_policy::Engine::load(domain(), &[], &[], Vec::new(), Default::default()).unwrap();
    node.broker.reload(node.broker.verifier().rules().as_ref().clone(), without);
    assert_eq!(api.drain().await.unwrap_err().reason, Reason::FollowNotAllowed);
    assert_eq!(why(node.broker.seat(&node.call(), Some(&certificate)).await), Reason::FollowNotAllowed);
    assert_eq!(node.audited_as("follow").last().unwrap()["reason"], "FOLLOW_NOT_ALLOWED");

    node.broker.reload(node.broker.verifier().rules().as_ref().clone(), running());
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();
    let mut other = running();
    other.acceptors.get_mut(&"deploy-api".parse().unwrap()).unwrap().certificates = true;
    node.broker.reload(node.broker.verifier().rules().as_ref().clone(), other);
    assert_eq!(
        api.drain().await.unwrap_err().reason,
        Reason::RaceLost,
        "it is told its entry when it comes back"
    );

    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();
    node.revoke(&operator, owner("team:platform")).await;
    node.broker.catch_up().await;
    assert_eq!(api.drain().await.unwrap_err().reason, Reason::CertificateNotAllowed, "its owner was revoked");
    assert_eq!(why(node.broker.seat(&node.call(), Some(&certificate)).await), Reason::CertificateNotAllowed);
}

#[tokio::test]
async fn a_certificates_end_ends_the_stream() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let certificate = certificate(&node, "deploy-api").await;
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();
    site.clock.advance(mayfly_domain::defaults::ACCEPTOR_TTL.as_millis());
    assert_eq!(api.drain().await.unwrap_err().reason, Reason::CertificateNotAllowed);
}

#[tokio::test]
async fn a_good_bye_is_not_waited_for_and_no_other_acceptor_can_say_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (deploy, ledger) = (certificate(&node, "deploy-api").await, certificate(&node, "ledger-api").await);
    let one = follow(&node, &deploy, start(1)).await.unwrap();
    let mut other = follow(&node, &ledger, start(1)).await.unwrap();
    other.drain().await.unwrap();
    // Pinged and gone before that was written: it does not come back.
    other.ping(BootTime(7)).unwrap();
    other.follows.good_bye().await;
    node.broker.ping_all().await.unwrap();
    assert_eq!(seen(&site), [("deploy-api".to_owned(), 0)], "the same random number, another follower");
    drop(one);
    assert_eq!(seen(&site).len(), 1, "a stream that broke off stays registered");
    assert_eq!(node.broker.feed().followers(), 0, "its place is free");
}

#[tokio::test]
async fn a_draining_broker_lets_its_followers_go() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let certificate = certificate(&node, "deploy-api").await;
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();
    node.broker.drain();
    assert_eq!(api.drain().await.unwrap_err().reason, Reason::NotServing);
}

#[tokio::test]
async fn policies_come_before_any_answer_and_again_when_they_changed() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let certificate = certificate(&node, "deploy-api").await;
    let wants = |start: FollowStart| FollowStart { policies: true, ..start };
    let mut api = follow(&node, &certificate, wants(start(1))).await.unwrap();
    api.drain().await.unwrap();
    assert_eq!(api.told, ["accepted", "keys", "policies", "begin", "keys", "end"]);
    api.ping(BootTime(7)).unwrap();
    let rules = || node.broker.verifier().rules().as_ref().clone();
    node.broker.reload(rules(), running());
    node.broker.ping_all().await.unwrap();
    api.drain().await.unwrap();
    assert_eq!(api.told[6..], ["pong"], "the same policies are not told again");

    node.broker.reload(rules(), running_without_requests());
    api.ping(BootTime(8)).unwrap();
    node.broker.ping_all().await.unwrap();
    api.drain().await.unwrap();
    assert_eq!(api.told[7..], ["policies", "pong"], "before an answer makes it fresh");

    let at = node.broker.feed().position().unwrap();
    let resumed = FollowStart { resume: Some(at), ..start(2) };
    let mut again = follow(&node, &certificate, wants(resumed)).await.unwrap();
    again.drain().await.unwrap();
    assert_eq!(again.told, ["accepted", "keys", "policies"], "whoever comes back may have missed a change");
}

#[tokio::test]
async fn one_that_comes_as_another_each_time_does_not_fill_the_store() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let certificate = certificate(&node, "deploy-api").await;
    let as_another = |n: usize| {
        let mut start = start(1);
        start.follower[8..].copy_from_slice(&n.to_be_bytes());
        start
    };
    let mut came = 0;
    let refused = loop {
        match follow(&node, &certificate, as_another(came)).await {
            Ok(_) => came += 1,
            Err(refusal) => break refusal,
        }
        assert!(came < 10_000, "nobody is refused");
    };
    assert_eq!(refused.reason, Reason::Overloaded);
    assert_eq!(seen(&site).len(), came);
    // Whoever was there comes back, and takes leave.
    let api = follow(&node, &certificate, as_another(7)).await.unwrap();
    api.follows.good_bye().await;
    follow(&node, &certificate, as_another(came)).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_is_too_old_is_not_sent_to_its_end() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let certificate = certificate(&node, "deploy-api").await;
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    while !api.told.contains(&"begin") {
        let told = api.follows.next().await.unwrap();
        api.take(told);
    }
    let at = node.broker.feed().position().unwrap();
    let lease = mayfly_domain::LeaseId::from_bytes([7; 16]);
    let change = Change::Mark { lease, until: UnixMillis(u64::MAX) };
    let event = mayfly_domain::feed::Event { at: UnixMillis(1), revocation: None, change };
    node.broker.feed().change(|state| {
        for number in at.number + 1..=at.number + 70_000 {
            state.apply(&at, &mayfly_domain::feed::Numbered { number, event }).unwrap();
        }
    });
    api.told.clear();
    api.drain().await.unwrap();
    assert_eq!(api.told, ["begin", "part", "keys", "end"]);
    assert_eq!(api.follower.position().unwrap().number, at.number + 70_000);
}
