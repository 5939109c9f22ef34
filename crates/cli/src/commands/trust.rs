//! `mayfly trust`: the trust rules, and what they make of evidence. Nothing is verified here and nobody asked.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mayfly_client::Failure;
use mayfly_domain::{Reason, RuleName, UnixMillis};
use mayfly_server::config::Loaded;
use serde::Serialize;

use crate::loaded::{ConfigArgs, Unverified, detailed};
use crate::output::{Human, Table, View};
use crate::session::{EvidenceArgs, Outcome, Session};

/// Check trust rules and see what they make of evidence
#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    Check(Check),
    Explain(Explain),
    Test(Test),
}

/// Load every rule and warn of what deserves a second look
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly trust check --config config/mayfly.toml")]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// Exit code 64 where there is a warning
    #[arg(long)]
    strict: bool,
}

/// Show which rules accept this machine's evidence, and what the others miss
///
/// The claims are taken at their word: signature, issuer's keys and times are not looked at.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

/// Test what the rules make of a file of claims, or of a certificate
///
/// Exit code 0 where exactly one rule accepts them, and it is the one that was expected. A certificate's chain and
/// dates are verified, as by a broker; whether anybody holds its key is not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly trust test claims.json --rule payments-deploy --workload /ci/payments/deploy
  mayfly trust test device.pem --rule devices")]
pub(crate) struct Test {
    /// A JSON object of claims, as in a token's payload; or a certificate in PEM, its intermediates after it
    claims: PathBuf,
    /// The rule that must accept them
    #[arg(long, value_name = "NAME")]
    rule: Option<RuleName>,
    /// The workload that they must make: a SPIFFE ID or its path
    #[arg(long, value_name = "SPIFFE-ID")]
    workload: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A warning of `trust check` or `policy check`.
#[derive(Serialize)]
pub(crate) struct Warned {
    pub(crate) place: String,
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// What a profile's certificates are for, with the templates of their names.
#[derive(Serialize)]
pub(crate) struct Certificates {
    pub(crate) profile: String,
    pub(crate) usage: &'static str,
    pub(crate) names: Vec<String>,
}

/// What a check found.
#[derive(Serialize)]
pub(crate) struct Checked {
    pub(crate) valid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<Certificates>,
    pub(crate) warnings: Vec<Warned>,
}

impl View for Checked {
    fn human(&self, _: UnixMillis) -> Human {
        let row = |w: &Warned| [w.place.clone(), w.kind.clone(), w.message.clone()];
        let rows = Table::new(["place", "about", "warning"], self.warnings.iter().map(row), "none");
        let mut parts = vec![("valid", Human::Text(format!("{}\n", self.valid)))];
        if !self.certificates.is_empty() {
            let row = |c: &Certificates| [c.profile.clone(), c.usage.to_owned(), c.names.join(" ")];
            let rows = Table::new(["profile", "usage", "names"], self.certificates.iter().map(row), "none");
            parts.push(("certificates", Human::Rows(rows)));
        }
        parts.push(("warnings", Human::Rows(rows)));
        Human::Parts(parts)
    }
}

impl Checked {
    /// Shows it; a warning is a failure only where that was asked for.
    pub(crate) fn show(&self, strict: bool, session: &Session) -> Outcome {
        session.printer.show(self)?;
        Ok(if strict && !self.warnings.is_empty() { Reason::ConfigInvalid.exit_code() } else { 0 })
    }
}

#[derive(Serialize)]
struct Explained {
    source: String,
    issuer: String,
    rules: Vec<Seen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Made>,
}

#[derive(Serialize)]
struct Seen {
    rule: String,
    accepts: bool,
    misses: Vec<String>,
}

#[derive(Serialize)]
struct Made {
    rule: String,
    workload: String,
    owners: Vec<String>,
    environment: String,
    task: String,
    tags: std::collections::BTreeMap<String, String>,
    audience: String,
}

impl View for Explained {
    fn human(&self, _: UnixMillis) -> Human {
        let seen = |s: &Seen| {
            let verdict = if s.accepts { "accepts it".to_owned() } else { s.misses.join("; ") };
            [s.rule.clone(), verdict]
        };
        let evidence = vec![("source", self.source.clone()), ("issuer", self.issuer.clone())];
        let mut parts = vec![
            ("evidence (unverified)", Human::Fields(evidence)),
            ("rules", Human::Rows(Table::new(["rule", "verdict"], self.rules.iter().map(seen), "no rules"))),
        ];
        if let Some(made) = &self.identity {
            let tags: Vec<_> = made.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
            parts.push((
                "it would be",
                Human::Fields(vec![
                    ("workload", made.workload.clone()),
                    ("owners", made.owners.join(", ")),
                    ("environment", made.environment.clone()),
                    ("task", made.task.clone()),
                    ("tags", tags.join(" ")),
                    ("audience", made.audience.clone()),
                ]),
            ));
        }
        Human::Parts(parts)
    }
}

fn explained(loaded: &Loaded, taken: &Unverified) -> Result<Explained, Failure> {
    let rules = loaded.rules.explain(&taken.verified).into_iter().map(|e| Seen {
        rule: e.rule.to_string(),
        accepts: e.failed.is_empty(),
        misses: e.failed.iter().map(ToString::to_string).collect(),
    });
    let identity = match loaded.rules.select(&taken.verified) {
        Err(_) => None,
        Ok(rule) => {
            let made = rule.identify(&taken.verified.claims).map_err(|e| detailed(&e))?;
            Some(Made {
                rule: rule.name().to_string(),
                workload: made.workload.to_string(),
                owners: made.owners.iter().map(ToString::to_string).collect(),
                environment: rule.environment().map(ToString::to_string).unwrap_or_default(),
                task: made.task.id.to_string(),
                tags: made.tags,
                audience: taken.verified.audience.clone(),
            })
        }
    };
    Ok(Explained {
        source: taken.source.clone(),
        issuer: taken.verified.issuer.clone(),
        rules: rules.collect(),
        identity,
    })
}

impl Trust {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Check(args) => {
                let loaded = args.config.load()?;
                let warned = loaded.rules.lint(session.clock.now()).into_iter().map(|(rule, e)| Warned {
                    place: rule.to_string(),
                    kind: e.key,
                    message: e.message,
                });
                let valid = format!("{} rules", loaded.rules.rules().len());
                Checked { valid, certificates: Vec::new(), warnings: warned.collect() }
                    .show(args.strict, session)
            }
            Self::Explain(args) => {
                let loaded = args.config.load()?;
                let taken = Unverified::discover(&args.evidence, &loaded, session).await?;
                let explained = explained(&loaded, &taken)?;
                session.printer.show(&explained)?;
                Ok(if explained.identity.is_some() { 0 } else { Reason::NoTrustRule.exit_code() })
            }
            Self::Test(args) => {
                let loaded = args.config.load()?;
                let taken = Unverified::read(&args.claims, &loaded, session.clock.now())?;
                let explained = explained(&loaded, &taken)?;
                session.printer.show(&explained)?;
                let Some(made) = &explained.identity else {
                    return Ok(Reason::NoTrustRule.exit_code());
                };
                let trust_domain = &loaded.settings.trust_domain;
                let rule = args.rule.as_ref().is_none_or(|rule| rule.as_str() == made.rule);
                let workload = args.workload.as_ref().is_none_or(|wanted| {
                    *wanted == made.workload || format!("spiffe://{trust_domain}{wanted}") == made.workload
                });
                Ok(if rule && workload { 0 } else { Reason::NoTrustRule.exit_code() })
            }
        }
    }
}
