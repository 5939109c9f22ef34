//! Against a real TLS server on the loopback, with a certificate of an authority of its own.

mod server;

use mayfly_domain::Reason;
use mayfly_testkit::issuer::{Alg, SigningKey, StandInIssuer};

use super::*;
use server::{Answer, Server};

fn jwks(kid: &str) -> String {
    StandInIssuer::with_keys(vec![SigningKey::generate(Alg::EdDsa, kid)]).jwks().to_string()
}

fn discovery(issuer: &str, jwks_uri: &str) -> String {
    format!(r#"{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}","response_types_supported":["id_token"]}}"#)
}

fn issuer(url: &str) -> Issuer {
    Issuer { url: url.into(), jwks_uri: None, jwks_host: None, algorithms: vec![] }
}

/// A server that answers as an issuer does, a source that trusts it, and the issuer.
async fn ready() -> (Server, HttpsKeys, Issuer) {
    let server = Server::start().await;
    let issuer = issuer(&server.url);
    server.answer(
        "/.well-known/openid-configuration",
        Answer::ok(&discovery(&server.url, &server.at("/keys"))),
    );
    server.answer("/keys", Answer::ok(&jwks("one")));
    let keys = HttpsKeys::new(Some(server.ca_pem.as_bytes())).unwrap();
    keys.watch(std::slice::from_ref(&issuer));
    (server, keys, issuer)
}

/// Lets time pass for tokio's clock without anybody waiting.
async fn pass(length: Duration) {
    tokio::time::pause();
    tokio::time::advance(length).await;
    tokio::time::resume();
}

async fn refused(keys: &HttpsKeys, issuer: &Issuer) -> Refusal {
    let refusal = keys.keys(issuer).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::IssuerUnavailable);
    refusal
}

#[tokio::test]
async fn keys_are_fetched_once_by_all_who_ask() {
    let (server, keys, issuer) = ready().await;
    let (a, b) = tokio::join!(keys.keys(&issuer), keys.keys(&issuer));
    assert!(Arc::ptr_eq(&a.unwrap(), &b.unwrap()));
    keys.keys(&issuer).await.unwrap();
    assert_eq!(server.hits(), 2, "the discovery document and the keys");
}

#[tokio::test]
async fn a_configured_place_needs_no_discovery() {
    let (server, keys, mut issuer) = ready().await;
    issuer.jwks_uri = Some(server.at("/keys"));
    assert!(keys.keys(&issuer).await.is_err(), "an issuer that is not watched is not fetched");
    keys.watch(std::slice::from_ref(&issuer));
    keys.keys(&issuer).await.unwrap();
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn an_unknown_key_makes_one_fetch_an_interval() {
    let (server, keys, issuer) = ready().await;
    let first = keys.keys(&issuer).await.unwrap();
    server.answer("/keys", Answer::ok(&jwks("two")));
    assert!(keys.newer(&issuer, &first).await.is_none(), "fetched a moment ago");
    assert_eq!(server.hits(), 2);
    pass(INTERVAL).await;
    let (a, b) = tokio::join!(keys.newer(&issuer, &first), keys.newer(&issuer, &first));
    let second = a.unwrap();
    assert!(Arc::ptr_eq(&second, &b.unwrap()) && !Arc::ptr_eq(&first, &second));
    assert_eq!(server.hits(), 4);
    pass(INTERVAL).await;
    assert!(keys.newer(&issuer, &second).await.is_none(), "the issuer has no others");
    assert!(Arc::ptr_eq(&keys.keys(&issuer).await.unwrap(), &second), "the same keys stay the same");
}

#[tokio::test]
async fn the_background_fetches_before_anybody_asks() {
    let (server, keys, issuer) = ready().await;
    let background = tokio::spawn({
        let keys = keys.clone();
        async move { keys.keep_fresh().await }
    });
    server.wait_for(2).await;
    let first = keys.keys(&issuer).await.unwrap();
    server.answer("/keys", Answer::ok(&jwks("two")));
    pass(REFRESH).await;
    server.wait_for(4).await;
    let second = keys.fetch(keys.entry(&issuer).unwrap(), |_| true).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(server.hits(), 4);
    background.abort();
}

#[tokio::test]
async fn the_last_good_keys_are_kept_for_a_day() {
    let (server, keys, issuer) = ready().await;
    let first = keys.keys(&issuer).await.unwrap();
    server.answer("/keys", Answer::status(503));
    pass(KEEP - Duration::from_secs(60)).await;
    assert!(keys.newer(&issuer, &first).await.is_none());
    assert!(Arc::ptr_eq(&keys.keys(&issuer).await.unwrap(), &first));
    pass(Duration::from_secs(60)).await;
    let refusal = refused(&keys, &issuer).await;
    assert!(refusal.detail.contains("status 503") && refusal.retry_after.is_some(), "{refusal:?}");
    let hits = server.hits();
    refused(&keys, &issuer).await;
    assert_eq!(server.hits(), hits, "an issuer that is down is not asked again at once");
    server.answer("/keys", Answer::ok(&jwks("two")));
    pass(INTERVAL).await;
    keys.keys(&issuer).await.unwrap();
}

#[tokio::test]
async fn a_fetch_goes_on_without_the_call_that_began_it() {
    let (server, keys, issuer) = ready().await;
    let mut hasty = keys.keys(&issuer);
    let once = std::future::poll_fn(|cx| std::task::Poll::Ready(hasty.as_mut().poll(cx).is_pending()));
    assert!(once.await, "it could not have ended yet");
    drop(hasty);
    tokio::time::timeout(Duration::from_secs(20), server.wait_for(2)).await.unwrap();
    keys.keys(&issuer).await.unwrap();
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn bad_answers_are_refused() {
    let big = format!(r#"{{"x":"{}"}}"#, "x".repeat(mayfly_domain::defaults::JWKS_OCTETS_MAX));
    let hmac = r#"{"keys":[{"kty":"oct","k":"AQAB"}]}"#;
    for (answer, why) in [
        (Answer::status(500), "status 500"),
        (Answer::redirect("/elsewhere"), "status 302"),
        (Answer::ok(&big), "more than"),
        (Answer::unannounced(&big), "more than"),
        (Answer::ok("<html>"), "not a JSON Web Key Set"),
        (Answer::ok(hmac), "no usable signing key"),
        (Answer::cut(&jwks("one")), "/keys"),
    ] {
        let (server, keys, issuer) = ready().await;
        server.answer("/elsewhere", Answer::ok(&jwks("one")));
        server.answer("/keys", answer);
        let detail = refused(&keys, &issuer).await.detail;
        assert!(detail.contains(why), "{why}: {detail}");
    }
}

#[tokio::test]
async fn a_foreign_authority_is_refused() {
    let (server, _, issuer) = ready().await;
    let other = Server::start().await;
    let keys = HttpsKeys::new(Some(other.ca_pem.as_bytes())).unwrap();
    keys.watch(std::slice::from_ref(&issuer));
    let detail = refused(&keys, &issuer).await.detail;
    assert!(detail.contains("certificate"), "{detail}");
    assert_eq!(server.hits(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_silent_issuer_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = issuer(&format!("https://localhost:{}", listener.local_addr().unwrap().port()));
    let keys = HttpsKeys::new(Some(mayfly_testkit::tls::ServerTls::loopback().ca_pem.as_bytes())).unwrap();
    keys.watch(std::slice::from_ref(&issuer));
    let began = Instant::now();
    refused(&keys, &issuer).await;
    assert!(began.elapsed() <= Duration::from_secs(10));
}

#[test]
fn the_keys_host_is_the_issuers_own_or_configured() {
    let url = "https://issuer.example:8443/realm";
    let uri = |jwks_host: Option<&str>, claimed: &str, jwks_uri: &str| {
        let issuer = Issuer { jwks_host: jwks_host.map(str::to_owned), ..issuer(url) };
        fetch::keys_uri(&issuer, discovery(claimed, jwks_uri).as_bytes()).is_ok()
    };
    assert!(uri(None, url, "https://issuer.example:8443/keys"));
    assert!(uri(Some("keys.example"), url, "https://keys.example/keys"));
    assert!(uri(Some("keys.example:99"), url, "https://keys.example:99/keys"));
    for (host, claimed, bad) in [
        (None, url, "https://issuer.example/keys"),
        (None, url, "https://issuer.example:8444/keys"),
        (None, url, "https://keys.example/keys"),
        (None, url, "https://issuer.example:8443@keys.example/keys"),
        (None, url, "https://user@issuer.example:8443/keys"),
        (None, url, "http://issuer.example:8443/keys"),
        (None, url, "https://issuer.example.evil:8443/keys"),
        (None, url, "/keys"),
        (Some("keys.example"), url, "https://keys.example:99/keys"),
        (Some("keys.example"), url, "https://evil.keys.example/keys"),
        (None, "https://issuer.example:8443/realm/", "https://issuer.example:8443/keys"),
        (None, "https://other.example", "https://issuer.example:8443/keys"),
    ] {
        assert!(!uri(host, claimed, bad), "{claimed} {bad}");
    }
    let twice = r#"{"issuer":"https://issuer.example:8443/realm","jwks_uri":"https://issuer.example:8443/a","jwks_uri":"https://issuer.example:8443/b"}"#;
    assert!(fetch::keys_uri(&issuer(url), twice.as_bytes()).is_err());
}

#[test]
fn additional_authorities_must_be_certificates() {
    assert!(HttpsKeys::new(Some(b"")).is_err());
    assert!(HttpsKeys::new(Some(b"-----BEGIN CERTIFICATE-----\nAQAB\n-----END CERTIFICATE-----\n")).is_err());
}
