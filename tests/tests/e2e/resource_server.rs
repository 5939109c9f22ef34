//! `examples/resource-server`: the service of docs/acceptors.md, run beside a development broker.

use std::process::Stdio;

use mayfly_proto::v1 as pb;
use mayfly_standin::Job;
use mayfly_testkit::process::Guarded;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_service_does_what_the_page_says() {
    let broker = DevBroker::start().await;
    // The service takes the number that the kernel gave to somebody else a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let origin = format!("http://127.0.0.1:{port}");
    let caller = Caller { env: broker.github_env(&Job::default()), home: tempfile::tempdir().unwrap() };
    let mut program = std::process::Command::new(service("resource-server"));
    program
        .env_clear()
        .env("HOME", caller.home.path())
        .env("API_ORIGIN", &origin)
        .env("API_LISTEN", format!("127.0.0.1:{port}"))
        .envs(broker.acceptor_env("deploy-api"));
    let _service = Guarded::spawn(&mut program).unwrap();
    until(async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;

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
    broker.stop().await;
}
