use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mayfly_domain::{ProfileName, SpiffeId};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use mayfly_proto::v1::workload_service_server::WorkloadServiceServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::evidence::Source;
use crate::fixture::broker::{WORKLOAD, World};
use crate::identity::{Event, Options};
use crate::workload::CertificateAsk;

fn ourselves() -> Peers {
    Peers::ids([SpiffeId::parse(WORKLOAD).unwrap()])
}

async fn identity(world: &World) -> X509Identity {
    let ask = CertificateAsk::new(ProfileName::parse("x509-api").unwrap());
    let source = Source::File(world.token.clone());
    X509Identity::start(&world.target, source, Options::new(ask)).await.unwrap()
}

struct Service {
    url: Url,
    identity: Arc<X509Identity>,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// A service with an identity of its own; that it is a broker's service does not matter to the transport.
async fn service(world: &World, peers: Peers) -> Service {
    let identity = Arc::new(identity(world).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let routes = tonic::service::Routes::new(WorkloadServiceServer::new(world.broker.clone()));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = Arc::clone(&identity);
    let done = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        serve(listener, &serving, peers, routes, stopped).await
    });
    Service { url, identity, stop, done }
}

async fn call(channel: RotatingChannel) -> Result<(), tonic::Status> {
    let handle = pb::CompleteTaskByHandleRequest { handle: "mfc_secret".into() };
    WorkloadServiceClient::new(channel).complete_task_by_handle(handle).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_on_both_sides_under_load_without_a_failed_request() {
    let world = World::new().await;
    let service = service(&world, ourselves()).await;
    let caller = identity(&world).await;
    let channel = caller.channel(&service.url, ourselves()).await.unwrap();
    // A stream that lasts over every rotation stays on the connection where it began.
    let mut stream = WorkloadServiceClient::new(channel.clone())
        .watch_bundle(pb::WatchBundleRequest {})
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    let (over, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (channel, over, good) = (channel.clone(), Arc::clone(&over), Arc::clone(&good));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    call(channel.clone()).await.unwrap();
                    good.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut connections = channel.0.clone();
    connections.mark_unchanged();
    let mut events = (caller.events(), service.identity.events());
    for _ in 0..10 {
        caller.renew_now();
        assert!(matches!(events.0.recv().await, Ok(Event::Renewed(_))));
        service.identity.renew_now();
        assert!(matches!(events.1.recv().await, Ok(Event::Renewed(_))));
        connections.changed().await.unwrap();
        let before = good.load(Ordering::Relaxed);
        while good.load(Ordering::Relaxed) < before + 20 {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    world.broker.bundle.send_modify(|sent| sent.version += 1);
    assert_eq!(stream.message().await.unwrap().unwrap().version, 2);
}

#[tokio::test]
async fn only_expected_peers_are_served_and_called() {
    let world = World::new().await;
    let other = || Peers::ids([SpiffeId::parse("spiffe://acme.internal/vm/other").unwrap()]);
    let caller = identity(&world).await;
    let service = service(&world, ourselves()).await;
    let refused = caller.channel(&service.url, other()).await.unwrap_err();
    assert!(matches!(refused, Unconnected::Untrusted(_)), "{refused:?}");
    let closed = self::service(&world, other()).await;
    let refused = match caller.channel(&closed.url, ourselves()).await {
        Ok(channel) => call(channel).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "a caller that nobody expects");
}

#[tokio::test]
async fn a_connection_ends_with_its_peers_certificate() {
    let world = World::new().await;
    let service = service(&world, ourselves()).await;
    world.broker.script().life_s = 2;
    let caller = identity(&world).await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(caller.client_config(ourselves()).unwrap()));
    let tcp = tokio::net::TcpStream::connect(service.url.authority()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut tls = connector.connect(name, tcp).await.unwrap();
    // The preface of HTTP/2 with empty settings, and then nothing: an idle connection.
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let ends = caller.svid().unwrap().expires;
    // Frames, until one says that the connection is to end (GOAWAY, RFC 9113, section 6.8).
    let told = async {
        let mut head = [0; 9];
        while head[3] != 7 {
            tls.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            tls.read_exact(&mut vec![0; length]).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    let now = mayfly_domain::Clock::now(&mayfly_domain::SystemClock);
    assert!(now.plus(1_000) >= ends && now < ends.plus(10_000), "{now:?} {ends:?}");
}

#[tokio::test]
async fn a_server_that_stops_lets_requests_under_way_finish() {
    let world = World::new().await;
    let service = service(&world, ourselves()).await;
    let caller = identity(&world).await;
    let channel = caller.channel(&service.url, ourselves()).await.unwrap();
    let watching = WorkloadServiceClient::new(channel).watch_bundle(pb::WatchBundleRequest {}).await;
    let mut stream = watching.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    service.stop.send(()).unwrap();
    world.broker.bundle.send_modify(|sent| sent.version += 1);
    assert_eq!(stream.message().await.unwrap().unwrap().version, 2);
    drop(stream);
    service.done.await.unwrap().unwrap();
}
