use std::sync::Arc;

use mayfly_domain::{ProfileName, SpiffeId, TrustDomain};
use mayfly_proto::v1 as pb;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};
use tokio::sync::watch;

use super::*;
use crate::bundle::Bundle;
use crate::evidence::Source;
use crate::fixture::Ca;
use crate::fixture::broker::{DOMAIN, WORKLOAD, World};
use crate::fixture::workloads::Workloads;
use crate::identity::{Options, X509Identity};
use crate::keys::WorkloadKey;
use crate::workload::CertificateAsk;

fn ours() -> Peers {
    Peers::ids([SpiffeId::parse(WORKLOAD).unwrap()])
}

fn verifier(workloads: &Workloads, roots: &[&CertificateDer<'_>]) -> PeerVerifier {
    let bundle = Bundle::try_from(pb::TrustBundle {
        version: 1,
        trust_domain: DOMAIN.into(),
        workload_anchors: vec![workloads.anchor.to_vec()],
        roots: roots.iter().map(|der| der.to_vec()).collect(),
        ..Default::default()
    });
    let bundle = watch::channel(Arc::new(bundle.unwrap())).1;
    PeerVerifier::new(bundle, TrustDomain::parse(DOMAIN).unwrap(), ours())
}

/// What both directions say of this leaf, with these beside it.
fn judge(
    verifier: &PeerVerifier,
    leaf: &CertificateDer<'_>,
    beside: &[CertificateDer<'_>],
) -> Result<(), Error> {
    let name = ServerName::try_from("anything.example").unwrap();
    let now = UnixTime::now();
    let as_server = verifier.verify_server_cert(leaf, beside, &name, &[], now).map(|_| ());
    let as_client = verifier.verify_client_cert(leaf, beside, now).map(|_| ());
    assert_eq!(as_server.is_ok(), as_client.is_ok(), "{as_server:?} {as_client:?}");
    as_server
}

fn spki() -> Vec<u8> {
    crate::keys::spki(WorkloadKey::generate().unwrap().public().as_bytes())
}

#[test]
fn only_a_live_certificate_of_an_expected_workload_of_the_issuing_ca_is_accepted() {
    let (ca, key) = (Workloads::new("workloads"), spki());
    let verifier = verifier(&ca, &[]);
    judge(&verifier, &ca.leaf(&[WORKLOAD], &key, 60), &[]).unwrap();
    let id = |text: &str| SpiffeId::parse(text).unwrap();
    for (uris, why) in [
        (
            &["spiffe://acme.internal/vm/other"][..],
            Refused::Unexpected(id("spiffe://acme.internal/vm/other")),
        ),
        (&["spiffe://staging.internal/vm/api"], Refused::OtherDomain(id("spiffe://staging.internal/vm/api"))),
        (&[], Refused::NoId),
        (&[WORKLOAD, "spiffe://acme.internal/vm/other"], Refused::NoId),
        (&["https://acme.internal/vm/api"], Refused::NoId),
    ] {
        let refused = judge(&verifier, &ca.leaf(uris, &key, 60), &[]).unwrap_err();
        assert_eq!(format!("{refused:?}"), format!("{:?}", Error::from(why)));
    }
    assert!(matches!(
        judge(&verifier, &ca.leaf(&[WORKLOAD], &key, -5), &[]).unwrap_err(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
    ));
}

#[test]
fn another_issuing_ca_is_refused_whatever_stands_above_it() {
    let (ca, system, key) = (Workloads::new("workloads"), Ca::new(), spki());
    // The bundle shows what stands above; none of it is an anchor, even where it issued the leaf itself.
    let verifier = verifier(&ca, &[&system.root, &system.issuing]);
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let (leaf, _) = system.leaf(&[WORKLOAD]);
    let beside = [system.issuing.clone(), system.root.clone()];
    assert_eq!(judge(&verifier, &leaf, &beside).unwrap_err(), unknown);
    // Another trust domain's CA of the same name and ids.
    let twin = Workloads::new("workloads");
    let leaf = twin.leaf(&[WORKLOAD], &key, 60);
    assert_eq!(judge(&verifier, &leaf, std::slice::from_ref(&twin.anchor)).unwrap_err(), unknown);
    // A leaf below a workload's own certificate.
    let below = ca.leaf(&[WORKLOAD], &twin.spki(), 60);
    assert!(judge(&verifier, &leaf, &[below]).is_err());
}

#[test]
fn a_withdrawn_anchor_is_withdrawn_for_the_next_handshake() {
    let (old, new, key) = (Workloads::new("old"), Workloads::new("new"), spki());
    let bundle = |ca: &Workloads| {
        Arc::new(Bundle {
            version: 1,
            trust_domain: TrustDomain::parse(DOMAIN).unwrap(),
            workload_anchors: vec![ca.anchor.clone()],
            roots: Vec::new(),
            jwks: Vec::new(),
        })
    };
    let (sender, receiver) = watch::channel(bundle(&old));
    let verifier = PeerVerifier::new(receiver, TrustDomain::parse(DOMAIN).unwrap(), ours());
    let (first, second) = (old.leaf(&[WORKLOAD], &key, 60), new.leaf(&[WORKLOAD], &key, 60));
    judge(&verifier, &first, &[]).unwrap();
    sender.send_replace(bundle(&new));
    assert!(judge(&verifier, &first, &[]).is_err());
    judge(&verifier, &second, &[]).unwrap();
}

#[tokio::test]
async fn each_handshake_is_a_whole_one_and_shows_the_newest_certificate() {
    let world = World::new().await;
    let ask = CertificateAsk::new(ProfileName::parse("x509-api").unwrap());
    let source = Source::File(world.token.clone());
    let identity = X509Identity::start(&world.target, source, Options::new(ask)).await.unwrap();
    let server = Arc::new(identity.server_config(ours()).unwrap());
    let client = Arc::new(identity.client_config(ours()).unwrap());
    let mut events = identity.events();
    for _ in 0..2 {
        let (shown, kind) = handshake(&client, &server);
        assert_eq!(shown, identity.svid().unwrap().chain[0]);
        assert_eq!(kind, Some(rustls::HandshakeKind::Full));
        identity.renew_now();
        events.recv().await.unwrap();
    }
}

/// With a store of sessions, and whatever a peer gives put into it.
#[tokio::test]
async fn neither_end_resumes_a_session_with_a_peer_that_would() {
    let world = World::new().await;
    let ask = CertificateAsk::new(ProfileName::parse("x509-api").unwrap());
    let source = Source::File(world.token.clone());
    let identity = X509Identity::start(&world.target, source, Options::new(ask)).await.unwrap();
    let ours = (identity.client_config(ours()).unwrap(), identity.server_config(ours()).unwrap());
    let mut eager = ours.clone();
    eager.0.resumption = Resumption::in_memory_sessions(16);
    eager.0.enable_early_data = true;
    eager.1.session_storage = rustls::server::ServerSessionMemoryCache::new(16);
    eager.1.send_tls13_tickets = 4;
    eager.1.max_early_data_size = 1_024;
    for (client, server, second) in [
        (&ours.0, &eager.1, rustls::HandshakeKind::Full),
        (&eager.0, &ours.1, rustls::HandshakeKind::Full),
        // So that it is no wonder.
        (&eager.0, &eager.1, rustls::HandshakeKind::Resumed),
    ] {
        let (client, server) = (Arc::new(client.clone()), Arc::new(server.clone()));
        assert_eq!(handshake(&client, &server).1, Some(rustls::HandshakeKind::Full));
        assert_eq!(handshake(&client, &server).1, Some(second));
    }
}

/// Shakes hands in memory; what the server showed, and how.
fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (CertificateDer<'static>, Option<rustls::HandshakeKind>) {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().unwrap();
    }
    (client.peer_certificates().unwrap()[0].clone().into_owned(), client.handshake_kind())
}
