//! Certificates of a foreign authority as evidence: whose they are, and what ends them.

use mayfly_attest::{Challenge, Evidence};
use mayfly_domain::{Clock as _, Reason, Refusal};
use mayfly_lease::LeaseStore as _;
use mayfly_testkit::x509::{Held, KeyKind};

use super::site::*;
use crate::*;

const DAY: u64 = 86_400_000;

impl Site {
    /// A machine's certificate, from now for so many days.
    fn machine(&self, days: u64) -> Held {
        let from = self.clock.now();
        self.machines.issue_host(KeyKind::P384, "web-7", from, from.plus(days * DAY))
    }
}

impl Node {
    async fn mint_by(&self, worker: &Worker, held: &Held) -> Result<Issued, Refusal> {
        let opened = self.open(worker, "Mint")?;
        let (trust_domain, key) = (domain(), worker.public.thumbprint());
        let proof = held.prove(&Challenge { trust_domain: &trust_domain, nonce: opened.nonce(), key });
        let claimed = claim("mesh", "serve:payments");
        self.broker.mint(&self.call(), &opened, &Evidence::X509(proof), claimed.into()).await
    }

    async fn renew_with(&self, worker: &Worker, held: &Held, issued: &Issued) -> Result<Issued, Refusal> {
        let opened = self.open(worker, "Renew")?;
        let (trust_domain, key) = (domain(), worker.public.thumbprint());
        let proof = held.prove(&Challenge { trust_domain: &trust_domain, nonce: opened.nonce(), key });
        let input = RenewInput { lease: issued.record.id, ttl: None, csr: None };
        self.broker.renew(&self.call(), &opened, &Evidence::X509(proof), input).await
    }
}

#[tokio::test]
async fn a_machine_mints_and_renews_with_its_certificate_and_any_key() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (held, worker) = (site.machine(1), Worker::payments("1"));
    let issued = node.mint_by(&worker, &held).await.unwrap();
    let body = &issued.record.body;
    assert_eq!(body.workload.as_str(), "spiffe://acme.internal/machines/web-7");
    assert_eq!(body.rule.as_ref().unwrap().as_str(), "machines");
    assert!(body.task.as_ref().unwrap().as_str().starts_with("x509-"), "{:?}", body.task);
    assert_eq!(body.key, worker.public.thumbprint());

    site.clock.advance(60_000);
    assert_eq!(node.renew_with(&worker, &held, &issued).await.unwrap().record.counter, 1);
    let restarted = worker.other_key();
    let again = node.mint_by(&restarted, &held).await.unwrap();
    assert_eq!(again.record.body.task, issued.record.body.task, "the certificate's own key is the proof");
    assert_eq!(why(node.renew_with(&restarted, &held, &issued).await), Reason::LeaseNotFound);

    // What was signed for one call and key is nothing for another.
    let opened = node.open(&worker, "Mint").unwrap();
    let (trust_domain, key) = (domain(), restarted.public.thumbprint());
    let stolen = held.prove(&Challenge { trust_domain: &trust_domain, nonce: opened.nonce(), key });
    let claimed = claim("mesh", "serve:payments");
    let refused = node.broker.mint(&node.call(), &opened, &Evidence::X509(stolen), claimed.into()).await;
    assert_eq!(why(refused), Reason::EvidenceProof);
}

#[tokio::test]
async fn after_a_revocation_only_another_certificate_is_evidence() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (held, worker) = (site.machine(20), Worker::payments("1"));
    node.mint_by(&worker, &held).await.unwrap();
    site.clock.advance(1_000);
    node.revoke(&node.operator("alice").await, owner("team:payments")).await;
    for key in [&worker, &worker.other_key()] {
        assert_eq!(why(node.mint_by(key, &held).await), Reason::EvidencePredatesRevocation);
    }
    site.clock.advance(19 * DAY);
    assert_eq!(why(node.mint_by(&worker, &held).await), Reason::EvidencePredatesRevocation, "to its end");
    node.mint_by(&worker, &site.machine(20)).await.unwrap();
}

#[tokio::test]
async fn an_ended_task_is_remembered_for_as_long_as_a_certificate_may_name_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (held, worker) = (site.machine(30), Worker::payments("1"));
    let issued = node.mint_by(&worker, &held).await.unwrap();
    let (task, alice) = (issued.record.body.task.clone().unwrap(), node.operator("alice").await);
    node.broker.end_task(&node.call(), &alice, task, None).await.unwrap();
    for _ in 0..29 {
        assert_eq!(why(node.mint_by(&worker, &held).await), Reason::TaskEnded);
        site.clock.advance(DAY);
    }
    site.clock.advance(2 * DAY);
    assert_eq!(why(node.mint_by(&worker, &held).await), Reason::EvidenceExpired);
}

#[tokio::test]
async fn a_certificate_that_outlives_what_is_remembered_is_refused() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    assert_eq!(why(node.mint_by(&worker, &site.machine(31)).await), Reason::EvidenceLifetime, "by the rule");
    let before = site.machines.issue_host(KeyKind::P384, "web-7", START.minus(DAY), START.plus(DAY));
    let refused = node.mint_by(&worker, &before).await;
    assert_eq!(why(refused), Reason::EvidencePredatesGeneration, "what revoked it may be forgotten");
    let mut generation = node.store.generation().unwrap();
    generation.longest_life_ms = 10 * DAY;
    node.store.adopt(generation);
    assert_eq!(why(node.mint_by(&worker, &site.machine(11)).await), Reason::EvidenceLifetime, "by the store");
    node.mint_by(&worker, &site.machine(10)).await.unwrap();
}
