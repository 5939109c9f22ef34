//! Two programs that know nothing of Mayfly: nginx ends mTLS with the files of `mayfly mint x509 --watch`, curl talks to
//! it with those of another workload.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mayfly_proto::v1 as pb;
use mayfly_proto::v1::rotate_key_request::Step;
use mayfly_standin::Job;
use mayfly_testkit::process::Guarded;
use tempfile::TempDir;

use crate::harness::until;
use crate::support::dev::DevBroker;
use crate::support::mayfly;

const HOST: &str = "web.mesh.svc";

/// Two workloads with certificates of five seconds.
const FILES: &[(&str, &str)] = &[
    (
        "trust/mesh.toml",
        r#"
name      = "mesh"
preset    = "github-actions"
spiffe_id = "/mesh/{run_id}"
owners    = ["team:mesh"]
review_by = 2027-05-01
[match]
repository_owner_id = "481516"
repository_id       = "777"
[task]
id     = "mesh-{run_id}-{run_attempt}"
window = { default = "10m", max = "1h" }
"#,
    ),
    (
        "profiles/mesh.toml",
        r#"
name        = "mesh"
summary     = "certificates that other programs use"
kind        = "x509"
integration = "mesh"
owner       = "team:mesh"
intents     = ["use:mesh"]
review_by   = 2027-05-01
[x509]
dns       = ["{name}.mesh.svc"]
usage     = ["client", "server"]
ttl       = { default = "5s", max = "1m" }
acceptors = "offline"
"#,
    ),
    (
        "policies/mesh.cedar",
        r#"
@id("mesh")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:mesh",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource == Mayfly::Profile::"mesh"
);
"#,
    ),
];

struct World {
    broker: DevBroker,
    dir: TempDir,
    port: u16,
}

/// A directory of files that a `mayfly` process keeps fresh.
struct Kept {
    files: PathBuf,
    reloads: PathBuf,
    _process: Guarded,
}

impl Kept {
    /// How often its files were made new and whoever reads them told.
    fn reloads(&self) -> usize {
        std::fs::read_to_string(&self.reloads).map_or(0, |log| log.lines().count())
    }

    fn anchors(&self) -> usize {
        std::fs::read_to_string(self.files.join("ca.crt")).unwrap().matches("BEGIN CERTIFICATE").count()
    }
}

fn program(name: &str) -> Command {
    // Where an ordinary user's path does not lead.
    let path = format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let mut command = Command::new(name);
    command.env("PATH", path).stdin(Stdio::null());
    command
}

impl World {
    async fn new() -> Self {
        let broker = DevBroker::start_with(FILES).await;
        // nginx takes the number that the kernel gave to somebody else a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { broker, dir: tempfile::tempdir().unwrap(), port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets `mayfly mint x509 --watch` keep files for the workload of this name.
    async fn keep(&self, name: &str, reload: &str) -> Kept {
        let job = Job {
            repository: ("mesh".to_owned(), "777".to_owned()),
            run_id: name.to_owned(),
            ..Job::default()
        };
        let (files, home, reloads) =
            (self.path(name), self.path(&format!("{name}.home")), self.path(&format!("{name}.log")));
        let process = Guarded::spawn(
            Command::new(mayfly())
                .args(["mint", "x509", "--profile", "mesh", "--watch", "--out"])
                .arg(&files)
                .args(["--reload", &format!("{reload}; echo done >> '{}'", reloads.display())])
                .env_clear()
                .env("PATH", std::env::var("PATH").unwrap() + ":/usr/sbin")
                .envs([("HOME", &home), ("RUNNER_TEMP", &home)])
                .envs(self.broker.github_env(&job))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(self.path(&format!("{name}.err"))).unwrap()),
        );
        let kept = Kept { files, reloads, _process: process.unwrap() };
        until(async || (kept.reloads() > 0).then_some(())).await;
        kept
    }

    fn config(&self) -> PathBuf {
        self.path("nginx.conf")
    }

    /// Starts nginx, which asks for a client's certificate of a workload.
    async fn nginx(&self, web: &Path) -> Guarded {
        let dir = self.dir.path().display();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|part| format!("{part}_temp_path {dir}/{part};\n"))
            .concat();
        // Without `user`, a root's workers would be somebody who may not enter the test's directory.
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let text = format!(
            r#"{user} daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    {temp}
    server {{
        listen 127.0.0.1:{port} ssl;
        server_name {HOST};
        ssl_certificate     {web}/tls.crt;
        ssl_certificate_key {web}/tls.key;
        ssl_client_certificate {web}/ca.crt;
        ssl_verify_client on;
        ssl_verify_depth 1;
        ssl_protocols TLSv1.3;
        ssl_session_cache off;
        ssl_session_tickets off;
        location / {{ return 200 "client $ssl_client_serial\n"; }}
    }}
}}
"#,
            port = self.port,
            web = web.display(),
        );
        std::fs::write(self.config(), text).unwrap();
        let log = std::fs::File::create(self.path("nginx.err")).unwrap();
        let nginx = Guarded::spawn(program("nginx").arg("-c").arg(self.config()).stderr(log));
        let nginx = nginx.expect("these tests need nginx: run `make test`");
        until(async || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()).await;
        nginx
    }

    /// What curl gets on a new connection with these certificates: the code, and all that it told.
    fn curl(&self, ca: &Path, identity: Option<(&Path, &Path)>) -> Result<(u16, String), String> {
        let mut curl = program("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\ncode %{http_code}\n%{certs}",
        ]);
        curl.args(["--resolve", &format!("{HOST}:{}:127.0.0.1", self.port), "--cacert"]).arg(ca);
        if let Some((certificate, key)) = identity {
            curl.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        let output =
            curl.arg(format!("https://{HOST}:{}/", self.port)).output().expect("these tests need curl");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let code = told.lines().find_map(|line| line.strip_prefix("code ")).unwrap().parse().unwrap();
        Ok((code, told))
    }

    /// As a workload does, with its own files.
    fn call(&self, files: &Path) -> Result<(u16, String), String> {
        self.curl(&files.join("ca.crt"), Some((&files.join("tls.crt"), &files.join("tls.key"))))
    }
}

/// The words after `label` in each line that has it.
fn after<'a>(told: &'a str, label: &str) -> Option<&'a str> {
    told.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim)
}

/// Ends the callers, also where a test fails before it comes to that.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What a run of requests has seen.
#[derive(Default)]
struct Seen {
    requests: usize,
    failed: Vec<String>,
    servers: BTreeSet<String>,
    clients: BTreeSet<String>,
    issuers: BTreeSet<String>,
}

impl Seen {
    fn take(&mut self, outcome: Result<(u16, String), String>) {
        self.requests += 1;
        match outcome {
            Ok((200, told)) => {
                let mut see = |set: fn(&mut Self) -> &mut BTreeSet<String>, label: &str| {
                    let word =
                        after(&told, label).unwrap_or_else(|| panic!("no `{label}` in {told}")).to_owned();
                    set(self).insert(word);
                };
                see(|seen| &mut seen.clients, "client ");
                see(|seen| &mut seen.servers, "Serial Number:");
                see(|seen| &mut seen.issuers, "Issuer:");
            }
            other => self.failed.push(format!("{other:?}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_and_curl_talk_mtls_and_refuse_whoever_is_no_workload() {
    let world = World::new().await;
    let web = world.keep("web", "true").await;
    let client = world.keep("client", "true").await;
    let _nginx = world.nginx(&web.files).await;
    let (code, told) = world.call(&client.files).unwrap();
    assert_eq!((code, told.starts_with("client ")), (200, true), "{told}");

    let ca = client.files.join("ca.crt");
    let (code, told) = world.curl(&ca, None).unwrap();
    assert!(code == 400 && told.contains("No required SSL certificate"), "{code} {told}");
    // An operator's is under the same root, which is no anchor.
    let (certificate, key) = &world.broker.told().operator;
    let (code, told) = world.curl(&ca, Some((certificate, key))).unwrap();
    assert!(code == 400 && told.contains("SSL certificate error"), "{code} {told}");
    // And who trusts the root alone trusts no workload's certificate less for it, but is not who is told to.
    let other = mayfly_testkit::tls::ServerTls::loopback();
    std::fs::write(world.path("other.pem"), &other.ca_pem).unwrap();
    let identity = (client.files.join("tls.crt"), client.files.join("tls.key"));
    let no = world.curl(&world.path("other.pem"), Some((&identity.0, &identity.1))).unwrap_err();
    assert!(no.contains("SSL certificate problem"), "{no}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_fails_while_certificates_and_their_ca_rotate() {
    let world = World::new().await;
    let reload = format!(
        "[ ! -e '{}' ] || nginx -s reload -c '{}'",
        world.path("nginx.pid").display(),
        world.config().display()
    );
    let web = world.keep("web", &reload).await;
    let client = world.keep("client", "true").await;
    let _nginx = world.nginx(&web.files).await;
    let operator = world.broker.operator().await;
    let step = async |step: Step| {
        let role = pb::AuthorityRole::Workload.into();
        let request = pb::RotateAuthorityRequest { step: step.into(), role, ..Default::default() };
        operator.rotate_authority(request).await.map(drop)
    };
    let rotated = async |times: usize| {
        let due = (web.reloads() + times, client.reloads() + times);
        until(async || (web.reloads() >= due.0 && client.reloads() >= due.1).then_some(())).await;
    };

    let served = || {
        let (_, told) = world.call(&client.files).unwrap();
        after(&told, "Issuer:").unwrap().to_owned()
    };
    let before = served();
    let (over, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = Seen::default();
                    while !over.load(Ordering::SeqCst) {
                        seen.take(world.call(&client.files));
                        requests.fetch_add(1, Ordering::SeqCst);
                    }
                    seen
                })
            })
            .collect();
        let ending = Ending(&over);
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                rotated(2).await;
                step(Step::Prepare).await.unwrap();
                // Whoever verifies has the new CA before anybody has a certificate of it.
                until(async || (web.anchors() == 2 && client.anchors() == 2).then_some(())).await;
                until(async || step(Step::Activate).await.ok()).await;
                rotated(2).await;
                // A lease counts by its newest certificate, which nginx shows once it has read it.
                until(async || (0..10).all(|_| served() != before).then_some(())).await;
                until(async || step(Step::Retire).await.ok()).await;
                until(async || (web.anchors() == 1 && client.anchors() == 1).then_some(())).await;
                rotated(1).await;
                let due = requests.load(Ordering::SeqCst) + 4;
                until(async || (requests.load(Ordering::SeqCst) >= due).then_some(())).await;
            });
        });
        drop(ending);
        callers.into_iter().fold(Seen::default(), |mut all, caller| {
            let one = caller.join().unwrap();
            all.requests += one.requests;
            all.failed.extend(one.failed);
            all.servers.extend(one.servers);
            all.clients.extend(one.clients);
            all.issuers.extend(one.issuers);
            all
        })
    });
    let counts = format!(
        "{} requests, {} certificates of nginx, {} of curl, {} issuers",
        seen.requests,
        seen.servers.len(),
        seen.clients.len(),
        seen.issuers.len()
    );
    assert!(seen.failed.is_empty(), "{counts}; {} failed: {:?}", seen.failed.len(), seen.failed.first());
    assert!(seen.servers.len() >= 4 && seen.clients.len() >= 4 && seen.issuers.len() >= 2, "{counts}");
    println!("nginx under load: {counts}, 0 failed");
}
