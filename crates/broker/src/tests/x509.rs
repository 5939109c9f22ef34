//! Certificates of workloads: minted, renewed by themselves, evidence for others, judged for acceptors.

use mayfly_attest::{Evidence, MtlsCertificate};
use mayfly_credential::Usage;
use mayfly_domain::{JoinToken, LeaseId, Owners, Reason, Refusal, SpiffeId, Subject};
use mayfly_policy::Claimed;

use super::site::*;
use crate::*;

fn serve() -> Claimed {
    claim("mesh", "serve:payments")
}

impl Node {
    /// The certificate as the transport would show it.
    fn shown(&self, issued: &Issued) -> MtlsCertificate {
        let certificate = issued.certificate().expect("a certificate");
        let keys = self.broker.keys();
        let read =
            keys.verifier().workload_chain(certificate.chain(), Usage::Client, self.broker.clock().now());
        let read = read.unwrap();
        MtlsCertificate {
            id: read.id,
            credential: read.credential,
            key: read.key,
            observation: read.observation,
            signer: read.signer,
        }
    }

    async fn renew_itself(&self, next: &Worker, shown: MtlsCertificate) -> Result<Issued, Refusal> {
        let lease = shown.credential.lease;
        self.renew_by(next, shown, lease).await
    }

    async fn renew_by(
        &self,
        next: &Worker,
        shown: MtlsCertificate,
        lease: LeaseId,
    ) -> Result<Issued, Refusal> {
        let opened = self.open(next, "Renew")?;
        let input = RenewInput { lease, ttl: None, csr: None };
        self.broker.renew(&self.call(), &opened, &Evidence::Mtls(Box::new(shown)), input).await
    }

    async fn child(
        &self,
        worker: &Worker,
        shown: MtlsCertificate,
        claimed: Claimed,
    ) -> Result<Issued, Refusal> {
        let opened = self.open(worker, "Mint")?;
        self.broker.mint(&self.call(), &opened, &Evidence::Mtls(Box::new(shown)), claimed.into()).await
    }

    async fn join(&self, worker: &Worker, token: &JoinToken) -> Result<Issued, Refusal> {
        let opened = self.open(worker, "Mint")?;
        let token = JoinToken::parse(token.expose()).unwrap();
        self.broker.mint(&self.call(), &opened, &Evidence::Join(token), serve().into()).await
    }

    async fn accepts(&self, acceptor: &Acceptor, issued: &Issued) -> Result<(), Reason> {
        let leaf = issued.certificate().unwrap().chain()[0].to_vec();
        self.judge(acceptor, &shown_to(Credential::Certificate(leaf))).await
    }
}

pub(super) fn shown_to(credential: Credential) -> CheckInput {
    let (method, url) = ("GET".to_owned(), API.to_owned());
    CheckInput { credential, dpop: None, peer: None, method, url, request: None }
}

#[tokio::test]
async fn a_certificate_is_minted_for_the_calls_key_and_ends_with_its_lease() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let (certificate, shown) = (issued.certificate().unwrap(), node.shown(&issued));
    assert_eq!((shown.credential.lease, shown.credential.counter), (issued.record.id, 0));
    assert_eq!((shown.key, &shown.id), (worker.public.thumbprint(), &issued.record.body.workload));
    assert_eq!(shown.observation, issued.record.observation);
    assert_eq!(shown.signer, issued.record.signer);
    assert_eq!((certificate.expires(), certificate.chain().len()), (START.plus(600_000), 2));
    let names: Vec<_> =
        issued.record.body.x509.as_ref().unwrap().names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["deploy.payments.svc"]);
    assert_eq!(issued.outage_budget.map(|b| b.as_secs()), Some(180));
    assert_eq!(node.audited_as("mint").pop().unwrap()["credential"], "x509");

    let (yes, no) = (node.acceptor("ledger-api").await, node.acceptor("deploy-api").await);
    node.accepts(&yes, &issued).await.unwrap();
    assert_eq!(node.accepts(&no, &issued).await, Err(Reason::TokenAudience), "only where it is configured");
    let by_lease = shown_to(Credential::Lease(issued.record.id));
    node.judge(&yes, &by_lease).await.unwrap();
    assert_eq!(node.judge(&no, &by_lease).await, Err(Reason::TokenAudience));
    site.clock.advance(1_000);
    node.revoke(&node.operator("alice").await, owner("team:payments")).await;
    assert_eq!(node.accepts(&yes, &issued).await, Err(Reason::LeaseRevoked));
}

#[tokio::test]
async fn a_certificate_renews_itself_with_the_same_key_or_a_new_one() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let api = node.acceptor("ledger-api").await;
    let worker = Worker::payments("1");
    let first = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    site.clock.advance(60_000);
    let second = node.renew_itself(&worker, node.shown(&first)).await.unwrap();
    assert_eq!((second.record.id, second.record.counter), (first.record.id, 1));
    assert_eq!(second.record.observation, first.record.observation, "the first one, for ever");
    assert_eq!(second.record.body.key, worker.public.thumbprint());

    let next = worker.other_key();
    let third = node.renew_itself(&next, node.shown(&second)).await.unwrap();
    assert_eq!((third.record.counter, third.record.body.key), (2, next.public.thumbprint()));
    node.accepts(&api, &third).await.unwrap();
    node.accepts(&api, &second).await.unwrap();
    let refused = node.renew_itself(&worker, node.shown(&second)).await;
    assert_eq!(why(refused), Reason::CertificateNotAllowed, "the old key is the lease's no more");
    let fourth = node.renew_itself(&next, node.shown(&third)).await.unwrap();
    assert_eq!(fourth.record.counter, 3);

    // First evidence still renews, by the lease's own key.
    let refused = node.renew(&worker, &site.token(&worker), first.record.id).await;
    assert_eq!(why(refused), Reason::LeaseNotFound);
    node.renew(&next, &site.token(&next), first.record.id).await.unwrap();
}

#[tokio::test]
async fn a_renewal_whose_answer_was_lost_is_made_again_with_the_certificate_before_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (worker, next) = (Worker::payments("1"), Worker::payments("1").other_key());
    let first = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let lost = node.renew_itself(&next, node.shown(&first)).await.unwrap();
    let again = node.renew_itself(&next, node.shown(&first)).await.unwrap();
    assert_eq!((again.record.id, again.record.counter), (lost.record.id, 2));
    // Neither the key before nor any other is the lease's.
    for other in [&worker, &worker.other_key()] {
        let refused = node.renew_itself(other, node.shown(&first)).await;
        assert_eq!(why(refused), Reason::CertificateNotAllowed);
    }
}

#[tokio::test]
async fn a_renewal_by_certificate_is_two_questions_to_the_store() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let shown = node.shown(&issued);
    node.store.faults.lock().one = Some(("get", mayfly_lease::StoreError::Unavailable("gone".into())));
    node.renew_itself(&worker, shown).await.unwrap();
}

#[tokio::test]
async fn a_certificate_renews_nothing_but_its_own_lease() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let other = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let thief = worker.other_key();
    let refused = node.renew_by(&thief, node.shown(&issued), other.record.id).await;
    assert_eq!(why(refused), Reason::LeaseNotFound, "another lease of the workload's, without its key");
    let mut altered = node.shown(&issued);
    altered.id = SpiffeId::new(&domain(), "/ci/billing/report").unwrap();
    assert_eq!(why(node.renew_itself(&worker, altered).await), Reason::CertificateNotAllowed);
    let mut altered = node.shown(&issued);
    altered.observation =
        node.mint(&worker, &site.token(&worker), deploy()).await.unwrap().record.observation;
    assert!(node.renew_itself(&worker, altered).await.is_err());
}

#[tokio::test]
async fn a_child_has_its_parents_rights_and_ends_with_it() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    let parent = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let token = node.child(&worker, node.shown(&parent), deploy()).await.unwrap();
    assert_eq!(token.record.observation.ancestors(), [parent.record.id]);
    assert_eq!(token.record.body.task, parent.record.body.task);
    assert!(token.record.expires <= parent.record.expires);
    let child = node.child(&worker.other_key(), node.shown(&parent), serve()).await.unwrap();
    let api = node.acceptor("ledger-api").await;
    node.accepts(&api, &child).await.unwrap();
    assert_eq!(child.record.body.owners, parent.record.body.owners);

    let input = one_lease(parent.record.id);
    node.broker.revoke(&node.call(), &alice, input, text("stolen"), None, false).await.unwrap();
    assert_eq!(node.accepts(&api, &child).await, Err(Reason::LeaseRevoked));
    let again = node.child(&worker, node.shown(&parent), deploy()).await;
    assert_eq!(why(again), Reason::LeaseRevoked);
    assert_eq!(why(node.renew_itself(&worker, node.shown(&parent)).await), Reason::LeaseRevoked);
    assert_eq!(why(node.renew_itself(&worker, node.shown(&child)).await), Reason::LeaseRevoked);
}

#[tokio::test]
async fn a_child_is_dead_with_its_parents_profile_and_outlives_no_parent() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    let deploy_api = node.acceptor("deploy-api").await;
    let parent = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let child = node.child(&worker, node.shown(&parent), deploy()).await.unwrap();
    node.check(&deploy_api, &worker, &child).await.unwrap();
    let kept = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.clock.advance(1_000);
    node.revoke(&alice, Subject::Profile("mesh".parse().unwrap())).await;
    assert_eq!(node.check(&deploy_api, &worker, &child).await, Err(Reason::LeaseRevoked));
    node.check(&deploy_api, &worker, &kept).await.unwrap();

    let parent = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    site.clock.advance(9 * 60_000);
    let child = node.child(&worker, node.shown(&parent), deploy()).await.unwrap();
    assert_eq!(child.record.expires, parent.record.expires);
    let shown = node.shown(&parent);
    site.clock.advance(60_000);
    assert_eq!(node.check(&deploy_api, &worker, &child).await, Err(Reason::LeaseExpired));
    assert_eq!(why(node.child(&worker, shown.clone(), deploy()).await), Reason::LeaseExpired);
    assert_eq!(why(node.renew_itself(&worker, shown).await), Reason::LeaseExpired);
}

#[tokio::test]
async fn what_a_withdrawn_authority_signed_is_refused_at_a_broker_that_did_not_hear_of_it() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let (worker, api) = (Worker::payments("1"), two.acceptor("ledger-api").await);
    let issued = one.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    two.accepts(&api, &issued).await.unwrap();
    let shown = two.shown(&issued);
    // Nobody but the store tells the second broker.
    site.withdraw_keys();
    assert_eq!(two.accepts(&api, &issued).await, Err(Reason::SignerWithdrawn));
    assert_eq!(two.accepts(&api, &issued).await, Err(Reason::CertificateNotAllowed), "it has the new keys");
    assert_eq!(why(one.renew_itself(&worker, shown).await), Reason::SignerWithdrawn);
    let fresh = one.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    assert_eq!(two.accepts(&api, &fresh).await, Err(Reason::SignerWithdrawn), "the acceptor's own went too");
    two.accepts(&two.acceptor("ledger-api").await, &fresh).await.unwrap();
}

#[tokio::test]
async fn nothing_leaves_that_a_withdrawn_authority_would_have_signed() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    site.withdraw_keys();
    let refused = node.mint(&worker, &site.token(&worker), serve()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RaceLost);
    assert!(refused.retry_after.is_some());
    node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
}

#[tokio::test]
async fn a_join_token_makes_one_certificate_for_one_key() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    let input = |owners: &[&str], path: &str| JoinInput {
        workload: SpiffeId::new(&domain(), path).unwrap(),
        owners: Owners::new(owners.iter().map(|o| o.parse().unwrap())).unwrap(),
        environment: None,
        length: None,
        reason: Some(text("a new machine")),
    };
    let make = async |operator: &Operator, owners: &[&str], path: &str| {
        node.broker.create_join(&node.call(), operator, input(owners, path)).await
    };
    let made = make(&alice, &["team:payments"], "/vm/ledger").await.unwrap();
    let (worker, other) = (Worker::payments("1"), Worker::payments("2"));
    let issued = node.join(&worker, &made.token).await.unwrap();
    assert_eq!(issued.record.body.workload.path(), "/vm/ledger");
    assert_eq!(issued.record.body.task, Some(made.record.id.task().unwrap()));
    assert_eq!(why(node.join(&worker, &made.token).await), Reason::EvidenceUsed);
    assert_eq!(why(node.join(&other, &made.token).await), Reason::EvidenceBoundToOtherKey);
    node.renew_itself(&worker, node.shown(&issued)).await.unwrap();

    let listed = node.broker.joins(&node.call(), &alice).await.unwrap();
    assert_eq!(listed[0].lease(), Some(issued.record.id));
    let taken = make(&alice, &["team:payments"], "/vm/ledger").await.unwrap();
    node.broker.withdraw_join(&node.call(), &alice, taken.record.id, None).await.unwrap();
    assert_eq!(why(node.join(&other, &taken.token).await), Reason::JoinTokenUnknown);
    let late = make(&alice, &["team:payments"], "/vm/ledger").await.unwrap();
    site.clock.advance(600_000);
    assert_eq!(why(node.join(&other, &late.token).await), Reason::JoinTokenUnknown);

    assert_eq!(why(make(&alice, &["team:payments"], "/mayfly/operator/eve").await), Reason::InputInvalid);
    let mallory = node.operator("mallory").await;
    assert_eq!(why(make(&mallory, &["team:payments"], "/vm/ledger").await), Reason::PolicyDenied);
    let opened = node.open(&other, "StartTask").unwrap();
    let evidence = Evidence::Join(JoinToken::parse(late.token.expose()).unwrap());
    let refused = node.broker.start_task(&node.call(), &opened, &evidence, None, None, None).await;
    assert_eq!(why(refused), Reason::InputInvalid, "it mints and does nothing else");
    let audit = std::fs::read_to_string(node.state.join("audit.jsonl")).unwrap();
    assert!(!audit.contains(&made.token.expose()[4..]) && audit.contains(&made.record.id.to_string()));
}

#[tokio::test]
async fn a_completion_handle_ends_its_task_and_nothing_else() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let handle = node.broker.completion_handle(issued.task.as_ref().unwrap());
    let done = node.broker.complete_by_handle(&node.call(), &handle).await.unwrap();
    assert!(!done.already);
    let api = node.acceptor("ledger-api").await;
    assert_eq!(node.accepts(&api, &issued).await, Err(Reason::LeaseEnded));
    assert!(node.broker.complete_by_handle(&node.call(), &handle).await.unwrap().already);
    let forged = mayfly_domain::Secret::new(handle.expose().replace("mfc_A", "mfc_B"));
    assert_eq!(why(node.broker.complete_by_handle(&node.call(), &forged).await), Reason::HandleInvalid);
    assert!(!std::fs::read_to_string(node.state.join("audit.jsonl")).unwrap().contains(handle.expose()));
}

#[tokio::test]
async fn a_handle_that_is_shown_again_and_again_does_not_fill_the_audit() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let handle = node.broker.completion_handle(issued.task.as_ref().unwrap());
    let mut refused = 0;
    for _ in 0..1_500 {
        match node.broker.complete_by_handle(&node.call(), &handle).await {
            Ok(_) => {}
            Err(refusal) => {
                assert_eq!(refusal.reason, Reason::RateLimited);
                refused += 1;
            }
        }
    }
    assert_eq!(node.audited_as("task_complete").len() + refused, 1_500, "each that was answered is recorded");
    assert!(refused > 0);
}

#[tokio::test]
async fn a_workloads_certificate_is_nobodys_operator() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), serve()).await.unwrap();
    let shown = node.shown(&issued);
    for path in ["/ci/payments/deploy", "/mayfly/operator/alice"] {
        let certificate = ClientCertificate {
            role: mayfly_mint::Role::Workload,
            id: SpiffeId::new(&domain(), path).unwrap(),
            credential: shown.credential,
            key: shown.key,
            signer: shown.signer,
        };
        assert_eq!(why(node.broker.operator(Some(&certificate)).await), Reason::CertificateNotAllowed);
        assert_eq!(why(node.broker.acceptor(Some(&certificate)).await), Reason::CertificateNotAllowed);
    }
}
