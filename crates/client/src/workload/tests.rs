use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::envelope::signing_input;
use mayfly_domain::{KeyAlg, PublicKey, SystemClock};
use mayfly_proto::v1::workload_service_server::{WorkloadService, WorkloadServiceServer};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::fixture::Ca;
use crate::pin::{Pin, fingerprint};

const DOMAIN: &str = "acme.internal";

/// A broker that verifies envelopes, spends nonces, and refuses what its script says first.
#[derive(Default)]
struct Script {
    refusals: VecDeque<Reason>,
    nonces_asked: u32,
    next: u8,
    live: Vec<Vec<u8>>,
    calls: Vec<(&'static str, Vec<u8>)>,
}

#[derive(Clone, Default)]
struct Broker(Arc<Mutex<Script>>);

fn refusal(reason: Reason) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason.as_str(), crate::failure::ERROR_DOMAIN, [("request".into(), "r-9".into())]);
    Status::with_error_details(Code::Aborted, reason.meaning(), details)
}

impl Broker {
    fn issue(&self) -> Vec<u8> {
        let mut script = self.0.lock().unwrap();
        script.next += 1;
        let nonce = vec![script.next; 61];
        script.live.push(nonce.clone());
        nonce
    }

    fn open(&self, name: &'static str, call: Request<pb::Envelope>) -> Result<(), Status> {
        let envelope = call.into_inner();
        let key = PublicKey::new(KeyAlg::P256, &envelope.key.unwrap().key).unwrap();
        let domain = TrustDomain::parse(DOMAIN).unwrap();
        let input = signing_input(&domain, name, &envelope.nonce, &key, &envelope.payload);
        assert!(key.verifies(&input, &envelope.signature), "{name}");
        let mut script = self.0.lock().unwrap();
        let at = script
            .live
            .iter()
            .position(|n| *n == envelope.nonce)
            .ok_or_else(|| refusal(Reason::NonceUsed))?;
        script.live.remove(at);
        script.calls.push((name, envelope.payload));
        match script.refusals.pop_front() {
            Some(reason) => Err(refusal(reason)),
            None => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl WorkloadService for Broker {
    async fn get_nonce(
        &self,
        _: Request<pb::GetNonceRequest>,
    ) -> Result<Response<pb::GetNonceResponse>, Status> {
        self.0.lock().unwrap().nonces_asked += 1;
        let nonce = self.issue();
        Ok(Response::new(pb::GetNonceResponse { nonce, expires_ms: 0, trust_domain: DOMAIN.into() }))
    }

    async fn mint(&self, call: Request<pb::Envelope>) -> Result<Response<pb::MintResponse>, Status> {
        self.open(rpc::MINT, call)?;
        let next_nonce = self.issue();
        Ok(Response::new(pb::MintResponse { credential: "token".into(), next_nonce, ..Default::default() }))
    }

    async fn renew(&self, call: Request<pb::Envelope>) -> Result<Response<pb::MintResponse>, Status> {
        self.open(rpc::RENEW, call)?;
        Ok(Response::new(pb::MintResponse { next_nonce: self.issue(), ..Default::default() }))
    }

    async fn release(&self, call: Request<pb::Envelope>) -> Result<Response<pb::ReleaseResponse>, Status> {
        self.open(rpc::RELEASE, call)?;
        Ok(Response::new(pb::ReleaseResponse { next_nonce: self.issue(), ..Default::default() }))
    }

    async fn start_task(
        &self,
        call: Request<pb::Envelope>,
    ) -> Result<Response<pb::StartTaskResponse>, Status> {
        self.open(rpc::START_TASK, call)?;
        Ok(Response::new(pb::StartTaskResponse { next_nonce: self.issue(), ..Default::default() }))
    }

    async fn complete_task(
        &self,
        call: Request<pb::Envelope>,
    ) -> Result<Response<pb::CompleteTaskResponse>, Status> {
        self.open(rpc::COMPLETE_TASK, call)?;
        Ok(Response::new(pb::CompleteTaskResponse { next_nonce: self.issue(), ..Default::default() }))
    }

    async fn get_task(&self, call: Request<pb::Envelope>) -> Result<Response<pb::GetTaskResponse>, Status> {
        self.open(rpc::GET_TASK, call)?;
        Ok(Response::new(pb::GetTaskResponse { next_nonce: self.issue(), ..Default::default() }))
    }
}

struct World {
    broker: Broker,
    target: Target,
    home: KeyHome,
    source: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let ca = Ca::new();
    let (leaf, key) = ca.leaf(&["spiffe://acme.internal/mayfly/broker/b1"]);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf, ca.issuing.clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(tcp).await {
                let _ = sender.send(Ok::<_, std::io::Error>(stream)).await;
            }
        }
    });
    let broker = Broker::default();
    let service = WorkloadServiceServer::new(broker.clone());
    let incoming = tokio_stream::wrappers::ReceiverStream::new(receiver);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("token");
    std::fs::write(&source, "e30.eyJpc3MiOiJpIiwic3ViIjoicyJ9.c2ln").unwrap();
    World {
        broker,
        target: target(address.port(), &ca.issuing),
        home: KeyHome::at(dir.path().join("keys")).unwrap(),
        source,
        _dir: dir,
    }
}

fn target(port: u16, ca: &CertificateDer<'_>) -> Target {
    Target {
        name: "test".into(),
        url: format!("https://127.0.0.1:{port}").parse().unwrap(),
        trust_domain: None,
        pin: Pin::Sha256(fingerprint(ca)),
        identity: None,
    }
}

impl World {
    async fn client(&self) -> Result<WorkloadClient, Failure> {
        let source = Source::File(self.source.clone());
        WorkloadClient::connect(&self.target, source, &self.home, Arc::new(SystemClock)).await
    }

    fn refuse(&self, reasons: &[Reason]) {
        self.broker.0.lock().unwrap().refusals = reasons.iter().copied().collect();
    }
}

fn ask() -> Ask {
    Ask {
        profile: ProfileName::parse("payments-deploy").unwrap(),
        intent: None,
        reason: None,
        ttl: Some(Ttl::constant(60)),
        scopes: Scopes::default(),
    }
}

#[tokio::test]
async fn each_call_is_one_round_trip_with_a_nonce_of_its_own() {
    let world = world().await;
    let client = world.client().await.unwrap();
    let minted = client.mint(&ask()).await.unwrap();
    assert_eq!(minted.token.expose(), "token");
    assert!(!format!("{minted:?}").contains("\"token\""));
    client.start_task(None, None, None).await.unwrap();
    client.renew(LeaseId::from_bytes([1; 16]), None).await.unwrap();
    client.release(None).await.unwrap();
    client.task().await.unwrap();
    client.complete_task().await.unwrap();
    let script = world.broker.0.lock().unwrap();
    assert_eq!(script.nonces_asked, 1, "every later nonce came with an answer");
    let names: Vec<_> = script.calls.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [rpc::MINT, rpc::START_TASK, rpc::RENEW, rpc::RELEASE, rpc::GET_TASK, rpc::COMPLETE_TASK]
    );
    let mint = pb::MintRequest::decode(script.calls[0].1.as_slice()).unwrap();
    assert_eq!((mint.profile.as_str(), mint.ttl_s), ("payments-deploy", 60));
    assert!(mint.evidence.is_some());
}

#[tokio::test]
async fn a_refusal_comes_back_whole_and_only_what_helps_is_repeated() {
    let world = world().await;
    let client = world.client().await.unwrap();
    world.refuse(&[Reason::Blocked]);
    let refused = client.mint(&ask()).await.unwrap_err();
    assert!(refused.is(Reason::Blocked));
    assert_eq!(refused.request.as_deref(), Some("r-9"));
    world.refuse(&[Reason::NonceExpired, Reason::RaceLost]);
    client.mint(&ask()).await.unwrap();
    assert_eq!(world.broker.0.lock().unwrap().calls.len(), 4);
}

#[tokio::test]
async fn a_patience_of_nothing_gives_up() {
    let world = world().await;
    let client = world.client().await.unwrap().patience(Duration::from_millis(50));
    world.refuse(&[Reason::StoreUnavailable; 9]);
    let begun = tokio::time::Instant::now();
    assert!(client.mint(&ask()).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn another_ca_or_trust_domain_or_nobody_is_no_broker() {
    let mut world = world().await;
    let port = world.target.url.port().unwrap();
    let good = world.target.clone();
    world.target = target(port, &Ca::new().issuing);
    let refused = world.client().await.unwrap_err();
    assert!(refused.is(Reason::BrokerUntrusted), "{refused:?}");
    world.target =
        Target { trust_domain: Some(TrustDomain::parse("staging.internal").unwrap()), ..good.clone() };
    assert!(world.client().await.unwrap_err().is(Reason::BrokerUntrusted));
    assert_eq!(world.broker.0.lock().unwrap().nonces_asked, 0, "nothing was said to it");
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut gone = good;
    gone.url.set_port(Some(free)).unwrap();
    let refused = channel::connect(&gone).await.unwrap_err();
    assert!(refused.is(Reason::BrokerUnreachable), "{refused:?}");
}

/// A stand-in for GitHub's token service whose every token is another one.
async fn token_service() -> Source {
    let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let answer = move || {
        let jti = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"jti":"{jti}","exp":4102444800}}"#));
        std::future::ready(format!(r#"{{"value":"e30.{claims}.c2ln"}}"#))
    };
    let app = axum::Router::new().fallback(answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let vars = [("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t")];
    Source::discover(None, &crate::env::Env::of(vars)).unwrap()
}

#[tokio::test]
async fn evidence_is_asked_for_anew_once_after_a_revocation_and_kept_otherwise() {
    let world = world().await;
    let connect =
        WorkloadClient::connect(&world.target, token_service().await, &world.home, Arc::new(SystemClock));
    let client = connect.await.unwrap();
    client.mint(&ask()).await.unwrap();
    client.mint(&ask()).await.unwrap();
    world.refuse(&[Reason::EvidencePredatesRevocation]);
    client.mint(&ask()).await.unwrap();
    world.refuse(&[Reason::EvidencePredatesRevocation; 2]);
    assert!(client.mint(&ask()).await.unwrap_err().is(Reason::EvidencePredatesRevocation));
    let shown: Vec<String> = world
        .broker
        .0
        .lock()
        .unwrap()
        .calls
        .iter()
        .map(|(_, payload)| {
            let evidence = pb::MintRequest::decode(payload.as_slice()).unwrap().evidence.unwrap();
            let pb::evidence::Kind::OidcToken(token) = evidence.kind.unwrap();
            Evidence::peek(token).unwrap().claim("jti").unwrap()
        })
        .collect();
    assert_eq!(shown, ["0", "0", "0", "1", "1", "2"]);
}

#[tokio::test]
async fn a_file_is_not_shown_again_after_a_revocation() {
    let world = world().await;
    let client = world.client().await.unwrap();
    world.refuse(&[Reason::EvidencePredatesRevocation]);
    assert!(client.mint(&ask()).await.is_err());
    assert_eq!(world.broker.0.lock().unwrap().calls.len(), 1);
}
