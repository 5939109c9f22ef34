//! Connections between two services end when the lease of either is revoked; those of others go on.

mod world;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use mayfly_client::{Failure, X509Identity};
use mayfly_domain::Reason;
use mayfly_verify::{Server, Verifier, tls};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic_health::server::HealthReporter;

use world::{Http2, OTHERS, REVOKED, Raw, Stream, World, application, bound, echo, id, only, soon, url};

/// A service that verifies: HTTP at one address, raw TLS at another.
struct Verifying {
    http: SocketAddr,
    raw: SocketAddr,
    reporter: HealthReporter,
}

impl Verifying {
    async fn start(identity: X509Identity, verifier: Verifier) -> Self {
        let ((for_http, http), (for_raw, raw)) = (bound().await, bound().await);
        let (reporter, router) = application();
        let acceptor = tls::Acceptor::new(&identity, &verifier, only("payments"), &[]).unwrap();
        tokio::spawn(async move {
            Server::new(&identity, &verifier, only("payments"))
                .run(for_http, router, std::future::pending())
                .await
        });
        tokio::spawn(async move {
            loop {
                let (tcp, _) = for_raw.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (stream, peer) = acceptor.accept(tcp).await?;
                    assert_eq!(peer.judged().workload, id("payments"));
                    echo(stream).await
                });
            }
        });
        Self { http, raw, reporter }
    }
}

/// A client that trusts handshakes alone.
async fn connect(
    identity: &X509Identity,
    address: SocketAddr,
    protocol: Option<&str>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = identity.client_config(only("ledger")).unwrap();
    config.alpn_protocols = protocol.into_iter().map(|p| p.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("ledger").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_client_is_cut_off_and_others_are_not() {
    let world = World::new().await;
    let server = Verifying::start(world.service("ledger", OTHERS).await, world.verifier().await).await;
    let revoked = world.service("payments", REVOKED).await;
    let other = world.service("payments", OTHERS).await;
    let at = url(server.http);
    let channels = [
        revoked.channel(&at, only("ledger")).await.unwrap(),
        other.channel(&at, only("ledger")).await.unwrap(),
    ];
    let streams = [Stream::open(&channels[0]).await.unwrap(), Stream::open(&channels[1]).await.unwrap()];
    let mut pages = Vec::new();
    let mut raws = Vec::new();
    for identity in [&revoked, &other] {
        pages.push(Http2::open(connect(identity, server.http, Some("h2")).await.unwrap()).await.unwrap());
        raws.push(Raw::open(connect(identity, server.raw, None).await.unwrap()).await.unwrap());
    }

    world.revoke().await;
    let ([cut, mut stream], [page, mut other_page], [raw, mut other_raw]) =
        (streams, <[_; 2]>::try_from(pages).ok().unwrap(), <[_; 2]>::try_from(raws).ok().unwrap());
    cut.cut().await;
    page.cut().await;
    raw.cut().await;
    // Its certificate is good for an hour, and every handshake ends before the lease is looked at.
    assert!(soon(Stream::open(&channels[0])).await.is_err());
    if let Ok(tls) = connect(&revoked, server.http, Some("h2")).await {
        assert!(soon(Http2::open(tls)).await.is_err());
    }
    if let Ok(tls) = connect(&revoked, server.raw, None).await {
        assert!(soon(Raw::open(tls)).await.is_err());
    }
    stream.goes_on(&server.reporter).await;
    other_page.goes_on().await;
    other_raw.goes_on().await;
    soon(Stream::open(&channels[1])).await.unwrap();
    world.broker.stop().await;
}

/// A service that looks at nothing but handshakes.
async fn trusting(identity: X509Identity) -> Verifying {
    let ((for_http, http), (for_raw, raw)) = (bound().await, bound().await);
    let (reporter, router) = application();
    let mut config = identity.server_config(only("ledger")).unwrap();
    config.alpn_protocols = Vec::new();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let routes = tonic::service::Routes::from(router);
        mayfly_client::grpc::serve(for_http, &identity, only("ledger"), routes, std::future::pending()).await
    });
    tokio::spawn(async move {
        loop {
            let (tcp, _) = for_raw.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move { echo(acceptor.accept(tcp).await?).await });
        }
    });
    Verifying { http, raw, reporter }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_server_is_left_and_others_are_not() {
    let world = World::new().await;
    let servers = [
        trusting(world.service("payments", REVOKED).await).await,
        trusting(world.service("payments", OTHERS).await).await,
    ];
    let (client, verifier) = (world.service("ledger", OTHERS).await, world.verifier().await);
    let h2 = tls::Connector::new(&client, &verifier, only("payments"), &["h2"]).unwrap();
    let plain = tls::Connector::new(&client, &verifier, only("payments"), &[]).unwrap();
    let mut open = Vec::new();
    for server in &servers {
        let channel = tls::channel(&client, &verifier, &url(server.http), only("payments")).await.unwrap();
        let stream = Stream::open(&channel).await.unwrap();
        let (io, _) = h2.connect(TcpStream::connect(server.http).await.unwrap()).await.unwrap();
        let page = Http2::open(io).await.unwrap();
        let (io, _) = plain.connect(TcpStream::connect(server.raw).await.unwrap()).await.unwrap();
        open.push((channel, stream, page, Raw::open(io).await.unwrap()));
    }

    world.revoke().await;
    let [(channel, stream, page, raw), mut other] = <[_; 2]>::try_from(open).ok().unwrap();
    stream.cut().await;
    page.cut().await;
    raw.cut().await;
    let refused = soon(Stream::open(&channel)).await.err().unwrap();
    assert!(Failure::from(refused).is(Reason::LeaseRevoked));
    for (connector, address) in [(&h2, servers[0].http), (&plain, servers[0].raw)] {
        let refused = connector.connect(TcpStream::connect(address).await.unwrap()).await.unwrap_err();
        let why = refused.get_ref().unwrap().downcast_ref::<mayfly_domain::Refusal>().unwrap();
        assert_eq!(why.reason, Reason::LeaseRevoked);
    }
    other.1.goes_on(&servers[1].reporter).await;
    other.2.goes_on().await;
    other.3.goes_on().await;
    soon(Stream::open(&other.0)).await.unwrap();
    world.broker.stop().await;
}

/// What `openssl s_client` says of a connection by this identity, with more arguments.
fn openssl(dir: &std::path::Path, address: SocketAddr, more: &[&str]) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-alpn", "h2", "-cert", &file("tls.crt")])
        .args(["-key", &file("tls.key"), "-CAfile", &file("ca.crt"), "-partial_chain"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its own command to end; by then it has read what a server sends after its handshake.
    let mut stdin = client.stdin.take().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let _ = stdin.write_all(b"Q\n");
    drop(stdin);
    let output = client.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_never_resumed() {
    let world = World::new().await;
    let server = Verifying::start(world.service("ledger", OTHERS).await, world.verifier().await).await;
    let client = world.service("payments", REVOKED).await;
    let dir = tempfile::tempdir().unwrap();
    let svid = client.svid().unwrap();
    std::fs::write(dir.path().join("tls.crt"), svid.chain_pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), svid.key_pem().expose()).unwrap();
    std::fs::write(dir.path().join("ca.crt"), svid.bundle_pem()).unwrap();
    let session = dir.path().join("session").display().to_string();
    let path = dir.path().to_owned();
    tokio::task::spawn_blocking(move || {
        let first = openssl(&path, server.http, &["-sess_out", &session]);
        assert!(
            first.contains("New, TLSv1.3") && !first.contains("Post-Handshake New Session Ticket"),
            "{first}"
        );
        assert!(first.contains("Max Early Data: 0") || !first.contains("Max Early Data"), "{first}");
        // Without a ticket there is nothing that could be resumed; what a client kept all the same is ignored.
        let more: &[&str] =
            if std::path::Path::new(&session).exists() { &["-sess_in", &session] } else { &[] };
        let second = openssl(&path, server.http, more);
        assert!(second.contains("New, TLSv1.3") && !second.contains("Reused"), "{second}");
        // And nothing older than TLS 1.3, where sessions have ids.
        let old = openssl(&path, server.http, &["-tls1_2"]);
        assert!(old.contains("alert protocol version"), "{old}");
    })
    .await
    .unwrap();
    world.broker.stop().await;
}
