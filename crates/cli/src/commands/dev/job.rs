//! Stand-in CI jobs: their tokens, and their environment.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use mayfly_client::{Evidence, Failure, KeyHome, evidence};
use mayfly_domain::{Reason, TrustDomain};
use mayfly_server::dev::Home;
use mayfly_standin::{Job, JobTokens, StandIn, StandInError};
use serde_json::Value;

use super::{CONTEXT, HomeArgs};
use crate::loaded::detailed;
use crate::output::Printer;
use crate::session::{Outcome, Session};

/// The trust domain of the example configuration that `mayfly dev` runs with.
const TRUST_DOMAIN: &str = "acme.internal";

/// Whose tokens.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Preset {
    /// GitHub Actions: a token is made for the key that asks
    GithubActions,
    /// GitLab: a job has one token
    Gitlab,
}

/// What the job is; what is left out is what the example trust rules accept.
#[derive(Debug, Args)]
struct JobArgs {
    /// Whose job
    #[arg(long, value_enum, default_value_t = Preset::GithubActions)]
    preset: Preset,
    /// The run or pipeline; else a new one each time
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// The attempt at the run
    #[arg(long, value_name = "N", default_value = "1")]
    attempt: String,
    /// The job's own id; else a new one each time
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// The git ref, such as `refs/tags/v1.4.0`
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    /// The organisation or group with its id
    #[arg(long, value_name = "NAME:ID", value_parser = named)]
    organisation: Option<(String, String)>,
    /// The repository or project with its id
    #[arg(long, value_name = "NAME:ID", value_parser = named)]
    repository: Option<(String, String)>,
    /// The person who set it off with the id
    #[arg(long, value_name = "NAME:ID", value_parser = named)]
    actor: Option<(String, String)>,
    /// The environment that it deploys to; empty: none
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// How many seconds a token lives
    #[arg(long, value_name = "SECONDS")]
    life: Option<u64>,
    /// A claim whatever the rest says; `null` removes it; may be given several times
    #[arg(long = "claim", value_name = "NAME=JSON", value_parser = claim)]
    claims: Vec<(String, Value)>,
    #[command(flatten)]
    home: HomeArgs,
}

/// Print a token of a stand-in CI job
///
/// It has the claims and the issuer's name of a real one. For GitHub Actions it is made for the key that this
/// machine holds for the job, so that `--evidence-file` works with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly dev ci-token > token && mayfly mint token --profile payments-deploy --evidence-file token
  mayfly dev ci-token --preset gitlab --ref refs/heads/main
  mayfly dev ci-token --audience acme.internal#stolen --claim repository_id=null")]
pub(super) struct CiToken {
    #[command(flatten)]
    job: JobArgs,
    /// The audience; else the one that the broker expects
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
}

/// Print the environment of a stand-in CI job, for `eval`
///
/// In that shell evidence is found as in a real job.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eval \"$(mayfly dev job)\"")]
pub(super) struct Environment {
    #[command(flatten)]
    job: JobArgs,
}

fn named(text: &str) -> Result<(String, String), &'static str> {
    text.rsplit_once(':').map(|(name, id)| (name.to_owned(), id.to_owned())).ok_or("must be NAME:ID")
}

fn claim(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=JSON")?;
    // What is no JSON is text: `ref=refs/heads/main` needs no quotes.
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value))))
}

fn unsigned(e: StandInError) -> Failure {
    Failure::of(Reason::ConfigInvalid).fact("problem", e.to_string())
}

impl JobArgs {
    /// The job, with the defaults that the example rules accept.
    fn job(&self, session: &Session) -> Job {
        let now = session.clock.now().0;
        let pair = |name: &str, id: &str| (name.to_owned(), id.to_owned());
        let example = match self.preset {
            Preset::GithubActions => Job::default(),
            Preset::Gitlab => Job {
                organisation: pair("acme", "72"),
                repository: pair("billing", "1042"),
                git_ref: "refs/heads/main".to_owned(),
                environment: None,
                ..Job::default()
            },
        };
        let environment = match &self.environment {
            Some(name) => Some(name.clone()).filter(|n| !n.is_empty()),
            None => example.environment.clone(),
        };
        let job = Job {
            run_id: self.run.clone().unwrap_or_else(|| now.to_string()),
            run_attempt: self.attempt.clone(),
            job_id: self.job.clone().unwrap_or_else(|| now.to_string()),
            git_ref: self.git_ref.clone().unwrap_or_else(|| example.git_ref.clone()),
            organisation: self.organisation.clone().unwrap_or_else(|| example.organisation.clone()),
            repository: self.repository.clone().unwrap_or_else(|| example.repository.clone()),
            actor: self.actor.clone().unwrap_or_else(|| example.actor.clone()),
            environment,
            life_s: self.life.unwrap_or(example.life_s),
            ..example
        };
        self.claims.iter().fold(job, |job, (name, value)| job.claim(name, value.clone()))
    }

    fn sign(
        &self,
        issuer: &StandIn,
        job: &Job,
        audience: &str,
        session: &Session,
    ) -> Result<String, Failure> {
        let now = session.clock.now();
        match self.preset {
            Preset::GithubActions => issuer.github_token(job, audience, now),
            Preset::Gitlab => issuer.gitlab_token(job, audience, now),
        }
        .map_err(unsigned)
    }

    fn open(&self, session: &Session) -> Result<Home, Failure> {
        Home::open(&self.home.find(session)?).map_err(|e| detailed(&e))
    }
}

impl CiToken {
    pub(super) fn run(&self, session: &Session) -> Outcome {
        let key = self.job.open(session)?.ci_key().map_err(|e| detailed(&e))?;
        let issuer = StandIn::new(&key).map_err(unsigned)?;
        let job = self.job.job(session);
        let audience = match (&self.audience, self.job.preset) {
            (Some(audience), _) => audience.clone(),
            (None, Preset::Gitlab) => TRUST_DOMAIN.to_owned(),
            (None, Preset::GithubActions) => {
                // The key's home follows from the claims, and the audience from the key.
                let trust_domain = TrustDomain::parse(TRUST_DOMAIN)?;
                let sketch = Evidence::peek(self.job.sign(&issuer, &job, TRUST_DOMAIN, session)?)?;
                let key = KeyHome::find(&session.env)?.key(&sketch.scope(&trust_domain))?;
                evidence::audience(&trust_domain, &key.public().thumbprint())
            }
        };
        Printer::write(&format!("{}\n", self.job.sign(&issuer, &job, &audience, session)?))?;
        Ok(0)
    }
}

impl Environment {
    pub(super) fn run(&self, session: &Session) -> Outcome {
        let home = self.job.open(session)?;
        let key = home.ci_key().map_err(|e| detailed(&e))?;
        let job = self.job.job(session);
        let mut text = String::new();
        let mut export = |name: &str, value: &str| {
            let _ = writeln!(text, "export {name}='{}'", value.replace('\'', "'\\''"));
        };
        match self.job.preset {
            Preset::GithubActions => {
                export("GITHUB_ACTIONS", "true");
                export("GITHUB_RUN_ID", &job.run_id);
                export("GITHUB_RUN_ATTEMPT", &job.run_attempt);
                export("GITHUB_JOB", &job.job_id);
                let url = home.token_url().map_err(|e| detailed(&e))?;
                export("ACTIONS_ID_TOKEN_REQUEST_URL", &url);
                export("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &JobTokens::new(&key).token(&job));
            }
            Preset::Gitlab => {
                let issuer = StandIn::new(&key).map_err(unsigned)?;
                export("GITLAB_CI", "true");
                export("CI_JOB_ID", &job.job_id);
                export("MAYFLY_ID_TOKEN", &self.job.sign(&issuer, &job, TRUST_DOMAIN, session)?);
            }
        }
        export("MAYFLY_CONTEXT", CONTEXT);
        Printer::write(&text)?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_json_or_plain_text() {
        assert_eq!(claim("ref=refs/heads/main").unwrap().1, Value::from("refs/heads/main"));
        assert_eq!(claim("exp=5").unwrap().1, Value::from(5));
        assert_eq!(claim("aud=[\"a\",\"b\"]").unwrap().1, serde_json::json!(["a", "b"]));
        assert_eq!(claim("sub=null").unwrap().1, Value::Null);
        assert!(claim("sub").is_err());
        assert_eq!(named("a:b:7").unwrap(), ("a:b".to_owned(), "7".to_owned()));
        assert!(named("a").is_err());
    }
}
