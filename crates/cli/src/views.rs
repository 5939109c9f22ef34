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

    /// In words: how many are dead already, and when the rest is.
    pub(crate) fn words(&self, now: UnixMillis) -> String {
        let Some(total) = self.total() else { return "the sweep counts".to_owned() };
        match self.offline {
            0 => format!("{total} leases, each refused from now on"),
            n => format!(
                "{total} leases; {n} of them are checked offline only and end by themselves, the last one {}",
                self.last_ends.distance(now)
            ),
        }
    }
}
