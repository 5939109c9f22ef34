//! A server on a free port with its own authorities, and real rustls clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mayfly_credential::{Anchors, ClientCertificate};
use mayfly_domain::{SystemClock, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    SerialNumber,
};
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::config::{Limits, Rate, Server};
use crate::http::App;
use crate::listen::{Peer, serve};
use crate::published::{Documents, Published};
use crate::telemetry::Metrics;
use crate::tls::{Clients, Tls};

pub(super) const CHECK: &str = "/test.Slow/Check";
pub(super) const MINT: &str = "/mayfly.v1.WorkloadService/Mint";
/// Its answer goes on for as long as the caller likes.
pub(super) const WATCH: &str = "/grpc.health.v1.Health/Watch";
pub(super) const OPERATOR: &str = "spiffe://a.b/mayfly/operator/alice";

pub(super) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate authority.
pub(super) struct Authority {
    pub(super) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(super) fn issue(&self, adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        adjust(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![leaf.der().clone(), self.certificate.clone()], key.into())
    }

    pub(super) fn server(&self) -> Identity {
        self.issue(|p| {
            p.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    pub(super) fn client(&self, id: &str, adjust: impl FnOnce(&mut CertificateParams)) -> Identity {
        self.issue(|p| {
            p.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            p.serial_number = Some(SerialNumber::from_slice(&[7; 20]));
            adjust(p);
        })
    }
}

/// A service whose calls wait until they are let go.
#[derive(Clone, Default)]
pub(super) struct Slow {
    pub(super) go: Arc<Notify>,
    pub(super) begun: Arc<Notify>,
    pub(super) done: Arc<AtomicUsize>,
    pub(super) finished: Arc<Notify>,
}

impl tower::Service<Request<tonic::body::Body>> for Slow {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let peer = request.extensions().get::<Peer>().unwrap().clone();
            assert!(request.extensions().get::<mayfly_broker::RequestId>().is_some());
            assert!(request.extensions().get::<crate::deadline::CallDeadline>().is_some());
            if request.headers().contains_key("close") {
                peer.connection.close();
            }
            if request.headers().contains_key("wait") {
                this.begun.notify_one();
                this.go.notified().await;
            }
            this.done.fetch_add(1, Ordering::SeqCst);
            this.finished.notify_one();
            let mut response = Status::ok("").into_http();
            if let Some(ClientCertificate::System(certificate)) = peer.certificate.as_deref() {
                response.headers_mut().insert("peer", certificate.id.as_str().parse().unwrap());
                let credential = certificate.credential().unwrap().to_string();
                response.headers_mut().insert("key", certificate.key.to_string().parse().unwrap());
                response.headers_mut().insert("credential", credential.parse().unwrap());
            }
            Ok(response)
        })
    }
}

#[derive(Clone)]
struct As<const SERVICE: u8>(Slow);

impl NamedService for As<0> {
    const NAME: &'static str = "test.Slow";
}

impl NamedService for As<1> {
    const NAME: &'static str = "mayfly.v1.WorkloadService";
}

impl NamedService for As<2> {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl<const SERVICE: u8> tower::Service<Request<tonic::body::Body>> for As<SERVICE> {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = <Slow as tower::Service<Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        self.0.call(request)
    }
}

pub(super) struct Fixture {
    pub(super) address: SocketAddr,
    pub(super) ca: Authority,
    pub(super) slow: Slow,
    pub(super) metrics: Metrics,
    pub(super) tls: Arc<Tls>,
    trusted: Arc<ArcSwap<Anchors>>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

pub(super) const SHORT: Duration = Duration::from_millis(80);
pub(super) const LONG: Duration = Duration::from_secs(30);

pub(super) fn server() -> Server {
    Server {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        metrics_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        handshake_timeout: LONG,
        header_timeout: LONG,
        idle_timeout: LONG,
        drain_timeout: LONG,
        call_timeout: LONG,
    }
}

pub(super) fn limits() -> Limits {
    let rate = Rate { per_second: 10_000, burst: 10_000 };
    Limits {
        connections: 100,
        connections_per_address: 100,
        streams_per_connection: 100,
        address: rate,
        identity: rate,
        mints_in_flight: 100,
        checks_in_flight: 100,
    }
}

fn anchors(system: &[CertificateDer<'static>]) -> Arc<Anchors> {
    Arc::new(Anchors::new(&TrustDomain::parse("a.b").unwrap(), &[], system).unwrap())
}

impl Fixture {
    pub(super) async fn start(server: Server, limits: Limits) -> Self {
        let ca = Authority::new();
        let (chain, key) = ca.server();
        let clock: mayfly_domain::time::SharedClock = Arc::new(SystemClock);
        let trusted = Arc::new(ArcSwap::new(anchors(std::slice::from_ref(&ca.certificate))));
        let source = trusted.clone();
        let clients = Clients::new(clock.clone(), move || source.load_full());
        let tls = Arc::new(Tls::new(clock.clone(), chain, key, clients).unwrap());
        let slow = Slow::default();
        let grpc = Routes::new(As::<0>(slow.clone()))
            .add_service(As::<1>(slow.clone()))
            .add_service(As::<2>(slow.clone()));
        let web: Router = Published::new(
            || Documents {
                jwks: Bytes::from_static(b"{\"keys\":[]}"),
                ca_pem: Bytes::from_static(b"PEM"),
                bundle: Bytes::from_static(b"{\"keys\":[]}"),
            },
            || Ok(()),
        )
        .router();
        let metrics = Metrics::default();
        let app = App::new(grpc, web, &limits, server.call_timeout, metrics.clone(), clock);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tls.clone();
        let served = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(listener, running, app, &server, &limits, stopped).await;
        });
        Self { address, ca, slow, metrics, tls, trusted, stop: Some(stop), served }
    }

    pub(super) fn client(&self, identity: Option<Identity>, alpn: &[u8]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    pub(super) async fn tls(&self, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), stream).await
    }

    pub(super) async fn connect(&self, identity: Option<Identity>) -> Client {
        let stream = self.tls(Arc::new(self.client(identity, b"h2"))).await.unwrap();
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Client { send, connection: tokio::spawn(connection) }
    }

    /// Trusts other authorities of operators and acceptors from now on.
    pub(super) fn trust(&self, authorities: &[CertificateDer<'static>]) {
        self.trusted.store(anchors(authorities));
    }

    /// Ends the server and waits for it.
    pub(super) async fn stop(mut self) {
        self.begin_stop();
        self.served.await.unwrap();
    }

    pub(super) fn begin_stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    pub(super) async fn stopped(self) {
        self.served.await.unwrap();
    }

    pub(super) fn counted(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|l| l == line)
    }
}

pub(super) struct Client {
    pub(super) send: SendRequest<Full<Bytes>>,
    pub(super) connection: JoinHandle<hyper::Result<()>>,
}

impl Client {
    /// Calls and gives the answer's head and its status.
    pub(super) async fn call(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> hyper::Result<(http::HeaderMap, Status)> {
        let mut request =
            Request::post(format!("https://localhost{path}")).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.send.clone().send_request(request.body(Full::default()).unwrap()).await?;
        let headers = response.headers().clone();
        response.into_body().collect().await?;
        let status = Status::from_header_map(&headers).unwrap();
        Ok((headers, status))
    }

    pub(super) async fn get(&self, path: &str) -> (http::StatusCode, String) {
        let request = Request::get(format!("https://localhost{path}")).body(Full::default()).unwrap();
        let response = self.send.clone().send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}
