mod fixture;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mayfly_domain::{Clock as _, Reason, SystemClock};
use rcgen::{ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use self::fixture::{Authority, CHECK, Fixture, MINT, OPERATOR, SHORT, WATCH, limits, server};
use crate::config::Server;
use crate::status::reason;

/// Reads to the end of what the server sends; an error is an end too.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    all
}

#[tokio::test]
async fn calls_see_who_calls() {
    let f = Fixture::start(server(), limits()).await;
    let nobody = f.connect(None).await;
    let (head, status) = nobody.call(CHECK, &[]).await.unwrap();
    assert_eq!((status.code(), head.get("peer")), (Code::Ok, None));
    let (chain, key) = f.ca.client(OPERATOR, |_| {});
    let pair = rcgen::KeyPair::try_from(&key).unwrap();
    let point = mayfly_domain::PublicKey::new(mayfly_domain::KeyAlg::P256, pair.public_key_raw()).unwrap();
    let alice = f.connect(Some((chain, key))).await;
    let (head, _) = alice.call(CHECK, &[]).await.unwrap();
    assert_eq!(head["peer"], OPERATOR);
    assert_eq!(head["key"], point.thumbprint().to_string());
    assert_eq!(head["credential"], "07070707-0707-0707-0707-070707070707.117901063");
    let (_, status) = alice.call("/no.Such/Call", &[]).await.unwrap();
    assert_eq!(status.code(), Code::Unimplemented);
    drop((nobody, alice));
    f.stop().await;
}

#[tokio::test]
async fn plain_https_is_told_apart_by_content_type() {
    let f = Fixture::start(server(), limits()).await;
    let client = f.connect(None).await;
    assert_eq!(
        client.get("/.well-known/jwks.json").await,
        (http::StatusCode::OK, "{\"keys\":[]}".to_owned())
    );
    assert_eq!(client.get("/v1/ca.pem").await.1, "PEM");
    assert_eq!(client.get(CHECK).await.0, http::StatusCode::NOT_FOUND);
    let (_, status) = client.call("/v1/ca.pem", &[]).await.unwrap();
    assert_eq!(status.code(), Code::Unimplemented);

    let mut h1 = f.tls(Arc::new(f.client(None, b"http/1.1"))).await.unwrap();
    h1.write_all(b"GET /v1/ca.pem HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let answer = String::from_utf8(rest(&mut h1).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("PEM"), "{answer}");
}

/// A ClientHello that offers TLS 1.2 and nothing newer.
fn tls_1_2_hello() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([9; 32]); // random
    hello.push(0); // session id
    hello.extend([0, 2, 0xc0, 0x2b]); // ECDHE-ECDSA-AES128-GCM-SHA256
    hello.extend([1, 0]); // no compression
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..], // secp256r1
        &[0, 11, 0, 2, 1, 0],            // uncompressed points
        &[0, 13, 0, 4, 0, 2, 4, 3],      // ecdsa_secp256r1_sha256
    ]
    .concat();
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let length = u16::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1];
    record.extend((length + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend(length.to_be_bytes());
    record.extend(hello);
    record
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let f = Fixture::start(server(), limits()).await;
    let mut stream = TcpStream::connect(f.address).await.unwrap();
    stream.write_all(&tls_1_2_hello()).await.unwrap();
    let answer = rest(&mut stream).await;
    // Alert, fatal, protocol_version (RFC 8446 section 6).
    assert_eq!(answer.first(), Some(&21));
    assert_eq!(answer.get(5..), Some(&[2, 70][..]), "{answer:?}");
}

#[tokio::test]
async fn no_session_is_resumed() {
    let f = Fixture::start(server(), limits()).await;
    let config = Arc::new(f.client(None, b"h2"));
    for _ in 0..2 {
        let stream = f.tls(config.clone()).await.unwrap();
        let (send, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(stream),
        )
        .await
        .unwrap();
        let client = fixture::Client { send, connection: tokio::spawn(connection) };
        client.call(CHECK, &[]).await.unwrap();
    }
    let third = f.tls(config).await.unwrap();
    assert_eq!(third.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
}

#[tokio::test]
async fn foreign_and_unfit_certificates_are_refused() {
    let f = Fixture::start(server(), limits()).await;
    let other = Authority::new();
    let refused = [
        ("of another CA", other.client(OPERATOR, |_| {})),
        ("expired", f.ca.client(OPERATOR, |p| p.not_after = date_time_ymd(2020, 1, 1))),
        ("of the future", f.ca.client(OPERATOR, |p| p.not_before = date_time_ymd(2999, 1, 1))),
        (
            "for servers",
            f.ca.client(OPERATOR, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        ("for anything", f.ca.client(OPERATOR, |p| p.extended_key_usages = vec![])),
        ("without an id", f.ca.client(OPERATOR, |p| p.subject_alt_names.clear())),
        ("of no SPIFFE ID", f.ca.client("https://a.b/c", |_| {})),
        (
            "with two ids",
            f.ca.client(OPERATOR, |p| {
                p.subject_alt_names.push(SanType::URI("spiffe://a.b/x".try_into().unwrap()));
            }),
        ),
    ];
    for (why, identity) in refused {
        let client = f.connect(Some(identity)).await;
        assert!(client.call(CHECK, &[]).await.is_err(), "{why}");
    }
    assert_eq!(f.slow.done.load(Ordering::SeqCst), 0);
    assert!(
        f.counted("mayfly_connections_turned_away_total{reason=\"certificate\"} 8"),
        "{}",
        f.metrics.encode()
    );
}

#[tokio::test]
async fn a_withdrawn_authority_opens_no_connection_and_a_new_one_does() {
    let f = Fixture::start(server(), limits()).await;
    let (old, new) = (f.ca.client(OPERATOR, |_| {}), Authority::new());
    let next = new.client(OPERATOR, |_| {});
    let again = (old.0.clone(), old.1.clone_key());
    f.connect(Some(old)).await.call(CHECK, &[]).await.unwrap();
    f.trust(std::slice::from_ref(&new.certificate));
    f.connect(Some(next)).await.call(CHECK, &[]).await.unwrap();
    assert!(f.connect(Some(again)).await.call(CHECK, &[]).await.is_err());
}

#[tokio::test]
async fn who_is_refused_reads_why_whatever_it_has_sent() {
    let f = Fixture::start(server(), limits()).await;
    let config = Arc::new(f.client(Some(Authority::new().client(OPERATOR, |_| {})), b"h2"));
    for _ in 0..20 {
        let mut stream = f.tls(config.clone()).await.unwrap();
        // Requests go out along with the certificate; a client whose write fails first looks for no alert.
        stream.write_all(&[0; 32 * 1024]).await.unwrap();
        stream.get_ref().0.readable().await.unwrap();
        for _ in 0..8 {
            stream.write_all(&[0; 1_024]).await.expect("the connection is not reset");
            stream.flush().await.expect("the connection is not reset");
            tokio::task::yield_now().await;
        }
        let why = stream.read_u8().await.unwrap_err().to_string();
        assert!(why.contains("alert"), "{why}");
    }
}

#[tokio::test]
async fn slow_handshakes_and_silence_are_cut() {
    let f = Fixture::start(Server { handshake_timeout: SHORT, ..server() }, limits()).await;
    let mut stream = TcpStream::connect(f.address).await.unwrap();
    stream.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    assert!(f.counted("mayfly_connections_turned_away_total{reason=\"handshake-timeout\"} 1"));

    let f = Fixture::start(Server { header_timeout: SHORT, ..server() }, limits()).await;
    for alpn in [&b"h2"[..], b"http/1.1"] {
        let mut stream = f.tls(Arc::new(f.client(None, alpn))).await.unwrap();
        rest(&mut stream).await;
    }
    assert!(f.counted("mayfly_connections 0"));
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let f = Fixture::start(Server { idle_timeout: SHORT, header_timeout: SHORT, ..server() }, limits()).await;
    let client = f.connect(None).await;
    let (answer, ()) = tokio::join!(client.call(CHECK, &[("wait", "1")]), async {
        f.slow.begun.notified().await;
        tokio::time::sleep(SHORT * 3).await;
        f.slow.go.notify_one();
    });
    assert_eq!(answer.unwrap().1.code(), Code::Ok);
    client.connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_are_capped_by_address_before_tls() {
    let f = Fixture::start(server(), fixture_limits(1)).await;
    let first = f.connect(None).await;
    first.call(CHECK, &[]).await.unwrap();
    assert_eq!(rest(&mut TcpStream::connect(f.address).await.unwrap()).await, b"");
    assert!(f.counted("mayfly_connections_turned_away_total{reason=\"address-full\"} 1"));
    drop(first);
    // The place is free as soon as the server has seen the end of the first.
    let again = async {
        loop {
            if f.tls(Arc::new(f.client(None, b"h2"))).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

fn fixture_limits(per_address: u32) -> super::Limits {
    super::Limits { connections_per_address: per_address, ..limits() }
}

#[tokio::test]
async fn a_running_call_ends_well_while_the_server_drains() {
    let mut f = Fixture::start(server(), limits()).await;
    let client = f.connect(None).await;
    let begun = f.slow.begun.clone();
    let go = f.slow.go.clone();
    let address = f.address;
    let (answer, ()) = tokio::join!(client.call(CHECK, &[("wait", "1")]), async {
        begun.notified().await;
        f.begin_stop();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        go.notify_one();
    });
    assert_eq!(answer.unwrap().1.code(), Code::Ok);
    tokio::time::timeout(Duration::from_secs(5), f.stopped()).await.expect("nothing runs any more");
    assert!(client.call(CHECK, &[]).await.is_err());
}

#[tokio::test]
async fn draining_has_an_end() {
    let f = Fixture::start(Server { drain_timeout: SHORT, ..server() }, limits()).await;
    let client = f.connect(None).await;
    let begun = f.slow.begun.clone();
    let (answer, ()) = tokio::join!(client.call(CHECK, &[("wait", "1")]), async {
        begun.notified().await;
        f.stop().await;
    });
    assert!(answer.is_err());
}

#[tokio::test]
async fn a_deadline_is_honoured_with_its_reason() {
    let f = Fixture::start(server(), limits()).await;
    let client = f.connect(None).await;
    let (_, status) = client.call(CHECK, &[("wait", "1"), ("grpc-timeout", "30m")]).await.unwrap();
    assert_eq!((status.code(), reason(&status)), (Code::DeadlineExceeded, Some(Reason::Deadline)));
    assert!(!status.get_details_error_info().unwrap().metadata["request"].is_empty());
    let (_, status) = client.call(CHECK, &[("grpc-timeout", "0m")]).await.unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let (_, status) = client.call(CHECK, &[("grpc-timeout", "soon")]).await.unwrap();
    assert_eq!(reason(&status), Some(Reason::InputInvalid));
    assert_eq!(f.slow.done.load(Ordering::SeqCst), 0);
    assert!(f.counted("mayfly_refusals_total{reason=\"DEADLINE\"} 2"));

    let f = Fixture::start(Server { call_timeout: SHORT, ..server() }, limits()).await;
    let client = f.connect(None).await;
    let (_, status) = client.call(CHECK, &[("wait", "1")]).await.unwrap();
    assert_eq!(reason(&status), Some(Reason::Deadline));
}

#[tokio::test]
async fn what_changes_something_runs_to_its_end_without_its_caller() {
    let f = Fixture::start(server(), limits()).await;
    let client = f.connect(None).await;
    let (_, status) = client.call(MINT, &[("wait", "1"), ("grpc-timeout", "30m")]).await.unwrap();
    assert_eq!(reason(&status), Some(Reason::Deadline));
    assert_eq!(f.slow.done.load(Ordering::SeqCst), 0);
    f.slow.go.notify_one();
    f.slow.finished.notified().await;
    assert_eq!(f.slow.done.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_full_lane_sheds_with_a_wait() {
    let f = Fixture::start(server(), super::Limits { mints_in_flight: 1, ..limits() }).await;
    let client = f.connect(None).await;
    let (first, ()) = tokio::join!(client.call(MINT, &[("wait", "1")]), async {
        f.slow.begun.notified().await;
        let (_, status) = client.call(MINT, &[]).await.unwrap();
        assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(Reason::Overloaded)));
        assert!(status.get_details_retry_info().is_some());
        client.call(CHECK, &[]).await.unwrap();
        f.slow.go.notify_one();
    });
    first.unwrap();
    client.call(MINT, &[]).await.unwrap();
}

#[tokio::test]
async fn few_calls_of_one_connection_wait_and_the_others_go_on() {
    let f = Fixture::start(server(), limits()).await;
    let (client, other) = (Arc::new(f.connect(None).await), f.connect(None).await);
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let client = Arc::clone(&client);
        waiting.push(tokio::spawn(async move { client.call(WATCH, &[("wait", "1")]).await }));
        f.slow.begun.notified().await;
    }
    let (_, status) = client.call(WATCH, &[]).await.unwrap();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, Some(Reason::Overloaded)));
    assert!(status.get_details_retry_info().is_some());
    client.call(CHECK, &[]).await.unwrap();
    assert_eq!(other.call(WATCH, &[]).await.unwrap().1.code(), Code::Ok);
    f.slow.go.notify_waiters();
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap().1.code(), Code::Ok);
    }
    assert_eq!(client.call(WATCH, &[]).await.unwrap().1.code(), Code::Ok, "their places are free again");
}

#[tokio::test]
async fn a_request_that_never_ends_takes_nobodys_place() {
    let fixture = Fixture::start(server(), super::Limits { mints_in_flight: 1, ..limits() }).await;
    let stream = fixture.tls(Arc::new(fixture.client(None, b"h2"))).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driven = tokio::spawn(connection);
    let request = || {
        let request = http::Request::post(format!("https://localhost{MINT}"));
        request.header("content-type", "application/grpc").header("grpc-timeout", "100m")
    };
    // Two heads without the message that they announce. Their answer comes when their own time is over, and
    // must come to both: the first has no place that the second could lack.
    let open = || axum::body::Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
    let first = send.send_request(request().body(open()).unwrap());
    let second = send.send_request(request().body(open()).unwrap());
    let client = fixture.connect(None).await;
    assert_eq!(client.call(MINT, &[]).await.unwrap().1.code(), Code::Ok);
    for answer in [first.await.unwrap(), second.await.unwrap()] {
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(reason(&status), Some(Reason::Deadline));
    }
    assert_eq!(client.call(MINT, &[]).await.unwrap().1.code(), Code::Ok, "and holds none afterwards");
    assert_eq!(fixture.slow.done.load(Ordering::SeqCst), 2, "nothing was done for the others");
    driven.abort();
    fixture.stop().await;
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_before_anything_is_done() {
    let fixture = Fixture::start(server(), limits()).await;
    let stream = fixture.tls(Arc::new(fixture.client(None, b"h2"))).await.unwrap();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driven = tokio::spawn(connection);
    for (octets, refused) in [(64 * 1024 + 5, None), (64 * 1024 + 6, Some(Reason::TooLarge))] {
        let request = http::Request::post(format!("https://localhost{MINT}"))
            .header("content-type", "application/grpc")
            .body(http_body_util::Full::new(Bytes::from(vec![0; octets])))
            .unwrap();
        let answer = send.send_request(request).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(reason(&status), refused, "{octets}");
    }
    assert_eq!(fixture.slow.done.load(Ordering::SeqCst), 1);
    driven.abort();
    fixture.stop().await;
}

#[tokio::test]
async fn a_connection_is_closed_by_its_handle() {
    let f = Fixture::start(server(), limits()).await;
    let client = f.connect(None).await;
    let other = f.connect(None).await;
    assert!(client.call(CHECK, &[("wait", "1"), ("close", "1")]).await.is_err());
    other.call(CHECK, &[]).await.unwrap();
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let f = Fixture::start(Server { drain_timeout: SHORT, ..server() }, limits()).await;
    let soon = SystemClock.now().plus(2_000).floor_secs();
    let soon = std::time::UNIX_EPOCH + Duration::from_millis(soon.0);
    let client = f.connect(Some(f.ca.client(OPERATOR, |p| p.not_after = soon.into()))).await;
    client.call(CHECK, &[]).await.unwrap();
    client.connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn oversized_heads_are_refused() {
    let f = Fixture::start(server(), limits()).await;
    let client = f.connect(None).await;
    let large = "x".repeat(60_000);
    let request = http::Request::post("https://localhost/test.Slow/Check").header("large", &large);
    let request = request.body(http_body_util::Full::default()).unwrap();
    let answer = client.send.clone().send_request(request).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let mut h1 = f.tls(Arc::new(f.client(None, b"http/1.1"))).await.unwrap();
    h1.write_all(format!("GET /v1/ca.pem HTTP/1.1\r\nhost: localhost\r\nlarge: {large}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let answer = String::from_utf8(rest(&mut h1).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(f.slow.done.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn another_certificate_is_served_from_the_next_connection_on() {
    let f = Fixture::start(server(), limits()).await;
    let first = f.connect(None).await;
    let shown = async || {
        let stream = f.tls(Arc::new(f.client(None, b"h2"))).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap().first().unwrap().clone()
    };
    let before = shown().await;
    let (chain, key) = f.ca.server();
    let new = chain.first().unwrap().clone();
    f.tls.replace(chain, key).unwrap();
    assert_ne!(before, new);
    assert_eq!(shown().await, new);
    first.call(CHECK, &[]).await.unwrap();
    let (_, key) = f.ca.server();
    assert!(f.tls.replace(vec![before], key).is_err());
    assert_eq!(shown().await, new);
}
