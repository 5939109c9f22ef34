//! Barriers over a store that forgets who follows.

use mayfly_domain::defaults;
use mayfly_domain::feed::Epoch;
use mayfly_lease::feed::{FollowerId, FollowerKind, FollowerPing};
use mayfly_testkit::memory::MemoryView;

use super::site::*;
use crate::*;

fn follower(epoch: Epoch) -> FollowerPing {
    FollowerPing {
        id: FollowerId([7; 16]),
        kind: FollowerKind::Acceptor,
        name: "deploy-api".to_owned(),
        broker: "one".to_owned(),
        bound_ms: defaults::FOLLOW_BOUND_MAX_MS,
        reuse_ms: 0,
        applied: 0,
        epoch,
    }
}

fn waits_for_it(told: &BarrierTold) -> bool {
    told.progress.waiting.iter().any(|seen| seen.ping.id == FollowerId([7; 16]))
}

/// Revokes, lets the broker itself apply that, and begins to wait.
async fn revoked(node: &Node) -> BarrierWait {
    let alice = node.operator("alice").await;
    let outcome = node.revoke(&alice, owner("team:payments")).await;
    node.broker.catch_up().await;
    node.broker.ping_all().await.unwrap();
    let (number, generation) = (outcome.number, outcome.generation.unwrap());
    let input = BarrierInput { number, generation, timeout: None };
    node.broker.barrier(&node.call(), &alice, &input).await.unwrap()
}

#[tokio::test]
async fn a_store_that_forgot_a_follower_has_not_heard_that_it_applied_anything() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let store = node.broker.leases().store();
    let epoch = store.feed_position().await.unwrap().epoch;
    store.ping(&[follower(epoch)]).await.unwrap();
    let mut wait = revoked(&node).await;
    assert!(waits_for_it(&wait.next().await.unwrap()));
    site.store.tamper(|view| *view = MemoryView::default());
    node.broker.look().await;
    assert_eq!(node.number(), 2);
    site.boot.advance(1_000);
    let told = wait.next().await.unwrap();
    assert!(!told.progress.complete && waits_for_it(&told), "{told:?}");
    site.boot.advance(u64::from(defaults::FOLLOW_BOUND_MAX_MS));
    assert!(wait.next().await.unwrap().progress.complete);
}

#[tokio::test]
async fn a_barrier_of_a_new_generation_waits_for_those_of_the_one_before() {
    const HALF: u64 = 5_100;
    let site = Site::new().await;
    let node = site.broker("one").await;
    let mut wait = revoked(&node).await;
    site.boot.advance(HALF);
    assert!(wait.next().await.unwrap().progress.complete, "there was none before");
    site.store.tamper(|view| *view = MemoryView::default());
    node.broker.look().await;
    let mut wait = revoked(&node).await;
    site.boot.advance(HALF);
    let told = wait.next().await.unwrap().progress;
    assert!(!told.complete, "somebody may follow whom the new store does not know: {told:?}");
    assert!(told.waiting.is_empty(), "nobody else is waited for: {told:?}");
    site.boot.advance(HALF);
    assert!(wait.next().await.unwrap().progress.complete);
}
