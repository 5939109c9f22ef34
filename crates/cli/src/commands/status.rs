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
    feed: Feed,
    audit_state: String,
    audit_deferred: u64,
    keys: Vec<KeyView>,
    /// The SHA-256 of the CA that the context pins, as `MAYFLY_CA_SHA256` takes it.
    ca_sha256: Vec<String>,
}

#[derive(Serialize)]
struct Feed {
    number: u64,
    /// Whether the broker is within its own bound.
    fresh: bool,
    followers: u32,
    followers_fresh: u32,
    canaries: Canaries,
}

/// From acknowledged revocation to refusal, in microseconds.
#[derive(Serialize)]
struct Canaries {
    measured: u64,
    online_p50_us: u32,
    online_p99_us: u32,
    feed_p50_us: u32,
    feed_p99_us: u32,
    /// Must be 0.
    accepted_after: u64,
}

impl From<pb::Canaries> for Canaries {
    fn from(c: pb::Canaries) -> Self {
        Self {
            measured: c.measured,
            online_p50_us: c.online_p50_us,
            online_p99_us: c.online_p99_us,
            feed_p50_us: c.feed_p50_us,
            feed_p99_us: c.feed_p99_us,
            accepted_after: c.accepted_after,
        }
    }
}

impl Feed {
    fn words(&self) -> String {
        let state = if self.fresh { "fresh" } else { "not fresh: nothing is minted or accepted here" };
        format!("at {}, {state}", self.number)
    }

    fn followers_words(&self) -> String {
        format!("{} of {} fresh", self.followers_fresh, self.followers)
    }
}

impl Canaries {
    fn words(&self) -> String {
        let ms = |us: u32| format!("{:.1} ms", f64::from(us) / 1_000.0);
        match (self.measured, self.accepted_after) {
            (0, 0) => "none measured yet".to_owned(),
            (n, after) => format!(
                "{n} refused: here {} (p99 {}), {}; {after} accepted after",
                ms(self.online_p50_us),
                ms(self.online_p99_us),
                match self.feed_p99_us {
                    0 => "no follower reported".to_owned(),
                    p99 => format!("at followers {} (p99 {})", ms(self.feed_p50_us), ms(p99)),
                }
            ),
        }
    }
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
            feed: Feed {
                number: s.feed_number,
                fresh: s.feed_fresh,
                followers: s.followers,
                followers_fresh: s.followers_fresh,
                canaries: Canaries::from(s.canaries.unwrap_or_default()),
            },
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
            ("feed", self.feed.words()),
            ("followers", self.feed.followers_words()),
            ("canaries", self.feed.canaries.words()),
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
