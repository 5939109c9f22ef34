//! Canaries: measured, never accepted after their revocation, and in nobody's way.

use mayfly_domain::defaults;

use super::followers::{Api, follow, start};
use super::site::*;
use crate::*;

#[tokio::test]
async fn a_canary_is_refused_and_measured_and_leaves_no_trace() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let operator = node.operator("alice").await;
    let audited = node.audited().len();
    let before = node.broker.feed().position().unwrap();
    node.broker.let_a_canary_go().await.unwrap();
    let counts = node.broker.feed().canaries();
    assert_eq!((counts.measured, counts.accepted_after), (1, 0));
    while node.broker.sweep_one().await {}
    assert_eq!(node.audited().len(), audited, "neither mint nor sweep is recorded");
    let list =
        ListInput { subject: None, kind: None, ended: true, limit: defaults::LIST_PAGE_MAX, after: None };
    let listed = node.broker.list(&node.call(), &operator, &list).await.unwrap();
    assert!(listed.leases.iter().all(|l| !l.record.body.workload.path().contains("canary")));
    node.broker.catch_up().await;
    assert_eq!(node.broker.feed().position().unwrap().number, before.number + 1, "one event");
}

#[tokio::test]
async fn followers_are_told_of_it_before_and_one_that_refuses_too_late_is_counted() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (certificate, _) =
        node.certificate(StaffKind::Acceptor("deploy-api".parse().unwrap())).await.unwrap();
    let mut apis = Vec::new();
    for id in 1..=3 {
        apis.push(follow(&node, &certificate, start(id)).await.unwrap());
    }
    for api in &mut apis {
        api.drain().await.unwrap();
    }
    node.broker.let_a_canary_go().await.unwrap();
    for api in &mut apis {
        api.drain().await.unwrap();
        assert_eq!(api.told.last(), Some(&"canary"), "its revocation was not heard of yet");
    }
    let lease = apis[0].canary.clone().unwrap().lease;
    let refused = |api: &mut Api, refused_us_ago| {
        let seen = vec![CanarySeen { lease, refused_us_ago }; 2];
        let applied = api.follower.position().unwrap().number;
        api.follows.ping(&Ping { id: 1, applied, canaries: seen }).unwrap();
        node.broker.feed().canaries()
    };
    site.boot.advance(3);
    let counts = refused(&mut apis[0], 1_000);
    assert_eq!((counts.feed_p50_us, counts.accepted_after), (2_000, 0), "said twice, counted once");
    site.boot.advance(6_000);
    assert_eq!(refused(&mut apis[1], 5_000_000).accepted_after, 0);
    assert_eq!(refused(&mut apis[2], 0).accepted_after, 1, "later than its bound");
}

#[tokio::test]
async fn one_that_says_it_again_and_again_is_counted_once_for_each() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (certificate, _) =
        node.certificate(StaffKind::Acceptor("deploy-api".parse().unwrap())).await.unwrap();
    let mut api = follow(&node, &certificate, start(1)).await.unwrap();
    api.drain().await.unwrap();
    let mut leases = Vec::new();
    for _ in 0..2 {
        node.broker.let_a_canary_go().await.unwrap();
        api.drain().await.unwrap();
        leases.push(api.canary.clone().unwrap().lease);
    }
    // Later than its bound: each would be counted as accepted after its revocation.
    site.boot.advance(6_000);
    let applied = api.follower.position().unwrap().number;
    let unknown = mayfly_domain::LeaseId::from_bytes([7; 16]);
    for id in 1..=5 {
        let said = [leases[0], unknown, leases[1], leases[0]];
        let canaries = said.map(|lease| CanarySeen { lease, refused_us_ago: 0 }).to_vec();
        api.follows.ping(&Ping { id, applied, canaries }).unwrap();
    }
    assert_eq!(node.broker.feed().canaries().accepted_after, 2);
}
