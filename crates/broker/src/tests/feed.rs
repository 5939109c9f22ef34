//! The broker as a follower: what it may do by what it has heard.

use mayfly_domain::Reason;
use mayfly_domain::feed::{Change, Event, Numbered};
use mayfly_lease::StoreError;
use mayfly_lease::feed::FollowerKind;

use super::site::*;
use crate::*;

#[tokio::test]
async fn a_broker_serves_only_while_it_is_fresh() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    assert_eq!(node.standing(), Standing::Serving);
    let acceptor = node.acceptor("deploy-api").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.boot.advance(4_999);
    assert!(node.broker.feed().is_fresh());
    site.boot.advance(1);
    assert!(!node.broker.feed().is_fresh(), "a suspended machine wakes stale");
    let refused = node.mint(&worker, &site.token(&worker), deploy()).await;
    assert_eq!(why(refused), Reason::BrokerNotFresh);
    let refused = node.broker.check(&node.call(), &acceptor, &bearer(&issued)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::BrokerNotFresh);
    assert!(refused.retry_after.is_some());
    node.broker.look().await;
    assert_eq!(node.standing(), Standing::Serving);
}

#[tokio::test]
async fn a_stale_broker_still_ends_things() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let operator = node.operator("alice").await;
    site.boot.advance(5_000);
    node.store.faults.lock().one = Some(("ping", StoreError::Unavailable("cut".into())));
    node.broker.look().await;
    assert_eq!(node.standing(), Standing::Behind);
    node.revoke(&operator, owner("team:payments")).await;
}

#[tokio::test]
async fn brokers_hear_of_each_others_changes() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let operator = one.operator("alice").await;
    let before = two.broker.feed().position().unwrap();
    one.revoke(&operator, owner("team:payments")).await;
    two.broker.catch_up().await;
    let after = two.broker.feed().position().unwrap();
    assert_eq!(after.number, before.number + 1);
    let Recent::Events(events) = two.broker.feed().after(&before, 10) else { panic!("lost") };
    assert!(matches!(events[..], [Numbered { event: Event { change: Change::Gate(gate), .. }, .. }]
        if gate.key == owner("team:payments").key()));
    let all = site.store.tamper(|view| view.followers.values().cloned().collect::<Vec<_>>());
    assert!(all.iter().all(|seen| seen.ping.kind == FollowerKind::Broker));
    assert_eq!(all.len(), 2);
}

#[tokio::test]
async fn a_new_generation_is_followed_from_its_beginning() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let before = node.broker.feed().position().unwrap();
    site.store.tamper(|view| view.server = [5; 16]);
    node.broker.look().await;
    node.broker.look().await;
    let after = node.broker.feed().position().unwrap();
    assert!(!after.is_along(&before), "{before:?} {after:?}");
    assert_eq!(node.standing(), Standing::Serving);
}
