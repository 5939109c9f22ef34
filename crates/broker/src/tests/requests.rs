//! Judging what a request wants, and how long the answer may be reused.

use mayfly_domain::{LeaseId, Reason, Scope, Scopes};
use mayfly_lease::feed::UsedItem;
use mayfly_lease::{LeaseStore as _, StoreError};
use mayfly_policy::RequestAsk;

use super::site::*;
use super::x509::shown_to;
use crate::*;

fn ask(action: &str, resource: &str, source: &str, scopes: &[&str]) -> Option<RequestAsk> {
    let action = format!("Deploy::Action::\"{action}\"");
    let resource = format!("Deploy::Cluster::\"{resource}\"");
    let scopes = Scopes::new(scopes.iter().map(|s| Scope::parse(s).unwrap())).unwrap();
    let source = source.parse().ok();
    Some(RequestAsk::new(&action, &resource, "POST", API, source, scopes).unwrap())
}

fn by_lease(issued: &Issued, request: Option<RequestAsk>) -> CheckInput {
    CheckInput { credential: Credential::Lease(issued.record.id), request, ..bearer(issued) }
}

impl Node {
    async fn accepted(&self, acceptor: &Acceptor, input: &CheckInput) -> Accepted {
        match self.broker.check(&self.call(), acceptor, input).await.unwrap() {
            Checked::Accepted(accepted) => *accepted,
            Checked::Refused(refusal) => panic!("{refusal}"),
        }
    }
}

#[tokio::test]
async fn a_live_credential_is_judged_by_what_the_request_wants() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    for (request, expected) in [
        (None, Ok(())),
        (ask("POST /deploy", "us", "", &[]), Ok(())),
        (ask("POST /deploy", "us", "", &["deploy:write"]), Ok(())),
        (ask("POST /deploy", "us", "", &["deploy:admin"]), Err(Reason::TokenScope)),
        (ask("POST /deploys", "us", "", &[]), Err(Reason::ActionUnknown)),
        (ask("DELETE /deploy", "us", "", &[]), Err(Reason::OutsideIntent)),
        (ask("call", "us", "", &[]), Err(Reason::OutsideIntent)),
        (ask("POST /deploy", "old", "", &[]), Err(Reason::PolicyDenied)),
    ] {
        assert_eq!(node.judge(&api, &by_lease(&issued, request.clone())).await, expected, "{request:?}");
    }
    let denied = node.audited_as("check").into_iter().find(|r| r["reason"] == "POLICY_DENIED").unwrap();
    assert_eq!(denied["policies"], serde_json::json!(["not-old"]));
    assert_eq!(
        (&denied["workload"], &denied["lease"]),
        (&issued.record.body.workload.as_str().into(), &issued.record.id.to_string().into())
    );
    assert!(denied["detail"].as_str().unwrap().contains("Deploy::Cluster::\"old\""));

    // Whatever policy says, a dead credential stays dead.
    let alice = node.operator("alice").await;
    node.revoke(&alice, owner("team:payments")).await;
    for request in [ask("POST /deploy", "eu", "", &[]), ask("DELETE /deploy", "us", "", &[])] {
        assert_eq!(node.judge(&api, &by_lease(&issued, request)).await, Err(Reason::LeaseRevoked));
    }
}

#[tokio::test]
async fn what_a_policy_in_observe_mode_would_refuse_is_recorded_until_its_date() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let mint = async || node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let issued = mint().await;
    let outside = by_lease(&issued, ask("POST /deploy", "eu", "192.0.2.1", &[]));
    let accepted = node.accepted(&api, &outside).await;
    assert_eq!(accepted.observed.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["office"]);
    let records = node.audited_as("check");
    assert_eq!(records.len(), 1);
    assert_eq!(
        (&records[0]["outcome"], &records[0]["observed"]),
        (&"allowed".into(), &serde_json::json!(["office"]))
    );
    let inside = by_lease(&issued, ask("POST /deploy", "eu", "10.0.0.1", &[]));
    assert!(node.accepted(&api, &inside).await.observed.is_empty());
    assert_eq!(node.audited_as("check").len(), 1);
}

#[tokio::test]
async fn an_answer_is_reused_no_longer_than_anything_allows() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, ledger) = (node.acceptor("deploy-api").await, node.acceptor("ledger-api").await);
    let worker = Worker::payments("1");
    let token = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let serve = claim("mesh", "serve:payments");
    let mesh = node.mint(&worker, &site.token(&worker), serve).await.unwrap();
    let leaf = mesh.certificate().unwrap().chain()[0].to_vec();
    let certificate = |request| CheckInput { request, ..shown_to(Credential::Certificate(leaf.clone())) };
    let reuse = async |acceptor: &Acceptor, input: &CheckInput| node.accepted(acceptor, input).await.reuse_ms;
    assert_eq!(node.broker.reuse_ms(), 5_000, "the longest of any acceptor is registered");
    node.broker.reuse_registered(0);
    assert_eq!(reuse(&ledger, &certificate(None)).await, 0, "before the store knows it, nothing is reused");
    node.broker.reuse_registered(5_000);
    assert_eq!(reuse(&ledger, &certificate(None)).await, 5_000);
    assert_eq!(reuse(&ledger, &certificate(ask("call", "eu", "", &[]))).await, 5_000);
    assert_eq!(
        reuse(&ledger, &certificate(ask("call by day", "eu", "", &[]))).await,
        0,
        "a policy looks at the time"
    );
    assert_eq!(reuse(&api, &by_lease(&token, None)).await, 0, "of this acceptor nothing is");
    node.clock.set(mesh.record.expires.minus(1_500));
    assert_eq!(reuse(&ledger, &certificate(None)).await, 1_500, "never beyond the lease");
}

#[tokio::test]
async fn what_is_used_at_accepted_checks_is_counted_and_kept_while_the_store_is_away() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (api, worker) = (node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    node.judge(&api, &by_lease(&issued, None)).await.unwrap();
    node.judge(&api, &by_lease(&issued, ask("POST /deploy", "us", "", &["deploy:write"]))).await.unwrap();
    node.judge(&api, &by_lease(&issued, ask("POST /deploy", "old", "", &["deploy:write"])))
        .await
        .unwrap_err();
    let away = StoreError::Unavailable("away".into());
    node.store.faults.lock().one = Some(("add_usage", away));
    node.broker.flush_usage().await;
    node.store.faults.lock().one = None;
    node.broker.flush_usage().await;
    node.broker.flush_usage().await;
    let profile = "payments-deploy".parse().unwrap();
    let mut used: Vec<(UsedItem, u64)> =
        node.store.usage(&profile).await.unwrap().into_iter().map(|u| (u.item, u.uses)).collect();
    used.sort();
    let scope = UsedItem::Scope("deploy:write".parse().unwrap());
    let intent = UsedItem::Intent("deploy:payments".parse().unwrap());
    assert_eq!(used, [(scope, 1), (intent, 2)]);
}

#[tokio::test]
async fn what_followers_report_is_counted_where_they_may_check_it_and_it_was_granted() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let scope = |name: &str| UsedItem::Scope(name.parse().unwrap());
    let intent = |name: &str| UsedItem::Intent(name.parse().unwrap());
    let report = |by: &str, lease, item| node.broker.used(&by.parse().unwrap(), lease, item, 3);
    let lease = issued.record.id;
    for _ in 0..2 {
        report("deploy-api", lease, scope("deploy:write"));
    }
    report("deploy-api", lease, intent("deploy:payments"));
    report("deploy-api", lease, scope("never:granted"));
    report("deploy-api", lease, intent("deploy:another"));
    report("ledger-api", lease, scope("deploy:write"));
    report("nobody", lease, scope("deploy:write"));
    report("deploy-api", LeaseId::from_bytes([7; 16]), scope("deploy:write"));
    let away = StoreError::Unavailable("away".into());
    node.store.faults.lock().one = Some(("get", away));
    node.broker.flush_usage().await;
    node.store.faults.lock().one = None;
    node.broker.flush_usage().await;
    let counts = node.store.usage(&"payments-deploy".parse().unwrap()).await.unwrap();
    let mut used: Vec<_> = counts.iter().map(|u| (u.workload.clone(), u.item.clone(), u.uses)).collect();
    used.sort();
    let workload = issued.record.body.workload.clone();
    let expected = [(workload.clone(), scope("deploy:write"), 6), (workload, intent("deploy:payments"), 3)];
    assert_eq!(used, expected, "nothing twice, nothing of others");
}
