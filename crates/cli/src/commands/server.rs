//! `mayfly server`: a broker, until it is told to end.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mayfly_client::Failure;
use mayfly_domain::Reason;
use mayfly_server::run::{Bound, server};
use mayfly_server::telemetry::{LogFormat, init_log};

use crate::loaded::{ConfigArgs, detailed};
use crate::session::{Outcome, Session};

/// Run a broker
///
/// SIGHUP reads trust rules, profiles, policies, operators and acceptors again, all or nothing, and goes on in a
/// new audit file where the old one was moved away. SIGTERM drains and ends.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly server --config /etc/mayfly/mayfly.toml --log-format json")]
pub(crate) struct Server {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    log: LogArgs,
    /// More CA certificates, PEM, by which OIDC issuers are known
    #[arg(long, value_name = "FILE")]
    issuer_ca: Option<PathBuf>,
}

/// How a server logs.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// What is logged, such as `info` or `mayfly_server=debug,info`
    #[arg(
        long = "log",
        value_name = "FILTER",
        default_value = "info",
        env = "MAYFLY_LOG",
        id = "log_filter"
    )]
    filter: String,
    /// How lines look
    #[arg(long = "log-format", value_enum, default_value_t = Look::Text, env = "MAYFLY_LOG_FORMAT")]
    look: Look,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Look {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl LogArgs {
    /// Sends the log to standard error.
    pub(crate) fn begin(&self) -> Result<(), Failure> {
        let format = match self.look {
            Look::Text => LogFormat::Text,
            Look::Json => LogFormat::Json,
        };
        init_log(format, &self.filter)
            .map_err(|e| Failure::of(Reason::ConfigInvalid).fact("problem", e.to_string()))
    }
}

fn told(bound: &Bound, session: &Session) {
    let shown = |address: Result<std::net::SocketAddr, _>| address.map(|a| a.to_string()).unwrap_or_default();
    session.printer.note(&format!(
        "mayfly {} serves trust domain {}\n  gRPC and HTTPS  {}\n  metrics         {}",
        env!("CARGO_PKG_VERSION"),
        bound.settings().trust_domain,
        shown(bound.address()),
        shown(bound.plain_address()),
    ));
}

impl Server {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        // Every mistake is told to the person who starts it, before there is a log.
        self.config.load()?;
        self.log.begin()?;
        let extra = match &self.issuer_ca {
            Some(file) => Some(std::fs::read(file).map_err(|e| {
                Failure::of(Reason::ConfigInvalid)
                    .fact("file", file.display().to_string())
                    .fact("problem", e.to_string())
            })?),
            None => None,
        };
        let told = |bound: &Bound| told(bound, session);
        server(&self.config.config, session.clock.clone(), extra.as_deref(), told)
            .await
            .map_err(|e| detailed(&e))?;
        Ok(0)
    }
}
