//! Work that goes on at both brokers all the time; the first refusal ends the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mayfly_client::identity::{Event, Options};
use mayfly_client::mtls::PeerVerifier;
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Bundle, Peers, Source, WorkloadKey, X509Identity};
use mayfly_proto::v1 as pb;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Two;
use crate::harness::{Held, load_spec, until};

/// Who works: two who mint tokens, two who mint and renew certificates, two services that talk to one another.
const WORKERS: usize = 5;

/// The work, and how many rounds of it each worker has finished.
pub(super) struct Load<'a> {
    two: &'a Two,
    services: [X509Identity; 2],
    rounds: [AtomicUsize; WORKERS],
}

fn peers() -> Peers {
    Peers::default().or_under("/ci/load").unwrap()
}

/// A service whose certificate is of one of the brokers and follows its bundle.
async fn service(two: &Two, n: usize) -> X509Identity {
    let name = format!("service-{n}");
    let job = two.nodes[n].job(&two.site, &load_spec(&name, &name)).await;
    let evidence = two.site.path(&name);
    std::fs::write(&evidence, job.evidence()).unwrap();
    let options = Options {
        key: Some(job.key.clone()),
        ..Options::new(CertificateAsk::new("load-tls".parse().unwrap()))
    };
    X509Identity::start(&two.nodes[n].target(None), Source::File(evidence), options).await.unwrap()
}

/// A handshake and a word in each direction.
async fn talk(from: &X509Identity, to: &X509Identity) {
    let (here, there) = duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::new(from.client_config(peers()).unwrap()));
    let acceptor = TlsAcceptor::from(Arc::new(to.server_config(peers()).unwrap()));
    let name = ServerName::try_from("any.name.does").unwrap();
    let ask = async {
        let mut stream = connector.connect(name, here).await.expect("the server is accepted");
        stream.write_all(b"?").await.unwrap();
        assert_eq!(stream.read_u8().await.expect("the client is accepted"), b'!');
    };
    let answer = async {
        let mut stream = acceptor.accept(there).await.expect("the client is accepted");
        assert_eq!(stream.read_u8().await.unwrap(), b'?');
        stream.write_all(b"!").await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    tokio::join!(ask, answer);
}

async fn renewed(service: &X509Identity) {
    let mut events = service.events();
    service.renew_now();
    match events.recv().await.unwrap() {
        Event::Renewed(_) => {}
        other => panic!("{other:?}"),
    }
}

/// Whether somebody who holds what came with `by` takes `whom` for a peer.
fn verified(two: &Two, by: &pb::MintResponse, whom: &pb::MintResponse) {
    let bundle = Bundle::try_from(by.bundle.clone().unwrap()).unwrap();
    let bundle = watch::channel(Arc::new(bundle)).1;
    let verifier = PeerVerifier::new(bundle, two.site.trust_domain.clone(), peers());
    let leaf = CertificateDer::from(whom.certificates[0].as_slice());
    let name = ServerName::try_from("any.name.does").unwrap();
    verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).expect("a peer");
}

impl<'a> Load<'a> {
    pub(super) async fn on(two: &'a Two) -> Self {
        let services = [service(two, 0).await, service(two, 1).await];
        Self { two, services, rounds: Default::default() }
    }

    /// Works for as long as it is polled.
    pub(super) async fn work(&self) {
        tokio::join!(
            self.tokens(0),
            self.tokens(1),
            self.certificates(0),
            self.certificates(1),
            self.talking()
        );
    }

    /// Waits until every worker has begun and finished so many rounds.
    pub(super) async fn rounds(&self, more: usize) {
        // The round under way began before.
        let due: Vec<_> = self.rounds.iter().map(|done| done.load(Ordering::SeqCst) + more + 1).collect();
        let done = || self.rounds.iter().zip(&due).all(|(done, due)| done.load(Ordering::SeqCst) >= *due);
        until(async || done().then_some(())).await;
    }

    /// Waits until both services have so many anchors.
    pub(super) async fn anchors(&self, count: usize) {
        for service in &self.services {
            service.bundle().wait_for(|bundle| bundle.workload_anchors.len() == count).await.unwrap();
        }
    }

    /// How many rounds there were of what.
    pub(super) fn told(&self) -> String {
        let [a, b, c, d, talks] = self.rounds.each_ref().map(|done| done.load(Ordering::SeqCst));
        format!("{} rounds of tokens, {} of certificates, {talks} of services", a + b, c + d)
    }

    fn done(&self, worker: usize) {
        self.rounds[worker].fetch_add(1, Ordering::SeqCst);
    }

    async fn tokens(&self, n: usize) {
        let name = format!("tokens-{n}");
        let job = self.two.nodes[n].job(&self.two.site, &load_spec(&name, &name)).await;
        loop {
            let minted = job.mint("load", "use:load").await.expect("a token");
            let renewed = job.renew(&minted.lease).await.expect("another");
            for acceptor in &self.two.acceptors {
                for token in [&minted.credential, &renewed.credential] {
                    assert_eq!(acceptor.token(token, job.proof(token)).await, Ok(()));
                }
            }
            job.release(&minted.lease).await.expect("its end");
            self.done(n);
        }
    }

    async fn certificates(&self, n: usize) {
        let (two, name) = (self.two, format!("certificates-{n}"));
        let job = two.nodes[n].job(&two.site, &load_spec(&name, &name)).await;
        loop {
            let first = Held::first(&two.site, &job).await;
            let key = Arc::new(WorkloadKey::generate().unwrap());
            let line = first.at(&two.nodes[1 - n]).await.expect("a connection");
            let next = line.renew(&key).await.expect("a renewal");
            verified(two, &first.minted, &next);
            verified(two, &next, &first.minted);
            let next = Held::new(&two.site, next, key);
            let line = next.at(&two.nodes[n]).await.expect("a connection");
            let child = line.mint(&next.key, "load", 0).await.expect("a child");
            for acceptor in &two.acceptors {
                assert_eq!(acceptor.certificate(first.leaf()).await, Ok(()));
                assert_eq!(acceptor.certificate(next.leaf()).await, Ok(()));
                assert_eq!(acceptor.lease(&child.lease).await, Ok(()));
            }
            line.release(&next.key).await.expect("its end");
            self.done(2 + n);
        }
    }

    async fn talking(&self) {
        let [one, other] = &self.services;
        loop {
            talk(one, other).await;
            talk(other, one).await;
            tokio::join!(renewed(one), renewed(other));
            self.done(4);
        }
    }
}
