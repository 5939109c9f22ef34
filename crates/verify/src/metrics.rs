//! What a verifier counts, and how it is shown to Prometheus. Counting takes no lock and makes nothing.

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mayfly_domain::Reason;

/// How fresh a verifier is, as its metrics show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// How long it may still decide by itself without a further answer; zero where it may not.
    pub left: Duration,
    /// The number of the last event that it has applied.
    pub number: u64,
}

/// Counters of one process.
#[derive(Debug)]
pub struct Metrics {
    accepted: AtomicU64,
    refused: ByReason,
    asked: AtomicU64,
    guards_open: AtomicU64,
    guards_ended: ByReason,
    sessions: AtomicU64,
    snapshots: AtomicU64,
    events: AtomicU64,
}

/// One counter for each reason.
#[derive(Debug)]
struct ByReason(Box<[AtomicU64]>);

impl Default for ByReason {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl ByReason {
    fn count(&self, reason: Reason) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).map_or(0, read)
    }

    fn all(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().copied().zip(self.0.iter().map(read)).filter(|(_, n)| *n > 0)
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            refused: ByReason::default(),
            asked: AtomicU64::new(0),
            guards_open: AtomicU64::new(0),
            guards_ended: ByReason::default(),
            sessions: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            events: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// A credential was accepted.
    pub fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// A credential was refused, or there was no judgement.
    pub fn refuse(&self, reason: Reason) {
        self.refused.count(reason);
    }

    /// A broker was asked.
    pub fn ask(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// A guard was registered.
    pub fn guard_opened(&self) {
        self.guards_open.fetch_add(1, Ordering::Relaxed);
    }

    /// A guard is there no more.
    pub fn guard_closed(&self) {
        self.guards_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A guard ended what it guards.
    pub fn guard_ended(&self, reason: Reason) {
        self.guards_ended.count(reason);
    }

    /// A session began.
    pub fn session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A whole snapshot was taken.
    pub fn snapshot(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    /// So many events were applied.
    pub fn applied(&self, events: u64) {
        self.events.fetch_add(events, Ordering::Relaxed);
    }

    /// How many credentials were accepted.
    pub fn accepted(&self) -> u64 {
        read(&self.accepted)
    }

    /// How many were refused for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused.of(reason)
    }

    /// How often a broker was asked.
    pub fn asked(&self) -> u64 {
        read(&self.asked)
    }

    /// How many guards there are.
    pub fn guards_open(&self) -> u64 {
        read(&self.guards_open)
    }

    /// How many guards ended what they guard for this reason.
    pub fn guards_ended(&self, reason: Reason) -> u64 {
        self.guards_ended.of(reason)
    }

    /// How many sessions with a broker began: more than a few a day means that they break.
    pub fn sessions(&self) -> u64 {
        read(&self.sessions)
    }

    /// How many snapshots were taken.
    pub fn snapshots(&self) -> u64 {
        read(&self.snapshots)
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    pub fn render(&self, freshness: Freshness) -> String {
        let mut out = Text(String::with_capacity(2_048));
        out.one("accepted_total", "counter", "Credentials accepted", read(&self.accepted));
        out.by_reason("refused_total", "Credentials refused, by reason", &self.refused);
        out.one("asked_total", "counter", "Questions to a broker", read(&self.asked));
        out.one("guards_open", "gauge", "Connections that are guarded", read(&self.guards_open));
        out.by_reason(
            "guards_ended_total",
            "Connections ended by their guard, by reason",
            &self.guards_ended,
        );
        out.one("sessions_total", "counter", "Sessions with a broker that began", read(&self.sessions));
        out.one("snapshots_total", "counter", "Snapshots of the feed taken", read(&self.snapshots));
        out.one("events_total", "counter", "Events of the feed applied", read(&self.events));
        out.one("event_number", "gauge", "Number of the last event applied", freshness.number);
        let left = freshness.left.as_secs_f64();
        out.one("fresh_seconds_left", "gauge", "How long decisions need no further answer of a broker", left);
        out.0
    }
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP mayfly_verify_{name} {help}\n# TYPE mayfly_verify_{name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "mayfly_verify_{name} {value}");
    }

    fn by_reason(&mut self, name: &str, help: &str, counters: &ByReason) {
        self.head(name, "counter", help);
        for (reason, value) in counters.all() {
            let _ = writeln!(self.0, "mayfly_verify_{name}{{reason=\"{reason}\"}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let metrics = Metrics::default();
        for (n, reason) in Reason::ALL.iter().enumerate() {
            for _ in 0..=n {
                metrics.refuse(*reason);
            }
        }
        for (n, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(metrics.refused(*reason), u64::try_from(n).unwrap() + 1, "{reason}");
        }
        assert_eq!(metrics.guards_ended(Reason::LeaseRevoked), 0);
    }

    #[test]
    fn the_text_is_prometheus_own() {
        let metrics = Metrics::default();
        metrics.accept();
        metrics.refuse(Reason::LeaseRevoked);
        metrics.guard_opened();
        metrics.guard_opened();
        metrics.guard_closed();
        metrics.guard_ended(Reason::LeaseRevoked);
        let text = metrics.render(Freshness { left: Duration::from_millis(2_500), number: 7 });
        for line in [
            "# TYPE mayfly_verify_accepted_total counter",
            "mayfly_verify_accepted_total 1",
            "mayfly_verify_refused_total{reason=\"LEASE_REVOKED\"} 1",
            "mayfly_verify_guards_open 1",
            "mayfly_verify_guards_ended_total{reason=\"LEASE_REVOKED\"} 1",
            "mayfly_verify_event_number 7",
            "mayfly_verify_fresh_seconds_left 2.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with('\n'));
        // A name, perhaps labels, and a number: nothing else is in a line that is no comment.
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && name.starts_with("mayfly_verify_"), "{line}");
        }
    }
}
