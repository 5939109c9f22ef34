//! Sweeps: stored jobs that any broker resumes, each batch with an audit record.

use mayfly_domain::{EndReason, LeaseState};
use mayfly_lease::sweep::CLAIM_MS;
use mayfly_lease::{LeaseStore as _, StoreError};

use super::site::*;

async fn crowd(site: &Site, node: &Node, leases: usize) {
    for n in 0..leases {
        let worker = Worker::payments(&(n / 5).to_string());
        node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    }
}

#[tokio::test]
async fn a_sweep_that_crashed_is_resumed_when_its_claim_is_over() {
    let site = Site::new().await;
    let roomy = |s: &mut crate::Settings| {
        s.limits.workload =
            mayfly_lease::proof::HolderQuota { live_leases: 10_000, mints_per_min: 60_000, burst: 60_000 };
    };
    let one = site.broker_with("one", roomy).await;
    let two = site.broker("two").await;
    let (alice, billing) = (one.operator("alice").await, Worker::billing("1042", "1"));
    for n in 0..220 {
        let worker = Worker::payments("1");
        let claimed = claim("bearer-hook", "deploy:payments");
        one.mint(&worker, &site.token(&worker), claimed).await.unwrap_or_else(|e| panic!("{n}: {e}"));
    }
    one.mint(&billing, &site.token(&billing), report()).await.unwrap();
    let id = one.revoke(&alice, owner("team:payments")).await.id.unwrap();

    // The first batch is done, then the broker is gone.
    let job = one.store.claim_job(CLAIM_MS).await.unwrap().unwrap();
    let step = mayfly_lease::sweep::step(one.store.as_ref(), job).await.unwrap();
    assert_eq!((step.ended.len(), step.job.done), (200, false));
    assert!(!two.broker.sweep_one().await, "the claim stands");
    site.clock.advance(CLAIM_MS);
    assert!(two.broker.sweep_one().await);
    let state = two.broker.revocation(&two.call(), &alice, id).await.unwrap();
    assert_eq!((state.job.done, state.job.ended), (true, 220));
    assert!(!two.broker.sweep_one().await);

    let records = two.audited_as("sweep");
    let audited: u64 = records.iter().map(|r| r["count"].as_u64().unwrap()).sum();
    assert_eq!((records.len(), audited), (1, 20));
    assert!(records.iter().all(|r| r["revocation"] == id.to_string()));
    let ended = site.store.tamper(|view| {
        let revoked = LeaseState::Ended(EndReason::Revoked);
        view.records.values().filter(|(r, _)| r.state == revoked && r.revocation == Some(id)).count()
    });
    assert_eq!(ended, 220, "and nobody else's");
}

#[tokio::test]
async fn a_sweep_stops_with_the_store_and_goes_on_with_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    crowd(&site, &node, 5).await;
    node.revoke(&alice, owner("team:payments")).await;
    node.store.faults.lock().one = Some(("save_job", StoreError::Unavailable("gone".into())));
    assert!(!node.broker.sweep_one().await);
    node.store.faults.lock().one = None;
    assert!(!node.broker.sweep_one().await, "claimed still");
    let status = node.broker.status(&node.call(), &alice).await.unwrap();
    assert_eq!(status.open_sweeps, 1);
    site.clock.advance(CLAIM_MS);
    assert!(node.broker.sweep_one().await);
    let status = node.broker.status(&node.call(), &alice).await.unwrap();
    assert_eq!(status.open_sweeps, 0);
}

#[tokio::test]
async fn the_workers_sweep_by_themselves() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    crowd(&site, &node, 5).await;
    let stop = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(node.broker.clone().work(async move { drop(stop.1.await) }));
    let id = node.revoke(&alice, owner("team:payments")).await.id.unwrap();
    while !node.store.job(id).await.unwrap().unwrap().done {
        tokio::task::yield_now().await;
    }
    drop(stop.0);
    working.await.unwrap();
}

#[tokio::test]
async fn a_sweep_stands_back_for_a_revocation_and_not_for_ever() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let first = node.broker.under_way();
    let second = node.broker.under_way();
    let mut step = std::pin::pin!(node.broker.stand_back());
    drop(first);
    assert!(futures::poll!(&mut step).is_pending(), "one is still under way");
    drop(second);
    assert!(futures::poll!(&mut step).is_pending(), "the next one may be about to come");
    step.await;
    let _stuck = node.broker.under_way();
    node.broker.stand_back().await;
}
