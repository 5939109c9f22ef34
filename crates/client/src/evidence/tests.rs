use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::UnixMillis;

use super::*;

fn jws(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("acme.internal").unwrap()
}

const KEY: Thumbprint = Thumbprint::from_bytes([7; 32]);

type Seen = Arc<Mutex<Vec<(String, String)>>>;
type Canned = (Seen, u16, String);

async fn answer(State((seen, status, body)): State<Canned>, uri: Uri, headers: HeaderMap) -> Response {
    let auth = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
    seen.lock().unwrap().push((uri.to_string(), auth));
    let location = [(header::LOCATION, "/elsewhere")];
    (StatusCode::from_u16(status).unwrap(), location, body).into_response()
}

/// A stand-in for GitHub's service; what it saw, and its source.
async fn service(status: u16, body: String) -> (Seen, Source) {
    let seen = Seen::default();
    let app = Router::new().fallback(answer).with_state((Arc::clone(&seen), status, body));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token?run=1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let env = Env::of([
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token"),
        ("GITHUB_RUN_ID", "77"),
    ]);
    (seen, Source::discover(None, &env).unwrap())
}

#[test]
fn sources_are_found_in_the_documented_order() {
    let all = [
        ("MAYFLY_EVIDENCE_FILE", "/run/token"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://gh.example/x"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret"),
        ("MAYFLY_ID_TOKEN", "secret"),
        ("MAYFLY_JOIN_TOKEN_FILE", "/run/join"),
        ("MAYFLY_JOIN_TOKEN", "mfj_secret"),
        ("MAYFLY_X509_CERT_FILE", "/run/c.pem"),
        ("MAYFLY_X509_KEY_FILE", "/run/k.pem"),
    ];
    let found = |file: Option<&str>, from: usize| {
        Source::discover(file.map(Path::new), &Env::of(all[from..].iter().copied())).unwrap().describe()
    };
    assert_eq!(found(Some("/a"), 0), "the file /a");
    assert_eq!(found(None, 0), "the file /run/token");
    assert!(found(None, 1).contains("GitHub"));
    assert!(found(None, 2).contains("MAYFLY_ID_TOKEN"), "one of GitHub's two variables is not enough");
    assert!(found(None, 3).contains("MAYFLY_ID_TOKEN"));
    assert_eq!(found(None, 4), "the file /run/join");
    assert!(found(None, 5).contains("MAYFLY_JOIN_TOKEN"));
    assert_eq!(found(None, 6), "the certificate /run/c.pem");
    let none = |vars: &[(&str, &str)]| Source::discover(None, &Env::of(vars.iter().copied())).unwrap_err();
    assert_eq!(none(&[]).reason, Reason::NoEvidence);
    assert!(none(&all[7..]).facts[0].1.contains("MAYFLY_X509_CERT_FILE"), "a key without its certificate");
    assert!(all.iter().all(|(name, _)| VARIABLES.contains(name)) && VARIABLES.len() == all.len());
    assert!(none(&[("GITHUB_ACTIONS", "true")]).facts[0].1.contains("id-token: write"));
    assert!(none(&[("GITLAB_CI", "true")]).facts[0].1.contains("id_tokens"));
}

#[test]
fn the_request_token_goes_over_plain_http_to_this_machine_only() {
    for (url, good) in [
        ("http://127.0.0.1:1/x", true),
        ("http://[::1]:1/x", true),
        ("https://gh.example/x", true),
        ("http://gh.example/x", false),
        ("http://127.0.0.1.example/x", false),
        ("ftp://127.0.0.1/x", false),
    ] {
        let env = Env::of([("ACTIONS_ID_TOKEN_REQUEST_URL", url), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t")]);
        assert_eq!(Source::discover(None, &env).is_ok(), good, "{url}");
    }
}

#[tokio::test]
async fn github_is_asked_for_a_token_for_this_key() {
    let token = jws(r#"{"iss":"https://i","sub":"s","exp":9}"#);
    let (seen, source) = service(200, format!(r#"{{"count":1,"value":"{token}"}}"#)).await;
    let evidence = source.fetch(&trust_domain(), &KEY).await.unwrap();
    let wire = evidence.wire(&trust_domain(), &[], &KEY).unwrap();
    assert_eq!(wire.kind, Some(mayfly_proto::v1::evidence::Kind::OidcToken(token)));
    assert_eq!(evidence.expires(), Some(UnixMillis(9_000)));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0, format!("/token?run=1&audience=acme.internal%23{KEY}"));
    assert_eq!(seen[0].1, "Bearer request-token");
}

#[tokio::test]
async fn a_service_that_refuses_fails_or_sends_too_much_gives_no_evidence() {
    for (status, body, reason) in [
        (403, String::new(), Reason::NoEvidence),
        (500, String::new(), Reason::IssuerUnavailable),
        (429, String::new(), Reason::IssuerUnavailable),
        (200, "nonsense".to_owned(), Reason::IssuerUnavailable),
        (200, format!(r#"{{"value":"{}"}}"#, "x".repeat(40_000)), Reason::IssuerUnavailable),
        (200, r#"{"value":"no-jws"}"#.to_owned(), Reason::EvidenceMalformed),
    ] {
        let (_, source) = service(status, body).await;
        let refused = source.fetch(&trust_domain(), &KEY).await.unwrap_err();
        assert_eq!(refused.reason, reason, "{status}");
        assert!(!format!("{refused:?}").contains("request-token"));
    }
    let (seen, source) = service(302, String::new()).await;
    assert!(source.fetch(&trust_domain(), &KEY).await.is_err());
    assert_eq!(seen.lock().unwrap().len(), 1, "a redirect would carry the request token elsewhere");
}

#[tokio::test]
async fn a_file_is_read_again_for_each_call() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let source = Source::File(path.clone());
    assert_eq!(source.fetch(&trust_domain(), &KEY).await.unwrap_err().reason, Reason::NoEvidence);
    for jti in ["a", "b"] {
        std::fs::write(&path, format!("{}\n", jws(&format!(r#"{{"jti":"{jti}"}}"#)))).unwrap();
        let evidence = source.fetch(&trust_domain(), &KEY).await.unwrap();
        assert_eq!(evidence.claim("jti").as_deref(), Some(jti));
    }
    std::fs::write(&path, "x".repeat(100_000)).unwrap();
    assert_eq!(source.fetch(&trust_domain(), &KEY).await.unwrap_err().reason, Reason::EvidenceMalformed);
}

#[test]
fn a_rerun_or_another_job_is_another_scope() {
    let scope = |claims: &str| Evidence::peek(jws(claims)).unwrap().scope(&trust_domain());
    let first = scope(r#"{"iss":"i","sub":"s","run_id":"1","run_attempt":"1"}"#);
    assert_eq!(first, scope(r#"{"iss":"i","sub":"s","run_id":"1","run_attempt":"1","jti":"x"}"#));
    assert_ne!(first, scope(r#"{"iss":"i","sub":"s","run_id":"1","run_attempt":"2"}"#));
    assert_ne!(first, scope(r#"{"iss":"j","sub":"s","run_id":"1","run_attempt":"1"}"#));
    assert_ne!(scope(r#"{"job_id":5}"#), scope(r#"{"job_id":6}"#));
}

proptest::proptest! {
    #[test]
    fn any_text_is_peeked_without_a_panic_and_never_shown(text in ".{0,200}") {
        let dotted = format!("{text}.{text}.{text}");
        for token in [text.clone(), dotted, jws(&text)] {
            match Evidence::peek(token.clone()) {
                Ok(evidence) => assert!(!format!("{evidence:?}").contains(&token)),
                Err(refused) => assert_eq!(refused.reason, Reason::EvidenceMalformed),
            }
        }
    }
}

#[test]
fn a_join_token_is_known_by_its_text_and_never_shown() {
    let token = mayfly_domain::JoinToken::new(&[9; 24]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("join");
    std::fs::write(&path, format!("{}\n", token.expose())).unwrap();
    let source = Source::File(path);
    assert!(source.is_join_token());
    let evidence = source.read().unwrap();
    let wire = evidence.wire(&trust_domain(), &[], &KEY).unwrap();
    assert_eq!(wire.kind, Some(mayfly_proto::v1::evidence::Kind::JoinToken(token.expose().to_owned())));
    let scope = source.scope(&trust_domain()).unwrap();
    for shown in [format!("{evidence:?}"), format!("{scope:?}"), source.describe()] {
        assert!(!shown.contains(&token.expose()[4..12]), "{shown}");
    }
    let mut mistyped = token.expose().to_owned();
    mistyped.pop();
    let variable = |text: &str| Source::Variable("MAYFLY_JOIN_TOKEN", Secret::new(text.to_owned()));
    assert!(!variable(&mistyped).is_join_token() && !variable("a.e30.b").is_join_token());
    let refused = Evidence::peek(mistyped).unwrap_err();
    assert_eq!(refused.reason, Reason::EvidenceMalformed);
}

#[test]
fn a_workloads_certificate_in_the_context_is_evidence_and_an_operators_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, ca) = (dir.path().join("tls.crt"), crate::fixture::Ca::new());
    let mut target = crate::fixture::broker::target(1, &ca.issuing);
    target.identity = Some((certificate.clone(), dir.path().join("tls.key")));
    let env = Env::of([("MAYFLY_ID_TOKEN", "secret")]);
    for (uri, live) in
        [("spiffe://acme.internal/vm/api", true), ("spiffe://acme.internal/mayfly/operator/alice", false)]
    {
        let (leaf, _) = ca.leaf(&[uri]);
        std::fs::write(&certificate, crate::pem::certificates([leaf.as_ref()])).unwrap();
        let found = Source::at(&target, None, &env).unwrap();
        assert_eq!(matches!(found, Source::Live(_)), live, "{}", found.describe());
        let named = Source::at(&target, Some(Path::new("/a")), &env).unwrap();
        assert_eq!(named.describe(), "the file /a");
    }
}
