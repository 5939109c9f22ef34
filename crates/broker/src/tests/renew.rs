//! Renewing: by the same workload, task and key, as long as the first observation holds.

use mayfly_domain::{Reason, defaults};
use mayfly_lease::LeaseStore as _;

use super::site::*;

#[tokio::test]
async fn a_renewal_keeps_lease_and_observation_and_moves_the_counter() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (worker, api) = (Worker::payments("1"), node.acceptor("deploy-api").await);
    let first = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.clock.advance(120_000);
    let second = node.renew(&worker, &site.token(&worker), first.record.id).await.unwrap();
    assert_eq!((second.record.id, second.record.counter), (first.record.id, 1));
    assert_eq!(second.record.observation, first.record.observation);
    assert_eq!(second.record.expires, START.plus(420_000));
    node.check(&api, &worker, &first).await.unwrap();
    node.check(&api, &worker, &second).await.unwrap();
    site.clock.advance(180_000);
    assert_eq!(node.check(&api, &worker, &first).await, Err(Reason::LeaseExpired), "its own expiry");
    node.check(&api, &worker, &second).await.unwrap();
    let record = node.audited_as("renew").pop().unwrap();
    assert_eq!((&record["counter"], &record["outcome"]), (&1.into(), &"allowed".into()));
}

#[tokio::test]
async fn nobody_else_renews_and_nobody_learns_that_the_lease_is_there() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let others = [worker.other_key(), Worker::payments("2"), Worker::billing("1042", "1")];
    for other in &others {
        let refused = node.renew(other, &site.token(other), issued.record.id).await;
        assert_eq!(why(refused), Reason::LeaseNotFound);
    }
    let nothing = mayfly_domain::LeaseId::from_parts(START, &[1; 10]);
    assert_eq!(why(node.renew(&worker, &site.token(&worker), nothing).await), Reason::LeaseNotFound);
    let alice = node.operator("alice").await;
    let staff = node.broker.list(&node.call(), &alice, &super::view::all()).await.unwrap();
    for lease in staff.leases.iter().filter(|l| l.record.body.profile.is_none()) {
        let refused = node.renew(&worker, &site.token(&worker), lease.record.id).await;
        assert_eq!(why(refused), Reason::LeaseNotFound);
    }
    assert_eq!(node.store.get(issued.record.id).await.unwrap().unwrap().counter, 0);
}

#[tokio::test]
async fn nothing_renews_what_was_revoked_ended_or_is_over() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;

    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.clock.advance(1_000);
    node.revoke(&alice, owner("team:payments")).await;
    assert_eq!(why(node.renew(&worker, &site.token(&worker), issued.record.id).await), Reason::LeaseRevoked);

    let worker = Worker::payments("2");
    let token = site.token(&worker);
    let issued = node.mint(&worker, &token, deploy()).await.unwrap();
    site.clock.advance(1_000);
    node.revoke(&alice, owner("team:payments")).await;
    assert_eq!(
        why(node.renew(&worker, &token, issued.record.id).await),
        Reason::EvidencePredatesRevocation,
        "evidence of before shows nothing any more"
    );

    let worker = Worker::payments("3");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    node.complete(&worker, &site.token(&worker)).await.unwrap();
    let refused = why(node.renew(&worker, &site.token(&worker), issued.record.id).await);
    assert!(matches!(refused, Reason::LeaseRevoked | Reason::LeaseEnded | Reason::TaskEnded), "{refused:?}");

    let worker = Worker::payments("4");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.clock.advance(300_000);
    assert_eq!(why(node.renew(&worker, &site.token(&worker), issued.record.id).await), Reason::LeaseExpired);
}

#[tokio::test]
async fn the_lineage_bounds_renewals() {
    let site = Site::new().await;
    let short = |s: &mut crate::Settings| s.limits.token_lineage = mayfly_domain::Ttl::parse("8m").unwrap();
    let node = site.broker_with("one", short).await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.clock.advance(240_000);
    let renewed = node.renew(&worker, &site.token(&worker), issued.record.id).await.unwrap();
    assert_eq!(renewed.record.expires, START.plus(480_000));
    assert_eq!(renewed.record.renewable_until, issued.record.renewable_until);
    assert!(defaults::TOKEN_TTL.as_millis() > 240_000);
}
