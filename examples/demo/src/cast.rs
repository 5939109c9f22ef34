//! Who plays: the broker, the service, an operator, and CI jobs, each with a directory and an environment of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use mayfly_client::{Contexts, KeyHome, Source, Target, WorkloadKey, proof};
use mayfly_domain::{Clock as _, SystemClock, TrustDomain};
use serde_json::Value;
use url::Url;

use crate::api::{Caller, serve};
use crate::broker::Broker;
use crate::program::{Person, text};
use crate::stage::Wrong;

/// What the example configuration's trust domain is.
pub(crate) const TRUST_DOMAIN: &str = "acme.internal";
const DEPLOY: &str = "mint token --profile payments-deploy --intent deploy:payments";

/// Everybody and everything on stage.
pub(crate) struct Cast {
    program: PathBuf,
    /// Where all of it is kept.
    pub(crate) dir: PathBuf,
    pub(crate) broker: Broker,
    /// The operator `alice`, who is on call.
    pub(crate) operator: Person,
    /// Where the service deploys.
    pub(crate) service: Url,
    /// Whoever looked for a Redis on this machine came here; none where its port was taken.
    pub(crate) trap: Option<TcpListener>,
    /// Every token that was minted.
    pub(crate) tokens: Vec<String>,
}

impl Cast {
    /// The `mayfly` program; the example services are beside it.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Brings up the broker and the service.
    pub(crate) async fn new(program: &Path, dir: &Path) -> Result<Self, Wrong> {
        let trap = TcpListener::bind(("127.0.0.1", 6379)).ok();
        if let Some(trap) = &trap {
            trap.set_nonblocking(true).map_err(|e| Wrong::of("port 6379", e))?;
        }
        let broker = Broker::start(program, dir).await?;
        let operator = Person::new(program, &[("HOME", path(dir)), ("MAYFLY_CONTEXT", "dev".to_owned())]);
        let service = serve(&target(&operator, "dev-deploy-api")?).await?;
        let (program, dir) = (program.to_owned(), dir.to_owned());
        Ok(Self { program, dir, broker, operator, service, trap, tokens: Vec::new() })
    }

    /// The acceptor that the service is.
    pub(crate) fn acceptor(&self) -> Result<Target, Wrong> {
        target(&self.operator, "dev-deploy-api")
    }

    /// An acceptor that takes the certificates of services.
    pub(crate) fn services(&self) -> Result<Target, Wrong> {
        target(&self.operator, "dev-ledger-api")
    }

    /// The broker as somebody without a certificate reaches it.
    pub(crate) fn anyone(&self) -> Result<Target, Wrong> {
        Ok(Target { identity: None, ..self.acceptor()? })
    }

    /// The broker dies and another one comes up in its directory.
    pub(crate) async fn restart(mut self) -> Result<Self, Wrong> {
        let before = self.broker.url().to_owned();
        self.broker.kill().await?;
        self.broker = Broker::start(&self.program, &self.dir).await?;
        if self.broker.url() == before {
            Ok(self)
        } else {
            Err(Wrong::new("the broker came back at another port"))
        }
    }

    /// A new job, with the environment that its runner sets: `words` say which (see `mayfly dev job --help`).
    pub(crate) async fn job(&self, name: &str, words: &str) -> Result<Job, Wrong> {
        let home = self.dir.join(name);
        std::fs::create_dir_all(&home).map_err(|e| Wrong::of(name, e))?;
        let broker = self.dir.join("broker");
        let printed = self.operator.plain(&format!("dev job --dir {} {words}", broker.display()), "").await?;
        let person = Person::new(
            &self.program,
            &[("HOME", path(&self.dir)), ("RUNNER_TEMP", path(&home)), ("CI_PROJECT_DIR", path(&home))],
        );
        let person = person.with_exports(&printed);
        // Each CI system sets its own; a job of both is none.
        let other = if person.var("GITLAB_CI").is_empty() { "CI_PROJECT_DIR" } else { "RUNNER_TEMP" };
        Ok(Job { person: person.with(other, "") })
    }

    /// Mints a token for the deployment, and keeps it for the search at the end.
    pub(crate) async fn mint(&mut self, job: &Job, more: &str) -> Result<Minted, Wrong> {
        let told = job.person.json(&format!("{DEPLOY} {more}")).await?;
        self.tokens.push(text(&told, "token").to_owned());
        Ok(Minted(told))
    }
}

/// The command that a deployment job mints with.
pub(crate) const fn deploy() -> &'static str {
    DEPLOY
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

/// A context that `mayfly dev` made.
fn target(person: &Person, context: &str) -> Result<Target, Wrong> {
    let no = |e| Wrong::from(mayfly_client::Failure::from(e));
    let env = person.env();
    let contexts = Contexts::path(&env).and_then(|path| Contexts::load(&path)).map_err(no)?;
    contexts.target(Some(context), &env).map_err(no)
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) person: Person,
}

/// What a mint gave.
#[derive(Debug, Clone)]
pub(crate) struct Minted(pub(crate) Value);

impl Minted {
    pub(crate) fn token(&self) -> &str {
        text(&self.0, "token")
    }

    pub(crate) fn lease(&self) -> &str {
        text(&self.0, "lease")
    }
}

/// A job that calls the service with a token, and makes the proofs within its own process.
pub(crate) struct Calls {
    caller: Caller,
    key: WorkloadKey,
    url: Url,
    token: String,
}

impl Calls {
    pub(crate) async fn new(job: &Job, url: &Url, minted: &Minted) -> Result<Self, Wrong> {
        let env = job.person.env();
        let key = || {
            let scope = Source::discover(None, &env)?.scope(&TrustDomain::parse(TRUST_DOMAIN)?)?;
            KeyHome::find(&env)?.key(&scope)
        };
        let key = key().map_err(|e: mayfly_domain::Refusal| Wrong::from(mayfly_client::Failure::from(e)))?;
        let caller = Caller::connect(url).await?;
        Ok(Self { caller, key, url: url.clone(), token: minted.token().to_owned() })
    }

    /// A new proof.
    pub(crate) fn proof(&self) -> Result<String, Wrong> {
        let made = proof::dpop(&self.key, "POST", &self.url, &self.token, SystemClock.now());
        made.map_err(|e| Wrong::from(mayfly_client::Failure::from(e)))
    }

    /// Calls once, with a proof of its own.
    pub(crate) async fn once(&mut self) -> Result<Result<String, String>, Wrong> {
        let made = self.proof()?;
        self.caller.call(&self.token, Some(&made)).await
    }

    /// Calls once and must be accepted.
    pub(crate) async fn accepted(&mut self) -> Result<((), String), Wrong> {
        match self.once().await? {
            Ok(workload) => Ok(((), format!("201 to {workload}"))),
            Err(reason) => Err(Wrong(format!("the service refused: {reason}"))),
        }
    }

    /// Calls once and must be refused for this reason.
    pub(crate) async fn refused(&mut self, reason: &str) -> Result<((), String), Wrong> {
        refused(self.once().await?, reason)
    }
}

/// Holds that the service refused for this reason.
pub(crate) fn refused(answer: Result<String, String>, reason: &str) -> Result<((), String), Wrong> {
    match answer {
        Err(why) if why == reason => Ok(((), format!("401 {why}"))),
        Err(why) => Err(Wrong(format!("the service should refuse with {reason}, but said {why}"))),
        Ok(_) => Err(Wrong(format!("the service should refuse with {reason}, but accepted"))),
    }
}
