//! What a watcher has seen: events in, what the panes show out. No terminal and no clock here.

use std::collections::{BTreeMap, VecDeque};

use mayfly_domain::SpiffeId;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::watch_event::What;

use super::super::barrier::FollowerView;
use crate::subject::words;

/// Events that are kept for the pane.
const EVENTS_MAX: usize = 500;
/// Seconds of rates that are kept.
pub(super) const SECONDS: usize = 120;

/// What kind of thing an event is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Something was made or accepted.
    Good,
    /// Something was refused.
    Refused,
    /// Something was ended.
    Ended,
    /// About the watching itself.
    Note,
}

/// One line of the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) at_ms: u64,
    pub(super) tone: Tone,
    /// `mint`, `check`, `revoke`, …
    pub(super) kind: String,
    /// Why it was refused, or what else there is to say.
    pub(super) what: String,
    /// Whom it is about.
    pub(super) whom: String,
}

/// Counts of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) mints: u64,
    pub(super) checks: u64,
    pub(super) refusals: u64,
}

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Newest first.
    pub(super) events: VecDeque<Line>,
    /// Newest last.
    pub(super) rates: VecDeque<Rate>,
    /// Refusals that were shown, by reason.
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) followers: Vec<FollowerView>,
    pub(super) number: u64,
    pub(super) live_leases: u64,
    pub(super) canaries: Option<pb::Canaries>,
    /// The totals of the last second.
    totals: Option<(u64, Rate)>,
    newest_ms: Option<u64>,
    /// Events that this watcher was too slow for.
    pub(super) missed: u64,
    /// Why there is no connection now.
    pub(super) lost: Option<String>,
}

impl Seen {
    /// Takes an event.
    pub(super) fn take(&mut self, event: pb::WatchEvent) {
        self.lost = None;
        self.newest_ms = Some(event.at_ms.max(self.newest_ms.unwrap_or_default()));
        match event.what {
            Some(What::Decision(decision)) => self.decision(event.at_ms, decision),
            Some(What::Revocation(revocation)) => self.push(revoked(event.at_ms, &revocation)),
            Some(What::Followers(standing)) => self.standing(event.at_ms, standing),
            Some(What::Missed(missed)) => {
                self.missed = self.missed.saturating_add(missed.events);
                let what = format!("{} events came faster than they could be shown", missed.events);
                self.push(Line {
                    at_ms: event.at_ms,
                    tone: Tone::Note,
                    kind: "missed".into(),
                    what,
                    whom: String::new(),
                });
            }
            None => {}
        }
    }

    /// Notes that the connection is lost: what is shown is from before.
    pub(super) fn lost(&mut self, why: String) {
        self.lost = Some(why);
        self.totals = None;
    }

    fn push(&mut self, line: Line) {
        self.events.push_front(line);
        self.events.truncate(EVENTS_MAX);
    }

    fn decision(&mut self, at_ms: u64, d: pb::WatchDecision) {
        if !d.reason.is_empty() {
            *self.reasons.entry(d.reason.clone()).or_default() += 1;
        }
        let ends = matches!(d.kind.as_str(), "block" | "release" | "task_complete" | "key");
        let tone = match (d.reason.is_empty(), ends) {
            (false, _) => Tone::Refused,
            (true, true) => Tone::Ended,
            (true, false) => Tone::Good,
        };
        let subject = d.subject.as_ref().map(words).unwrap_or_default();
        // Its trust domain is the broker's own.
        let workload = SpiffeId::parse(&d.workload).map_or(d.workload, |id| id.path().to_owned());
        let whom = [&workload, &subject, &d.acceptor, &d.operator, &d.lease, &d.request];
        let whom = whom.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
        let what =
            if d.reason.is_empty() { [d.profile, d.task].join(" ").trim().to_owned() } else { d.reason };
        self.push(Line { at_ms, tone, kind: d.kind, what, whom });
    }

    fn standing(&mut self, at_ms: u64, s: pb::WatchFollowers) {
        let totals = Rate { mints: s.mints, checks: s.checks, refusals: s.refusals };
        if let Some((before_ms, before)) = self.totals {
            let ms = at_ms.saturating_sub(before_ms).max(1);
            let each = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(1_000).div_ceil(ms);
            self.rates.push_back(Rate {
                mints: each(totals.mints, before.mints),
                checks: each(totals.checks, before.checks),
                refusals: each(totals.refusals, before.refusals),
            });
            if self.rates.len() > SECONDS {
                self.rates.pop_front();
            }
        }
        self.totals = Some((at_ms, totals));
        self.followers = s.followers.into_iter().map(FollowerView::from).collect();
        self.number = s.number;
        self.live_leases = s.live_leases;
        self.canaries = s.canaries;
    }

    /// When the newest event was, by the broker's clock.
    pub(super) fn newest_ms(&self) -> Option<u64> {
        self.newest_ms
    }

    /// The rates of the last second.
    pub(super) fn now(&self) -> Rate {
        self.rates.back().copied().unwrap_or_default()
    }

    /// Reasons with their counts, the most frequent first.
    pub(super) fn top_reasons(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.reasons.iter().map(|(reason, n)| (reason.as_str(), *n)).collect();
        all.sort_by_key(|(reason, n)| (std::cmp::Reverse(*n), *reason));
        all
    }
}

fn revoked(at_ms: u64, r: &pb::WatchRevocation) -> Line {
    let whom = match (&r.subject, r.lease.is_empty()) {
        (Some(subject), _) => words(subject),
        (None, false) => format!("lease {}", r.lease),
        (None, true) => r.revocation.clone(),
    };
    let place = if r.here { "" } else { ", at another broker" };
    let what = format!("{} by {}{place}", r.reason, r.author);
    Line { at_ms, tone: Tone::Ended, kind: "revoke".into(), what: what.trim().to_owned(), whom }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn event(at_ms: u64, what: What) -> pb::WatchEvent {
        pb::WatchEvent { at_ms, what: Some(what) }
    }

    fn standing(mints: u64, checks: u64, refusals: u64) -> What {
        What::Followers(pb::WatchFollowers { mints, checks, refusals, ..Default::default() })
    }

    #[test]
    fn rates_are_of_the_last_second_and_begin_anew_after_a_loss() {
        let mut seen = Seen::default();
        seen.take(event(1_000, standing(1_000, 5, 0)));
        assert!(seen.rates.is_empty(), "one reading is no rate");
        seen.take(event(2_000, standing(1_010, 5, 3)));
        assert_eq!(seen.now(), Rate { mints: 10, checks: 0, refusals: 3 });
        seen.take(event(4_000, standing(1_030, 5, 3)));
        assert_eq!(seen.now(), Rate { mints: 10, checks: 0, refusals: 0 });
        seen.lost("gone".into());
        assert!(seen.lost.is_some());
        seen.take(event(9_000, standing(2, 0, 0)));
        assert!(seen.lost.is_none());
        assert_eq!(seen.rates.len(), 2, "another broker's counts are not held against the first one's");
        for n in 0..500_u64 {
            seen.take(event(10_000 + n, standing(n, 0, 0)));
        }
        assert_eq!(seen.rates.len(), SECONDS);
    }

    #[test]
    fn events_are_bounded_and_reasons_counted() {
        let mut seen = Seen::default();
        for n in 0..1_000 {
            let reason = if n % 3 == 0 { "LEASE_REVOKED" } else { "" };
            let decision = pb::WatchDecision {
                kind: "check".into(),
                reason: reason.into(),
                acceptor: "ledger-api".into(),
                ..Default::default()
            };
            seen.take(event(n, What::Decision(decision)));
        }
        seen.take(event(1_000, What::Missed(pb::WatchMissed { events: 7 })));
        assert_eq!((seen.events.len(), seen.missed), (EVENTS_MAX, 7));
        assert_eq!(seen.top_reasons(), [("LEASE_REVOKED", 334)]);
        assert_eq!((seen.events[1].tone, seen.events[1].whom.as_str()), (Tone::Refused, "ledger-api"));
        assert_eq!(seen.events[2].tone, Tone::Good);
    }
}
