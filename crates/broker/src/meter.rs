//! What a broker counts; the numbers are shown elsewhere.

use std::time::Duration;

use mayfly_domain::{PolicyId, Reason};

use crate::feed::CanaryPlace;

/// Takes counts. Labels are stable names only; nothing that a caller sends becomes one.
pub trait Meter: Send + Sync {
    /// A decision of `kind` (`mint`, `check`, ...): allowed, or refused for a reason.
    fn decision(&self, kind: &'static str, refused: Option<Reason>, took: Duration);
    /// Evidence was presented by another key than its own.
    fn misuse(&self, superseded: bool);
    /// A policy in observe mode would have refused a request. Its id is of the configuration.
    fn observed(&self, policy: &PolicyId);
    /// A sweep ended so many leases.
    fn swept(&self, ended: u64);
    /// A reload of the configuration.
    fn reloaded(&self, accepted: bool);
    /// A canary was refused so long after its revocation was acknowledged.
    fn canary_refused(&self, place: CanaryPlace, took: Duration);
    /// Where this broker stands in the feed, whether it is fresh, and how many acceptors follow it.
    fn feed(&self, number: u64, fresh: bool, followers: usize);
    /// A canary was accepted after its revocation was acknowledged.
    fn canary_accepted(&self, place: CanaryPlace);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn decision(&self, _: &'static str, _: Option<Reason>, _: Duration) {}
    fn misuse(&self, _: bool) {}
    fn observed(&self, _: &PolicyId) {}
    fn swept(&self, _: u64) {}
    fn reloaded(&self, _: bool) {}
    fn canary_refused(&self, _: CanaryPlace, _: Duration) {}
    fn canary_accepted(&self, _: CanaryPlace) {}
    fn feed(&self, _: u64, _: bool, _: usize) {}
}
