//! Runs of one measurement, and the one result that they make.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::{Run, millis};

/// Which way a target lies.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    Exactly(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
            Self::Exactly(one) => (value - one).abs() < 0.005,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::Exactly(one) => write!(f, "= {one}"),
        }
    }
}

/// What a part of it costs by itself.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reference {
    pub(crate) what: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// The median of the runs.
    pub(crate) value: f64,
    /// Milliseconds of one call, where calls were timed.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) target: Option<Target>,
    pub(crate) met: Option<bool>,
    pub(crate) reference: Option<Reference>,
    /// The lowest and the highest of the runs.
    pub(crate) spread: [f64; 2],
    pub(crate) runs: usize,
    /// Processor time of each process in microseconds a call: what a busy machine does not change.
    pub(crate) cpu_us: serde_json::Map<String, serde_json::Value>,
}

impl Measured {
    /// Of values, one a run.
    pub(crate) fn of(name: &'static str, unit: &'static str, values: &[f64]) -> Self {
        Self {
            name,
            unit,
            value: round(median(values)),
            p50: None,
            p99: None,
            target: None,
            met: None,
            reference: None,
            spread: [
                round(values.iter().copied().fold(f64::INFINITY, f64::min)),
                round(values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            ],
            runs: values.len(),
            cpu_us: serde_json::Map::new(),
        }
    }

    /// Of runs, by what counts of each.
    pub(crate) fn of_runs(
        name: &'static str,
        unit: &'static str,
        runs: &[Run],
        value: impl Fn(&Run) -> f64,
    ) -> Self {
        let all = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<_>>();
        let mut one = Self::of(name, unit, &all(&value));
        one.p50 = Some(round(median(&all(&|r| r.p50_ms))));
        one.p99 = Some(round(median(&all(&|r| r.p99_ms))));
        for (n, (process, _)) in
            runs.first().map(|r| r.cpu_us.as_slice()).unwrap_or_default().iter().enumerate()
        {
            let used = all(&|r| r.cpu_us.get(n).map_or(0.0, |(_, us)| *us));
            one.cpu_us.insert((*process).to_owned(), median(&used).round().into());
        }
        one
    }

    /// With the times of its calls.
    pub(crate) fn times(mut self, all: &Histogram<u64>) -> Self {
        self.p50 = Some(round(millis(all, 0.5)));
        self.p99 = Some(round(millis(all, 0.99)));
        self
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.met = Some(target.met(self.value));
        self.target = Some(target);
        self
    }

    pub(crate) fn reference(mut self, what: &'static str, value: f64, unit: &'static str) -> Self {
        self.reference = Some(Reference { what, value: round(value), unit });
        self
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three digits behind the point, none where there are thousands.
fn round(value: f64) -> f64 {
    if value.abs() >= 100.0 { value.round() } else { (value * 1_000.0).round() / 1_000.0 }
}
