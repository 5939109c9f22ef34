//! Events as JSON, one a line.

use mayfly_proto::v1 as pb;
use mayfly_proto::v1::watch_event::What;
use serde::Serialize;

use super::super::barrier::FollowerView;
use crate::output::Moment;
use crate::subject::words;

/// One event: when, and exactly one of the others.
#[derive(Default, Serialize)]
struct Line {
    at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation: Option<Revocation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<Standing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

#[derive(Serialize)]
struct Decision {
    kind: String,
    /// Why it was refused; none: it was not.
    reason: Option<String>,
    workload: String,
    owners: Vec<String>,
    profile: String,
    task: String,
    lease: String,
    acceptor: String,
    operator: String,
    subject: String,
    request: String,
}

#[derive(Serialize)]
struct Revocation {
    revocation: String,
    subject: String,
    lease: String,
    author: String,
    reason: String,
    number: u64,
    here: bool,
}

#[derive(Serialize)]
struct Standing {
    number: u64,
    live_leases: u64,
    mints: u64,
    refusals: u64,
    checks: u64,
    canaries: Option<Canaries>,
    followers: Vec<FollowerView>,
}

#[derive(Serialize)]
struct Canaries {
    measured: u64,
    online_p50_us: u32,
    online_p99_us: u32,
    feed_p50_us: u32,
    feed_p99_us: u32,
    accepted_after: u64,
}

/// The line of an event, without its end.
pub(super) fn line(event: &pb::WatchEvent) -> String {
    let mut line = Line { at: Some(Moment(event.at_ms)), ..Line::default() };
    match event.what.clone() {
        Some(What::Decision(d)) => {
            line.decision = Some(Decision {
                kind: d.kind,
                reason: Some(d.reason).filter(|reason| !reason.is_empty()),
                workload: d.workload,
                owners: d.owners,
                profile: d.profile,
                task: d.task,
                lease: d.lease,
                acceptor: d.acceptor,
                operator: d.operator,
                subject: d.subject.as_ref().map(words).unwrap_or_default(),
                request: d.request,
            });
        }
        Some(What::Revocation(r)) => {
            line.revocation = Some(Revocation {
                revocation: r.revocation,
                subject: r.subject.as_ref().map(words).unwrap_or_default(),
                lease: r.lease,
                author: r.author,
                reason: r.reason,
                number: r.number,
                here: r.here,
            });
        }
        Some(What::Followers(s)) => {
            line.standing = Some(Standing {
                number: s.number,
                live_leases: s.live_leases,
                mints: s.mints,
                refusals: s.refusals,
                checks: s.checks,
                canaries: s.canaries.map(|c| Canaries {
                    measured: c.measured,
                    online_p50_us: c.online_p50_us,
                    online_p99_us: c.online_p99_us,
                    feed_p50_us: c.feed_p50_us,
                    feed_p99_us: c.feed_p99_us,
                    accepted_after: c.accepted_after,
                }),
                followers: s.followers.into_iter().map(FollowerView::from).collect(),
            });
        }
        Some(What::Missed(missed)) => line.missed = Some(missed.events),
        None => {}
    }
    // It is made of text and numbers alone.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_one_thing() {
        let event = pb::WatchEvent {
            at_ms: 1_500,
            what: Some(What::Decision(pb::WatchDecision {
                kind: "check".into(),
                reason: "LEASE_REVOKED".into(),
                acceptor: "a\nb".into(),
                ..Default::default()
            })),
        };
        let text = line(&event);
        assert_eq!(text.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&read["at"], &read["decision"]["reason"]),
            (&"1970-01-01T00:00:01.500Z".into(), &"LEASE_REVOKED".into())
        );
        assert_eq!(read.as_object().unwrap().len(), 2, "{text}");
        let missed = pb::WatchEvent { at_ms: 1, what: Some(What::Missed(pb::WatchMissed { events: 3 })) };
        assert!(line(&missed).contains("\"missed\":3"));
    }
}
