//! Waiting for followers: with the store away, after a generation, for whom names are.

use std::time::Duration;

use mayfly_domain::feed::Epoch;
use mayfly_domain::{Generation, GenerationId, Reason};
use mayfly_lease::feed::{FollowerId, FollowerKind, FollowerPing};
use mayfly_lease::{LeaseStore as _, StoreError};

use super::site::*;
use crate::*;

/// A follower that has pinged once and says nothing any more.
async fn silent(node: &Node) {
    let ping = FollowerPing {
        id: FollowerId([7; 16]),
        kind: FollowerKind::Acceptor,
        name: "ledger-api".to_owned(),
        broker: "one".to_owned(),
        bound_ms: 2_000,
        reuse_ms: 0,
        applied: 0,
        epoch: Epoch::default(),
    };
    node.store.ping(&[ping]).await.unwrap();
}

async fn revoked(node: &Node, alice: &Operator) -> RevokeOutcome {
    let named = Named { subject: owner("team:payments"), force: true };
    let input = RevokeInput::Subject { named, block: None };
    node.broker.revoke(&node.call(), alice, input, text("drill"), None, false).await.unwrap()
}

fn wait_for(done: &RevokeOutcome) -> BarrierInput {
    BarrierInput { number: done.number, generation: done.generation.unwrap(), timeout: None }
}

#[tokio::test]
async fn it_ends_by_this_machines_clock_though_the_store_is_away() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    silent(&node).await;
    let done = revoked(&node, &alice).await;
    let mut wait = node.broker.barrier(&node.call(), &alice, &wait_for(&done)).await.unwrap();
    let first = wait.next().await.unwrap();
    assert!(!first.progress.complete);
    assert!(first.progress.waiting.iter().any(|seen| seen.ping.name == "ledger-api"), "{first:?}");
    node.store.faults.lock().all = Some(StoreError::Unavailable("cut".into()));
    site.boot.advance(1_900);
    assert!(!wait.next().await.unwrap().progress.complete, "it may still decide");
    // The broker's own bound is the longest here.
    site.boot.advance(3_200);
    let last = wait.next().await.unwrap().progress;
    assert_eq!((last.complete, last.passed), (true, 2), "{last:?}");
    assert!(wait.next().await.is_none());
}

#[tokio::test]
async fn the_callers_time_ends_it_incomplete_and_names_are_for_who_may_list() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, mallory) = (node.operator("alice").await, node.operator("mallory").await);
    silent(&node).await;
    let done = revoked(&node, &alice).await;
    for (who, named) in [(&alice, true), (&mallory, false)] {
        let input = BarrierInput { timeout: Some(Duration::from_millis(300)), ..wait_for(&done) };
        let mut wait = node.broker.barrier(&node.call(), who, &input).await.unwrap();
        let mut last = None;
        while let Some(told) = wait.next().await {
            last = Some(told);
        }
        let last = last.unwrap().progress;
        assert!(!last.complete);
        assert_eq!(last.waiting.iter().any(|seen| !seen.ping.name.is_empty()), named, "{last:?}");
    }
}

#[tokio::test]
async fn an_ended_generation_is_waited_for_and_others_are_refused() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    let done = revoked(&node, &alice).await;
    let generation = done.generation.unwrap();
    let begin = async |number, generation| {
        let input = BarrierInput { number, generation, timeout: None };
        node.broker.barrier(&node.call(), &alice, &input).await
    };
    let next = Generation { number: generation.number + 1, ..generation };
    let foreign = Generation { id: GenerationId([9; 8]), ..generation };
    for (number, generation, reason) in [
        (done.number + 1, generation, Reason::InputInvalid),
        (0, generation, Reason::InputInvalid),
        (done.number, foreign, Reason::InputInvalid),
        (done.number, next, Reason::GenerationChanged),
    ] {
        assert_eq!(why(begin(number, generation).await), reason, "{number} {generation}");
    }
    let before = Generation { number: generation.number - 1, ..generation };
    let mut wait = begin(done.number, before).await.unwrap();
    assert!(!wait.next().await.unwrap().progress.complete, "somebody may decide by what it was told before");
    site.boot.advance(10_100);
    assert!(wait.next().await.unwrap().progress.complete);
}
