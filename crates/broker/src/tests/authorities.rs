//! Rotating and withdrawing authorities and keys, with another broker that lags behind.

use mayfly_domain::{Reason, Refusal, SignerId, Thumbprint};
use mayfly_mint::{KeyState, Role};

use super::site::*;
use super::x509::shown_to;
use crate::*;

fn of(node: &Node, role: Role) -> Vec<(String, KeyState)> {
    let keys = node.broker.keys();
    keys.authorities().iter().filter(|a| a.role == role).map(|a| (a.id.clone(), a.state)).collect()
}

fn active(node: &Node, role: Role) -> String {
    of(node, role).into_iter().find(|(_, state)| *state == KeyState::Active).unwrap().0
}

fn serve() -> mayfly_policy::Claimed {
    claim("mesh", "serve:payments")
}

impl Node {
    async fn step(&self, operator: &Operator, role: Role, step: AuthorityStep) -> Result<(), Refusal> {
        self.broker.rotate_authority(&self.call(), operator, role, step).await.map(|_| ())
    }

    async fn takes(&self, acceptor: &Acceptor, issued: &Issued) -> Result<(), Reason> {
        let leaf = issued.certificate().unwrap().chain()[0].to_vec();
        let credential = Credential::Certificate(leaf);
        self.judge(acceptor, &shown_to(credential)).await
    }
}

const RETIRE: AuthorityStep = AuthorityStep::Retire { id: None, force: false };

#[tokio::test]
async fn an_authority_issues_when_every_live_broker_has_it_and_retires_when_nothing_needs_it() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let (alice, worker) = (one.operator("alice").await, Worker::payments("1"));
    let api = one.acceptor("ledger-api").await;
    let role = Role::Workload;
    let old = one.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let first = active(&one, role);

    assert_eq!(why(one.step(&alice, role, AuthorityStep::Activate).await), Reason::InputInvalid);
    one.step(&alice, role, AuthorityStep::Prepare).await.unwrap();
    assert_eq!(one.broker.keys().bundle().workload_anchors.len(), 2, "published before it issues");
    assert_eq!(active(&one, role), first);
    one.broker.look().await;
    let refused = one.step(&alice, role, AuthorityStep::Activate).await.unwrap_err();
    assert_eq!((refused.reason, refused.facts), (Reason::RaceLost, vec![("waiting for", "two".to_owned())]));
    two.broker.look().await;
    two.step(&alice, role, AuthorityStep::Activate).await.unwrap();
    assert_ne!(active(&two, role), first);

    let new = two.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    for node in [&one, &two] {
        node.takes(&api, &old).await.unwrap();
        node.takes(&api, &new).await.unwrap();
    }
    for node in [&one, &two] {
        node.broker.look().await;
    }
    let listed = one.broker.list_authorities(&one.call(), &alice).await.unwrap();
    let live = |id: &str| listed.iter().find(|a| a.info.id == id).unwrap().live;
    assert_eq!((live(&first).count, live(&active(&one, role)).count), (1, 1));
    assert_eq!(live(&first).last_ends, old.record.expires);
    // Alice's own, and the acceptor's.
    assert_eq!(live(&active(&one, Role::System)).count, 2);

    let refused = one.step(&alice, role, RETIRE).await.unwrap_err();
    assert_eq!(refused.reason, Reason::KeyInUse);
    assert_eq!(refused.facts[..2], [("key", first.clone()), ("live leases", "1".to_owned())]);
    site.clock.advance(11 * 60_000);
    for node in [&one, &two] {
        node.broker.look().await;
    }
    one.step(&alice, role, RETIRE).await.unwrap();
    assert_eq!(of(&one, role).len(), 1);
    for node in [&one, &two] {
        node.broker.look().await;
    }
    assert_eq!(why(one.step(&alice, role, RETIRE).await), Reason::InputInvalid);
    let details: Vec<String> =
        one.audited_as("key").iter().map(|r| r["detail"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(details.iter().any(|d| d.contains("workload authority: Prepare")), "{details:?}");
}

#[tokio::test]
async fn force_retires_what_is_in_use_and_refuses_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    let api = node.acceptor("ledger-api").await;
    let issued = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    node.step(&alice, Role::Workload, AuthorityStep::Prepare).await.unwrap();
    node.broker.look().await;
    node.step(&alice, Role::Workload, AuthorityStep::Activate).await.unwrap();
    node.takes(&api, &issued).await.unwrap();
    let force = AuthorityStep::Retire { id: None, force: true };
    node.step(&alice, Role::Workload, force).await.unwrap();
    node.takes(&api, &issued).await.unwrap_err();
}

#[tokio::test]
async fn a_revoked_token_key_is_refused_at_a_broker_that_did_not_hear_of_it() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let (alice, worker) = (one.operator("alice").await, Worker::payments("1"));
    let api = two.acceptor("deploy-api").await;
    let token = one.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    two.check(&api, &worker, &token).await.unwrap();
    let kid = one.broker.keys().signer().kid().to_owned();
    let done =
        one.broker.revoke_key(&one.call(), &alice, &kid, text("stolen"), Some("SEC-1".into())).await.unwrap();
    assert_eq!(done.now.len(), 1);
    assert!(done.now[0].info.kid != kid && done.now[0].info.state == KeyState::Active);
    assert_eq!(one.copied().keys.unwrap().0, one.broker.keys().version());
    assert_eq!(two.check(&api, &worker, &token).await, Err(Reason::SignerWithdrawn));
    assert_eq!(one.check(&api, &worker, &token).await, Err(Reason::TokenSignature));
    for node in [&one, &two] {
        assert!(!std::str::from_utf8(node.broker.keys().jwks()).unwrap().contains(&kid));
        let fresh = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
        two.check(&api, &worker, &fresh).await.unwrap();
    }
    let again = one.broker.revoke_key(&one.call(), &alice, &kid, text("stolen"), None).await;
    assert_eq!(why(again), Reason::NotFound);
    let record = &one.audited_as("key")[0];
    assert_eq!((&record["ticket"], &record["detail"]), (&"SEC-1".into(), &format!("revoke {kid}").into()));
}

#[tokio::test]
async fn a_revoked_authority_takes_what_it_issued_with_it() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let (alice, worker) = (one.operator("alice").await, Worker::payments("1"));
    let api = two.acceptor("ledger-api").await;
    let issued = one.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let revoke =
        async |id: &str| one.broker.revoke_authority(&one.call(), &alice, id, text("stolen"), None).await;
    let old = active(&one, Role::Workload);
    revoke(&old).await.unwrap();
    assert_eq!(two.takes(&api, &issued).await, Err(Reason::SignerWithdrawn));
    let signer = SignerId::from(Thumbprint::parse(&old).unwrap());
    assert!(!one.broker.keys().knows(&signer) && !two.broker.keys().knows(&signer));
    assert_eq!(why(revoke(&old).await), Reason::NotFound);

    let kind = || StaffKind::Operator("alice".parse().unwrap());
    let (certificate, _) = two.certificate(kind()).await.unwrap();
    two.broker.operator(Some(&certificate)).await.unwrap();
    revoke(&active(&one, Role::System)).await.unwrap();
    assert_eq!(why(two.broker.operator(Some(&certificate)).await), Reason::SignerWithdrawn);
    let (certificate, _) = two.certificate(kind()).await.unwrap();
    two.broker.operator(Some(&certificate)).await.unwrap();
}

#[tokio::test]
async fn a_request_is_made_and_what_is_unfit_is_not_imported() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, mallory) = (node.operator("alice").await, node.operator("mallory").await);
    let (id, csr) = node.broker.authority_csr(&node.call(), &alice, Role::System).await.unwrap();
    assert_eq!(id, active(&node, Role::System));
    assert!(csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    let own = mayfly_mint::keyring::pem(node.broker.keys().root());
    for (pem, reason) in [
        (csr, Reason::CaInvalid),
        (String::new(), Reason::CaInvalid),
        (own, Reason::CaInvalid),
        ("x".repeat(100_000), Reason::TooLarge),
    ] {
        let refused =
            node.broker.import_authority(&node.call(), &alice, Role::System, &pem).await.unwrap_err();
        assert_eq!(refused.reason, reason);
        assert!(reason != Reason::CaInvalid || refused.facts[0].0 == "problem");
    }
    let version = node.broker.keys().version();
    let call = node.call();
    assert_eq!(why(node.broker.authority_csr(&call, &mallory, Role::System).await), Reason::PolicyDenied);
    let import = node.broker.import_authority(&call, &mallory, Role::System, "").await;
    assert_eq!(why(import), Reason::PolicyDenied);
    assert_eq!(why(node.broker.list_authorities(&call, &mallory).await), Reason::PolicyDenied);
    let revoke = node.broker.revoke_authority(&call, &mallory, &id, text("x"), None).await;
    assert_eq!(why(revoke), Reason::PolicyDenied);
    assert_eq!(why(node.step(&mallory, Role::System, AuthorityStep::Rotate).await), Reason::PolicyDenied);
    assert_eq!(node.broker.keys().version(), version);
}
