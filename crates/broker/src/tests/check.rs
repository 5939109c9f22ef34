//! Judging: what is accepted, what is refused, and when there is no judgement.

use mayfly_domain::{LeaseId, Reason};
use mayfly_lease::StoreError;

use super::site::*;
use crate::*;

#[tokio::test]
async fn a_bound_token_needs_a_new_proof_of_its_key_for_each_request() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let token = issued.token().unwrap().compact().expose().clone();
    let mut input = bearer(&issued);
    assert_eq!(node.judge(&api, &input).await, Err(Reason::ProofMissing));
    input.dpop = Some(worker.proof(&token, "POST", START));
    node.judge(&api, &input).await.unwrap();
    assert_eq!(node.judge(&api, &input).await, Err(Reason::ProofReplayed));
    let wrong = [
        worker.proof(&token, "GET", START),
        worker.proof("another token", "POST", START),
        worker.other_key().proof(&token, "POST", START),
        worker.proof(&token, "POST", START.minus(61_000)),
        "no proof".to_owned(),
    ];
    for proof in wrong {
        input.dpop = Some(proof);
        assert_eq!(node.judge(&api, &input).await, Err(Reason::ProofInvalid));
    }
    input.dpop = Some(worker.proof(&token, "POST", START));
    input.url = "https://deploy.acme.internal/v1/other".to_owned();
    assert_eq!(node.judge(&api, &input).await, Err(Reason::ProofInvalid));
    let refused = node.audited_as("check");
    assert!(refused.iter().all(|r| r["acceptor"] == "deploy-api" && r["outcome"] != "allowed"));
    assert_eq!(refused.len(), 8);
}

#[tokio::test]
async fn the_key_of_a_connection_is_its_acceptors_word_and_proves_no_other_token() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let key = issued.record.body.key;
    let seen = |peer| CheckInput { peer: Some(peer), ..bearer(&issued) };
    node.judge(&api, &seen(key)).await.unwrap();
    let other = mayfly_domain::Thumbprint::from_bytes([7; 32]);
    assert_eq!(node.judge(&api, &seen(other)).await, Err(Reason::ProofMissing));
    // A proof that is there counts, or doesn't.
    let bad = CheckInput { dpop: Some("no proof".to_owned()), ..seen(key) };
    assert_eq!(node.judge(&api, &bad).await, Err(Reason::ProofInvalid));
}

#[tokio::test]
async fn a_bearer_token_needs_none() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let hook = claim("bearer-hook", "deploy:payments");
    let issued = node.mint(&worker, &site.token(&worker), hook).await.unwrap();
    node.judge(&api, &bearer(&issued)).await.unwrap();
}

#[tokio::test]
async fn an_acceptor_checks_its_own_audience_alone() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, ledger) = (node.acceptor("deploy-api").await, node.acceptor("ledger-api").await);
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let by_id = CheckInput { credential: Credential::Lease(issued.record.id), ..bearer(&issued) };
    node.judge(&api, &by_id).await.unwrap();
    assert_eq!(node.judge(&ledger, &by_id).await, Err(Reason::TokenAudience));
    assert_eq!(node.check(&ledger, &worker, &issued).await, Err(Reason::TokenAudience));
    let unknown = LeaseId::from_parts(START, &[3; 10]);
    let by_id = |id| CheckInput { credential: Credential::Lease(id), ..bearer(&issued) };
    assert_eq!(node.judge(&api, &by_id(unknown)).await, Err(Reason::LeaseNotFound));
    let (_, staff) = node.certificate(StaffKind::Operator("alice".parse().unwrap())).await.unwrap();
    assert_eq!(node.judge(&api, &by_id(staff.lease)).await, Err(Reason::TokenAudience), "no token's lease");
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_refused_before_the_store_is_asked() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let token = issued.token().unwrap().compact().expose().clone();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let flipped = format!("{head}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]);
    let (header, payload) = head.split_once('.').unwrap();
    let foreign = Site::new().await;
    let abroad = foreign.broker("one").await;
    let theirs = abroad.mint(&worker, &foreign.token(&worker), deploy()).await.unwrap();
    node.store.faults.lock().all = Some(StoreError::Unavailable("gone".into()));
    let cases = [
        (flipped, Reason::TokenSignature),
        (theirs.token().unwrap().compact().expose().clone(), Reason::TokenSignature),
        (format!("{header}.{payload}"), Reason::TokenMalformed),
        (String::new(), Reason::TokenMalformed),
        ("a".repeat(1 << 20), Reason::TokenMalformed),
        (site.token(&worker), Reason::TokenMalformed),
    ];
    for (n, (token, reason)) in cases.into_iter().enumerate() {
        let input = CheckInput { credential: Credential::Token(token), ..bearer(&issued) };
        assert_eq!(node.judge(&api, &input).await, Err(reason), "case {n}");
    }
}

#[tokio::test]
async fn every_end_of_a_lease_is_told_apart() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, alice) = (node.acceptor("deploy-api").await, node.operator("alice").await);
    let mut workers = Vec::new();
    for run in ["1", "2", "3", "4"] {
        let worker = Worker::payments(run);
        let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
        workers.push((worker, issued));
    }
    let [released, completed, revoked, expired] = &workers[..] else { panic!("four") };
    let opened = node.open(&released.0, "Release").unwrap();
    let token = evidence(&site.token(&released.0));
    node.broker.release(&node.call(), &opened, &token, None).await.unwrap();
    assert_eq!(node.check(&api, &released.0, &released.1).await, Err(Reason::LeaseEnded));

    node.complete(&completed.0, &site.token(&completed.0)).await.unwrap();
    assert!(node.check(&api, &completed.0, &completed.1).await.is_err(), "before any sweep");
    while node.broker.sweep_one().await {}
    assert_eq!(node.check(&api, &completed.0, &completed.1).await, Err(Reason::LeaseEnded));

    let one = one_lease(revoked.1.record.id);
    node.broker.revoke(&node.call(), &alice, one, text("leaked"), None, false).await.unwrap();
    assert_eq!(node.check(&api, &revoked.0, &revoked.1).await, Err(Reason::LeaseRevoked));
    node.check(&api, &expired.0, &expired.1).await.unwrap();
    site.clock.advance(300_000);
    assert_eq!(node.check(&api, &expired.0, &expired.1).await, Err(Reason::LeaseExpired));
}

#[tokio::test]
async fn without_the_store_there_is_no_judgement() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let cases = [
        (StoreError::Unavailable("gone".into()), Reason::StoreUnavailable),
        (StoreError::ClockSkew(50_000), Reason::ClockSkew),
        (StoreError::OtherGeneration(None), Reason::GenerationChanged),
        (StoreError::Corrupt("bits".into()), Reason::Internal),
    ];
    for (error, reason) in cases {
        node.store.faults.lock().one = Some(("check", error));
        let mut input = bearer(&issued);
        input.dpop = Some(worker.proof(issued.token().unwrap().compact().expose(), "POST", START));
        assert_eq!(why(node.broker.check(&node.call(), &api, &input).await), reason);
        node.store.faults.lock().one = None;
        node.broker.look().await;
    }
    node.check(&api, &worker, &issued).await.unwrap();
}

#[tokio::test]
async fn a_token_whose_lease_is_gone_is_dead() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.store.tamper(|view| view.lose_record(issued.record.id));
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseNotFound));
}
