//! The broker's counts as metrics.

use std::time::Duration;

use mayfly_broker::{CanaryPlace, Meter};
use mayfly_domain::{PolicyId, Reason};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    kind: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    r#where: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Policy {
    policy: String,
}

/// Counts a broker's decisions into the metrics.
#[derive(Debug)]
pub struct MetricsMeter {
    metrics: Metrics,
    decisions: Family<Decision, Counter>,
    seconds: Family<Kind, Histogram, fn() -> Histogram>,
    misuse: Family<Outcome, Counter>,
    observed: Family<Policy, Counter>,
    swept: Counter,
    canaries: Family<Place, Histogram, fn() -> Histogram>,
    canaries_accepted: Family<Place, Counter>,
    feed_number: Gauge,
    feed_fresh: Gauge,
    feed_followers: Gauge,
}

fn seconds() -> Histogram {
    Histogram::new([0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0])
}

fn moments() -> Histogram {
    Histogram::new([
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 5.0, 10.0,
    ])
}

impl MetricsMeter {
    /// Registers its families.
    pub fn new(metrics: &Metrics) -> Self {
        let meter = Self {
            metrics: metrics.clone(),
            decisions: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            misuse: Family::default(),
            observed: Family::default(),
            swept: Counter::default(),
            canaries: Family::new_with_constructor(moments),
            canaries_accepted: Family::default(),
            feed_number: Gauge::default(),
            feed_fresh: Gauge::default(),
            feed_followers: Gauge::default(),
        };
        // They are there, and zero, before anything is measured.
        for place in [CanaryPlace::Online, CanaryPlace::Feed] {
            let _ = meter.canaries.get_or_create(&Place { r#where: place.as_str() });
            let _ = meter.canaries_accepted.get_or_create(&Place { r#where: place.as_str() });
        }
        metrics.register(|registry| {
            registry.register("decisions", "Decisions by kind and reason", meter.decisions.clone());
            registry.register("decision_seconds", "Time to a decision", meter.seconds.clone());
            registry.register(
                "evidence_misuse",
                "Evidence shown by another key than its own",
                meter.misuse.clone(),
            );
            registry.register(
                "observed_refusals",
                "Requests that a policy in observe mode would have refused",
                meter.observed.clone(),
            );
            registry.register("feed_number", "The feed's number, as applied here", meter.feed_number.clone());
            registry.register("feed_fresh", "1 while within the bound", meter.feed_fresh.clone());
            registry.register("feed_followers", "Acceptors that follow here", meter.feed_followers.clone());
            registry.register("swept_leases", "Leases ended by sweeps", meter.swept.clone());
            registry.register(
                "canary_refused_seconds",
                "From a canary's acknowledged revocation to its first refusal",
                meter.canaries.clone(),
            );
            registry.register(
                "canary_accepted_after",
                "Canaries accepted after their acknowledged revocation: must be 0",
                meter.canaries_accepted.clone(),
            );
        });
        meter
    }
}

impl Meter for MetricsMeter {
    fn decision(&self, kind: &'static str, refused: Option<Reason>, took: Duration) {
        let reason = refused.map_or("", Reason::as_str);
        self.decisions.get_or_create(&Decision { kind, reason }).inc();
        self.seconds.get_or_create(&Kind { kind }).observe(took.as_secs_f64());
    }

    fn misuse(&self, superseded: bool) {
        let outcome = if superseded { "superseded" } else { "refused" };
        self.misuse.get_or_create(&Outcome { outcome }).inc();
    }

    fn observed(&self, policy: &PolicyId) {
        self.observed.get_or_create(&Policy { policy: policy.to_string() }).inc();
    }

    fn swept(&self, ended: u64) {
        self.swept.inc_by(ended);
    }

    fn reloaded(&self, accepted: bool) {
        self.metrics.reloaded(accepted);
    }

    fn canary_refused(&self, place: CanaryPlace, took: Duration) {
        self.canaries.get_or_create(&Place { r#where: place.as_str() }).observe(took.as_secs_f64());
    }

    fn feed(&self, number: u64, fresh: bool, followers: usize) {
        self.feed_number.set(i64::try_from(number).unwrap_or(i64::MAX));
        self.feed_fresh.set(i64::from(fresh));
        self.feed_followers.set(i64::try_from(followers).unwrap_or(i64::MAX));
    }

    fn canary_accepted(&self, place: CanaryPlace) {
        self.canaries_accepted.get_or_create(&Place { r#where: place.as_str() }).inc();
    }
}
