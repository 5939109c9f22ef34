//! Mayfly's tokens in hands that are not ours: a Python service with PyJWT, by the published keys alone.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mayfly_standin::Job;
use serde_json::Value;

use crate::support::dev::DevBroker;
use crate::support::{mayfly, root};

const AUDIENCE: &str = "https://deploy.acme.internal";

/// Runs `mayfly`, whose home is `home`, and gives what it printed.
fn cli(arguments: &str, env: Vec<(&'static str, String)>, home: &Path) -> String {
    let output = Command::new(mayfly())
        .args(arguments.split(' '))
        .env_clear()
        .envs([("HOME", home), ("RUNNER_TEMP", home)])
        .envs(env)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What PyJWT makes of a token, or why it refuses it.
fn pyjwt(broker: &DevBroker, token: &str, audience: &str) -> Result<Value, String> {
    // The distribution's own Python has the distribution's own PyJWT.
    let mut python = Command::new("/usr/bin/python3")
        .arg(root().join("tests/tests/e2e/foreign/verify_token.py"))
        .args([&broker.told().url, audience, broker.told().ca.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("these tests need python3: run `make test`");
    python.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("No module named"), "these tests need PyJWT: run `make test`\n{log}");
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(log.trim().lines().last().unwrap_or_default().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_verifies_a_token_by_the_published_keys_also_over_a_rotation() {
    let broker = DevBroker::start().await;
    let home = tempfile::tempdir().unwrap();
    let mint = || {
        let arguments = "mint token --profile payments-deploy --intent deploy:payments";
        cli(arguments, broker.github_env(&Job::default()), home.path())
    };
    let before = mint();
    let seen = pyjwt(&broker, &before, AUDIENCE).unwrap();
    assert_eq!(seen["header"]["typ"], "at+jwt");
    let claims = &seen["claims"];
    assert_eq!(claims["sub"], "spiffe://acme.internal/ci/payments/deploy");
    assert_eq!(claims["client_id"], claims["sub"]);
    assert_eq!(claims["scope"], "deploy:write");
    assert!(claims["cnf"]["jkt"].is_string() && claims["mf_obs"].is_string());

    cli("key rotate --algorithm eddsa", broker.operator_env(), home.path());
    let after = mint();
    let seen = pyjwt(&broker, &after, AUDIENCE).unwrap();
    assert_eq!(seen["header"]["alg"], "EdDSA");
    pyjwt(&broker, &before, AUDIENCE).unwrap();

    assert!(pyjwt(&broker, &before, "https://other.acme.internal").is_err());
    let mut altered = before.into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    assert!(pyjwt(&broker, &String::from_utf8(altered).unwrap(), AUDIENCE).is_err());
    broker.stop().await;
}
