//! A key or CA that is withdrawn: from the acknowledgement on, nothing of it is accepted at either broker.
//!
//! How long that takes is printed and not judged: on a busy machine a time says nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;

use futures::FutureExt as _;
use futures::future::{LocalBoxFuture, join_all};
use mayfly_client::Failure;
use mayfly_proto::v1 as pb;
use tokio::time::Instant;

use super::Two;
use crate::harness::{Held, Job, Over, load_spec, refused, until};

/// When a question was put, when it was answered, and how.
type Answer = (Instant, Instant, Result<(), String>);

/// A question that is put again and again.
struct Probe<'a> {
    what: &'static str,
    ask: Box<dyn Fn() -> LocalBoxFuture<'a, Result<(), String>> + 'a>,
    answers: RefCell<Vec<Answer>>,
}

impl<'a> Probe<'a> {
    fn new<F: Future<Output = Result<(), String>> + 'a>(
        what: &'static str,
        ask: impl Fn() -> F + 'a,
    ) -> Self {
        let ask: Box<dyn Fn() -> LocalBoxFuture<'a, _> + 'a> = Box::new(move || ask().boxed_local());
        Self { what, ask, answers: RefCell::default() }
    }

    async fn run(&self) {
        loop {
            let put = Instant::now();
            let answer = (self.ask)().await;
            self.answers.borrow_mut().push((put, Instant::now(), answer));
        }
    }

    fn count(&self, accepted: bool) -> usize {
        self.answers.borrow().iter().filter(|(_, _, answer)| answer.is_ok() == accepted).count()
    }

    /// Nothing that was asked after `acknowledged` was accepted; says when the first refusal came, and which there
    /// were.
    fn judge(&self, acknowledged: Instant) -> String {
        let answers = self.answers.borrow();
        for (put, _, answer) in answers.iter() {
            assert!(
                *put < acknowledged || answer.is_err(),
                "{}: accepted after the acknowledgement",
                self.what
            );
        }
        let (_, first, _) = answers.iter().find(|(_, _, answer)| answer.is_err()).unwrap();
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1_000.0;
        let when = match *first < acknowledged {
            true => format!("{:.1} ms before", ms(*first, acknowledged)),
            false => format!("{:.1} ms after", ms(acknowledged, *first)),
        };
        let codes: BTreeSet<_> = answers.iter().filter_map(|(_, _, answer)| answer.as_ref().err()).collect();
        format!("  {}: first refused {when} the acknowledgement, {codes:?}", self.what)
    }
}

/// Asks while `withdraw` is done, and until every question was refused several times; says when each was.
async fn withdrawing(probes: &[Probe<'_>], withdraw: impl Future<Output = ()>) -> String {
    let acting = async {
        until(async || probes.iter().all(|p| p.count(true) >= 3).then_some(())).await;
        withdraw.await;
        let acknowledged = Instant::now();
        until(async || probes.iter().all(|p| p.count(false) >= 5).then_some(())).await;
        acknowledged
    };
    let acknowledged = tokio::select! {
        _ = join_all(probes.iter().map(Probe::run)) => panic!("the questions have no end"),
        acknowledged = acting => acknowledged,
    };
    let told: Vec<_> = probes.iter().map(|probe| probe.judge(acknowledged)).collect();
    told.join("\n")
}

fn code<T>(outcome: Result<T, Failure>) -> Result<(), String> {
    outcome.map(drop).map_err(|no| no.code.into_owned())
}

impl Two {
    async fn worker(&self, n: usize, name: &str) -> Job {
        self.nodes[n].job(&self.site, &load_spec(name, name)).await
    }

    async fn asked(&self, n: usize, job: &Job, token: &str) -> Result<(), String> {
        self.acceptors[n].token(token, job.proof(token)).await
    }

    /// Whether both brokers mint what both accept.
    async fn serves(&self) {
        for n in 0..2 {
            let job = self.worker(n, &format!("new-{n}")).await;
            let minted = job.mint("load", "use:load").await.unwrap();
            let held = Held::first(&self.site, &job).await;
            held.at(&self.nodes[1 - n]).await.unwrap().renew(&job.key).await.unwrap();
            for node in &self.nodes {
                // The acceptors of before may have gone with their CA.
                let acceptor = node.acceptor("load-api").await;
                let proof = job.proof(&minted.credential);
                assert_eq!(acceptor.token(&minted.credential, proof).await, Ok(()));
                assert_eq!(acceptor.certificate(held.leaf()).await, Ok(()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_withdrawn_key_signed_is_refused_at_both_brokers() {
    let two = Two::new().await;
    let mut old = Vec::new();
    for n in 0..6 {
        let job = two.worker(n % 2, &format!("old-{n}")).await;
        let token = job.mint("load", "use:load").await.unwrap().credential;
        old.push((job, token));
    }
    let kid = two.kids().await.remove(0);
    let probes = [
        Probe::new("a token of this broker, here", || two.asked(0, &old[0].0, &old[0].1)),
        Probe::new("a token of this broker, at the other", || two.asked(1, &old[0].0, &old[0].1)),
        Probe::new("a token of the other broker, here", || two.asked(0, &old[1].0, &old[1].1)),
        Probe::new("a token of the other broker, there", || two.asked(1, &old[1].0, &old[1].1)),
    ];
    let told = withdrawing(&probes, async {
        let request = pb::RevokeKeyRequest { kid: kid.clone(), reason: "test".into(), ..Default::default() };
        two.alice.client.revoke_key(request).await.unwrap();
    })
    .await;
    println!("key revoke\n{told}");
    for (job, token) in &old {
        for n in 0..2 {
            let no = two.asked(n, job, token).await.unwrap_err();
            assert!(["SIGNER_WITHDRAWN", "TOKEN_SIGNATURE_INVALID"].contains(&no.as_str()), "{no}");
        }
    }
    let jwks: Vec<_> =
        two.nodes.iter().map(|node| String::from_utf8(node.broker.keys().jwks().to_vec()).unwrap()).collect();
    assert_eq!(jwks[0], jwks[1]);
    assert!(!jwks[0].contains(&kid) && !two.kids().await.contains(&kid));
    two.serves().await;
    drop(probes);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_withdrawn_ca_issued_is_refused_at_both_brokers() {
    let two = Two::new().await;
    let mut old: Vec<(Held, [Over; 2])> = Vec::new();
    for n in 0..6 {
        let job = two.worker(n % 2, &format!("old-{n}")).await;
        let held = Held::first(&two.site, &job).await;
        let lines = [held.at(&two.nodes[0]).await.unwrap(), held.at(&two.nodes[1]).await.unwrap()];
        old.push((held, lines));
    }
    let id = two.authorities(pb::AuthorityRole::Workload).await.remove(0);
    let judged = async |n: usize, at: usize| two.acceptors[at].certificate(old[n].0.leaf()).await;
    let renews = async |n: usize, at: usize| code(old[n].1[at].renew(&old[n].0.key).await);
    let mints = async |n: usize, at: usize| code(old[n].1[at].mint(&old[n].0.key, "load", 0).await);
    let probes = [
        Probe::new("a certificate, here", || judged(0, 0)),
        Probe::new("a certificate, at the other", || judged(0, 1)),
        Probe::new("a renewal, here", || renews(1, 0)),
        Probe::new("a renewal, at the other", || renews(2, 1)),
        Probe::new("a child, here", || mints(3, 0)),
        Probe::new("a child, at the other", || mints(4, 1)),
    ];
    let told = withdrawing(&probes, async {
        let request =
            pb::RevokeAuthorityRequest { id: id.clone(), reason: "test".into(), ..Default::default() };
        two.alice.client.revoke_authority(request).await.unwrap();
    })
    .await;
    println!("ca revoke of workloads\n{told}");
    let gone = ["SIGNER_WITHDRAWN", "CERTIFICATE_NOT_ALLOWED"];
    for (n, (held, _)) in old.iter().enumerate() {
        for at in 0..2 {
            for no in [judged(n, at).await, renews(n, at).await, mints(n, at).await] {
                let no = no.unwrap_err();
                assert!(gone.contains(&no.as_str()), "{no}");
            }
            // A new handshake does not even come to a call. Where the connection broke before the alert was read, the
            // transport knows no reason, and a client tries again.
            let again = async || held.at(&two.nodes[at]).await?.mint(&held.key, "load", 0).await;
            until(async || (refused(again().await) == "CERTIFICATE_NOT_ALLOWED").then_some(())).await;
        }
    }
    for node in &two.nodes {
        assert_eq!(node.broker.keys().bundle().workload_anchors.len(), 1);
    }
    assert!(!two.authorities(pb::AuthorityRole::Workload).await.contains(&id));
    two.serves().await;
    drop(probes);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_a_withdrawn_ca_certified_nobody_hears() {
    let two = Two::new().await;
    let job = two.worker(0, "old").await;
    let minted = job.mint("load", "use:load").await.unwrap();
    let bob = two.nodes[1].operator("alice").await;
    let id = two.authorities(pb::AuthorityRole::System).await.remove(0);
    let asks = async |at: usize| two.acceptors[at].lease(&minted.lease).await;
    let probes = [
        Probe::new("an acceptor, here", || asks(0)),
        Probe::new("an acceptor, at the other", || asks(1)),
        Probe::new("an operator, at the other", async || {
            code(bob.client.list_keys(pb::ListKeysRequest {}).await)
        }),
    ];
    let told = withdrawing(&probes, async {
        let request =
            pb::RevokeAuthorityRequest { id: id.clone(), reason: "test".into(), ..Default::default() };
        two.alice.client.revoke_authority(request).await.unwrap();
    })
    .await;
    println!("ca revoke of the system\n{told}");
    let gone = ["SIGNER_WITHDRAWN", "CERTIFICATE_NOT_ALLOWED"];
    let no = refused(two.alice.client.list_keys(pb::ListKeysRequest {}).await);
    assert!(gone.contains(&no.as_str()), "the withdrawal's author too: {no}");
    // Workloads go on; so do people and services with new certificates.
    let renewed = job.renew(&minted.lease).await.unwrap();
    let carol = two.nodes[1].operator("alice").await;
    carol.client.list_keys(pb::ListKeysRequest {}).await.unwrap();
    let acceptor = two.nodes[0].acceptor("load-api").await;
    assert_eq!(acceptor.token(&renewed.credential, job.proof(&renewed.credential)).await, Ok(()));
    two.serves().await;
    drop(probes);
    two.stop().await;
}
