//! Rotating keys with another broker that lags behind: no valid token is refused on the way.

use mayfly_domain::Reason;
use mayfly_mint::KeyState;

use super::site::*;
use crate::*;

fn states(node: &Node) -> Vec<KeyState> {
    node.broker.keys().token_keys().iter().map(|k| k.state).collect()
}

#[tokio::test]
async fn a_key_signs_only_when_every_live_broker_has_it() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let (alice, worker) = (one.operator("alice").await, Worker::payments("1"));
    let api = one.acceptor("deploy-api").await;
    let old = one.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let step =
        async |node: &Node, step| node.broker.rotate_keys(&node.call(), &alice, step).await.map(|_| ());
    assert_eq!(why(step(&one, KeyStep::Activate).await), Reason::InputInvalid);
    step(&one, KeyStep::Prepare(None)).await.unwrap();
    assert_eq!(states(&one), [KeyState::Active, KeyState::Prepared]);
    assert_eq!(why(step(&one, KeyStep::Prepare(None)).await), Reason::InputInvalid);
    one.broker.look().await;

    let refused = one.broker.rotate_keys(&one.call(), &alice, KeyStep::Activate).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RaceLost);
    assert_eq!(refused.facts, [("waiting for", "two".to_owned())]);
    assert_eq!(why(step(&two, KeyStep::Activate).await), Reason::RaceLost, "asked at the one that lags, too");
    two.broker.look().await;
    step(&two, KeyStep::Activate).await.unwrap();
    assert_eq!(states(&two), [KeyState::Retiring, KeyState::Active]);

    let new = two.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    one.check(&api, &worker, &new).await.unwrap();
    for node in [&one, &two] {
        node.check(&api, &worker, &old).await.unwrap();
    }
    one.broker.look().await;
    assert_eq!(
        why(step(&one, KeyStep::Retire { force: false }).await),
        Reason::KeyInUse,
        "its last token may live"
    );
    one.broker.retire_finished_keys().await;
    assert_eq!(states(&one), [KeyState::Retiring, KeyState::Active]);
    site.clock.advance(2 * 3_600_000);
    one.broker.look().await;
    one.broker.retire_finished_keys().await;
    assert_eq!(states(&one), [KeyState::Active]);
    two.broker.look().await;
    assert_eq!(states(&two), [KeyState::Active]);
    assert!(one.audited_as("key").len() >= 4);
}

#[tokio::test]
async fn rotate_waits_for_the_others() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let alice = one.operator("alice").await;
    let call = one.call();
    let rotating = one.broker.rotate_keys(&call, &alice, KeyStep::Rotate(None));
    let others = async {
        for node in [&two, &one] {
            assert_eq!(states(&one), [KeyState::Active, KeyState::Prepared], "not before all have it");
            node.broker.look().await;
        }
    };
    let (rotated, ()) = tokio::join!(rotating, others);
    rotated.unwrap();
    assert_eq!(states(&one), [KeyState::Retiring, KeyState::Active]);
}

#[tokio::test]
async fn only_whom_policy_permits_rotates() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let mallory = node.operator("mallory").await;
    let refused = node.broker.rotate_keys(&node.call(), &mallory, KeyStep::Prepare(None)).await;
    assert_eq!(why(refused), Reason::PolicyDenied);
    assert_eq!(why(node.broker.list_keys(&node.call(), &mallory).await), Reason::PolicyDenied);
    assert_eq!(states(&node), [KeyState::Active]);
    let alice = node.operator("alice").await;
    assert_eq!(node.broker.list_keys(&node.call(), &alice).await.unwrap().len(), 1);
}
