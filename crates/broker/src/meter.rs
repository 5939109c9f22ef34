//! What a broker counts; the numbers are shown elsewhere.

use std::time::Duration;

use mayfly_domain::Reason;

/// Takes counts. Labels are stable names only; nothing that a caller sends becomes one.
pub trait Meter: Send + Sync {
    /// A decision of `kind` (`mint`, `check`, ...): allowed, or refused for a reason.
    fn decision(&self, kind: &'static str, refused: Option<Reason>, took: Duration);
    /// Evidence was presented by another key than its own.
    fn misuse(&self, superseded: bool);
    /// A sweep ended so many leases.
    fn swept(&self, ended: u64);
    /// A reload of the configuration.
    fn reloaded(&self, accepted: bool);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn decision(&self, _: &'static str, _: Option<Reason>, _: Duration) {}
    fn misuse(&self, _: bool) {}
    fn swept(&self, _: u64) {}
    fn reloaded(&self, _: bool) {}
}
