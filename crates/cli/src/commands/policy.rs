//! `mayfly policy`: the policies, their tests, and why one would answer as it does. Nobody is asked: the same
//! engine that decides mints and requests is loaded from the files.

mod request;

use std::net::IpAddr;

use chrono::DateTime;
use clap::{Args, Subcommand, ValueEnum};
use mayfly_client::Failure;
use mayfly_domain::{
    Environment, Intent, Owner, Owners, ProfileName, Reason, San, Scope, Scopes, SpiffeId, TaskId, UnixMillis,
};
use mayfly_policy::explain::{Deciding, Missed};
use mayfly_policy::{Claimed, Explanation, WorkloadAction, WorkloadFacts};
use mayfly_server::config::Loaded;
use request::RequestArgs;
use serde::Serialize;

use super::trust::{Certificates, Checked, Warned};
use crate::args::Length;
use crate::loaded::{ConfigArgs, Unverified, detailed};
use crate::output::{Human, Table, View};
use crate::session::{EvidenceArgs, Outcome, Session};

/// Check, test and explain policies
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    Check(Check),
    Test(Test),
    Explain(Box<Explain>),
}

/// Load every policy and profile and warn of what is probably not meant
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly policy check --config config/mayfly.toml")]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// Exit code 64 where there is a warning
    #[arg(long)]
    strict: bool,
}

/// Run the tests in `policies/tests/`
///
/// Exit code 64 where one fails.
#[derive(Debug, Args)]
pub(crate) struct Test {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Explain what a workload would be answered, and why
///
/// With --request: what an acceptor would be answered that asks about a request of the workload's credential.
///
/// The workload is that of this machine's evidence, taken at its word, or the one that --workload describes.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mayfly policy explain --workload /ci/payments/deploy --owner team:payments --environment production \\
      --tag ref=refs/tags/v1.4.0 --profile payments-deploy --intent deploy:payments
  mayfly policy explain --workload /ci/billing/report --owner team:billing --intent report:billing \\
      --request 'Ledger::Action::\"GET /entries\"' --resource 'Ledger::Book::\"2027\"' \\
      --scope ledger:read --source 10.1.2.3")]
pub(crate) struct Explain {
    /// The profile that it asks for
    #[arg(long, value_name = "NAME", required_unless_present = "request")]
    profile: Option<ProfileName>,
    /// The intent
    #[arg(long, value_name = "VERB:OBJECT")]
    intent: Option<Intent>,
    /// The life that it asks for
    #[arg(long, value_name = "LENGTH")]
    ttl: Option<Length>,
    /// A scope that it asks for; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// A name that it asks for in its certificate, DNS name or address; may be given several times
    #[arg(long = "name", value_name = "NAME", id = "names")]
    names: Vec<San>,
    /// What it does
    #[arg(long, value_enum, default_value_t = Action::Mint)]
    action: Action,
    /// The workload: a SPIFFE ID or its path
    #[arg(long, value_name = "SPIFFE-ID", requires = "owners", conflicts_with = "evidence_file")]
    workload: Option<String>,
    /// An owner of the workload; may be given several times
    #[arg(long = "owner", value_name = "KIND:NAME", requires = "workload", id = "owners")]
    owners: Vec<Owner>,
    /// The environment of the workload's trust rule
    #[arg(long, value_name = "NAME", requires = "workload")]
    environment: Option<Environment>,
    /// A claim that the trust rule exposes; may be given several times
    #[arg(long = "tag", value_name = "NAME=VALUE", requires = "workload", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// The task
    #[arg(long, value_name = "ID", requires = "workload")]
    task: Option<TaskId>,
    /// Where the call comes from
    #[arg(long, value_name = "ADDRESS")]
    peer: Option<IpAddr>,
    /// When, in RFC 3339; else now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<UnixMillis>,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    evidence: EvidenceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// A new credential
    Mint,
    /// A lease kept alive
    Renew,
}

impl From<Action> for WorkloadAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Mint => Self::Mint,
            Action::Renew => Self::Renew,
        }
    }
}

fn tag(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("must be NAME=VALUE")
}

fn moment(text: &str) -> Result<UnixMillis, String> {
    let at = DateTime::parse_from_rfc3339(text).map_err(|e| e.to_string())?;
    u64::try_from(at.timestamp_millis()).map(UnixMillis).map_err(|_| "is before 1970".to_owned())
}

#[derive(Serialize)]
struct Ran {
    passed: usize,
    failed: Vec<FailedTest>,
}

#[derive(Serialize)]
struct FailedTest {
    file: String,
    test: String,
    problems: Vec<String>,
}

impl View for Ran {
    fn human(&self, _: UnixMillis) -> Human {
        let row = |f: &FailedTest| [f.file.clone(), f.test.clone(), f.problems.join("; ")];
        let rows = Table::new(["file", "test", "problem"], self.failed.iter().map(row), "none failed");
        let count = Human::Text(format!("{} passed, {} failed\n", self.passed, self.failed.len()));
        Human::Parts(vec![("tests", count), ("failed", Human::Rows(rows))])
    }
}

#[derive(Serialize)]
struct Explained {
    allowed: bool,
    reason: String,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nameless: Vec<String>,
    decided_by: Vec<Decided>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observed: Vec<Decided>,
    nearest: Vec<Near>,
    meant: Option<String>,
    #[serde(skip)]
    text: String,
}

#[derive(Serialize)]
struct Decided {
    policy: String,
    place: String,
    advice: Option<String>,
}

#[derive(Serialize)]
struct Near {
    policy: String,
    place: String,
    held: usize,
    clause: &'static str,
    condition: String,
    failed: Option<String>,
    advice: Option<String>,
}

impl From<Deciding> for Decided {
    fn from(d: Deciding) -> Self {
        Self { policy: d.policy.to_string(), place: d.place.to_string(), advice: d.advice }
    }
}

impl From<Missed> for Near {
    fn from(m: Missed) -> Self {
        Self {
            policy: m.policy.to_string(),
            place: m.place.to_string(),
            held: m.held,
            clause: m.clause.as_str(),
            condition: m.condition,
            failed: m.failed,
            advice: m.advice,
        }
    }
}

impl From<Explanation> for Explained {
    fn from(e: Explanation) -> Self {
        let text = e.to_string();
        let granted = e.decision.answer.as_ref().ok();
        let names = granted.map(|g| g.names.iter().map(ToString::to_string).collect()).unwrap_or_default();
        let refusal = e.decision.answer.err();
        Self {
            names,
            nameless: e.nameless,
            allowed: refusal.is_none(),
            reason: refusal.as_ref().map(|r| r.reason.to_string()).unwrap_or_default(),
            detail: refusal.map(|r| r.detail).unwrap_or_default(),
            decided_by: e.deciding.into_iter().map(Decided::from).collect(),
            observed: Vec::new(),
            nearest: e.nearest.into_iter().map(Near::from).collect(),
            meant: e.meant,
            text,
        }
    }
}

impl View for Explained {
    fn human(&self, _: UnixMillis) -> Human {
        Human::Text(self.text.clone())
    }
}

impl Explain {
    async fn facts(&self, loaded: &Loaded, session: &Session) -> Result<WorkloadFacts, Failure> {
        let at = self.at.unwrap_or_else(|| session.clock.now());
        let Some(workload) = &self.workload else {
            let taken = Unverified::discover(&self.evidence, loaded, session).await?;
            let rule = loaded.rules.select(&taken.verified).map_err(|e| detailed(&e))?;
            let made = rule.identify(&taken.verified.claims).map_err(|e| detailed(&e))?;
            return Ok(WorkloadFacts {
                workload: made.workload,
                owners: made.owners,
                environment: rule.environment().cloned(),
                attestation: taken.verified.kind.to_owned(),
                key: String::new(),
                tags: made.tags,
                task: Some(made.task.id),
                peer: self.peer,
                at,
            });
        };
        let workload = match workload.starts_with('/') {
            true => SpiffeId::new(&loaded.settings.trust_domain, workload)?,
            false => SpiffeId::parse(workload)?,
        };
        Ok(WorkloadFacts {
            workload,
            owners: Owners::new(self.owners.iter().cloned())?,
            environment: self.environment.clone(),
            attestation: "oidc".to_owned(),
            key: String::new(),
            tags: self.tags.iter().cloned().collect(),
            task: self.task.clone(),
            peer: self.peer,
            at,
        })
    }
}

fn check(loaded: &Loaded, now: UnixMillis) -> Checked {
    let warned = loaded.engine.lint(now).into_iter().map(|w| Warned {
        place: w.place.map(|p| p.to_string()).unwrap_or_default(),
        kind: w.lint.as_str().to_owned(),
        message: match w.help {
            Some(help) => format!("{}; {help}", w.message),
            None => w.message,
        },
    });
    let engine = &loaded.engine;
    let valid = format!("{} policies, {} profiles", engine.policies().len(), engine.profiles().count());
    let certificates = engine.profiles().filter_map(|profile| {
        let x509 = profile.x509()?;
        let names = x509.templates().map(ToString::to_string).collect();
        Some(Certificates { profile: profile.name.to_string(), usage: x509.usages(), names })
    });
    Checked { valid, certificates: certificates.collect(), warnings: warned.collect() }
}

fn test(loaded: &Loaded) -> Ran {
    let mut ran = Ran { passed: 0, failed: Vec::new() };
    for (file, tests) in &loaded.policy_tests {
        for outcome in tests.run(&loaded.engine) {
            if outcome.problems.is_empty() {
                ran.passed += 1;
            } else {
                let file = file.display().to_string();
                ran.failed.push(FailedTest { file, test: outcome.name, problems: outcome.problems });
            }
        }
    }
    ran
}

impl Policy {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Check(args) => check(&args.config.load()?, session.clock.now()).show(args.strict, session),
            Self::Test(args) => {
                let ran = test(&args.config.load()?);
                session.printer.show(&ran)?;
                Ok(if ran.failed.is_empty() { 0 } else { Reason::ConfigInvalid.exit_code() })
            }
            Self::Explain(args) => {
                let loaded = args.config.load()?;
                let facts = args.facts(&loaded, session).await?;
                let Some(profile) = args.profile.clone().filter(|_| !args.request.is_asked()) else {
                    let explanation = args.request.explain(&args, &facts, &loaded)?;
                    let code = explanation.decision.answer.as_ref().err().map_or(0, |r| r.reason.exit_code());
                    session.printer.show(&Explained::from(explanation))?;
                    return Ok(code);
                };
                let claimed = Claimed {
                    profile,
                    intent: args.intent.clone(),
                    reason: None,
                    ttl: args.ttl.map(|l| l.0),
                    scopes: Scopes::new(args.scopes.iter().cloned())?,
                    names: args.names.clone(),
                    kind: None,
                };
                let explanation = loaded.engine.explain(&facts, args.action.into(), &claimed);
                let code = explanation.decision.answer.as_ref().err().map_or(0, |r| r.reason.exit_code());
                session.printer.show(&Explained::from(explanation))?;
                Ok(code)
            }
        }
    }
}
