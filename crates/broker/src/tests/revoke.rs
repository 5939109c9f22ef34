//! Revoking along every dimension, by whom policy permits, of names that somebody knows.

use mayfly_domain::{IntegrationName, ProfileName, Reason, SpiffeId, Subject};
use mayfly_lease::LeaseStore as _;

use super::site::*;
use crate::*;

fn subject(named: Subject) -> RevokeInput {
    RevokeInput::Subject { named: Named { subject: named, force: false }, block: None }
}

fn dimensions() -> Vec<Subject> {
    vec![
        Subject::Workload(SpiffeId::parse("spiffe://acme.internal/ci/payments/deploy").unwrap()),
        owner("team:payments"),
        owner("user:gh-1001"),
        Subject::Task("gh-1-1".parse().unwrap()),
        Subject::Profile(ProfileName::parse("payments-deploy").unwrap()),
        Subject::Integration(IntegrationName::parse("k8s-prod").unwrap()),
        Subject::Everything(domain()),
    ]
}

#[tokio::test]
async fn every_dimension_ends_what_it_covers_and_nothing_else() {
    for subject_ in dimensions() {
        let site = Site::new().await;
        let (node, other) = (site.broker("one").await, site.broker("two").await);
        let (alice, api) = (node.operator("alice").await, node.acceptor("deploy-api").await);
        let (ledger, worker) = (node.acceptor("ledger-api").await, Worker::payments("1"));
        let mut billing = Worker::billing("1042", "1");
        billing.job.actor.1 = "2002".to_owned();
        let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
        let apart = node.mint(&billing, &site.token(&billing), report()).await.unwrap();
        let (call, reason) = (node.call(), text("incident"));
        let ticket = Some("INC-7".to_owned());
        let outcome = node
            .broker
            .revoke(&call, &alice, subject(subject_.clone()), reason, ticket, false)
            .await
            .unwrap();
        assert_eq!(outcome.acknowledged, START);
        for broker in [&node, &other] {
            assert_eq!(broker.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked), "{subject_}");
        }
        let everything = matches!(subject_, Subject::Everything(_));
        assert_eq!(node.check(&ledger, &billing, &apart).await.is_err(), everything, "{subject_}");
        let record = node.audited_as("revoke").pop().unwrap();
        assert_eq!((&record["ticket"], &record["operator"]), (&"INC-7".into(), &"alice".into()));
        assert_eq!(record["revocation"], outcome.id.unwrap().to_string());
        node.broker
            .operator(Some(&node.certificate(StaffKind::Operator("alice".parse().unwrap())).await.unwrap().0))
            .await
            .unwrap();
        let state = node.broker.revocation(&node.call(), &alice, outcome.id.unwrap()).await.unwrap();
        assert!(!state.job.done);
        while other.broker.sweep_one().await {}
        let state = node.broker.revocation(&node.call(), &alice, outcome.id.unwrap()).await.unwrap();
        assert_eq!((state.job.done, state.job.ended), (true, 1 + u64::from(everything)), "{subject_}");
    }
}

#[tokio::test]
async fn one_lease_is_revoked_by_its_id() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, mallory) = (node.operator("alice").await, node.operator("mallory").await);
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let sibling = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let input = || one_lease(issued.record.id);
    let revoke = async |who: &Operator, input| {
        node.broker.revoke(&node.call(), who, input, text("leaked"), None, false).await
    };
    assert_eq!(why(revoke(&mallory, input()).await), Reason::PolicyDenied);
    node.check(&api, &worker, &issued).await.unwrap();
    let lost = mayfly_domain::LeaseId::from_parts(START, &[1; 10]);
    let unknown = one_lease(lost);
    assert_eq!(why(revoke(&alice, unknown).await), Reason::LeaseNotFound);
    revoke(&alice, RevokeInput::Lease { id: lost, force: true }).await.unwrap();
    let by_id = CheckInput { credential: Credential::Lease(lost), ..bearer(&issued) };
    assert_eq!(node.judge(&api, &by_id).await, Err(Reason::LeaseRevoked));
    revoke(&alice, input()).await.unwrap();
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked));
    node.check(&api, &worker, &sibling).await.unwrap();
}

#[tokio::test]
async fn only_whom_policy_permits_revokes() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let mallory = node.operator("mallory").await;
    for named in dimensions() {
        let refused =
            node.broker.revoke(&node.call(), &mallory, subject(named), text("mine"), None, false).await;
        assert_eq!(why(refused), Reason::PolicyDenied);
    }
    assert!(site.store.tamper(|view| view.gates.is_empty() && view.jobs.is_empty()));
    let denied = node.audited_as("revoke");
    assert!(denied.iter().all(|r| r["reason"] == "POLICY_DENIED" && r["operator"] == "mallory"));
    assert_eq!(denied.len(), dimensions().len());
}

#[tokio::test]
async fn a_name_that_nothing_knows_is_refused_with_the_nearest() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let cases = [
        (owner("team:paymants"), "team:payments"),
        (owner("user:gh-1002"), "user:gh-1001"),
        (Subject::Profile(ProfileName::parse("payment-deploy").unwrap()), "payments-deploy"),
        (Subject::Integration(IntegrationName::parse("k8s-prd").unwrap()), "k8s-prod"),
        (Subject::Everything("evil.internal".parse().unwrap()), "acme.internal"),
    ];
    for (named, nearest) in cases {
        let input = subject(named.clone());
        let refused =
            node.broker.revoke(&node.call(), &alice, input, text("x"), None, false).await.unwrap_err();
        assert_eq!(refused.reason, Reason::NotFound, "{named}");
        let shown = refused.facts.iter().find(|(name, _)| *name == "nearest").unwrap();
        assert!(shown.1.contains(nearest), "{named}: {shown:?}");
    }
    for known in [owner("team:billing"), owner("user:gh-1001"), owner("team:platform")] {
        node.broker.revoke(&node.call(), &alice, subject(known), text("x"), None, false).await.unwrap();
    }
    assert!(node.revoke(&alice, owner("team:nobody")).await.fence.is_some(), "where it is forced");
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, api) = (node.operator("alice").await, node.acceptor("deploy-api").await);
    let (worker, billing) = (Worker::payments("1"), Worker::billing("1042", "1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    node.mint(&billing, &site.token(&billing), report()).await.unwrap();
    let before = node.store.survey().await.unwrap();
    let dry = async |input| {
        let outcome = node.broker.revoke(&node.call(), &alice, input, text("x"), None, true).await.unwrap();
        assert_eq!((outcome.id, outcome.fence), (None, None));
        let count = outcome.exposure.unwrap();
        (count.online, count.feed, count.offline, outcome.sample.len(), count.last_ends)
    };
    let block = RevokeInput::Subject {
        named: Named { subject: owner("team:payments"), force: false },
        block: Some(None),
    };
    assert_eq!(dry(block).await, (0, 1, 0, 1, START.plus(300_000)));
    assert_eq!(dry(subject(Subject::Everything(domain()))).await, (1, 1, 0, 2, START.plus(300_000)));
    assert_eq!(dry(one_lease(issued.record.id)).await.1, 1);
    assert_eq!(node.store.survey().await.unwrap(), before);
    assert!(site.store.tamper(|view| view.gates.is_empty() && view.jobs.is_empty()));
    node.check(&api, &worker, &issued).await.unwrap();
}

#[tokio::test]
async fn after_a_revocation_only_new_evidence_comes_back() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    let token = site.token(&worker);
    let issued = node.mint(&worker, &token, deploy()).await.unwrap();
    node.revoke(&alice, owner("team:payments")).await;
    assert_eq!(why(node.mint(&worker, &token, deploy()).await), Reason::EvidencePredatesRevocation);
    let again = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let api = node.acceptor("deploy-api").await;
    node.check(&api, &worker, &again).await.unwrap();
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked));
}

#[tokio::test]
async fn a_revocation_with_a_block_keeps_out_what_comes_next() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let named = Named { subject: owner("team:payments"), force: false };
    let input = RevokeInput::Subject { named, block: Some(None) };
    node.broker.revoke(&node.call(), &alice, input, text("stolen"), None, false).await.unwrap();
    assert_eq!(node.copied().blocks.len(), 1);
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::Blocked);
    node.lift(&alice, owner("team:payments")).await.unwrap();
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let api = node.acceptor("deploy-api").await;
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked), "nothing is revived");
}
