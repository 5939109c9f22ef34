//! Guards end with what they rest on, and cost nothing that concerns others.

use std::sync::Arc;

use futures::FutureExt as _;
use mayfly_domain::feed::Change;
use mayfly_domain::{LeaseId, Owner, Reason, Subject};

use super::NOW;
use super::broker::{BOUND_MS, Session, Site, at, fence, mark, soon, until};
use super::tokens::{Key, ancestor, claims, lease, owner, request, why};
use crate::guards::{Ended, Guard};
use crate::verifier::Verifier;

async fn guarded(key: &Key) -> (Site, Verifier, Session, Guard) {
    let mut site = Site::new().await;
    let (verifier, session) = site.fresh(&[&key.public]).await;
    let judged = verifier.check_token(&key.token(&claims().to_string()), &request()).unwrap();
    let guard = verifier.guard(&judged);
    guard.check().unwrap();
    (site, verifier, session, guard)
}

#[tokio::test]
async fn a_revocation_ends_the_guards_that_it_concerns() {
    let key = Key::new();
    for change in
        [fence(owner().key(), 5), fence(super::everything().key(), 5), mark(lease()), mark(ancestor())]
    {
        let (_site, verifier, mut session, guard) = guarded(&key).await;
        let other = Subject::Owner(Owner::parse("team:other").unwrap()).key();
        session.events(at(8), &[fence(other, 5), mark(LeaseId::from_bytes([1; 16]))]).await;
        session.pinged(at(9)).await;
        assert!(guard.ended().now_or_never().is_none());
        assert_eq!(verifier.metrics().guards_open(), 1);
        session.events(at(10), &[change]).await;
        assert_eq!(soon(guard.ended()).await, Ended { reason: Reason::LeaseRevoked }, "{change:?}");
        assert_eq!(soon(guard.ended()).await.reason, Reason::LeaseRevoked, "and again");
        assert_eq!(guard.check().unwrap_err().reason, Reason::LeaseRevoked);
        assert_eq!(verifier.metrics().guards_ended(Reason::LeaseRevoked), 1);
        drop(guard);
        assert!(verifier.guards().is_empty());
        assert_eq!(verifier.metrics().guards_open(), 0);
    }
}

#[tokio::test]
async fn what_came_before_it_was_registered_is_found_by_its_check() {
    let key = Key::new();
    let (_site, verifier, mut session, first) = guarded(&key).await;
    let judged = Arc::clone(first.judged());
    session.events(at(8), &[mark(lease())]).await;
    session.pinged(at(8)).await;
    let late = verifier.guard(&judged);
    assert_eq!(late.check().unwrap_err().reason, Reason::LeaseRevoked);
    drop((first, late));
    assert!(verifier.guards().is_empty());
}

#[tokio::test]
async fn a_withdrawn_key_ends_what_it_signed() {
    let key = Key::new();
    let (_site, verifier, session, guard) = guarded(&key).await;
    session.keys(2, &[&Key::new().public], &[]).await;
    assert_eq!(soon(guard.ended()).await.reason, Reason::SignerWithdrawn);
    // Whoever was accepted a moment before is not guarded by an older key either.
    let late = verifier.guard(guard.judged());
    assert_eq!(late.check().unwrap_err().reason, Reason::SignerWithdrawn);
}

#[tokio::test]
async fn another_generation_ends_every_guard_with_its_snapshot() {
    let key = Key::new();
    let (_site, _verifier, session, guard) = guarded(&key).await;
    let generation = mayfly_domain::Generation { number: 4, ..super::GENERATION };
    session.snapshot(mayfly_domain::feed::Position { generation, ..at(1) }, &[]).await;
    assert_eq!(soon(guard.ended()).await.reason, Reason::LeaseRevoked);
}

#[tokio::test]
async fn a_snapshot_of_the_same_generation_ends_those_that_it_knows_dead() {
    let key = Key::new();
    let (_site, _verifier, mut session, guard) = guarded(&key).await;
    session.snapshot(at(20), &[]).await;
    session.pinged(at(20)).await;
    assert!(guard.ended().now_or_never().is_none(), "being loaded anew ends nothing");
    session.snapshot(at(30), &[mark(lease())]).await;
    assert_eq!(soon(guard.ended()).await.reason, Reason::LeaseRevoked);
}

#[tokio::test]
async fn the_expiry_ends_it_by_wall_time() {
    let key = Key::new();
    let (site, _verifier, _session, guard) = guarded(&key).await;
    site.hands.set_wall(NOW.plus(299_000));
    assert!(guard.ended().now_or_never().is_none());
    site.hands.set_wall(NOW.plus(300_000));
    assert_eq!(soon(guard.ended()).await.reason, Reason::LeaseExpired);
}

#[tokio::test]
async fn silence_ends_it_with_the_bound() {
    let key = Key::new();
    let (site, verifier, session, guard) = guarded(&key).await;
    drop(session);
    site.hands.boot_passes(BOUND_MS - 1);
    assert!(guard.ended().now_or_never().is_none());
    guard.check().unwrap();
    site.hands.boot_passes(1);
    assert_eq!(soon(guard.ended()).await.reason, Reason::AcceptorNotFresh);
    assert_eq!(why(&verifier, "x"), Some(Reason::TokenMalformed));
}

/// A feed that has to be loaded anew is no reason to end what was in order within the bound.
#[tokio::test]
async fn a_new_snapshot_after_disorder_leaves_living_guards_alone() {
    let key = Key::new();
    let (mut site, verifier, session, guard) = guarded(&key).await;
    session.events(at(99), &[Change::Keys { version: 1 }]).await;
    let mut next = site.session().await;
    until(|| !verifier.is_fresh()).await;
    assert!(guard.ended().now_or_never().is_none());
    next.begin(&[&key.public], at(100), &[]).await;
    soon(verifier.ready()).await;
    guard.check().unwrap();
}

#[tokio::test]
async fn the_follower_lives_as_long_as_a_guard_and_no_longer() {
    let key = Key::new();
    let (_site, verifier, mut session, guard) = guarded(&key).await;
    drop(verifier);
    session.events(at(8), &[mark(lease())]).await;
    assert_eq!(soon(guard.ended()).await.reason, Reason::LeaseRevoked);
    drop(guard);
    session.lost().await;
}
