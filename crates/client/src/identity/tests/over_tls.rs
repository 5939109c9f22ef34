//! The whole identity, against a broker that is scripted.

use mayfly_domain::{ProfileName, UnixMillis};

use super::*;
use crate::fixture::broker::World;
use crate::fixture::workloads::Workloads;

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
    // A broker that is behind: it does not bring back what was withdrawn, nor take away what is new.
    let behind = Workloads::new("withdrawn");
    world.broker.bundle.send_modify(|sent| {
        sent.version -= 1;
        sent.workload_anchors = vec![behind.anchor.to_vec()];
    });
    // Long enough for it to arrive: streams give the newest value alone.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    world.broker.bundle.send_modify(|sent| {
        sent.version += 2;
        sent.workload_anchors = vec![rotated.anchor.to_vec()];
    });
    loop {
        bundle.changed().await.unwrap();
        let now = bundle.borrow_and_update().clone();
        assert!(!now.workload_anchors.contains(&behind.anchor));
        if now.version == 3 {
            break;
        }
    }
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
