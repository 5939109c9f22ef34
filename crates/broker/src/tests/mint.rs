//! Minting: the order, what is audited, and what leaves.

use mayfly_domain::{Clock as _, LeaseState, Reason, Scopes, defaults};
use mayfly_lease::{LeaseStore as _, StoreError};

use super::site::*;
use crate::*;

fn leases(site: &Site) -> usize {
    site.store.tamper(|view| view.records.len())
}

#[tokio::test]
async fn a_mint_is_leased_audited_and_bounded() {
    let site = Site::new().await;
    site.clock.advance(250);
    let node = site.broker("one").await;
    let worker = Worker::payments("77");
    let (call, opened) = (node.call(), node.open(&worker, "Mint").unwrap());
    let issued =
        node.broker.mint(&call, &opened, &evidence(&site.token(&worker)), deploy().into()).await.unwrap();
    let lease = &issued.record;
    assert_eq!((lease.state, lease.counter, lease.id), (LeaseState::Active, 0, opened.lease()));
    assert_eq!(lease.body.workload.to_string(), "spiffe://acme.internal/ci/payments/deploy");
    assert_eq!(lease.expires, START.plus(300_000), "whole seconds, downwards");
    assert_eq!(issued.token().unwrap().expires(), lease.expires);
    assert_eq!(issued.task.as_ref().unwrap().body.id.to_string(), "gh-77-1");
    assert!(issued.warnings.is_empty());

    let records = node.audited_as("mint");
    let record = &records[0];
    assert_eq!(records.len(), 1);
    assert_eq!(record["request"], call.request.to_string());
    assert_eq!((&record["outcome"], &record["lease"]), (&"allowed".into(), &lease.id.to_string().into()));
    assert_eq!(
        (&record["rule"], &record["policies"][0]),
        (&"payments-deploy".into(), &"payments-deploy".into())
    );
    let all = std::fs::read_to_string(node.state.join("audit.jsonl")).unwrap();
    assert!(!all.contains(issued.token().unwrap().compact().expose()));
    let alice = node.operator("alice").await;
    let lines = node.broker.why(&node.call(), &alice, &call.request.to_string()).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(why(node.broker.why(&node.call(), &alice, "nonsense").await), Reason::NotFound);
}

#[tokio::test]
async fn a_refusal_is_audited_with_its_reason_and_leaves_nothing() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (worker, stranger) = (Worker::payments("1"), {
        let mut other = Worker::payments("2");
        other.job.repository.1 = "999".into();
        other
    });
    let good = site.token(&worker);
    let scopes = |s: &str| Scopes::new([mayfly_domain::Scope::parse(s).unwrap()]).unwrap();
    let cases = [
        (&worker, good.clone(), claim("billing-report", "report:billing"), Reason::ProfileNotAllowed),
        (&worker, good.clone(), claim("no-such", "deploy:payments"), Reason::ProfileNotAllowed),
        (&worker, good.clone(), claim("payments-deploy", "drop:payments"), Reason::IntentNotAllowed),
        (&worker, good.clone(), claim("payments-deploy", "rollback:payments"), Reason::ProfileNotAllowed),
        (
            &worker,
            good.clone(),
            mayfly_policy::Claimed { scopes: scopes("admin"), ..deploy() },
            Reason::ScopeNotAllowed,
        ),
        (&stranger, site.token(&stranger), deploy(), Reason::NoTrustRule),
        (&stranger, good, deploy(), Reason::EvidenceAudience),
    ];
    for (n, (who, token, claimed, reason)) in cases.into_iter().enumerate() {
        let (call, opened) = (node.call(), node.open(who, "Mint").unwrap());
        let outcome = node.broker.mint(&call, &opened, &evidence(&token), claimed.into()).await;
        assert_eq!(why(outcome), reason, "case {n}");
        let record = node.audited_as("mint").pop().unwrap();
        assert_eq!(record["reason"], reason.as_str(), "case {n}");
        assert_eq!(record["request"], call.request.to_string());
        assert_eq!(leases(&site), 0);
    }
    assert!(site.store.tamper(|view| view.used.is_empty() && view.tasks.is_empty()), "nothing was spent");
}

#[tokio::test]
async fn an_envelope_is_for_one_call_and_its_nonce_for_one_use() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let token = site.token(&worker);
    let (nonce, until) = node.broker.nonce().unwrap();
    assert_eq!(until, START.plus(defaults::NONCE_LIFE_MS));
    let envelope = worker.envelope(nonce.clone(), "Release");
    assert_eq!(why(node.broker.open("mayfly.v1.WorkloadService/Mint", envelope)), Reason::EnvelopeSignature);
    for attempt in 0..3 {
        let opened = node.opened(&worker, "Mint", nonce.clone()).unwrap();
        let minted = node.broker.mint(&node.call(), &opened, &evidence(&token), deploy().into()).await;
        if attempt == 0 {
            let id = minted.unwrap().record.id;
            let released = node.open(&worker, "Release").unwrap();
            node.broker.release(&node.call(), &released, &evidence(&token), Some(id)).await.unwrap();
        } else {
            assert_eq!(why(minted), Reason::NonceUsed);
        }
    }
    site.clock.advance(defaults::NONCE_LIFE_MS + 1);
    assert_eq!(why(node.opened(&worker, "Mint", nonce)), Reason::NonceExpired);
}

#[tokio::test]
async fn without_an_audit_record_nothing_leaves_and_the_lease_is_ended() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let (api, alice) = (node.acceptor("deploy-api").await, node.operator("alice").await);
    node.broker.audit().close().await;
    let opened = node.open(&worker, "Mint").unwrap();
    let refused =
        node.broker.mint(&node.call(), &opened, &evidence(&site.token(&worker)), deploy().into()).await;
    assert_eq!(why(refused), Reason::AuditUnavailable);
    let left = node.store.get(opened.lease()).await.unwrap().unwrap();
    assert_eq!(left.state, LeaseState::Ended(mayfly_domain::EndReason::Abandoned));

    let refused = node.renew(&worker, &site.token(&worker), issued.record.id).await;
    assert_eq!(why(refused), Reason::AuditUnavailable);
    node.check(&api, &worker, &issued).await.unwrap();
    let kind = StaffKind::Operator("alice".parse().unwrap());
    let before = leases(&site);
    assert_eq!(why(node.certificate(kind).await), Reason::AuditUnavailable);
    let live = site
        .store
        .tamper(|view| view.records.values().filter(|(r, _)| r.state == LeaseState::Active).count());
    assert_eq!((leases(&site), live), (before + 1, before - 1), "nor a certificate");

    let revoked = node.revoke(&alice, owner("team:payments")).await;
    assert_eq!(revoked.audit, mayfly_audit::Stored::Deferred, "a revocation is never refused for it");
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked));
    let completed = node.complete(&worker, &site.token(&worker)).await;
    assert!(completed.is_err() || completed.unwrap().audit == mayfly_audit::Stored::Deferred);
}

#[tokio::test]
async fn a_token_belongs_to_the_first_key_that_shows_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::billing("1042", "7");
    let thief = worker.other_key();
    let token = site.token(&worker);
    let issued = node.mint(&worker, &token, report()).await.unwrap();
    assert_eq!(why(node.mint(&thief, &token, report()).await), Reason::EvidenceBoundToOtherKey);
    assert_eq!(node.audited_as("mint").pop().unwrap()["reason"], "EVIDENCE_BOUND_TO_OTHER_KEY");
    assert!(node.store.get(issued.record.id).await.unwrap().unwrap().state == LeaseState::Active);
    node.mint(&worker, &token, report()).await.unwrap();
}

#[tokio::test]
async fn where_the_rule_says_so_another_key_supersedes_the_first_three_times() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let ledger = node.acceptor("ledger-api").await;
    let mut worker = Worker::billing("1043", "7");
    let token = site.token(&worker);
    let mut issued = node.mint(&worker, &token, report()).await.unwrap();
    assert_eq!(issued.superseded, None);
    for times in 1..=defaults::SUPERSEDE_MAX {
        site.clock.advance(1_000);
        let next = worker.other_key();
        let taken = node.mint(&next, &token, report()).await.unwrap();
        assert_eq!(taken.superseded, Some(times));
        assert_eq!(node.check(&ledger, &worker, &issued).await, Err(Reason::LeaseRevoked));
        node.check(&ledger, &next, &taken).await.unwrap();
        let detail = node.audited_as("mint").pop().unwrap()["detail"].clone();
        assert_eq!(detail, format!("evidence taken over by another key, {times} of 3"));
        (worker, issued) = (next, taken);
    }
    let refused = node.mint(&worker.other_key(), &token, report()).await;
    assert_eq!(why(refused), Reason::EvidenceBoundToOtherKey);
}

#[tokio::test]
async fn quotas_warn_at_four_fifths_and_refuse_when_they_are_full() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let mut last = None;
    for n in 1..=5 {
        let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
        assert_eq!(issued.warnings.len(), usize::from(n >= 4), "lease {n}: {:?}", issued.warnings);
        last = Some(issued.record.id);
    }
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::QuotaLeases);
    let renewed = node.renew(&worker, &site.token(&worker), last.unwrap()).await.unwrap();
    assert!(renewed.warnings.is_empty(), "a renewal counts once with what it replaces");
    site.clock.advance(300_000);
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();

    let slow = |s: &mut Settings| {
        s.limits.workload.burst = 1;
        s.limits.workload.mints_per_min = 1;
    };
    let node = site.broker_with("two", slow).await;
    let billing = Worker::billing("1042", "1");
    node.mint(&billing, &site.token(&billing), report()).await.unwrap();
    let refused = node.mint(&billing, &site.token(&billing), report()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::QuotaRate);
    assert!(refused.retry_after.is_some_and(|wait| !wait.is_zero()));
}

#[tokio::test]
async fn a_token_ends_with_its_tasks_window() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.clock.advance(27 * 60_000);
    let late = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    assert_eq!(late.record.expires, START.plus(30 * 60_000));
    let renewed = node.renew(&worker, &site.token(&worker), late.record.id).await.unwrap();
    assert_eq!(renewed.record.expires, START.plus(30 * 60_000));
    site.clock.set(START.plus(30 * 60_000));
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::TaskWindow);
    assert_eq!(site.clock.now(), START.plus(1_800_000));
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle_hands_nothing_out() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    node.store.faults.lock().one = Some(("mint", StoreError::Unavailable("gone".into())));
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::StoreUnavailable);
    node.store.faults.lock().one = Some(("mint", StoreError::ClockSkew(40_000)));
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::ClockSkew);
    node.store.faults.lock().one = Some(("mint", StoreError::Corrupt("bits".into())));
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::Internal);
    node.store.faults.lock().one = None;
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
}
