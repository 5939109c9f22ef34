//! What operators see of a running broker: the log, the metrics and the plain listener.
//!
//! No token, key, password or evidence may reach a log field or a label; labels take a bounded number of
//! values.

mod meter;
mod metrics;
mod plain;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use meter::MetricsMeter;
pub use metrics::{Metrics, Turned};
pub use plain::{Readiness, serve_plain};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal only.
    Text,
    /// One JSON object a line.
    Json,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not of the form `info` or `mayfly_server=debug,info`.
    #[error("the log filter is not valid: {0}")]
    Filter(String),
    /// There is a log already.
    #[error("the log was set up before")]
    Twice,
}

/// Sends the process's log to standard error, filtered by `filter` (`info`, `mayfly_server=debug,info`).
///
/// # Errors
/// [`LogError`] for a bad filter, or when it is called twice.
pub fn init_log(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter).map_err(|e| LogError::Filter(e.to_string()))?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(true);
    match format {
        LogFormat::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry
            .with(layer.json().flatten_event(true).with_current_span(true).with_ansi(false))
            .try_init(),
    }
    .map_err(|_| LogError::Twice)
}
