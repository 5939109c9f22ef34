//! What operators see: lists, single leases, status.

use std::collections::BTreeSet;

use mayfly_domain::{CredentialKind, EndReason, LeaseId, LeaseState, Reason};
use mayfly_lease::StoreError;

use super::site::*;
use crate::*;

pub(super) fn all() -> ListInput {
    ListInput { subject: None, kind: None, ended: false, limit: 1_000, after: None }
}

#[tokio::test]
async fn pages_hold_every_lease_once() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    let mut minted = BTreeSet::new();
    for run in 1..=4 {
        let worker = Worker::payments(&run.to_string());
        minted.insert(node.mint(&worker, &site.token(&worker), deploy()).await.unwrap().record.id);
    }
    for subject in [None, Some(owner("team:payments")), Some(mayfly_domain::Subject::Everything(domain()))] {
        for limit in [1, 2, 3, 10] {
            let mut input =
                ListInput { kind: Some(CredentialKind::Token), subject: subject.clone(), limit, ..all() };
            let mut seen: Vec<LeaseId> = Vec::new();
            loop {
                let page = node.broker.list(&node.call(), &alice, &input).await.unwrap();
                assert!(page.leases.len() <= limit as usize);
                seen.extend(page.leases.iter().map(|l| l.record.id));
                match page.next {
                    Some(next) => input.after = Some(next),
                    None => break,
                }
            }
            assert_eq!(seen.len(), minted.len());
            assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), minted);
        }
    }
    let staff = ListInput { kind: Some(CredentialKind::Operator), ..all() };
    assert_eq!(node.broker.list(&node.call(), &alice, &staff).await.unwrap().leases.len(), 1);
}

#[tokio::test]
async fn a_lease_is_shown_as_a_check_would_judge_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    let worker = Worker::payments("1");
    let ids: Vec<LeaseId> = {
        let mut ids = Vec::new();
        for _ in 0..2 {
            ids.push(node.mint(&worker, &site.token(&worker), deploy()).await.unwrap().record.id);
        }
        ids
    };
    let state = async |id| {
        node.broker.show(&node.call(), &alice, id).await.map(|l| l.record.state).map_err(|e| e.reason)
    };
    let listed = async |ended| {
        let input = ListInput { kind: Some(CredentialKind::Token), ended, ..all() };
        node.broker.list(&node.call(), &alice, &input).await.unwrap().leases.len()
    };
    assert_eq!(state(ids[0]).await, Ok(LeaseState::Active));
    let one = one_lease(ids[0]);
    node.broker.revoke(&node.call(), &alice, one, text("leaked"), None, false).await.unwrap();
    assert_eq!(state(ids[0]).await, Ok(LeaseState::Ended(EndReason::Revoked)));
    assert_eq!((listed(false).await, listed(true).await), (1, 2));
    node.revoke(&alice, owner("team:payments")).await;
    assert_eq!(state(ids[1]).await, Ok(LeaseState::Ended(EndReason::Revoked)), "before any sweep");
    assert_eq!((listed(false).await, listed(true).await), (0, 2));
    let other = Worker::payments("2");
    let id = node.mint(&other, &site.token(&other), deploy()).await.unwrap().record.id;
    site.clock.advance(300_000);
    assert_eq!(state(id).await, Ok(LeaseState::Ended(EndReason::Expired)));
    assert_eq!(state(LeaseId::from_parts(START, &[1; 10])).await, Err(Reason::LeaseNotFound));
    let mallory = node.operator("mallory").await;
    assert_eq!(why(node.broker.show(&node.call(), &mallory, id).await), Reason::PolicyDenied);
    assert_eq!(why(node.broker.list(&node.call(), &mallory, &all()).await), Reason::PolicyDenied);
}

#[tokio::test]
async fn status_tells_of_a_store_that_is_away() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let status = node.broker.status(&node.call(), &alice).await.unwrap();
    assert_eq!((status.standing, status.live_leases, status.open_sweeps), ("serving", 2, 0));
    assert_eq!((status.rules, status.profiles, status.keys.len()), (4, 4, 1));
    assert!(status.generation.starts_with("1-"));
    node.store.faults.lock().all = Some(StoreError::Unavailable("gone".into()));
    node.broker.look().await;
    let status = node.broker.status(&node.call(), &alice).await.unwrap();
    assert_eq!((status.standing, status.live_leases), ("unavailable", 0));
    node.store.faults.lock().all = None;
    node.broker.look().await;
    node.broker.reload_refused(vec!["broken".to_owned()]);
    let status = node.broker.status(&node.call(), &alice).await.unwrap();
    assert_eq!((status.standing, status.reload_errors), ("serving", vec!["broken".to_owned()]));
    let mallory = node.operator("mallory").await;
    assert_eq!(why(node.broker.status(&node.call(), &mallory).await), Reason::PolicyDenied);
    assert_eq!(why(node.broker.why(&node.call(), &mallory, "x").await), Reason::PolicyDenied);
}
