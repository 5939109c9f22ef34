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

async fn begin(node: &Node, outcome: &RevokeOutcome) -> BarrierWait {
    let alice = node.operator("alice").await;
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
    let alice = node.operator("alice").await;
    let outcome = node.revoke(&alice, owner("team:payments")).await;
    let mut wait = begin(&node, &outcome).await;
    assert_eq!(wait.next().await.unwrap().progress.waiting.len(), 1);
    site.store.tamper(|view| *view = MemoryView::default());
    node.broker.look().await;
    assert_eq!(node.number(), 2);
    site.boot.advance(1_000);
    let told = wait.next().await.unwrap().progress;
    assert!(!told.complete && told.waiting.len() == 1, "{told:?}");
    site.boot.advance(u64::from(defaults::FOLLOW_BOUND_MAX_MS));
    assert!(wait.next().await.unwrap().progress.complete);
}

#[tokio::test]
async fn a_barrier_of_a_new_generation_waits_for_those_of_the_one_before() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let first = node.revoke(&node.operator("alice").await, owner("team:payments")).await;
    assert!(begin(&node, &first).await.next().await.unwrap().progress.complete, "there was none before");
    site.store.tamper(|view| *view = MemoryView::default());
    node.broker.look().await;
    let outcome = node.revoke(&node.operator("alice").await, owner("team:payments")).await;
    let mut wait = begin(&node, &outcome).await;
    let told = wait.next().await.unwrap().progress;
    assert!(!told.complete, "somebody may follow whom the new store does not know: {told:?}");
    site.boot.advance(u64::from(defaults::FOLLOW_BOUND_MAX_MS) + 100);
    assert!(wait.next().await.unwrap().progress.complete);
}
