//! `mayfly dev`: a whole broker on this machine, and stand-in CI jobs for it.

mod job;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mayfly_client::{Context, Contexts, Failure};
use mayfly_domain::{Reason, UnixMillis};
use mayfly_server::dev::{self, Dev as Broker, Told};
use mayfly_server::signals::terminated;
use serde::Serialize;
use tokio::time::Instant;

use super::server::LogArgs;
use crate::loaded::detailed;
use crate::output::{Human, View};
use crate::session::{Outcome, Session};

/// The name of the operator's context; an acceptor's has its own name behind it.
const CONTEXT: &str = "dev";

/// Run a whole broker on this machine, to try Mayfly
///
/// Loopback only: the embedded store, the example configuration, a stand-in CI issuer, and contexts for an
/// operator and two acceptors. The stand-in signs real OIDC tokens with the real issuers' names, so that the
/// trust rules are used unchanged; `mayfly server` never does. SIGHUP reads the files again.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  mayfly dev
  eval \"$(mayfly dev job)\"         in another terminal: be a CI job, with its evidence found by itself
  mayfly dev ci-token > token      or have a token in a file"
)]
pub(crate) struct Dev {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    home: HomeArgs,
    /// Keep nothing: a directory that goes when the broker ends
    #[arg(long, conflicts_with = "dir")]
    ephemeral: bool,
    /// Take a free port even where 8443 is free
    #[arg(long)]
    any_port: bool,
    /// Leave the contexts file alone
    #[arg(long)]
    no_contexts: bool,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    CiToken(job::CiToken),
    Job(job::Environment),
}

/// Where the development broker keeps everything.
#[derive(Debug, Args)]
struct HomeArgs {
    /// The directory; else `mayfly/dev` in the user's state directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl HomeArgs {
    fn find(&self, session: &Session) -> Result<PathBuf, Failure> {
        let state = || session.env.xdg("XDG_STATE_HOME", ".local/state").map(|dir| dir.join("mayfly/dev"));
        self.dir.clone().or_else(state).ok_or_else(|| {
            Failure::of(Reason::ConfigInvalid)
                .fact("problem", "neither XDG_STATE_HOME nor HOME is set")
                .next("name a directory with --dir")
        })
    }
}

#[derive(Serialize)]
struct Ready {
    url: String,
    trust_domain: String,
    ca_file: PathBuf,
    config: PathBuf,
    metrics: String,
    token_url: String,
    contexts: Vec<String>,
    operator: Identity,
    acceptors: Vec<Identity>,
    ready_ms: u64,
    #[serde(skip)]
    dir_flag: String,
}

#[derive(Serialize)]
struct Identity {
    name: String,
    cert_file: PathBuf,
    key_file: PathBuf,
}

impl View for Ready {
    fn human(&self, _: UnixMillis) -> Human {
        let contexts = if self.contexts.is_empty() { "none".to_owned() } else { self.contexts.join(", ") };
        let acceptor = self.contexts.get(1).map_or("ACCEPTOR", String::as_str);
        let flag = &self.dir_flag;
        Human::Text(format!(
            "mayfly dev is ready after {} ms: trust domain {} at {}\n\
             \x20 configuration  {} (yours to change; SIGHUP reads it again)\n\
             \x20 contexts       {contexts}\n\
             \x20 metrics        http://{}/metrics\n\n\
             In another terminal:\n\
             \x20 eval \"$(mayfly dev job{flag})\"    # be a CI job of acme/payments at tag v1.4.0\n\
             \x20 TOKEN=$(mayfly mint token --profile payments-deploy --intent deploy:payments)\n\
             \x20 PROOF=$(echo $TOKEN | mayfly proof POST https://deploy.acme.internal/run)\n\
             \x20 echo $TOKEN | mayfly check --context {acceptor} --dpop $PROOF --method POST \\\n\
             \x20     --url https://deploy.acme.internal/run\n\
             \x20 mayfly lease list\n\
             \x20 mayfly revoke --owner team:payments --block --for 1h --reason \"trying it\"\n",
            self.ready_ms,
            self.trust_domain,
            self.url,
            self.config.display(),
            self.metrics,
        ))
    }
}

impl Ready {
    fn new(told: &Told, dir_flag: String, begun: Instant) -> Self {
        let identity = |name: &str, cert_file: &PathBuf, key_file: &PathBuf| Identity {
            name: name.to_owned(),
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
        };
        let (operator_cert, operator_key) = &told.operator;
        Self {
            url: told.url.clone(),
            trust_domain: told.trust_domain.to_string(),
            ca_file: told.ca.clone(),
            config: told.config.clone(),
            metrics: told.metrics.to_string(),
            token_url: told.token_url.clone(),
            contexts: Vec::new(),
            operator: identity("operator", operator_cert, operator_key),
            acceptors: told.acceptors.iter().map(|(name, cert, key)| identity(name, cert, key)).collect(),
            ready_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            dir_flag,
        }
    }

    /// Adds a context for the operator and one for each acceptor.
    fn add_contexts(&mut self, session: &Session) -> Result<(), Failure> {
        let path = Contexts::path(&session.env)?;
        let mut contexts = Contexts::load(&path)?;
        let acceptors = self.acceptors.iter().map(|a| (format!("{CONTEXT}-{}", a.name), a));
        for (name, identity) in std::iter::once((CONTEXT.to_owned(), &self.operator)).chain(acceptors) {
            let context = Context {
                url: self.url.clone(),
                trust_domain: Some(self.trust_domain.clone()),
                ca_file: Some(self.ca_file.clone()),
                ca_sha256: None,
                cert_file: Some(identity.cert_file.clone()),
                key_file: Some(identity.key_file.clone()),
            };
            contexts.contexts.insert(name.clone(), context);
            self.contexts.push(name);
        }
        // Whoever works with a real broker goes on with it; a stand-in job names this context by itself.
        contexts.current.get_or_insert_with(|| CONTEXT.to_owned());
        Ok(contexts.save(&path)?)
    }
}

impl Dev {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match &self.command {
            Some(Command::CiToken(args)) => args.run(session),
            Some(Command::Job(args)) => args.run(session),
            None => self.serve(session).await,
        }
    }

    async fn serve(self, session: &Session) -> Outcome {
        let begun = Instant::now();
        self.log.begin()?;
        let gone = match self.ephemeral {
            true => Some(tempfile::tempdir().map_err(|e| {
                Failure::of(Reason::ConfigInvalid).fact("problem", format!("no directory: {e}"))
            })?),
            false => None,
        };
        let dir = match &gone {
            Some(dir) => dir.path().to_owned(),
            None => self.home.find(session)?,
        };
        let dir_flag = match gone.is_some() || self.home.dir.is_some() {
            true => format!(" --dir {}", dir.display()),
            false => String::new(),
        };
        let options = dev::Options { dir, any_port: self.any_port };
        let broker = Broker::new(&options, session.clock.clone()).await.map_err(|e| detailed(&e))?;
        let mut ready = Ready::new(broker.told(), dir_flag, begun);
        if !self.no_contexts {
            ready.add_contexts(session)?;
        }
        session.printer.show(&ready)?;
        let hangups = tokio::spawn(broker.bound().reloader().on_hangup());
        let outcome = broker.run(terminated()).await;
        hangups.abort();
        outcome.map_err(|e| detailed(&e))?;
        Ok(0)
    }
}
