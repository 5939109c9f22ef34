//! A service's own certificate, kept by the client library against a whole broker.

use std::sync::Arc;

use mayfly_client::identity::Options;
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Env, Event, OperatorClient, Peers, Source, State, X509Identity};
use mayfly_domain::{ProfileName, SpiffeId};
use mayfly_proto::v1 as pb;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::dev::DevBroker;

const LEDGER: &str = "spiffe://acme.internal/svc/ledger";

fn ask() -> CertificateAsk {
    CertificateAsk::new(ProfileName::parse("ledger-mtls").unwrap())
}

async fn join_token(alice: &OperatorClient) -> String {
    let request = pb::CreateJoinTokenRequest {
        workload: LEDGER.to_owned(),
        owners: vec!["team:payments".to_owned()],
        environment: "production".to_owned(),
        for_s: 0,
        reason: "a machine that no issuer vouches for".to_owned(),
    };
    alice.create_join_token(request).await.unwrap().token
}

async fn ledger(broker: &DevBroker, alice: &OperatorClient) -> X509Identity {
    let env = Env::of([("MAYFLY_JOIN_TOKEN", join_token(alice).await)]);
    let source = Source::discover(None, &env).unwrap();
    X509Identity::start(&broker.anyone(), source, Options::new(ask())).await.unwrap()
}

/// A handshake of two services that know each other by SPIFFE ID.
async fn shake(server: &X509Identity, client: &X509Identity, peers: Peers) -> bool {
    let expected = Peers::ids([SpiffeId::parse(LEDGER).unwrap()]);
    let acceptor = TlsAcceptor::from(Arc::new(server.server_config(expected).unwrap()));
    let connector = TlsConnector::from(Arc::new(client.client_config(peers).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        acceptor.accept(tcp).await.is_ok()
    });
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("anything.example").unwrap();
    let connected = connector.connect(name, tcp).await.is_ok();
    connected && accepted.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_joined_keeps_its_certificate_until_its_owner_is_revoked() {
    let broker = DevBroker::start().await;
    let alice = broker.operator().await;
    let identity = ledger(&broker, &alice).await;
    let (mut events, mut state) = (identity.events(), identity.state());
    let first = identity.svid().unwrap();
    assert_eq!(first.id.as_str(), LEDGER);
    assert!(first.names.contains(&"ledger.payments.svc".to_owned()), "{:?}", first.names);
    assert_eq!(first.outage_budget.as_secs(), 1_200);

    // By itself, each time with a key of its own.
    for _ in 0..3 {
        let before = identity.svid().unwrap();
        identity.renew_now();
        let Ok(Event::Renewed(renewed)) = events.recv().await else { panic!("no renewal") };
        assert_eq!(renewed.lease, first.lease);
        assert_ne!(renewed.key.public(), before.key.public());
    }
    let peers = || Peers::ids([SpiffeId::parse(LEDGER).unwrap()]);
    assert!(shake(&identity, &identity, peers()).await);
    assert!(!shake(&identity, &identity, Peers::default().or_under("/web").unwrap()).await);

    // What descends from it ends with it.
    let child = identity.client().await.unwrap().mint_certificate(&ask()).await.unwrap();
    assert_ne!(child.lease, first.lease);

    let subject = pb::Subject { dimension: pb::Dimension::Owner.into(), value: "team:payments".to_owned() };
    let request = pb::RevokeRequest {
        what: Some(pb::revoke_request::What::Subject(subject)),
        reason: "stolen".to_owned(),
        ..Default::default()
    };
    alice.revoke(request).await.unwrap();
    identity.renew_now();
    assert!(matches!(events.recv().await, Ok(Event::Revoked(_))));
    let over = state.wait_for(|s| s.svid().is_none()).await.unwrap().clone();
    assert!(matches!(over, State::Ended(_)));
    assert!(!shake(&identity, &identity, peers()).await, "nothing is presented any more");
    assert!(matches!(events.recv().await, Ok(Event::FellBack(_))));
    // Its token was good once: it says that it needs another, and gives up.
    let Ok(Event::Failed { failure, last }) = events.recv().await else { panic!("no failure") };
    assert!(last, "{failure:?}");

    let again = ledger(&broker, &alice).await;
    assert!(shake(&again, &again, peers()).await, "a new token makes a new certificate");
    broker.stop().await;
}
