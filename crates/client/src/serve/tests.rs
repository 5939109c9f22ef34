use std::sync::Mutex;

use mayfly_domain::ProfileName;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use mayfly_proto::v1::workload_service_server::WorkloadServiceServer;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;
use url::Url;

use super::*;
use crate::channel::{Through, Unconnected};
use crate::evidence::Source;
use crate::fixture::broker::{WORKLOAD, World};
use crate::grpc::RotatingChannel;
use crate::identity::{Options, X509Identity};
use crate::mtls::Peers;
use crate::workload::CertificateAsk;

/// Admits everybody until it is told otherwise; then there is this grace.
#[derive(Debug, Clone)]
struct Until(watch::Receiver<Option<Duration>>);

impl Admission for Until {
    async fn admit(&self, leaf: CertificateDer<'static>) -> Result<Admitted, Refusal> {
        if self.0.borrow().is_some() {
            return Err(Reason::LeaseRevoked.into());
        }
        let mut extensions = Extensions::new();
        extensions.insert(known(&leaf)?.0);
        let mut told = self.0.clone();
        let over = Box::pin(async move {
            told.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
        });
        Ok(Admitted { extensions, over })
    }
}

struct Scene {
    world: World,
    url: Url,
    end: watch::Sender<Option<Duration>>,
    caller: X509Identity,
}

fn ourselves() -> Peers {
    Peers::ids([SpiffeId::parse(WORKLOAD).unwrap()])
}

async fn identity(world: &World) -> X509Identity {
    let ask = CertificateAsk::new(ProfileName::parse("x509-api").unwrap());
    let source = Source::File(world.token.clone());
    X509Identity::start(&world.target, source, Options::new(ask)).await.unwrap()
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let server = identity(&world).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let routes = tonic::service::Routes::new(WorkloadServiceServer::new(world.broker.clone()));
        let (end, ends) = watch::channel(None);
        tokio::spawn(async move {
            let config = server.server_config(ourselves()).unwrap();
            serve(listener, config, Until(ends), routes.prepare(), std::future::pending()).await
        });
        let caller = identity(&world).await;
        Self { world, url, end, caller }
    }
}

async fn watching(channel: &RotatingChannel) -> tonic::Streaming<pb::TrustBundle> {
    let mut client = WorkloadServiceClient::new(channel.clone());
    let mut stream = client.watch_bundle(pb::WatchBundleRequest {}).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stream
}

async fn call(channel: &RotatingChannel) -> Result<(), tonic::Status> {
    let handle = pb::CompleteTaskByHandleRequest { handle: "mfc_secret".into() };
    WorkloadServiceClient::new(channel.clone()).complete_task_by_handle(handle).await.map(|_| ())
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it does not happen")
}

#[tokio::test]
async fn without_grace_what_runs_on_a_connection_ends_with_it() {
    let scene = Scene::new().await;
    let channel = scene.caller.channel(&scene.url, ourselves()).await.unwrap();
    let mut stream = watching(&channel).await;
    call(&channel).await.unwrap();
    scene.end.send_replace(Some(Duration::ZERO));
    soon(stream.message()).await.unwrap_err();
    soon(call(&channel)).await.unwrap_err();
}

#[tokio::test]
async fn in_its_grace_a_request_under_way_finishes_and_none_is_begun() {
    let scene = Scene::new().await;
    let channel = scene.caller.channel(&scene.url, ourselves()).await.unwrap();
    let mut stream = watching(&channel).await;
    scene.end.send_replace(Some(Duration::from_secs(600)));
    soon(call(&channel)).await.unwrap_err();
    scene.world.broker.bundle.send_modify(|sent| sent.version += 1);
    assert_eq!(soon(stream.message()).await.unwrap().unwrap().version, 2);
}

/// Counts connections, refuses all but the first few, and says when another is wanted.
#[derive(Debug, Clone, Default)]
struct Counted(Arc<Mutex<(usize, Vec<Arc<Notify>>)>>);

impl Through for Counted {
    type Io = TlsStream<TcpStream>;

    async fn through(&self, tls: TlsStream<TcpStream>, wanted: Arc<Notify>) -> Result<Self::Io, Unconnected> {
        let mut counted = self.0.lock().unwrap();
        counted.1.push(wanted);
        if counted.1.len() > counted.0 {
            Err(Unconnected::Refused(Reason::LeaseRevoked.into()))
        } else {
            Ok(tls)
        }
    }
}

#[tokio::test]
async fn a_channel_moves_to_the_connection_that_is_wanted_and_to_none_that_is_refused() {
    let scene = Scene::new().await;
    let through = Counted::default();
    through.0.lock().unwrap().0 = 2;
    let channel = scene.caller.channel_through(&scene.url, ourselves(), through.clone()).await.unwrap();
    let mut first = watching(&channel).await;
    let mut newer = channel.newer();
    through.0.lock().unwrap().1[0].notify_one();
    assert!(newer.came().await);
    call(&channel).await.unwrap();
    scene.world.broker.bundle.send_modify(|sent| sent.version += 1);
    assert_eq!(soon(first.message()).await.unwrap().unwrap().version, 2, "the old one ends by itself");
    let refused = scene.caller.channel_through(&scene.url, ourselves(), through.clone()).await.unwrap_err();
    assert!(matches!(&refused, Unconnected::Refused(why) if why.reason == Reason::LeaseRevoked));
    assert!(crate::Failure::from(&refused).is(Reason::LeaseRevoked));
}
