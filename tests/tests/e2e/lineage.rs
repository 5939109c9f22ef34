//! Lineages over the wire: what descends from a certificate is dead with it, no renewal makes anybody younger, and
//! a certificate is good for nothing but what it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mayfly_client::channel::tls;
use mayfly_client::{AcceptorClient, Failure, OperatorClient, WorkloadKey};
use mayfly_domain::Observation;
use mayfly_proto::v1 as pb;
use mayfly_testkit::clock::TestClock;
use rustls::HandshakeKind;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::{Acceptor, Held, Job, Node, Over, Site, load_spec, owner, proof_of, refused, subject};

/// A certificate, a token and a certificate of its own making, and a token that the second one made.
struct Family {
    job: Job,
    parent: Held,
    child: Held,
    tokens: [pb::MintResponse; 2],
    /// Open since before anything happened.
    lines: [Over; 2],
}

impl Family {
    async fn of(site: &Site, node: &Node, actor: &str) -> Self {
        let job = node.job(site, &load_spec(actor, actor)).await;
        let parent = Held::first(site, &job).await;
        let line = parent.at(node).await.unwrap();
        let key = Arc::new(WorkloadKey::generate().unwrap());
        let child = Held::new(site, line.mint(&key, "load-tls", 0).await.unwrap(), key);
        let below = child.at(node).await.unwrap();
        let tokens =
            [line.mint(&job.key, "load", 0).await.unwrap(), below.mint(&child.key, "load", 0).await.unwrap()];
        Self { job, parent, child, tokens, lines: [line, below] }
    }

    /// What an acceptor says of each member that is asked about, the parent left out.
    async fn judged(&self, site: &Site, acceptor: &Acceptor) -> Vec<Result<(), String>> {
        let mut all = vec![acceptor.certificate(self.child.leaf()).await];
        for (minted, key) in self.tokens.iter().zip([&self.job.key, &self.child.key]) {
            let token = &minted.credential;
            all.push(acceptor.token(token, proof_of(key, token, site.clock.now())).await);
            all.push(acceptor.lease(&minted.lease).await);
        }
        all
    }

    async fn lives(&self, site: &Site, acceptor: &Acceptor) {
        for judged in self.judged(site, acceptor).await {
            assert_eq!(judged, Ok(()));
        }
    }

    /// Nobody accepts anything of it, and nothing more comes of it: on connections that were open before, and on new
    /// ones.
    async fn is_dead(&self, site: &Site, node: &Node, acceptor: &Acceptor, why: &str, codes: &[&str]) {
        let is_one = |code: &str| assert!(codes.contains(&code), "{why}: {code}");
        is_one(&acceptor.certificate(self.parent.leaf()).await.unwrap_err());
        for judged in self.judged(site, acceptor).await {
            is_one(&judged.expect_err(why));
        }
        for (held, open) in [&self.parent, &self.child].into_iter().zip(&self.lines) {
            let next = WorkloadKey::generate().unwrap();
            for line in [open.clone(), held.at(node).await.unwrap()] {
                is_one(&refused(line.renew(&held.key).await));
                is_one(&refused(line.renew(&next).await));
                is_one(&refused(line.mint(&held.key, "load", 0).await));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_descends_from_a_certificate_is_dead_with_it() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let (alice, acceptor) = (node.operator("alice").await, node.acceptor("load-api").await);
    let stranger = Family::of(&site, &node, "stranger").await;
    for (why, n) in [("id", 0), ("workload", 1), ("owner", 2), ("task", 3)] {
        let family = Family::of(&site, &node, why).await;
        family.lives(&site, &acceptor).await;
        let parent = &family.parent.minted;
        let whom = [
            None,
            Some(subject(pb::Dimension::Workload, &parent.workload)),
            Some(owner(&format!("user:gh-{why}"))),
            Some(subject(pb::Dimension::Task, &parent.task.as_ref().unwrap().id)),
        ][n]
            .clone();
        match whom {
            None => alice.revoke_lease(&parent.lease).await,
            Some(whom) => alice.revoke(whom, false).await,
        }
        .unwrap();
        family.is_dead(&site, &node, &acceptor, why, &["LEASE_REVOKED"]).await;
        stranger.lives(&site, &acceptor).await;
    }

    // Giving it back is no revocation: nothing more comes of it, and what came of it ends by itself.
    let family = Family::of(&site, &node, "released").await;
    assert_eq!(family.lines[0].release(&family.job.key).await.unwrap().released, 1);
    family.lives(&site, &acceptor).await;
    assert_eq!(acceptor.certificate(family.parent.leaf()).await.unwrap_err(), "LEASE_ENDED");
    for line in [family.lines[0].clone(), family.parent.at(&node).await.unwrap()] {
        assert_eq!(refused(line.renew(&family.job.key).await), "LEASE_ENDED");
        assert_eq!(refused(line.mint(&family.job.key, "load", 0).await), "LEASE_ENDED");
    }

    // A token of another profile and integration than the certificate that it descends from.
    for (dimension, value) in
        [(pb::Dimension::Integration, "load-mesh"), (pb::Dimension::Profile, "load-tls")]
    {
        let family = Family::of(&site, &node, value).await;
        let unrelated = family.job.mint("load", "use:load").await.unwrap();
        alice.revoke(subject(dimension, value), false).await.unwrap();
        family.is_dead(&site, &node, &acceptor, value, &["LEASE_REVOKED"]).await;
        assert_eq!(acceptor.lease(&unrelated.lease).await, Ok(()), "{value}: not of the certificate");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_the_certificate_that_it_descends_from() {
    let clock = TestClock::from_system();
    let site = Site::with_clock(Arc::new(clock.clone()));
    let node = site.start("one").await;
    let acceptor = node.acceptor("load-api").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let minted = job.mint_with(&job.evidence(), "load-tls", "use:load", 60).await.unwrap();
    let parent = Held::new(&site, minted, job.key.clone());
    let line = parent.at(&node).await.unwrap();
    let key = Arc::new(WorkloadKey::generate().unwrap());
    let child = Held::new(&site, line.mint(&key, "load-tls", 900).await.unwrap(), key);
    let below = child.at(&node).await.unwrap();
    let token = below.mint(&child.key, "load", 900).await.unwrap();
    let end = parent.minted.expires_ms;
    assert!(child.minted.expires_ms <= end && token.expires_ms <= end);
    assert!(child.minted.renewable_until_ms <= end);

    clock.advance(30_000);
    let later = below.renew(&child.key).await.unwrap();
    assert!(later.expires_ms <= end, "no renewal reaches past the parent's end");
    // What the parent's own renewal gives is the parent's, and its later children's.
    let renewed = line.renew(&job.key).await.unwrap();
    assert!(renewed.expires_ms > end);

    clock.advance(31_000);
    assert_eq!(acceptor.certificate(child.leaf()).await.unwrap_err(), "LEASE_EXPIRED");
    assert_eq!(acceptor.certificate(&later.certificates[0]).await.unwrap_err(), "LEASE_EXPIRED");
    assert_eq!(acceptor.lease(&token.lease).await.unwrap_err(), "LEASE_EXPIRED");
    let again = below.renew(&child.key).await.unwrap_err();
    assert!(
        ["EVIDENCE_EXPIRED", "CERTIFICATE_NOT_ALLOWED", "BROKER_UNREACHABLE"].contains(&&*again.code),
        "{again:?}"
    );
    let renewed = Held::new(&site, renewed, job.key.clone());
    assert_eq!(acceptor.certificate(renewed.leaf()).await, Ok(()));
    let heir = renewed.at(&node).await.unwrap().mint(&job.key, "load", 900).await.unwrap();
    assert_eq!(acceptor.lease(&heir.lease).await, Ok(()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_makes_nobody_younger() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let (alice, acceptor) = (node.operator("alice").await, node.acceptor("load-api").await);
    let job = node.job(&site, &load_spec("1", "1")).await;
    let mut held = Held::first(&site, &job).await;
    let first = held.leaf().to_vec();
    for _ in 0..3 {
        let key = Arc::new(WorkloadKey::generate().unwrap());
        let minted = held.at(&node).await.unwrap().renew(&key).await.unwrap();
        assert_eq!(minted.lease, held.minted.lease);
        held = Held::new(&site, minted, key);
    }
    let line = held.at(&node).await.unwrap();
    alice.revoke(owner("user:gh-1"), false).await.unwrap();
    assert_eq!(refused(line.renew(&held.key).await), "LEASE_REVOKED");
    assert_eq!(acceptor.certificate(held.leaf()).await.unwrap_err(), "LEASE_REVOKED");
    assert_eq!(acceptor.certificate(&first).await.unwrap_err(), "LEASE_REVOKED");
    // New evidence makes a new lease, and gives the old one no new life.
    let fresh = Held::first(&site, &job).await;
    assert_ne!(fresh.minted.lease, held.minted.lease);
    assert_eq!(acceptor.certificate(fresh.leaf()).await, Ok(()));
    let mut owned = node.job(&site, &load_spec("1", "1")).await;
    owned.key = held.key.clone();
    assert_eq!(refused(owned.renew(&held.minted.lease).await), "LEASE_REVOKED");
    node.stop().await;
}

/// Renewals and children while their owners are revoked: nothing that came before an acknowledgement passes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_and_children_race_with_revocations() {
    const LINES: usize = 12;
    let site = Site::embedded();
    let node = site.start("one").await;
    let (alice, acceptor) = (node.operator("alice").await, node.acceptor("load-api").await);
    let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut work = Vec::new();
    for n in 0..LINES {
        let job = node.job(&site, &load_spec(&format!("race-{n}"), "1")).await;
        let held = Held::first(&site, &job).await;
        let line = held.at(&node).await.unwrap();
        let (over, made) = (over.clone(), made.clone());
        work.push(tokio::spawn(async move {
            let (mut leaves, mut leases) = (vec![held.leaf().to_vec()], Vec::new());
            let raced = ["LEASE_REVOKED", "EVIDENCE_PREDATES_REVOCATION", "RACE_LOST"];
            let died = |no: Failure| assert!(raced.contains(&&*no.code), "{no:?}");
            loop {
                match line.renew(&held.key).await {
                    Ok(minted) => leaves.push(minted.certificates[0].clone()),
                    Err(no) => died(no),
                }
                match line.mint(&held.key, "load", 0).await {
                    Ok(minted) => leases.push(minted.lease),
                    Err(no) => {
                        died(no);
                        // One attempt after everything is over.
                        if over.load(Ordering::SeqCst) {
                            return (leaves, leases);
                        }
                    }
                }
                made.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for n in 0..LINES {
        let due = (n + 1) * LINES;
        crate::harness::until(async || (made.load(Ordering::SeqCst) >= due).then_some(())).await;
        alice.revoke(owner(&format!("user:gh-race-{n}")), false).await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    let mut children = 0;
    for done in work {
        let (leaves, leases) = done.await.unwrap();
        for leaf in &leaves {
            assert_eq!(acceptor.certificate(leaf).await.unwrap_err(), "LEASE_REVOKED");
        }
        for lease in &leases {
            assert_eq!(acceptor.lease(lease).await.unwrap_err(), "LEASE_REVOKED");
        }
        children += leases.len();
    }
    assert!(children > LINES, "{children}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ninth_ancestor_is_one_too_many() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let (alice, acceptor) = (node.operator("alice").await, node.acceptor("load-api").await);
    let job = node.job(&site, &load_spec("1", "1")).await;
    let root = Held::first(&site, &job).await;
    let mut leaves = vec![root.leaf().to_vec()];
    let mut line = root.at(&node).await.unwrap();
    for _ in 0..Observation::MAX_ANCESTORS {
        let key = Arc::new(WorkloadKey::generate().unwrap());
        let next = Held::new(&site, line.mint(&key, "load-tls", 0).await.unwrap(), key);
        leaves.push(next.leaf().to_vec());
        line = next.at(&node).await.unwrap();
    }
    let before = alice.stored().await;
    for profile in ["load", "load-tls"] {
        assert_eq!(refused(line.mint(&job.key, profile, 0).await), "LINEAGE_LIMIT");
    }
    assert_eq!(alice.stored().await, before, "a refused call leaves nothing");
    for leaf in &leaves {
        assert_eq!(acceptor.certificate(leaf).await, Ok(()));
    }
    alice.revoke_lease(&root.minted.lease).await.unwrap();
    for leaf in &leaves {
        assert_eq!(acceptor.certificate(leaf).await.unwrap_err(), "LEASE_REVOKED");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workloads_certificate_is_nobody_elses() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let held = Held::first(&site, &job).await;
    let operator = OperatorClient::connect(&held.target(&node)).await.unwrap();
    assert_eq!(refused(operator.get_status(pb::GetStatusRequest {}).await), "CERTIFICATE_NOT_ALLOWED");
    let what = Some(pb::revoke_request::What::Lease(held.minted.lease.clone()));
    let revoke = pb::RevokeRequest { what, reason: "test".into(), ..Default::default() };
    assert_eq!(refused(operator.revoke(revoke).await), "CERTIFICATE_NOT_ALLOWED");
    let acceptor = AcceptorClient::connect(&held.target(&node)).await.unwrap();
    let credential = Some(pb::check_request::Credential::Lease(held.minted.lease.clone()));
    let question = pb::CheckRequest { credential, ..Default::default() };
    assert_eq!(refused(acceptor.check(question).await), "CERTIFICATE_NOT_ALLOWED");

    // And nobody's else is a workload's.
    let alice = node.operator("alice").await;
    let mut shown = Held::first(&site, &job).await;
    shown.files.clone_from(&alice.certified.files);
    let line = shown.at(&node).await.unwrap();
    for refusal in [refused(line.mint(&job.key, "load", 0).await), refused(line.renew(&job.key).await)] {
        assert_eq!(refusal, "CERTIFICATE_NOT_ALLOWED");
    }
    node.stop().await;
}

/// Connects with a client that would resume, speaks, and says what its handshake was and how many tickets came.
async fn shake(connector: &TlsConnector, node: &Node) -> (HandshakeKind, u32) {
    let url = node.target(None).url;
    let tcp = TcpStream::connect((url.host_str().unwrap(), url.port().unwrap())).await.unwrap();
    let name = ServerName::try_from(url.host_str().unwrap().to_owned()).unwrap();
    let mut stream = connector.connect(name, tcp).await.unwrap();
    let ask = b"GET /v1/ca.pem HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    let session = stream.get_ref().1;
    (session.handshake_kind().unwrap(), session.tls13_tickets_received())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_has_no_session_to_resume() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let held = Held::first(&site, &job).await;
    let line = held.at(&node).await.unwrap();
    line.mint(&job.key, "load", 0).await.unwrap();
    let mut config = tls(&held.target(&node)).unwrap();
    config.resumption = Resumption::in_memory_sessions(8);
    config.enable_early_data = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    assert_eq!(shake(&connector, &node).await, (HandshakeKind::Full, 0));

    alice.revoke_lease(&held.minted.lease).await.unwrap();
    // A handshake proves a key and asks nothing of a lease: each call does.
    assert_eq!(shake(&connector, &node).await, (HandshakeKind::Full, 0));
    for line in [line, held.at(&node).await.unwrap()] {
        assert_eq!(refused(line.mint(&job.key, "load", 0).await), "LEASE_REVOKED");
        assert_eq!(refused(line.renew(&job.key).await), "LEASE_REVOKED");
    }
    node.stop().await;
}
