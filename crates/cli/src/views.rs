//! Leases, tasks and exposure, as several commands show them.

use mayfly_domain::UnixMillis;
use mayfly_proto::v1 as pb;
use serde::Serialize;

use crate::output::{Human, Moment, Table, View};

/// One lease.
#[derive(Debug, Serialize)]
pub(crate) struct LeaseView {
    pub(crate) lease: String,
    kind: String,
    pub(crate) state: String,
    workload: String,
    owners: Vec<String>,
    task: String,
    intent: String,
    profile: String,
    integration: String,
    audience: String,
    scopes: Vec<String>,
    names: Vec<String>,
    key: String,
    binding: String,
    signer: String,
    ancestors: Vec<String>,
    issued: Moment,
    expires: Moment,
    renewable_until: Moment,
    renewals: u32,
    rule: String,
    revocation: String,
}

impl From<pb::Lease> for LeaseView {
    fn from(l: pb::Lease) -> Self {
        Self {
            lease: l.id,
            kind: l.kind,
            state: l.state,
            workload: l.workload,
            owners: l.owners,
            task: l.task,
            intent: l.intent,
            profile: l.profile,
            integration: l.integration,
            audience: l.audience,
            scopes: l.scopes,
            names: l.names,
            key: l.key,
            binding: l.binding,
            signer: l.signer,
            ancestors: l.ancestors,
            issued: Moment(l.issued_ms),
            expires: Moment(l.expires_ms),
            renewable_until: Moment(l.renewable_until_ms),
            renewals: l.renewals,
            rule: l.rule,
            revocation: l.revocation,
        }
    }
}

impl View for LeaseView {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Fields(vec![
            ("lease", self.lease.clone()),
            ("kind", self.kind.clone()),
            ("state", self.state.clone()),
            ("workload", self.workload.clone()),
            ("owners", self.owners.join(", ")),
            ("task", self.task.clone()),
            ("intent", self.intent.clone()),
            ("profile", self.profile.clone()),
            ("integration", self.integration.clone()),
            ("audience", self.audience.clone()),
            ("scopes", self.scopes.join(" ")),
            ("names", self.names.join(" ")),
            ("key", self.key.clone()),
            ("binding", self.binding.clone()),
            ("signer", self.signer.clone()),
            ("ancestors", self.ancestors.join(" ")),
            ("issued", self.issued.human(now)),
            ("expires", self.expires.human(now)),
            ("renewable", self.renewable_until.human(now)),
            ("renewals", self.renewals.to_string()),
            ("rule", self.rule.clone()),
            ("revocation", self.revocation.clone()),
        ])
    }
}

/// Leases as rows.
pub(crate) fn lease_rows(leases: &[LeaseView], now: UnixMillis) -> Human {
    let row = |l: &LeaseView| {
        [
            l.lease.clone(),
            l.state.clone(),
            l.profile.clone(),
            l.owners.join(","),
            l.task.clone(),
            l.workload.clone(),
            l.expires.distance(now),
        ]
    };
    Human::Rows(Table::new(
        ["lease", "state", "profile", "owners", "task", "workload", "expires"],
        leases.iter().map(row),
        "no leases",
    ))
}

/// One task.
#[derive(Debug, Serialize)]
pub(crate) struct TaskView {
    pub(crate) task: String,
    workload: String,
    state: String,
    intent: String,
    reason: String,
    shared: bool,
    started: Moment,
    window_ends: Moment,
}

impl From<pb::Task> for TaskView {
    fn from(t: pb::Task) -> Self {
        Self {
            task: t.id,
            workload: t.workload,
            state: t.state,
            intent: t.intent,
            reason: t.reason,
            shared: t.shared,
            started: Moment(t.started_ms),
            window_ends: Moment(t.window_ends_ms),
        }
    }
}

impl View for TaskView {
    fn human(&self, now: UnixMillis) -> Human {
        let shared = if self.shared { "by the jobs of this run" } else { "" };
        Human::Fields(vec![
            ("task", self.task.clone()),
            ("state", self.state.clone()),
            ("workload", self.workload.clone()),
            ("intent", self.intent.clone()),
            ("reason", self.reason.clone()),
            ("shared", shared.to_owned()),
            ("started", self.started.human(now)),
            ("window ends", self.window_ends.human(now)),
        ])
    }
}

/// How the leases that a revocation covers are checked.
#[derive(Debug, Serialize)]
pub(crate) struct ExposureView {
    counted: bool,
    online: u64,
    feed: u64,
    offline: u64,
    last_ends: Moment,
}

impl From<pb::Exposure> for ExposureView {
    fn from(e: pb::Exposure) -> Self {
        Self {
            counted: e.counted,
            online: e.online,
            feed: e.feed,
            offline: e.offline,
            last_ends: Moment(e.last_ends_ms),
        }
    }
}

impl ExposureView {
    /// How many leases are covered; none where the sweep counts.
    pub(crate) fn total(&self) -> Option<u64> {
        self.counted.then(|| self.online.saturating_add(self.feed).saturating_add(self.offline))
    }

    /// In words: how many are refused since when, by how they are checked. `barrier` says whether every follower has the
    /// revocation; none where nobody waited.
    pub(crate) fn words(&self, barrier: Option<bool>, now: UnixMillis) -> String {
        let Some(total) = self.total() else { return "the sweep counts".to_owned() };
        if total == 0 {
            return "no live leases".to_owned();
        }
        let mut parts = Vec::new();
        if self.online > 0 {
            parts.push(format!("{} checked online (now)", self.online));
        }
        if self.feed > 0 {
            let since = match barrier {
                Some(true) => "barrier complete: now",
                Some(false) => "within a bound of 10 s: the barrier is not complete",
                None => "within milliseconds; at the latest after a bound of 10 s",
            };
            parts.push(format!("{} by feed ({since})", self.feed));
        }
        if self.offline > 0 {
            parts.push(format!("{} offline until {}", self.offline, self.last_ends.human(now)));
        }
        let leases = if total == 1 { "lease" } else { "leases" };
        format!("{total} {leases} at most: {}", parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposure_is_told_by_how_leases_are_checked() {
        let now = UnixMillis(1_777_000_000_000);
        let exposure = |counted, online, feed, offline| {
            let last_ends_ms = now.0 + 300_000;
            ExposureView::from(pb::Exposure { counted, online, feed, offline, last_ends_ms })
        };
        for (view, barrier, words) in [
            (exposure(false, 0, 0, 0), None, "the sweep counts"),
            (exposure(true, 0, 0, 0), Some(true), "no live leases"),
            (exposure(true, 1, 0, 0), None, "1 lease at most: 1 checked online (now)"),
            (
                exposure(true, 3, 8, 1),
                Some(true),
                "12 leases at most: 3 checked online (now), 8 by feed (barrier complete: now), \
                 1 offline until 2026-04-24T03:11:40Z (in 5m 0s)",
            ),
            (
                exposure(true, 0, 8, 0),
                Some(false),
                "8 leases at most: 8 by feed (within a bound of 10 s: the barrier is not complete)",
            ),
        ] {
            assert_eq!(view.words(barrier, now), words);
        }
    }
}
