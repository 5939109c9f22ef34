//! A broker's directory: configuration with raised limits, 50 policies, rules, profile, operator and acceptor.
//!
//! Every limit that would refuse the load is raised by configuration, as an operator of a busy site would; no
//! check is switched off.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mayfly_server::dev;
use mayfly_standin::StandIn;

use crate::Result;

pub(crate) const TRUST_DOMAIN: &str = "acme.internal";
pub(crate) const PROFILE: &str = "bench";
/// The same for certificates.
pub(crate) const CERTIFICATES: &str = "bench-mtls";
/// For certificates that live five seconds.
pub(crate) const SHORT: &str = "bench-short";
pub(crate) const INTENT: &str = "deploy:bench";
pub(crate) const OPERATOR: &str = "alice";
pub(crate) const ACCEPTOR: &str = "bench-api";
/// Policies that are loaded; each measured profile's slice holds a fifth of them, as at a site where they are about
/// many profiles.
pub(crate) const POLICIES: usize = 50;
const IN_SLICE: usize = 10;

/// A directory with all that a broker needs.
#[derive(Debug, Clone)]
pub(crate) struct Site(pub(crate) PathBuf);

impl Site {
    /// Writes it. `redis`: where the store is; none: the embedded one.
    pub(crate) fn write(dir: PathBuf, redis: Option<&str>) -> Result<Self> {
        let site = Self(dir);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&site.0)?;
        let store = redis.map(|url| format!("\n[store]\nurl = {url:?}\n")).unwrap_or_default();
        let head = dev::configuration(&site.0, "https://127.0.0.1:8443", "16MiB");
        site.put("mayfly.toml", &format!("{head}{store}{LIMITS}"))?;
        site.put("trust/bench.toml", &rule("bench", "481516", "bench"))?;
        site.put("trust/other.toml", &rule("other", "481517", "other"))?;
        site.put("profiles/bench.toml", PROFILE_FILE)?;
        site.put("profiles/bench-mtls.toml", &certificates(CERTIFICATES, "1h"))?;
        site.put("profiles/bench-short.toml", &certificates(SHORT, "5s"))?;
        for n in 0..POLICIES - IN_SLICE {
            site.put(
                &format!("profiles/other-{n}.toml"),
                &PROFILE_FILE.replace("\"bench\"", &format!("\"other-{n}\"")),
            )?;
        }
        site.put("policies/bench.cedar", &policies())?;
        site.put("schema/bench.cedarschema", SCHEMA)?;
        site.put("policies/requests.cedar", &requests())?;
        site.put("operators/alice.toml", "name = \"alice\"\ngroups = [\"oncall\"]\n")?;
        site.put(
            "acceptors/bench-api.toml",
            "name = \"bench-api\"\nowner = \"team:platform\"\naudiences = [\"https://bench.acme.internal\"]\n\
             certificates = true\n",
        )?;
        site.put_bytes("seal.key", &random()?)?;
        site.put_bytes("ci.key", StandIn::generate()?.expose())?;
        Ok(site)
    }

    /// The site of another broker over the same store: with this one's seal and issuer.
    pub(crate) fn beside(&self, dir: PathBuf, redis: &str) -> Result<Self> {
        let other = Self::write(dir, Some(redis))?;
        for name in ["seal.key", "ci.key"] {
            other.put_bytes(name, &fs::read(self.path(name))?)?;
        }
        Ok(other)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("mayfly.toml")
    }

    pub(crate) fn issuer(&self) -> Result<StandIn> {
        Ok(StandIn::new(&mayfly_domain::Secret::new(fs::read(self.path("ci.key"))?))?)
    }

    pub(crate) fn put(&self, name: &str, text: &str) -> Result<()> {
        self.put_bytes(name, text.as_bytes())
    }

    /// Writes a private file whole, so that nobody reads half of it.
    fn put_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let next = path.with_extension("next");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        std::io::Write::write_all(&mut file, bytes)?;
        Ok(fs::rename(next, path)?)
    }
}

/// Where a file that the broker wrote appears, once.
pub(crate) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().filter(|text| !text.is_empty())
}

const LIMITS: &str = "
[limits]
address  = { per_second = 1_000_000, burst = 10_000_000 }
identity = { per_second = 1_000_000, burst = 10_000_000 }

[quota.workload]
live_leases   = 1_000_000_000
mints_per_min = 1_000_000_000
mint_burst    = 1_000_000_000

[quota.owner]
live_leases   = 1_000_000_000
mints_per_min = 1_000_000_000

[ttl]
token = { default = \"1h\", max = \"1h\" }
task  = { default = \"6h\", max = \"6h\" }
";

const PROFILE_FILE: &str = "name        = \"bench\"
summary     = \"what the load generator mints\"
kind        = \"token\"
integration = \"bench-prod\"
owner       = \"team:platform\"
environment = \"production\"
intents     = [\"deploy:bench\", \"rollback:bench\"]
review_by   = 2099-01-01

[token]
audience  = \"https://bench.acme.internal\"
scopes    = [\"deploy:write\"]
ttl       = { default = \"1h\", max = \"1h\" }
binding   = \"dpop\"
acceptors = \"online\"

[quota.workload]
live_leases = 1_000_000_000
";

fn certificates(name: &str, life: &str) -> String {
    format!(
        "name        = {name:?}
summary     = \"what the load generator's services live by\"
kind        = \"x509\"
integration = \"bench-prod\"
owner       = \"team:platform\"
environment = \"production\"
intents     = [{INTENT:?}]
review_by   = 2099-01-01

[x509]
dns       = [\"job-{{name}}.bench.svc\"]
usage     = [\"client\", \"server\"]
ttl       = {{ default = {life:?}, max = {life:?} }}
acceptors = \"online\"

[quota.workload]
live_leases = 1_000_000_000
"
    )
}

fn rule(name: &str, organisation: &str, team: &str) -> String {
    format!(
        "name        = {name:?}
preset      = \"github-actions\"
spiffe_id   = \"/ci/{name}/{{repository_id}}\"
owners      = [\"team:{team}\", \"user:gh-{{actor_id}}\"]
environment = \"production\"
review_by   = 2099-01-01

[match]
repository_owner_id = {organisation:?}
environment         = \"production\"
ref                 = {{ prefix = \"refs/tags/v\" }}

[task]
id     = \"gh-{{run_id}}-{{run_attempt}}\"
window = {{ default = \"6h\", max = \"6h\" }}

[expose]
ref = \"ref\"
sha = \"sha\"
"
    )
}

/// What the acceptor declares: as many actions as there are groups of policies.
const SCHEMA: &str = r#"namespace Bench {
  entity Cluster;
  action "deploy:bench";
  action "a0", "a1", "a2", "a3", "a4" in ["deploy:bench"] appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
}"#;

/// The policies that judge requests: a fifth of them is about each action, and of those one permits and one forbids the
/// measured team, the others are about other teams.
fn requests() -> String {
    let mut text = String::new();
    for n in 0..POLICIES {
        let (action, of_action) = (n / IN_SLICE, n % IN_SLICE);
        let (effect, team, method) = match of_action {
            0 => ("permit", "bench".to_owned(), "POST"),
            1 => ("forbid", "bench".to_owned(), "TRACE"),
            _ => ("permit", format!("team-{n}"), "POST"),
        };
        let _ = write!(
            text,
            "
@id(\"request-{n}\")
{effect} (
  principal in Mayfly::Owner::\"team:{team}\",
  action == Bench::Action::\"a{action}\",
  resource is Bench::Cluster
) when {{ context.request.method == \"{method}\" && context.request.path like \"/*\" }};
"
        );
    }
    text
}

/// The site's policies: those of the measured profiles (one permits, one forbids, the others are about other teams),
/// those of other profiles, the operator's.
fn policies() -> String {
    let mut text = String::from(
        "@id(\"environments-stay-apart\")
forbid (principal is Mayfly::Workload, action, resource is Mayfly::Profile)
when { resource.environment == \"production\" }
unless { principal has environment && principal.environment == \"production\" };

@id(\"responder\")
permit (principal is Mayfly::Operator in Mayfly::Group::\"oncall\", action, resource);

@id(\"acceptors-follow\")
permit (principal is Mayfly::Acceptor, action == Mayfly::Action::\"follow\", resource);
",
    );
    for n in 0..POLICIES - 3 {
        let (group, of_group) = (n / (IN_SLICE - 1), n % (IN_SLICE - 1));
        let team = match of_group {
            0 => "bench".to_owned(),
            1 => "other".to_owned(),
            _ => format!("team-{n}"),
        };
        let (profile, team) = match [PROFILE, CERTIFICATES, SHORT].get(group) {
            Some(measured) => ((*measured).to_owned(), team),
            None => (format!("other-{n}"), "bench".to_owned()),
        };
        let _ = write!(
            text,
            "
@id(\"policy-{n}\")
@max_ttl(\"1h\")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::\"team:{team}\",
  action in [Mayfly::Action::\"mint\", Mayfly::Action::\"renew\"],
  resource == Mayfly::Profile::\"{profile}\"
) when {{
  context.claimed.intent == \"deploy:bench\" &&
  principal.hasTag(\"ref\") && principal.getTag(\"ref\") like \"refs/tags/v*\"
}};
"
        );
    }
    text
}

fn random() -> Result<[u8; 32]> {
    let mut out = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut out)?;
    Ok(out)
}
