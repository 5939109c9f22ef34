//! The metric families of a broker.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::Reason;
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use crate::lanes::Call;

/// Why a connection was turned away or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// The broker has as many as it takes.
    Full,
    /// The address has as many as it may.
    AddressFull,
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// The TLS handshake failed.
    Handshake,
    /// The client's certificate is not one of ours.
    Certificate,
    /// No request came in time.
    Silent,
}

impl Turned {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AddressFull => "address-full",
            Self::HandshakeTimeout => "handshake-timeout",
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
            Self::Silent => "silent",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Counts what the broker does. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    calls: Family<CallLabels, Counter>,
    seconds: Family<MethodLabel, Histogram, fn() -> Histogram>,
    refusals: Family<ReasonLabel, Counter>,
    connections: Gauge,
    turned: Family<ReasonLabel, Counter>,
    reloads: Family<ResultLabel, Counter>,
}

fn seconds() -> Histogram {
    Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("mayfly");
        let calls = Family::<CallLabels, Counter>::default();
        let seconds = Family::<MethodLabel, Histogram, fn() -> Histogram>::new_with_constructor(seconds);
        let refusals = Family::<ReasonLabel, Counter>::default();
        let connections = Gauge::default();
        let turned = Family::<ReasonLabel, Counter>::default();
        let reloads = Family::<ResultLabel, Counter>::default();
        registry.register("calls", "Calls by method and gRPC code", calls.clone());
        registry.register("call_seconds", "Time to the answer's head", seconds.clone());
        registry.register("refusals", "Refused calls by reason", refusals.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("connections_turned_away", "Connections refused or cut, by why", turned.clone());
        registry.register("config_reloads", "Reloads of the configuration", reloads.clone());
        Self {
            registry: Arc::new(Mutex::new(registry)),
            calls,
            seconds,
            refusals,
            connections,
            turned,
            reloads,
        }
    }
}

impl Metrics {
    /// Lets another part of the broker add its own families.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// Counts an answered call.
    pub fn call(&self, call: Call, code: Code, refused: Option<Reason>, took: Duration) {
        self.calls.get_or_create(&CallLabels { method: call.method, code: code_name(code) }).inc();
        self.seconds.get_or_create(&MethodLabel { method: call.method }).observe(took.as_secs_f64());
        if let Some(reason) = refused {
            self.refusals.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
        }
    }

    /// Counts a connection until the guard is dropped.
    pub fn connection(&self) -> impl Drop + Send + use<> {
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// Counts a connection that was turned away or cut.
    pub fn turned(&self, why: Turned) {
        self.turned.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    /// Counts a reload of the configuration.
    pub fn reloaded(&self, taken: bool) {
        let result = if taken { "taken" } else { "refused" };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut out, &self.registry.lock());
        out
    }
}

struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_printed() {
        let metrics = Metrics::default();
        let open = metrics.connection();
        let call = Call::of("/mayfly.v1.WorkloadService/Mint");
        metrics.call(call, Code::PermissionDenied, Some(Reason::Blocked), Duration::from_millis(3));
        metrics.turned(Turned::Full);
        metrics.reloaded(false);
        let text = metrics.encode();
        for line in [
            "mayfly_calls_total{method=\"/mayfly.v1.WorkloadService/Mint\",code=\"PERMISSION_DENIED\"} 1",
            "mayfly_refusals_total{reason=\"BLOCKED\"} 1",
            "mayfly_connections 1",
            "mayfly_connections_turned_away_total{reason=\"full\"} 1",
            "mayfly_config_reloads_total{result=\"refused\"} 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        drop(open);
        assert!(metrics.encode().contains("mayfly_connections 0"));
    }
}
