//! A deployment: one seal, one CI issuer, one store, and the configuration of its brokers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{SystemClock, TrustDomain};
use mayfly_mint::Seal;
use mayfly_testkit::issuer::{Alg, SigningKey, StandInIssuer};
use mayfly_testkit::redis::RedisServer;
use tempfile::TempDir;

use super::ci::Ci;
use super::job::Spec;
use super::node::Node;
use super::server::Server;
use crate::support::root;

/// The `iss` of every token, whatever port a broker listens on.
const PUBLIC_URL: &str = "https://mayfly.acme.internal:8443";

/// Files beside the example configuration: a profile without a small quota, for jobs of any number of people.
const LOAD: &[(&str, &str)] = &[
    (
        "trust/load.toml",
        r#"
name      = "load"
preset    = "github-actions"
spiffe_id = "/ci/load/{run_id}"
owners    = ["team:load", "user:gh-{actor_id}"]
review_by = 2027-05-01
[match]
repository_owner_id = "481516"
repository_id       = "777"
[task]
id     = "load-{run_id}-{run_attempt}"
shared = true
window = { default = "30m", max = "2h" }
"#,
    ),
    (
        "profiles/load.toml",
        r#"
name        = "load"
summary     = "what the end-to-end tests mint in numbers"
kind        = "token"
integration = "load"
owner       = "team:load"
intents     = ["use:load"]
review_by   = 2027-05-01
[token]
audience  = "https://load.acme.internal"
scopes    = ["load:use"]
ttl       = { default = "5m", max = "15m" }
binding   = "dpop"
acceptors = "online"
"#,
    ),
    (
        "profiles/load-tls.toml",
        r#"
name        = "load-tls"
summary     = "the certificates that the end-to-end tests mint in numbers"
kind        = "x509"
integration = "load-mesh"
owner       = "team:load"
intents     = ["use:load"]
review_by   = 2027-05-01
[x509]
dns       = ["{name}.load.svc"]
usage     = ["client", "server"]
ttl       = { default = "5m", max = "15m" }
acceptors = "online"
"#,
    ),
    (
        "policies/load.cedar",
        r#"
@id("load")
@max_ttl("15m")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:load",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource == Mayfly::Profile::"load"
) when { context.claimed.intent == "use:load" };

@id("load-tls")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:load",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource == Mayfly::Profile::"load-tls"
) when { context.claimed.intent == "use:load" };
"#,
    ),
    (
        "profiles/mesh.toml",
        r#"
name        = "mesh"
summary     = "certificates of the end-to-end tests"
kind        = "x509"
integration = "load"
owner       = "team:load"
intents     = ["use:mesh"]
review_by   = 2027-05-01
[x509]
dns           = ["{name}.load.svc", "{name}.load.svc.cluster.local"]
ips           = ["127.0.0.1"]
usage         = ["client", "server"]
ttl           = { default = "5m", max = "1h" }
outage_budget = "1m"
acceptors     = "online"
"#,
    ),
    (
        "policies/mesh.cedar",
        r#"
@id("mesh")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:load",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource == Mayfly::Profile::"mesh"
);
"#,
    ),
    (
        "acceptors/token-api.toml",
        "name = \"token-api\"\nowner = \"team:load\"\naudiences = [\"https://load.acme.internal\"]\n",
    ),
    ("acceptors/mesh-api.toml", "name = \"mesh-api\"\nowner = \"team:load\"\ncertificates = true\n"),
    (
        "acceptors/load-api.toml",
        "name = \"load-api\"\nowner = \"team:load\"\naudiences = [\"https://load.acme.internal\"]\ncertificates = true\n",
    ),
    (
        "trust/load-of-others.toml",
        r#"
name      = "load-of-others"
preset    = "github-actions"
spiffe_id = "/ci/others/{run_id}"
owners    = ["team:load", "user:gh-{actor_id}"]
review_by = 2027-05-01
[match]
repository_owner_id = "481516"
repository_id       = "778"
[task]
id     = "load-{run_id}-{run_attempt}"
shared = true
"#,
    ),
    ("operators/bob.toml", "name = \"bob\"\ngroups = [\"readers\"]\nowner = \"user:bob\"\n"),
];

/// A job of the repository that may mint in numbers, set off by this person.
pub(crate) fn load_spec(actor: &str, run: &str) -> Spec {
    Spec {
        repository: ("load".to_owned(), "777".to_owned()),
        actor: ("person".to_owned(), actor.to_owned()),
        run_id: run.to_owned(),
        ..Spec::default()
    }
}

/// A deployment.
pub(crate) struct Site {
    dir: TempDir,
    store: String,
    ci: Option<Ci>,
    /// What the real programs get in their environment besides.
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
    /// How much they log.
    pub(crate) log: &'static str,
    pub(crate) issuer: Arc<StandInIssuer>,
    pub(crate) clock: SharedClock,
    pub(crate) trust_domain: TrustDomain,
}

impl Site {
    /// On the embedded store: for one broker.
    pub(crate) fn embedded() -> Self {
        Self::new(String::new())
    }

    /// On the embedded store, with a clock of the test's own.
    pub(crate) fn with_clock(clock: SharedClock) -> Self {
        Self { clock, ..Self::embedded() }
    }

    /// On a Redis that keeps what it acknowledged.
    pub(crate) fn on(redis: &RedisServer) -> Self {
        let mut site = Self::embedded();
        let mut store = format!("[store]\nurl = {:?}\n", redis.url());
        if let Some(password) = redis.password() {
            let file = site.path("redis.password");
            fs::write(&file, password).unwrap();
            store += &format!("password_file = {file:?}\n");
        }
        if let Some(ca) = redis.ca_file() {
            store += &format!("ca_file = {ca:?}\n");
        }
        site.store = store;
        site
    }

    fn new(store: String) -> Self {
        let dir = tempfile::Builder::new().prefix("mayfly-e2e-").tempdir().unwrap();
        Seal::generate_file(&dir.path().join("seal.key")).unwrap();
        Self {
            dir,
            store,
            ci: None,
            environment: Vec::new(),
            log: "trace",
            issuer: Arc::new(StandInIssuer::with_keys(vec![SigningKey::generate(Alg::Es256, "ci-1")])),
            clock: Arc::new(SystemClock),
            trust_domain: TrustDomain::parse("acme.internal").unwrap(),
        }
    }

    /// Brokers that are configured from now on have these lines too.
    pub(crate) fn configure_also(&mut self, lines: &str) {
        self.store += lines;
    }

    /// The CI provider signs with these keys.
    pub(crate) fn sign_with(&mut self, keys: Vec<SigningKey>) {
        self.issuer = Arc::new(StandInIssuer::with_keys(keys));
    }

    /// The CI provider serves its keys by HTTPS under a name of its own, for brokers in other processes. To be
    /// called before a broker is configured.
    pub(crate) async fn serve_ci(&mut self) {
        self.ci = Some(Ci::serve(&self.issuer).await);
    }

    /// The `iss` of jobs' tokens, where it is not the real one's.
    pub(crate) fn issuer_url(&self) -> Option<String> {
        self.ci.as_ref().map(|ci| ci.url.clone())
    }

    /// A file or directory of this deployment.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the whole configuration of the broker `name`, unless it is there, and returns `mayfly.toml`.
    pub(crate) fn configure(&self, name: &str) -> PathBuf {
        self.configure_with(name, &self.path(name).join("audit.jsonl"))
    }

    /// As [`Site::configure`], with the audit file elsewhere.
    pub(crate) fn configure_with(&self, name: &str, audit: &Path) -> PathBuf {
        let dir = self.path(name);
        let file = dir.join("mayfly.toml");
        if file.exists() {
            return file;
        }
        for part in ["trust", "profiles", "schema", "policies", "operators", "acceptors"] {
            fs::create_dir_all(dir.join(part)).unwrap();
            for entry in fs::read_dir(root().join("config").join(part)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), dir.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
        for (path, text) in LOAD {
            fs::write(dir.join(path), text).unwrap();
        }
        if let Some(ci) = &self.ci {
            for rule in fs::read_dir(dir.join("trust")).unwrap() {
                let rule = rule.unwrap().path();
                let text = fs::read_to_string(&rule).unwrap();
                let own: String =
                    text.lines().filter(|l| !l.starts_with("issuer")).map(|l| format!("{l}\n")).collect();
                let text = format!("issuer = {:?}\n{own}", ci.url);
                fs::write(rule, text).unwrap();
            }
        }
        let text = format!(
            r#"trust_domain = "acme.internal"
public_url   = "{PUBLIC_URL}"
state_dir    = {state:?}
[broker]
id = "{name}"
[server]
listen         = "127.0.0.1:0"
metrics_listen = "127.0.0.1:0"
drain_timeout  = "1s"
[keys]
seal_file = {seal:?}
[quota.workload]
live_leases   = 1_000_000
mints_per_min = 1_000_000
mint_burst    = 1_000_000
[quota.owner]
live_leases   = 1_000_000
mints_per_min = 1_000_000
[limits]
connections_per_address = 10_000
address  = {{ per_second = 1_000_000 }}
identity = {{ per_second = 1_000_000 }}
[[audit.sink]]
file    = {audit:?}
reserve = "1MiB"
{store}"#,
            state = dir.join("state"),
            seal = self.path("seal.key"),
            store = self.store,
        );
        fs::write(&file, text).unwrap();
        file
    }

    /// Starts the broker `name` in this process; the first one of a deployment initialises the store.
    pub(crate) async fn start(&self, name: &str) -> Node {
        self.configure(name);
        Node::start(self, name).await
    }

    /// Starts the broker `name` as the real program.
    pub(crate) async fn spawn(&self, name: &str) -> Server {
        let ci = self.ci.as_ref().expect("the CI provider serves its keys");
        let file = self.configure(name);
        if self.environment.is_empty() {
            Node::initialise(self, &file).await;
        } else {
            Server::initialise(self, &file);
        }
        let ca = self.path("ci-ca.pem");
        fs::write(&ca, &ci.ca_pem).unwrap();
        Server::start(self, name, &ca).await
    }
}
