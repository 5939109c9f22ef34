use super::*;

fn set(server: &RedisServer, key: &str, value: &str) {
    ::redis::cmd("SET").arg(key).arg(value).query::<()>(&mut server.admin()).unwrap();
}

fn get(server: &RedisServer, key: &str) -> Option<String> {
    ::redis::cmd("GET").arg(key).query(&mut server.admin()).unwrap()
}

#[test]
fn what_was_acknowledged_survives_a_kill_and_not_a_replacement() {
    let mut server = RedisServer::start(RedisOptions::default());
    let port = server.port();
    set(&server, "k", "needle");
    server.restart();
    assert_eq!(server.port(), port);
    assert_eq!(get(&server, "k").as_deref(), Some("needle"));
    assert!(server.everything().windows(6).any(|w| w == b"needle"));
    server.replace_by_empty();
    assert_eq!(get(&server, "k"), None);
    set(&server, "k", "v");
    server.flushall();
    assert_eq!(get(&server, "k"), None);
}

#[test]
fn two_servers_live_side_by_side_and_end_with_their_value() {
    let a = RedisServer::start(RedisOptions::default());
    let b = RedisServer::start(RedisOptions { appendonly: false, ..RedisOptions::default() });
    assert_ne!(a.port(), b.port());
    let port = a.port();
    drop(a);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(std::net::TcpStream::connect(("127.0.0.1", b.port())).is_ok());
}

#[test]
fn the_default_user_is_off_where_a_user_is_named() {
    let server = RedisServer::start(RedisOptions {
        user: Some(("mayfly".to_owned(), "pw".to_owned())),
        acl: "~m:* &* +@all -@dangerous".to_owned(),
        ..RedisOptions::default()
    });
    assert_eq!(server.url(), format!("redis://mayfly@127.0.0.1:{}", server.port()));
    let anonymous = ::redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap();
    let refused = anonymous.get_connection().and_then(|mut c| ::redis::cmd("PING").query::<String>(&mut c));
    assert!(refused.is_err());
    let named = ::redis::Client::open(format!("redis://mayfly:pw@127.0.0.1:{}", server.port())).unwrap();
    let mut named = named.get_connection().unwrap();
    assert!(::redis::cmd("SET").arg("m:a").arg("1").query::<()>(&mut named).is_ok());
    assert!(::redis::cmd("SET").arg("other").arg("1").query::<()>(&mut named).is_err());
    assert!(::redis::cmd("FLUSHALL").query::<()>(&mut named).is_err());
}

#[test]
fn a_tls_server_shows_a_certificate_of_its_authority() {
    let server = RedisServer::start(RedisOptions { tls: true, ..RedisOptions::default() });
    assert!(server.url().starts_with("rediss://"));
    let mut roots = rustls::RootCertStore::empty();
    let ca = fs::read(server.ca_file().unwrap()).unwrap();
    roots.add(rustls_pki_types::pem::PemObject::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut tls = rustls::ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut tcp = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    std::io::Write::write_all(&mut stream, b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_frozen_server_accepts_connections_and_answers_nothing() {
    let server = RedisServer::start(RedisOptions::default());
    server.freeze();
    let mut tcp = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    tcp.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    std::io::Write::write_all(&mut tcp, b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    assert!(std::io::Read::read_exact(&mut tcp, &mut answer).is_err());
    server.thaw();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    std::io::Read::read_exact(&mut tcp, &mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn an_older_copy_has_what_it_had_then() {
    let mut server = RedisServer::start(RedisOptions::default());
    set(&server, "k", "old");
    let copy = server.copy();
    set(&server, "k", "new");
    server.replace_by(&copy);
    assert_eq!(get(&server, "k").as_deref(), Some("old"));
}

#[test]
fn its_clock_goes_its_own_way_where_there_is_a_library_for_it() {
    let mut server = RedisServer::start(RedisOptions { own_clock: true, ..RedisOptions::default() });
    let time =
        |server: &RedisServer| ::redis::cmd("TIME").query::<(u64, u64)>(&mut server.admin()).unwrap().0;
    let before = time(&server);
    if !server.step_clock(7_200) {
        eprintln!("libfaketime is not installed: no clock was stepped");
        return;
    }
    assert!((before + 7_190..before + 7_260).contains(&time(&server)));
    server.restart();
    assert!(time(&server) >= before + 7_190, "it keeps its clock");
    server.step_clock(-60);
    assert!(time(&server) < before + 60);
    server.step_clock(0);
    assert!((before..before + 60).contains(&time(&server)));
}
