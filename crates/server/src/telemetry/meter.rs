//! The broker's counts as metrics.

use std::time::Duration;

use mayfly_broker::Meter;
use mayfly_domain::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
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

/// Counts a broker's decisions into the metrics.
#[derive(Debug)]
pub struct MetricsMeter {
    metrics: Metrics,
    decisions: Family<Decision, Counter>,
    seconds: Family<Kind, Histogram, fn() -> Histogram>,
    misuse: Family<Outcome, Counter>,
    swept: Counter,
}

fn seconds() -> Histogram {
    Histogram::new([0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0])
}

impl MetricsMeter {
    /// Registers its families.
    pub fn new(metrics: &Metrics) -> Self {
        let meter = Self {
            metrics: metrics.clone(),
            decisions: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            misuse: Family::default(),
            swept: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register("decisions", "Decisions by kind and reason", meter.decisions.clone());
            registry.register("decision_seconds", "Time to a decision", meter.seconds.clone());
            registry.register(
                "evidence_misuse",
                "Evidence shown by another key than its own",
                meter.misuse.clone(),
            );
            registry.register("swept_leases", "Leases ended by sweeps", meter.swept.clone());
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

    fn swept(&self, ended: u64) {
        self.swept.inc_by(ended);
    }

    fn reloaded(&self, accepted: bool) {
        self.metrics.reloaded(accepted);
    }
}
