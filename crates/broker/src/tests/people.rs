//! Operators and acceptors: by a certificate of the right kind, name and key whose lease is live.

use mayfly_domain::{LeaseId, Reason, SpiffeId, Ttl};
use mayfly_lease::StoreError;

use super::site::*;
use crate::*;

fn operator(name: &str) -> StaffKind {
    StaffKind::Operator(name.parse().unwrap())
}

fn acceptor(name: &str) -> StaffKind {
    StaffKind::Acceptor(name.parse().unwrap())
}

#[tokio::test]
async fn a_certificate_counts_for_its_own_kind_name_and_key() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, _) = node.certificate(operator("alice")).await.unwrap();
    let (api, _) = node.certificate(acceptor("deploy-api")).await.unwrap();
    node.broker.operator(Some(&alice)).await.unwrap();
    node.broker.acceptor(Some(&api)).await.unwrap();
    assert_eq!(why(node.broker.operator(None).await), Reason::CertificateRequired);
    assert_eq!(why(node.broker.acceptor(None).await), Reason::CertificateRequired);
    assert_eq!(why(node.broker.operator(Some(&api)).await), Reason::CertificateNotAllowed);
    assert_eq!(why(node.broker.acceptor(Some(&alice)).await), Reason::CertificateNotAllowed);

    let id = |id: &str| SpiffeId::parse(id).unwrap();
    let mut wrong = Vec::new();
    for other in [
        "spiffe://acme.internal/mayfly/operator/mallory",
        "spiffe://evil.internal/mayfly/operator/alice",
        "spiffe://acme.internal/mayfly/operator/alice/more",
        "spiffe://acme.internal/ci/payments/deploy",
    ] {
        wrong.push(ClientCertificate { id: id(other), ..alice.clone() });
    }
    wrong.push(ClientCertificate { key: Worker::payments("1").public.thumbprint(), ..alice.clone() });
    wrong.push(ClientCertificate { credential: api.credential, ..alice.clone() });
    let mut gone = alice.clone();
    gone.credential.lease = LeaseId::from_parts(START, &[1; 10]);
    wrong.push(gone);
    for (n, certificate) in wrong.iter().enumerate() {
        let refused = node.broker.operator(Some(certificate)).await;
        assert_eq!(why(refused), Reason::CertificateNotAllowed, "case {n}");
    }
}

#[tokio::test]
async fn a_certificate_ends_with_its_lease() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (first, issued) = node.certificate(operator("alice")).await.unwrap();
    let (second, _) = node.certificate(operator("alice")).await.unwrap();
    let alice = node.broker.operator(Some(&second)).await.unwrap();
    let one = one_lease(issued.lease);
    node.broker.revoke(&node.call(), &alice, one, text("lost laptop"), None, false).await.unwrap();
    assert_eq!(why(node.broker.operator(Some(&first)).await), Reason::CertificateNotAllowed);
    node.revoke(&alice, mayfly_domain::Subject::Everything(domain())).await;
    node.broker.operator(Some(&second)).await.expect("an operator can't lock the operators out");
    node.revoke(&alice, owner("user:alice")).await;
    assert_eq!(why(node.broker.operator(Some(&second)).await), Reason::CertificateNotAllowed);
    let (third, issued) = node.certificate(operator("alice")).await.unwrap();
    assert_eq!(issued.expires, START.plus(4 * 3_600_000));
    site.clock.set(issued.expires);
    assert_eq!(why(node.broker.operator(Some(&third)).await), Reason::CertificateNotAllowed);
}

#[tokio::test]
async fn a_store_that_is_away_is_not_the_certificates_fault() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, _) = node.certificate(operator("alice")).await.unwrap();
    for (error, reason) in [
        (StoreError::Unavailable("gone".into()), Reason::StoreUnavailable),
        (StoreError::OtherGeneration(None), Reason::GenerationChanged),
    ] {
        node.store.faults.lock().one = Some(("check", error));
        assert_eq!(why(node.broker.operator(Some(&alice)).await), reason);
    }
}

#[tokio::test]
async fn certificates_are_for_configured_names_and_bounded() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    assert_eq!(why(node.certificate(operator("eve")).await), Reason::NotFound);
    assert_eq!(why(node.certificate(acceptor("eve-api")).await), Reason::NotFound);
    let key = Worker::payments("1");
    let long = |kind, ttl: &str, spki| StaffRequest { kind, ttl: Some(Ttl::parse(ttl).unwrap()), spki };
    for request in [
        long(operator("alice"), "9h", key.spki()),
        long(acceptor("deploy-api"), "25h", key.spki()),
        long(operator("alice"), "1h", b"no key".to_vec()),
    ] {
        assert_eq!(why(node.broker.issue_staff(&node.call(), &request).await), Reason::InputInvalid);
    }
    assert!(site.store.tamper(|view| view.records.is_empty()));
    let issued =
        node.broker.issue_staff(&node.call(), &long(operator("alice"), "8h", key.spki())).await.unwrap();
    assert_eq!(issued.certificate_pem.matches("BEGIN CERTIFICATE").count(), 2);
    let reasons: Vec<_> = node.audited_as("operator_issue").iter().map(|r| r["reason"].clone()).collect();
    assert_eq!(reasons.len(), 4);
}

#[tokio::test]
async fn an_acceptor_that_is_configured_no_longer_checks_nothing() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let (certificate, _) = node.certificate(acceptor("deploy-api")).await.unwrap();
    let api = node.broker.acceptor(Some(&certificate)).await.unwrap();
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let rules = (*node.broker.verifier().rules()).clone();
    let mut running = running();
    running.acceptors.clear();
    node.broker.reload(rules, running);
    assert_eq!(why(node.broker.acceptor(Some(&certificate)).await), Reason::CertificateNotAllowed);
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::TokenAudience));
}
