//! `examples/resource-server`: the services of docs/acceptors.md, run beside a development broker.

use std::path::Path;
use std::process::Stdio;

use mayfly_proto::v1 as pb;
use mayfly_standin::Job;
use mayfly_testkit::process::Guarded;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::examples::gitlab_job;
use crate::harness::until;
use crate::support::dev::DevBroker;
use crate::support::{mayfly, service};

struct Caller {
    env: Vec<(&'static str, String)>,
    home: tempfile::TempDir,
}

impl Caller {
    /// What a command of `mayfly` prints, with this on its standard input.
    async fn mayfly(&self, arguments: &str, input: &str) -> String {
        let mut child = Command::new(mayfly())
            .args(arguments.split(' '))
            .env_clear()
            .env("HOME", self.home.path())
            .env("RUNNER_TEMP", self.home.path())
            .envs(self.env.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{arguments}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    async fn proof(&self, method: &str, url: &str, token: &str) -> String {
        self.mayfly(&format!("proof {method} {url}"), token).await
    }
}

/// Status and text of the answer to a request with these headers.
async fn ask(port: u16, request: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request =
        format!("{request} HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

/// One of the services, at a port of its own.
async fn serves(broker: &DevBroker, name: &str, acceptor: &str, home: &Path) -> (Guarded, u16) {
    // It takes the number that the kernel gave to somebody else a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut program = std::process::Command::new(service(name));
    program
        .env_clear()
        .env("HOME", home)
        .env("API_ORIGIN", format!("http://127.0.0.1:{port}"))
        .env("API_LISTEN", format!("127.0.0.1:{port}"))
        .envs(broker.acceptor_env(acceptor));
    let running = Guarded::spawn(&mut program).unwrap();
    until(async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    (running, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_service_does_what_the_page_says() {
    let broker = DevBroker::start().await;
    let caller = Caller { env: broker.github_env(&Job::default()), home: tempfile::tempdir().unwrap() };
    let (mut service, port) = serves(&broker, "resource-server", "deploy-api", caller.home.path()).await;
    let origin = format!("http://127.0.0.1:{port}");

    let token = caller.mayfly("mint token --profile payments-deploy --intent deploy:payments", "").await;
    let run = format!("{origin}/run");
    let shown = |proof: &str| format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n");
    let (status, answer) = ask(port, "POST /run", "").await;
    assert!(status == 401 && answer.contains(r#"DPoP algs="ES256 EdDSA""#), "{answer}");
    let good = shown(&caller.proof("POST", &run, &token).await);
    let (status, answer) = ask(port, "POST /run", &good).await;
    assert!(
        status == 200 && answer.contains("deployed for spiffe://acme.internal/ci/payments/deploy"),
        "{answer}"
    );
    let (status, answer) = ask(port, "POST /run", &good).await;
    assert!(status == 401 && answer.contains("PROOF_REPLAYED"), "{answer}");
    // For another URL: what `Host` says does not matter.
    let elsewhere = shown(&caller.proof("POST", "http://elsewhere.example/run", &token).await);
    let (status, answer) = ask(port, "POST /run", &elsewhere).await;
    assert!(status == 401 && answer.contains(r#"error="invalid_dpop_proof""#), "{answer}");
    let (status, answer) = ask(port, "POST /run", &format!("Authorization: Bearer {token}\r\n")).await;
    assert!(status == 401 && answer.contains("PROOF_MISSING"), "{answer}");
    let who = shown(&caller.proof("GET", &format!("{origin}/whoami"), &token).await);
    assert_eq!(ask(port, "GET /whoami", &who).await.0, 200);

    let next = shown(&caller.proof("POST", &run, &token).await);
    let subject = pb::Subject { dimension: pb::Dimension::Owner.into(), value: "team:payments".to_owned() };
    let request = pb::RevokeRequest {
        what: Some(pb::revoke_request::What::Subject(subject)),
        reason: "test".to_owned(),
        ..Default::default()
    };
    broker.operator().await.revoke(request).await.unwrap();
    // The event is on its way; what is asked before it came is answered as before.
    let reason = until(async || {
        let proof = shown(&caller.proof("GET", &format!("{origin}/whoami"), &token).await);
        let (status, answer) = ask(port, "GET /whoami", &proof).await;
        (status != 200).then_some((status, answer))
    })
    .await;
    assert!(reason.0 == 401 && reason.1.contains("LEASE_REVOKED"), "{}", reason.1);
    let (status, answer) = ask(port, "POST /run", &next).await;
    assert!(status == 401 && answer.contains(r#"error="invalid_token""#), "{answer}");
    let (_, metrics) = ask(port, "GET /metrics", "").await;
    assert!(metrics.contains("mayfly_verify_refused_total{reason=\"LEASE_REVOKED\"} "), "{metrics}");

    // A service that ends takes leave, and is waited for no more.
    let alice = broker.operator().await;
    let followers = async || {
        let listed = alice.list_followers(pb::ListFollowersRequest {}).await.unwrap().followers;
        listed.into_iter().filter(|f| f.kind == "acceptor").map(|f| f.name).collect::<Vec<_>>()
    };
    assert_eq!(followers().await, ["deploy-api"]);
    service.signal(Signal::TERM);
    until(async || service.ended()).await;
    assert!(service.ended().unwrap().success());
    assert_eq!(followers().await, [""; 0]);
    broker.stop().await;
}

/// As the example's, from this machine: one year's book is locked, and another one is about to be.
const BOOKS: &str = r#"
@id("ledger-reports")
permit (
  principal in Mayfly::Owner::"team:billing",
  action in Ledger::Action::"report:billing",
  resource is Ledger::Book
) when { context.request.method == "GET" && context.request.path like "/books/*" };

@id("ledger-from-inside")
forbid (principal, action in Ledger::Action::"report:billing", resource)
unless { context.proven.source.isInRange(ip("127.0.0.0/8")) };

@id("locked")
forbid (principal, action in Ledger::Action::"report:billing", resource == Ledger::Book::"2019");

@id("soon-locked") @mode("observe") @until("2100-01-01")
forbid (principal, action in Ledger::Action::"report:billing", resource == Ledger::Book::"2020");
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_policies_judge_each_request() {
    let broker = DevBroker::start_with(&[("policies/ledger-api.cedar", BOOKS)]).await;
    let mut env = broker.gitlab_env(&gitlab_job());
    let home = tempfile::tempdir().unwrap();
    env.push(("CI_PROJECT_DIR", home.path().to_str().unwrap().to_owned()));
    let caller = Caller { env, home };
    let (_service, port) = serves(&broker, "books", "ledger-api", caller.home.path()).await;
    let token = caller.mayfly("mint token --profile billing-report --intent report:billing", "").await;
    let ask = async |path: &str| {
        let proof = caller.proof("GET", &format!("http://127.0.0.1:{port}{path}"), &token).await;
        let headers = format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n");
        ask(port, &format!("GET {path}"), &headers).await
    };
    for (path, status, told) in [
        ("/books/2027/entries", 200, "Ledger::Book::\"2027\" for spiffe://acme.internal/ci/billing/report"),
        ("/books/2020/entries", 200, "soon-locked"),
        ("/books/2019/entries", 403, "POLICY_DENIED"),
        ("/books/20%2219/entries", 400, "INPUT_INVALID"),
    ] {
        let (got, answer) = ask(path).await;
        assert!(got == status && answer.contains(told), "{path}: {answer}");
    }
    let subject = pb::Subject { dimension: pb::Dimension::Owner.into(), value: "team:billing".to_owned() };
    let request = pb::RevokeRequest {
        what: Some(pb::revoke_request::What::Subject(subject)),
        reason: "test".to_owned(),
        ..Default::default()
    };
    broker.operator().await.revoke(request).await.unwrap();
    until(async || {
        let (status, answer) = ask("/books/2027/entries").await;
        (status == 401 && answer.contains("LEASE_REVOKED")).then_some(())
    })
    .await;
    broker.stop().await;
}
