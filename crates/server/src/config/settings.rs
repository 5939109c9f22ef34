//! What `mayfly.toml` says, valid.
//!
//! The shape of the file and the bounds of each value; the directories beside it are read elsewhere. No
//! secret stands in this file: keys and passwords are named by the file or variable that holds them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mayfly_domain::{BrokerName, TrustDomain, Ttl, defaults};
use mayfly_mint::x509::Pointers;

use super::feed::{Feed, feed};
use super::keys::{Module, Seal, keys};
use super::kinds::{Size, Wait, choice, count, parsed, path, size, some, ttl, wait, word};
use super::reader::Reader;
use super::store::{Store, store};
use super::urls::public_url;

/// `mayfly.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The trust domain of every SPIFFE ID.
    pub trust_domain: TrustDomain,
    /// The `iss` of every token: an HTTPS origin without a slash at its end.
    pub public_url: String,
    /// Where the broker keeps the embedded store, the audit reserve and sealed copies.
    pub state_dir: PathBuf,
    /// This broker's name among the brokers of the trust domain, where the file gives one.
    pub broker: Option<BrokerName>,
    /// The listeners.
    pub server: Server,
    /// The lease store.
    pub store: Store,
    /// What opens the sealed keys.
    pub seal: Seal,
    /// The PKCS #11 module that keeps others.
    pub module: Option<Module>,
    /// Where verifiers of workloads' certificates may ask about them.
    pub x509: Asking,
    /// Bounds of lives.
    pub ttl: Lives,
    /// Quotas.
    pub quota: Quotas,
    /// Rates and connections.
    pub limits: Limits,
    /// The feed.
    pub feed: Feed,
    /// Where audit records go.
    pub audit: AuditSink,
    /// Directories of policies, as in the file, relative to it.
    pub policy_dirs: Vec<PathBuf>,
}

impl Settings {
    /// The longest life of a lineage or of evidence: how long fences are kept.
    pub fn longest_life(&self) -> Ttl {
        self.ttl.lineage_max.max(defaults::EVIDENCE_LIFE_LIMIT)
    }
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// gRPC and HTTPS.
    pub listen: SocketAddr,
    /// Plain HTTP: `/metrics`, `/healthz`, `/readyz`.
    pub metrics_listen: SocketAddr,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a connection may carry nothing.
    pub idle_timeout: Duration,
    /// How long running calls may take to end when the broker stops.
    pub drain_timeout: Duration,
    /// The longest that a call may take, and the deadline of calls that name none.
    pub call_timeout: Duration,
}

/// `[x509]`: addresses that stand in workloads' certificates. Nothing is served there by a broker itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asking {
    /// Of a revocation list.
    pub crl_url: Option<String>,
    /// Of an OCSP responder.
    pub ocsp_url: Option<String>,
}

/// A default and a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Where nobody asks for another.
    pub default: Ttl,
    /// The longest.
    pub max: Ttl,
}

/// `[ttl]`: profiles may be shorter, never longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lives {
    /// Access tokens.
    pub token: Life,
    /// Workloads' certificates.
    pub x509: Life,
    /// Task windows.
    pub task: Life,
    /// How long a token's lease may be renewed.
    pub lineage_token: Ttl,
    /// How long a certificate's lease may be renewed.
    pub lineage_x509: Ttl,
    /// The longest that any lineage may be renewed.
    pub lineage_max: Ttl,
}

/// `[quota.workload]` and `[quota.owner]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Live leases of one workload.
    pub workload_live_leases: u32,
    /// Mints a minute of one workload.
    pub workload_mints_per_min: u32,
    /// Mints at once of one workload.
    pub workload_mint_burst: u32,
    /// Live leases of one owner.
    pub owner_live_leases: u32,
    /// Mints a minute of one owner.
    pub owner_mints_per_min: u32,
}

/// A rate with the burst that it allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second.
    pub per_second: u32,
    /// Calls at once.
    pub burst: u32,
}

/// `[limits]`: what this broker takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: u32,
    /// Connections from one address.
    pub connections_per_address: u32,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
    /// Calls without a client certificate from one address.
    pub address: Rate,
    /// Calls of one operator or acceptor.
    pub identity: Rate,
    /// Mints, renewals and task starts at work at once.
    pub mints_in_flight: u32,
    /// Checks and reads at work at once.
    pub checks_in_flight: u32,
}

/// `[[audit.sink]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSink {
    /// The file of records, where it is not the state directory's own.
    pub file: Option<PathBuf>,
    /// What is kept for revocations when the disk fills, in octets.
    pub reserve: u64,
    /// How records reach the disk.
    pub sync: AuditSync,
}

/// When an audit record is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditSync {
    /// With those of other calls that wait, before any of their answers leaves.
    Group,
    /// Each by itself.
    Each,
}

impl std::fmt::Display for AuditSync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Group => "group",
            Self::Each => "each",
        })
    }
}

/// Reads the file. `None` where a required value is missing or wrong, which is then recorded; other
/// mistakes are recorded too, so whoever calls must look at the notes before using the settings.
pub(super) fn settings(root: &Reader<'_>) -> Option<Settings> {
    let trust_domain = root.required("trust_domain", word(TrustDomain::parse));
    let public_url = root.required("public_url", word(public_url));
    let state_dir = root.required("state_dir", path);
    let broker = root.table("broker");
    let broker_name = broker.optional("id", word(BrokerName::parse));
    broker.finish();
    let server = server(root.table("server"));
    let store = store(root.table("store"));
    let (seal, module) = keys(root);
    let x509 = asking(root.table("x509"));
    let ttl = lives(root.table("ttl"));
    let quota = quotas(root.table("quota"));
    let limits = limits(root.table("limits"));
    let feed = feed(root.table("feed"));
    let audit = audit(root);
    let policy_dirs = policy_dirs(root.table("policy"));
    Some(Settings {
        trust_domain: trust_domain?,
        public_url: public_url?,
        state_dir: state_dir?,
        broker: broker_name,
        server,
        store: store?,
        seal: seal?,
        module,
        x509,
        ttl,
        quota,
        limits,
        feed,
        audit,
        policy_dirs,
    })
}

const WANTED_ADDRESS: &str = "an address and a port, such as `0.0.0.0:8443`";

fn server(r: Reader<'_>) -> Server {
    let waits =
        |key, low, high, default| r.or(key, wait(Wait::secs(low)..=Wait::secs(high)), Wait::secs(default)).0;
    let server = Server {
        listen: r.or("listen", parsed(WANTED_ADDRESS), SocketAddr::from(([0, 0, 0, 0], 8443))),
        metrics_listen: r.or(
            "metrics_listen",
            parsed(WANTED_ADDRESS),
            SocketAddr::from(([127, 0, 0, 1], 9464)),
        ),
        handshake_timeout: waits("handshake_timeout", 1, 60, 10),
        header_timeout: waits("header_timeout", 1, 60, 10),
        idle_timeout: waits("idle_timeout", 10, 3_600, 120),
        call_timeout: waits("call_timeout", 1, 300, 30),
        drain_timeout: waits("drain_timeout", 1, 600, 20),
    };
    r.finish();
    server
}

fn asking(r: Reader<'_>) -> Asking {
    let url = |input: &str| Pointers::new(Some(input), None).map(|_| input.to_owned());
    let asking =
        Asking { crl_url: r.optional("crl_url", word(url)), ocsp_url: r.optional("ocsp_url", word(url)) };
    r.finish();
    asking
}

fn life(parent: &Reader<'_>, key: &'static str, default: Ttl, limit: Ttl) -> Life {
    let r = parent.table(key);
    let max = r.or("max", ttl(limit), limit);
    let life = Life { default: r.or("default", ttl(limit), default.min(max)), max };
    r.finish();
    if life.default > life.max {
        parent
            .wrong(key, format!("the default `{}` is longer than the maximum `{}`", life.default, life.max));
    }
    life
}

fn lives(r: Reader<'_>) -> Lives {
    let token = life(&r, "token", defaults::TOKEN_TTL, defaults::TOKEN_TTL_MAX);
    let x509 = life(&r, "x509", defaults::X509_TTL, defaults::X509_TTL_MAX);
    let task = life(&r, "task", defaults::TASK_WINDOW, defaults::TASK_WINDOW_MAX);
    let lineage = r.table("lineage");
    let max = lineage.or("max", ttl(defaults::LINEAGE_MAX), defaults::LINEAGE_MAX);
    let lives = Lives {
        token,
        x509,
        task,
        lineage_token: lineage.or("token", ttl(max), defaults::TOKEN_LINEAGE.min(max)),
        lineage_x509: lineage.or("x509", ttl(max), defaults::X509_LINEAGE.min(max)),
        lineage_max: max,
    };
    for (key, lineage_of, life) in [("token", lives.lineage_token, token), ("x509", lives.lineage_x509, x509)]
    {
        if lineage_of < life.max {
            lineage.wrong(
                key,
                format!("`{lineage_of}` is shorter than one credential's longest life, `{}`", life.max),
            );
        }
    }
    lineage.finish();
    r.finish();
    lives
}

fn quotas(r: Reader<'_>) -> Quotas {
    let any = || count(1..=1_000_000_000);
    let (w, o) = (r.table("workload"), r.table("owner"));
    let quotas = Quotas {
        workload_live_leases: w.or("live_leases", any(), defaults::LIVE_LEASES_WORKLOAD),
        workload_mints_per_min: w.or("mints_per_min", any(), defaults::MINTS_PER_MIN_WORKLOAD),
        workload_mint_burst: w.or("mint_burst", any(), defaults::MINT_BURST_WORKLOAD),
        owner_live_leases: o.or("live_leases", any(), defaults::LIVE_LEASES_OWNER),
        owner_mints_per_min: o.or("mints_per_min", any(), defaults::MINTS_PER_MIN_OWNER),
    };
    w.finish();
    o.finish();
    r.finish();
    quotas
}

fn rate(parent: &Reader<'_>, key: &'static str, per_second: u32) -> Rate {
    let r = parent.table(key);
    let per_second = r.or("per_second", count(1..=1_000_000), per_second);
    let rate = Rate { per_second, burst: r.or("burst", count(1..=10_000_000), per_second.saturating_mul(2)) };
    r.finish();
    rate
}

fn limits(r: Reader<'_>) -> Limits {
    let limits = Limits {
        connections: r.or("connections", count(1..=1_000_000), defaults::CONNECTIONS),
        connections_per_address: r.or("connections_per_address", count(1..=1_000_000), 256),
        streams_per_connection: r.or("streams_per_connection", count(1..=10_000), 256),
        address: rate(&r, "address", 1_000),
        identity: rate(&r, "identity", 20_000),
        mints_in_flight: r.or("mints_in_flight", count(1..=100_000), 512),
        checks_in_flight: r.or("checks_in_flight", count(1..=100_000), 2_048),
    };
    if limits.connections_per_address > limits.connections {
        r.wrong("connections_per_address", "is more than `connections`");
    }
    r.finish();
    limits
}

fn audit(root: &Reader<'_>) -> AuditSink {
    let r = root.table("audit");
    let sinks = r.tables("sink", 1);
    r.finish();
    let one = sinks.into_iter().next().unwrap_or_else(|| root.absent("audit.sink[0]"));
    let sink = AuditSink {
        file: one.optional("file", path),
        reserve: one.or("reserve", size(Size(1 << 20)..=Size(1 << 40)), Size(256 << 20)).0,
        sync: one.or(
            "sync",
            choice(&[("group", AuditSync::Group), ("each", AuditSync::Each)]),
            AuditSync::Group,
        ),
    };
    one.finish();
    sink
}

fn policy_dirs(r: Reader<'_>) -> Vec<PathBuf> {
    let dirs = r.optional("dirs", some(16, path)).unwrap_or_else(|| vec![PathBuf::from("policies")]);
    r.finish();
    dirs
}
