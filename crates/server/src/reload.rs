//! Reloading trust rules, profiles, policies, operators and acceptors: all or nothing.

use std::path::PathBuf;
use std::sync::Arc;

use mayfly_attestors::Attestors;
use mayfly_audit::{Kind, Outcome, Record};
use mayfly_broker::Broker;
use mayfly_domain::Reason;
use mayfly_domain::time::SharedClock;
use tokio::signal::unix::{SignalKind, signal};

use crate::compose::running;
use crate::config;

/// Reloads a broker's configuration.
#[derive(Clone)]
pub struct Reloader {
    broker: Arc<Broker>,
    attestor: Arc<Attestors>,
    clock: SharedClock,
    file: Option<PathBuf>,
}

impl Reloader {
    pub(crate) fn new(
        broker: Arc<Broker>,
        attestor: Arc<Attestors>,
        clock: SharedClock,
        file: Option<PathBuf>,
    ) -> Self {
        Self { broker, attestor, clock, file }
    }

    /// Reads the files again. A mistake anywhere keeps what runs and is shown in the log, in a metric and in
    /// `mayfly status`. Returns whether the new set is in force.
    pub async fn reload(&self) -> bool {
        let Some(file) = &self.file else { return false };
        let mut record = Record::new(Kind::ConfigReload, Outcome::Allowed);
        let taken = match config::load(file, std::env::vars()) {
            Ok(loaded) => {
                self.attestor.set_rules(&loaded.rules);
                self.broker.reload(loaded.rules, running(loaded.engine, loaded.acceptors, self.clock.now()));
                tracing::info!("the configuration was reloaded");
                true
            }
            Err(problems) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                for line in &lines {
                    tracing::error!(
                        problem = line,
                        "the configuration was not reloaded; the running one stays"
                    );
                }
                record.outcome = Outcome::Denied;
                record.reason = Some(Reason::ConfigInvalid);
                record.detail = lines.join("\n");
                self.broker.reload_refused(lines);
                false
            }
        };
        self.broker.audit().record_or_defer(record).await;
        taken
    }

    /// Reloads at each `SIGHUP`, and goes on in a new audit file where the old one was moved away.
    pub async fn on_hangup(self) {
        let Ok(mut hangups) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP can't be awaited; restart to reload");
            return;
        };
        while hangups.recv().await.is_some() {
            if let Err(e) = self.broker.audit().reopen().await {
                tracing::error!(error = %e, "the audit file could not be opened again");
            }
            self.reload().await;
        }
    }
}
