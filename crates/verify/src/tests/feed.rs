//! Feeds that are not as they should be: nothing is accepted until a new snapshot is complete and a later ping
//! answered.

use mayfly_domain::feed::{Change, Epoch, Position};
use mayfly_domain::{Generation, LeaseId, Reason};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::follow_response::What;

use super::GENERATION;
use super::broker::{Session, Site, at, fence, mark, soon, until};
use super::tokens::{Key, claims, lease, owner, why};
use crate::follower::apply::to_wire;
use crate::verifier::Verifier;

fn other_lease() -> Change {
    mark(LeaseId::from_bytes([1; 16]))
}

/// What a broker does wrong in a session that was in order, after event 7.
async fn misbehave(session: &mut Session, how: &str) {
    match how {
        "jumps back" => session.events(at(3), &[other_lease()]).await,
        "repeats" => session.events(at(7), &[other_lease()]).await,
        "skips" => session.events(at(9), &[other_lease()]).await,
        "skips within a batch of its own" => {
            session.events(at(8), &[other_lease()]).await;
            session.events(at(10), &[other_lease()]).await;
        }
        "changes epoch" => {
            session.events(Position { epoch: Epoch([2; 16]), ..at(8) }, &[other_lease()]).await;
        }
        "changes generation" => {
            let generation = Generation { number: GENERATION.number + 1, ..GENERATION };
            session.events(Position { generation, ..at(8) }, &[other_lease()]).await;
        }
        "answers before it has sent" => {
            let ping = session.ping().await.unwrap();
            session.pong(ping.id, at(8)).await;
        }
        "answers from another epoch" => {
            let ping = session.ping().await.unwrap();
            session.pong(ping.id, Position { epoch: Epoch([2; 16]), ..at(7) }).await;
        }
        "tells of keys that it has not sent" => {
            session.events(at(8), &[Change::Keys { version: 2 }]).await;
        }
        "ends a snapshot that did not begin" => {
            session.say(What::SnapshotEnd(pb::SnapshotEnd { position: Some(to_wire(at(8))) })).await;
        }
        "ends another snapshot than it began" => {
            let (begun, ended) = (Some(to_wire(at(8))), Some(to_wire(at(9))));
            session
                .say(What::SnapshotBegin(pb::SnapshotBegin { position: begun, entries: 0, over_ms: 0 }))
                .await;
            session.say(What::SnapshotEnd(pb::SnapshotEnd { position: ended })).await;
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_feed_out_of_order_is_believed_no_more_until_a_new_snapshot() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    for how in [
        "jumps back",
        "repeats",
        "skips",
        "skips within a batch of its own",
        "changes epoch",
        "changes generation",
        "answers before it has sent",
        "answers from another epoch",
        "tells of keys that it has not sent",
        "ends a snapshot that did not begin",
        "ends another snapshot than it began",
    ] {
        let mut site = Site::new().await;
        let (verifier, mut session) = site.fresh(&[&key.public]).await;
        assert_eq!(why(&verifier, &token), None);
        misbehave(&mut session, how).await;
        let mut next = site.session().await;
        assert_eq!(next.start.resume, None, "{how}");
        assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh), "{how}");
        // The snapshot alone does not make it fresh: what came since must have been asked for.
        next.accept().await;
        next.keys(2, &[&key.public], &[]).await;
        next.snapshot(at(20), &[]).await;
        let ping = next.ping().await.unwrap();
        assert!(!verifier.is_fresh() && ping.applied == 20, "{how}");
        next.pong(ping.id, at(20)).await;
        soon(verifier.ready()).await;
        assert_eq!(why(&verifier, &token), None, "{how}");
    }
}

#[tokio::test]
async fn malformed_messages_end_the_session_and_nothing_else() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let position = |at: Position| Some(to_wire(at));
    let short = Some(pb::FeedPosition { epoch: vec![1; 15], ..to_wire(at(8)) });
    let bundle = pb::TrustBundle { version: 2, jwks: b"{}".to_vec(), ..Default::default() };
    for bad in [
        What::Events(pb::FeedEvents { first: position(at(8)), events: vec![vec![1, 9]] }),
        What::Events(pb::FeedEvents { first: position(at(8)), events: vec![vec![1; 10_000]] }),
        What::Events(pb::FeedEvents { first: None, events: Vec::new() }),
        What::Events(pb::FeedEvents { first: short, events: Vec::new() }),
        What::SnapshotPart(pb::SnapshotPart { events: vec![Vec::new()] }),
        What::Keys(bundle),
        What::Canary(pb::Canary { lease: "x".into(), observation: Vec::new() }),
        What::Accepted(pb::FollowAccepted::default()),
    ] {
        let mut site = Site::new().await;
        let (verifier, mut session) = site.fresh(&[&key.public]).await;
        session.say(bad.clone()).await;
        session.lost().await;
        // It goes on where it was, within its bound: nothing that it has is in doubt.
        let next = site.session().await;
        assert_eq!(next.start.resume, Some(to_wire(at(7))), "{bad:?}");
        assert_eq!(next.start.follower, session.start.follower);
        assert_eq!(why(&verifier, &token), None, "{bad:?}");
    }
}

#[tokio::test]
async fn it_resumes_without_a_snapshot_and_misses_nothing() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, mut session) = site.fresh(&[&key.public]).await;
    session.events(at(8), &[other_lease()]).await;
    session.pinged(at(8)).await;
    drop(session);
    let mut next = site.session().await;
    assert_eq!(next.start.resume, Some(to_wire(at(8))));
    assert_eq!(why(&verifier, &token), None);
    next.accept().await;
    next.events(at(9), &[mark(lease())]).await;
    next.pinged(at(9)).await;
    assert_eq!(why(&verifier, &token), Some(Reason::LeaseRevoked));
    assert_eq!(verifier.metrics().snapshots(), 1);
}

#[tokio::test]
async fn a_snapshot_has_what_came_before_it_and_nothing_of_an_older_one() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let verifier = site.builder().start().unwrap();
    let mut session = site.session().await;
    session.begin(&[&key.public], at(7), &[fence(owner().key(), 5)]).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), Some(Reason::LeaseRevoked));
    // A broker replaces the snapshot of a follower that was too slow.
    session.snapshot(at(30), &[]).await;
    session.pinged(at(30)).await;
    until(|| verifier.is_fresh()).await;
    assert_eq!(why(&verifier, &token), None);
    assert_eq!(verifier.revocations(), 0);
}

#[tokio::test]
async fn while_a_snapshot_is_under_way_nothing_is_accepted() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, mut session) = site.fresh(&[&key.public]).await;
    assert_eq!(why(&verifier, &token), None);
    session
        .say(What::SnapshotBegin(pb::SnapshotBegin {
            position: Some(to_wire(at(30))),
            entries: 0,
            over_ms: 0,
        }))
        .await;
    until(|| !verifier.is_fresh()).await;
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
    session.say(What::SnapshotEnd(pb::SnapshotEnd { position: Some(to_wire(at(30))) })).await;
    session.pinged(at(30)).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), None);
}

#[tokio::test]
async fn what_was_verified_for_another_issuer_is_verified_again() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, session) = site.fresh(&[&key.public]).await;
    assert_eq!(why(&verifier, &token), None);
    drop(session);
    let mut next = site.session().await;
    next.accept_as("https://other.acme.internal:8443", &["https://deploy.acme.internal"]).await;
    next.pinged(at(7)).await;
    assert_eq!(why(&verifier, &token), Some(Reason::TokenMalformed));
}

#[tokio::test]
async fn an_acceptor_takes_what_its_broker_and_it_itself_say() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let own = mayfly_domain::Audience::parse("https://other.acme.internal").unwrap();
    let (verifier, session) = site.fresh_with(|b| b.audiences([own]), &[&key.public]).await;
    assert_eq!(why(&verifier, &token), Some(Reason::TokenAudience), "narrowed by itself");
    drop((verifier, session));
    let (verifier, session) = site.fresh(&[&key.public]).await;
    assert_eq!(why(&verifier, &token), None);
    drop(session);
    let mut next = site.session().await;
    next.accept_as(super::tokens::ISSUER, &["https://other.acme.internal"]).await;
    next.pinged(at(7)).await;
    assert_eq!(why(&verifier, &token), Some(Reason::TokenAudience), "by its broker");
}

#[tokio::test]
async fn a_full_table_refuses_and_forgets_nothing() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, session) = site.fresh_with(|b| b.capacity(3), &[&key.public]).await;
    let marks: Vec<_> = (0..3_u128).map(|n| mark(LeaseId::from_bytes(n.to_be_bytes()))).collect();
    session.events(at(8), &marks).await;
    until(|| verifier.position() == at(10)).await;
    assert_eq!(why(&verifier, &token), None);
    // What is there already finds its place.
    session.events(at(11), &marks).await;
    until(|| verifier.position() == at(13)).await;
    session.events(at(14), &[mark(LeaseId::from_bytes([9; 16]))]).await;
    let next = site.session().await;
    assert_eq!(why(&verifier, &token), Some(Reason::AcceptorNotFresh));
    assert_eq!(next.start.resume, None);
    // Nor is a snapshot taken that does not fit.
    next.accept().await;
    let four: Vec<_> = (0..4_u128).map(|n| mark(LeaseId::from_bytes(n.to_be_bytes()))).collect();
    next.snapshot(at(20), &four).await;
    let mut last = site.session().await;
    assert!(!verifier.is_fresh());
    last.begin(&[&key.public], at(21), &marks).await;
    soon(verifier.ready()).await;
    assert_eq!(why(&verifier, &token), None);
}

async fn pinged_without_an_answer(site: &mut Site, verifier: &Verifier, session: &mut Session) {
    let ping = session.ping().await.unwrap();
    assert!(verifier.is_fresh());
    session.lost().await;
    let next = site.session().await;
    assert_eq!(next.start.resume, Some(to_wire(at(ping.applied))));
}

#[tokio::test]
async fn a_broker_that_stalls_is_left_for_another() {
    let key = Key::new();
    let mut site = Site::new().await;
    let with = |b: crate::Builder| b.bound(std::time::Duration::from_millis(400));
    let (verifier, mut session) = site.fresh_with(with, &[&key.public]).await;
    pinged_without_an_answer(&mut site, &verifier, &mut session).await;
}

#[tokio::test]
async fn a_broker_that_is_full_is_left_alone_as_long_as_it_says() {
    const AFTER: std::time::Duration = std::time::Duration::from_millis(1_200);
    let mut site = Site::new().await;
    let _verifier = site.builder().start().unwrap();
    let session = site.session().await;
    let begun = tokio::time::Instant::now();
    session.refuse(AFTER).await;
    site.session().await;
    assert!(begun.elapsed() >= AFTER, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_canary_is_told_when_it_is_refused() {
    let key = Key::new();
    let mut site = Site::new().await;
    let (_verifier, mut session) = site.fresh(&[&key.public]).await;
    let observation = super::tokens::observed(GENERATION).encode();
    session.say(What::Canary(pb::Canary { lease: lease().to_string(), observation })).await;
    let before = session.pinged(at(7)).await;
    assert!(before.canaries.is_empty());
    session.events(at(8), &[mark(lease())]).await;
    let ping = session.pinged(at(8)).await;
    let seen: Vec<_> = ping.canaries.iter().map(|canary| canary.lease.as_str()).collect();
    assert_eq!(seen, [lease().to_string()]);
    assert!(session.pinged(at(8)).await.canaries.is_empty(), "told twice");
}
