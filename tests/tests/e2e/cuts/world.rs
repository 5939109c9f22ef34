//! Two services and a bystander, each with a certificate, and what they open to each other.

use std::net::SocketAddr;
use std::time::Duration;

use axum::routing::get;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mayfly_client::identity::Options;
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Env, OperatorClient, Peers, RotatingChannel, Source, X509Identity};
use mayfly_domain::{ProfileName, SpiffeId};
use mayfly_proto::v1 as pb;
use mayfly_verify::Verifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic_health::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::HealthReporter;

use crate::support::dev::DevBroker;

/// Who is revoked, by its owner, and who is not.
pub(super) const REVOKED: &str = "team:revoked";
pub(super) const OTHERS: &str = "team:others";

/// What comes before long or not at all.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what).await.expect("it does not happen")
}

pub(super) struct World {
    pub(super) broker: DevBroker,
    alice: OperatorClient,
}

impl World {
    pub(super) async fn new() -> Self {
        let broker = DevBroker::start().await;
        let alice = broker.operator().await;
        Self { broker, alice }
    }

    /// A service that `owner` answers for.
    pub(super) async fn service(&self, name: &str, owner: &str) -> X509Identity {
        let request = pb::CreateJoinTokenRequest {
            workload: id(name).to_string(),
            owners: vec![owner.to_owned()],
            environment: "production".to_owned(),
            for_s: 0,
            reason: "test".to_owned(),
        };
        let token = self.alice.create_join_token(request).await.unwrap().token;
        let source = Source::discover(None, &Env::of([("MAYFLY_JOIN_TOKEN", token)])).unwrap();
        let ask = CertificateAsk::new(ProfileName::parse("ledger-mtls").unwrap());
        X509Identity::start(&self.broker.anyone(), source, Options::new(ask)).await.unwrap()
    }

    /// A verifier that is fresh.
    pub(super) async fn verifier(&self) -> Verifier {
        let verifier = Verifier::builder(self.broker.as_acceptor("ledger-api")).start().unwrap();
        soon(verifier.ready()).await;
        verifier
    }

    /// Revokes everything of [`REVOKED`].
    pub(super) async fn revoke(&self) {
        let subject = pb::Subject { dimension: pb::Dimension::Owner.into(), value: REVOKED.to_owned() };
        let request = pb::RevokeRequest {
            what: Some(pb::revoke_request::What::Subject(subject)),
            reason: "test".to_owned(),
            ..Default::default()
        };
        self.alice.revoke(request).await.unwrap();
    }
}

pub(super) fn id(name: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://acme.internal/svc/{name}")).unwrap()
}

pub(super) fn only(name: &str) -> Peers {
    Peers::ids([id(name)])
}

/// What a service serves: gRPC health, whose status can be changed, and a page.
pub(super) fn application() -> (HealthReporter, axum::Router) {
    let (reporter, health) = tonic_health::server::health_reporter();
    let router = tonic::service::Routes::new(health).into_axum_router();
    (reporter, router.route("/hello", get(|| async { "hello" })))
}

/// An open gRPC stream, on which something has come.
pub(super) struct Stream(tonic::Streaming<HealthCheckResponse>);

impl Stream {
    pub(super) async fn open(channel: &RotatingChannel) -> Result<Self, tonic::Status> {
        let mut client = HealthClient::new(channel.clone());
        let mut stream = client.watch(HealthCheckRequest { service: String::new() }).await?.into_inner();
        stream.message().await?.expect("the first status");
        Ok(Self(stream))
    }

    /// Why it was cut.
    pub(super) async fn cut(mut self) -> tonic::Status {
        soon(self.0.message()).await.expect_err("the stream goes on")
    }

    /// It still tells what changes.
    pub(super) async fn goes_on(&mut self, reporter: &HealthReporter) {
        reporter.set_service_status("", ServingStatus::NotServing).await;
        soon(self.0.message()).await.unwrap().expect("a status");
        reporter.set_service_status("", ServingStatus::Serving).await;
        soon(self.0.message()).await.unwrap().expect("a status");
    }
}

/// An HTTP/2 connection, on which a request was answered.
pub(super) struct Http2 {
    requests: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    pub(super) async fn open(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> hyper::Result<Self> {
        let (requests, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        let mut open = Self { requests, connection: tokio::spawn(connection) };
        open.get().await.map(|()| open)
    }

    async fn get(&mut self) -> hyper::Result<()> {
        let request = hyper::Request::get("https://ledger/hello").body(Empty::new()).unwrap();
        self.requests.ready().await?;
        let answer = self.requests.send_request(request).await?;
        assert_eq!(answer.status(), 200);
        Ok(())
    }

    pub(super) async fn cut(mut self) {
        // Politely or not: it ends, and nothing is answered on it any more.
        let _ = soon(self.connection).await.unwrap();
        soon(self.requests.ready()).await.unwrap_err();
    }

    pub(super) async fn goes_on(&mut self) {
        soon(self.get()).await.unwrap();
    }
}

/// A TLS connection with nothing of HTTP on it, on which an octet came back.
pub(super) struct Raw<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(super) async fn open(stream: S) -> std::io::Result<Self> {
        let mut raw = Self(stream);
        raw.echo().await.map(|()| raw)
    }

    async fn echo(&mut self) -> std::io::Result<()> {
        self.0.write_all(b"x").await?;
        self.0.flush().await?;
        let mut octet = [0];
        self.0.read_exact(&mut octet).await?;
        Ok(())
    }

    pub(super) async fn cut(mut self) {
        let mut octet = [0];
        let read = soon(self.0.read(&mut octet)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    pub(super) async fn goes_on(&mut self) {
        soon(self.echo()).await.unwrap();
    }
}

/// Sends back what comes, until it ends.
pub(super) async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.map(|_| ())
}

pub(super) async fn bound() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(super) fn url(address: SocketAddr) -> url::Url {
    format!("https://{address}").parse().unwrap()
}
