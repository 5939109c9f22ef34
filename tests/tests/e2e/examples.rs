//! The example CI job, run as the two CI systems would run it, against a stand-in issuer.

use std::path::Path;
use std::process::{Output, Stdio};

use axum::http::StatusCode;
use mayfly_standin::Job;
use tokio::process::Command;

use crate::support::api::Api;
use crate::support::dev::{DevBroker, refused};
use crate::support::{mayfly, read, root};

/// The value of `key: value` in a CI file.
fn value(file: &str, key: &str) -> String {
    let start = format!("{key}: ");
    let line = file.lines().find_map(|line| line.trim().strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {key}")).split("   #").next().unwrap().trim().to_owned()
}

/// Runs the one command of a CI file with its own variables, but for the addresses of the test.
async fn run(file: &str, api: &Api, runner: Vec<(&'static str, String)>, dir: &Path) -> Output {
    let text = read(&format!("examples/ci-job/{file}"));
    let command = text
        .lines()
        .map(str::trim)
        .find_map(|l| l.strip_prefix("- run: ").or(l.strip_prefix("- sh ").map(|_| &l[2..])));
    let path = format!("{}:{}", mayfly().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let (_, place) = value(&text, "API_URL")
        .split_once("acme.internal")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    Command::new("sh")
        .args(["-ec", command.unwrap()])
        .current_dir(root())
        .env_clear()
        .env("PATH", path)
        .env("HOME", dir)
        // Each runner sets its own; the key lives there, or beside it.
        .env(if file == "release.yml" { "RUNNER_TEMP" } else { "CI_PROJECT_DIR" }, dir.join("work"))
        .envs(["PROFILE", "INTENT", "REASON"].map(|key| (key, value(&text, key))))
        .env("API_URL", format!("{}{place}", api.origin))
        .envs(runner)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap()
}

/// Until the sweep has been there, the record does not say by what its task's fence was moved.
fn is_over(reason: Option<String>) -> bool {
    matches!(reason.as_deref(), Some("LEASE_ENDED" | "LEASE_REVOKED"))
}

/// A job of the example's billing team.
pub(crate) fn gitlab_job() -> Job {
    Job {
        organisation: ("acme".to_owned(), "72".to_owned()),
        repository: ("billing".to_owned(), "1042".to_owned()),
        git_ref: "refs/heads/main".to_owned(),
        environment: None,
        ..Job::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_script_runs_in_both_ci_systems_and_leaves_nothing_alive() {
    let broker = DevBroker::start().await;
    let cases = [
        ("release.yml", "deploy-api", "/ci/payments/deploy", broker.github_env(&Job::default())),
        ("gitlab-ci.yml", "ledger-api", "/ci/billing/report", broker.gitlab_env(&gitlab_job())),
    ];
    for (file, acceptor, workload, runner) in cases {
        let dir = tempfile::tempdir().unwrap();
        let acceptor = broker.acceptor(acceptor).await;
        let api = Api::serve(acceptor.clone(), StatusCode::CREATED).await;
        let output = run(file, &api, runner, dir.path()).await;
        let shown = format!(
            "{file}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{shown}");
        assert!(shown.contains(&format!("hello spiffe://acme.internal{workload}")), "{shown}");
        let [seen] = api.seen().try_into().unwrap_or_else(|seen| panic!("{seen:?}"));
        assert!(is_over(refused(&acceptor, &seen.lease).await), "{shown}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_still_completes_its_task() {
    let broker = DevBroker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let acceptor = broker.acceptor("deploy-api").await;
    let api = Api::serve(acceptor.clone(), StatusCode::INTERNAL_SERVER_ERROR).await;
    let output = run("release.yml", &api, broker.github_env(&Job::default()), dir.path()).await;
    assert!(!output.status.success());
    let [seen] = api.seen().try_into().unwrap_or_else(|seen| panic!("{seen:?}"));
    assert!(seen.accepted);
    assert!(is_over(refused(&acceptor, &seen.lease).await));
    broker.stop().await;
}
