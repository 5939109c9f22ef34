//! `examples/mtls-services`: two services that talk mTLS by certificates that change under load.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::dev::DevBroker;
use crate::support::{mayfly, read, service};

/// Enough to see several certificates come and go.
const PAYMENTS: usize = 20_000;

/// A service that runs, and what it says.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

impl Running {
    fn start(name: &str, broker: &DevBroker, join: &Path, settings: &[(&str, String)]) -> Self {
        let mut child = Command::new(service(name))
            .env_clear()
            .env("HOME", join.parent().unwrap())
            .env("MAYFLY_JOIN_TOKEN_FILE", join)
            .env("SERVICE_PROFILE", "ledger-mtls")
            .envs(broker.client_env())
            .envs(settings.iter().map(|(key, value)| (key, value.as_str())))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, said: Vec::new() }
    }

    /// The rest of the line that starts with `start`.
    async fn says(&mut self, start: &str) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.said.push(line.clone());
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
        panic!("it never said {start:?}: {:?}", self.said)
    }

    async fn end(mut self) -> (bool, Vec<String>) {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.said.push(line);
        }
        (self.child.wait().await.unwrap().success(), self.said)
    }
}

fn operator(broker: &DevBroker, arguments: &str) {
    let output = std::process::Command::new(mayfly())
        .args(arguments.split(' '))
        .envs(broker.operator_env())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// First evidence for a service.
fn join(broker: &DevBroker, dir: &Path, name: &str) -> std::path::PathBuf {
    let file = dir.join(format!("{name}.join"));
    operator(
        broker,
        &format!(
            "join create --workload /svc/{name} --owner team:{name} --environment production --reason test --out {}",
            file.display()
        ),
    );
    file
}

/// A broker whose certificates live five seconds.
async fn broker() -> DevBroker {
    let profile = read("config/profiles/ledger-mtls.toml");
    let brief = profile
        .lines()
        .filter(|line| !line.starts_with("outage_budget"))
        .map(|line| if line.starts_with("ttl") { "ttl = { default = \"5s\", max = \"5s\" }" } else { line })
        .collect::<Vec<_>>()
        .join("\n");
    DevBroker::start_with(&[("profiles/ledger-mtls.toml", &brief)]).await
}

fn id(name: &str) -> String {
    format!("spiffe://acme.internal/svc/{name}")
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_request_fails() {
    let broker = broker().await;
    let dir = tempfile::tempdir().unwrap();
    let [for_ledger, for_payments] = ["ledger", "payments"].map(|name| join(&broker, dir.path(), name));
    let listen = [("LEDGER_LISTEN", "127.0.0.1:0".to_owned()), ("LEDGER_CALLER", id("payments"))];
    let mut ledger = Running::start("ledger", &broker, &for_ledger, &listen);
    let address = ledger.says("listening on ").await;
    let call = [
        ("LEDGER_URL", format!("https://{address}")),
        ("LEDGER_ID", id("ledger")),
        ("PAYMENTS", PAYMENTS.to_string()),
    ];
    let (well, said) = Running::start("payments", &broker, &for_payments, &call).end().await;
    assert!(well, "{said:?}");
    assert!(said.contains(&format!("{PAYMENTS} payments, 0 failed")), "{said:?}");
    for _ in 0..2 {
        ledger.says("certificate renewed ").await;
    }
    operator(&broker, "revoke --owner team:ledger --no-block --reason test");
    ledger.says("revoked").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_talks_to_the_peer_that_it_expects_and_to_no_other() {
    let broker = broker().await;
    let dir = tempfile::tempdir().unwrap();
    let [for_ledger, for_payments] = ["ledger", "payments"].map(|name| join(&broker, dir.path(), name));
    let listen = [("LEDGER_LISTEN", "127.0.0.1:0".to_owned()), ("LEDGER_CALLER", id("somebody-else"))];
    let mut ledger = Running::start("ledger", &broker, &for_ledger, &listen);
    let address = ledger.says("listening on ").await;
    let call = |expected: &str| {
        [
            ("LEDGER_URL", format!("https://{address}")),
            ("LEDGER_ID", id(expected)),
            ("PAYMENTS", "1".to_owned()),
        ]
    };
    let (well, said) = Running::start("payments", &broker, &for_payments, &call("ledger")).end().await;
    assert!(!well, "the ledger let somebody in whom it does not expect: {said:?}");
    std::fs::remove_file(&for_payments).unwrap();
    let again = join(&broker, dir.path(), "payments");
    let (well, said) = Running::start("payments", &broker, &again, &call("impostor")).end().await;
    assert!(!well, "the caller talked to a ledger that it does not expect: {said:?}");
    broker.stop().await;
}
