//! `mayfly status`: how a broker and its store are.

use clap::Args;
use mayfly_client::Pin;
use mayfly_domain::UnixMillis;
use mayfly_proto::v1 as pb;
use serde::Serialize;

use super::key::{KeyView, rows};
use crate::output::{Human, Moment, View};
use crate::session::{Outcome, Session};

/// Show how the broker, its store, its configuration and its audit are
///
/// Exit code 7 where the broker does not serve.
#[derive(Debug, Args)]
pub(crate) struct Status {}

#[derive(Serialize)]
struct Shown {
    version: String,
    trust_domain: String,
    broker: String,
    started: Moment,
    now: Moment,
    store: String,
    store_state: String,
    store_risks: Vec<String>,
    generation: String,
    clock_difference_ms: i64,
    config_loaded: Moment,
    config_errors: Vec<String>,
    rules: u32,
    profiles: u32,
    policies: u32,
    live_leases: u64,
    open_sweeps: u64,
    undo_pending: u64,
    unreadable_leases: u64,
    audit_state: String,
    audit_deferred: u64,
    keys: Vec<KeyView>,
    /// The SHA-256 of the CA that the context pins, as `MAYFLY_CA_SHA256` takes it.
    ca_sha256: Vec<String>,
}

impl Shown {
    fn new(s: pb::GetStatusResponse, pin: &Pin) -> Self {
        Self {
            version: s.version,
            trust_domain: s.trust_domain,
            broker: s.broker,
            started: Moment(s.started_ms),
            now: Moment(s.now_ms),
            store: s.store,
            store_state: s.store_state,
            store_risks: s.store_risks,
            generation: s.generation,
            clock_difference_ms: s.clock_difference_ms,
            config_loaded: Moment(s.config_loaded_ms),
            config_errors: s.config_errors,
            rules: s.rules,
            profiles: s.profiles,
            policies: s.policies,
            live_leases: s.live_leases,
            open_sweeps: s.open_sweeps,
            undo_pending: s.undo_pending,
            unreadable_leases: s.unreadable_leases,
            audit_state: s.audit_state,
            audit_deferred: s.audit_deferred,
            keys: s.keys.into_iter().map(KeyView::from).collect(),
            ca_sha256: pin.fingerprints(),
        }
    }

    fn exit_code(&self) -> u8 {
        if self.store_state == "serving" { 0 } else { 7 }
    }
}

impl View for Shown {
    fn human(&self, now: UnixMillis) -> Human {
        let many = |n: u64| if n == 0 { String::new() } else { n.to_string() };
        let broker = Human::Fields(vec![
            ("broker", self.broker.clone()),
            ("version", self.version.clone()),
            ("ca sha256", self.ca_sha256.join(", ")),
            ("started", self.started.human(now)),
            ("store", format!("{} ({})", self.store, self.store_state)),
            ("risks", self.store_risks.join(", ")),
            ("generation", self.generation.clone()),
            ("clock", format!("{} ms from the store's", self.clock_difference_ms)),
            ("configuration", format!("loaded {}", self.config_loaded.human(now))),
            ("refused reload", self.config_errors.join("; ")),
            ("rules", self.rules.to_string()),
            ("profiles", self.profiles.to_string()),
            ("policies", self.policies.to_string()),
            ("live leases", self.live_leases.to_string()),
            ("open sweeps", many(self.open_sweeps)),
            ("to undo", many(self.undo_pending)),
            ("unreadable", many(self.unreadable_leases)),
            ("audit", self.audit_state.clone()),
            ("deferred", many(self.audit_deferred)),
        ]);
        Human::Parts(vec![("broker", broker), ("keys", rows(&self.keys, now))])
    }
}

impl Status {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let answer = session.operator().await?.get_status(pb::GetStatusRequest {}).await?;
        let shown = Shown::new(answer, &session.target()?.pin);
        session.printer.show(&shown)?;
        Ok(shown.exit_code())
    }
}
