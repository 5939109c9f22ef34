//! What credentials were used for at accepted checks: scopes and intents, counted for each profile and workload.
//!
//! Counted in memory, by this broker's own checks and by followers' reports alike, and added to the store from time to
//! time: it is the ground on which profiles are made smaller, never one on which anything is decided. A lost broker
//! loses the last seconds; an outage of the store loses nothing while there is room.

use std::collections::HashMap;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use mayfly_domain::{AcceptorName, LeaseId, ProfileName, SpiffeId, UnixMillis};
use mayfly_lease::feed::{UsageCount, UsedItem};
use mayfly_lease::{LeaseRecord, StoreError};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::staff::AcceptorEntry;

/// How often counts go to the store.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// How many different things are counted between two times; more are not counted.
const MOST: usize = 65_536;
/// How many counts go to the store at once.
const AT_ONCE: usize = 1_000;
/// How many leases of reports are read at once.
const READS: usize = 16;
const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct What {
    day: u32,
    profile: ProfileName,
    workload: SpiffeId,
    item: UsedItem,
}

/// What a follower says of a lease: the lease's record tells the rest, and whether it can be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Report {
    by: AcceptorName,
    item: UsedItem,
}

type Reports = HashMap<LeaseId, HashMap<Report, u64>>;

#[derive(Debug, Default)]
struct Counted {
    uses: HashMap<What, u64>,
    reports: Reports,
    /// How many reports there are.
    reported: usize,
    /// Uses that found no room since the last time.
    left_out: u64,
}

/// The counts that the store has not got yet.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<Counted>);

impl Usage {
    /// Counts `uses` of one thing at `now`.
    pub(crate) fn record(
        &self,
        now: UnixMillis,
        profile: &ProfileName,
        workload: &SpiffeId,
        item: UsedItem,
        uses: u64,
    ) {
        let day = u32::try_from(now.0 / DAY_MS).unwrap_or(u32::MAX);
        let what = What { day, profile: profile.clone(), workload: workload.clone(), item };
        self.0.lock().add(what, uses);
    }

    /// Keeps a follower's report until its lease is read.
    fn report(&self, lease: LeaseId, report: Report, uses: u64) {
        self.0.lock().add_report(lease, report, uses);
    }

    fn take_reports(&self) -> Reports {
        let mut counted = self.0.lock();
        counted.reported = 0;
        std::mem::take(&mut counted.reports)
    }

    fn put_back_reports(&self, lease: LeaseId, reports: HashMap<Report, u64>) {
        let mut counted = self.0.lock();
        for (report, uses) in reports {
            counted.add_report(lease, report, uses);
        }
    }

    /// Takes everything that was counted, and how many uses were not.
    fn take(&self) -> (Vec<UsageCount>, u64) {
        let mut counted = self.0.lock();
        let (uses, left_out) = (std::mem::take(&mut counted.uses), std::mem::take(&mut counted.left_out));
        drop(counted);
        let count = |(what, uses): (What, u64)| UsageCount {
            day: what.day,
            profile: what.profile,
            workload: what.workload,
            item: what.item,
            uses,
        };
        (uses.into_iter().map(count).collect(), left_out)
    }

    fn put_back(&self, counts: &[UsageCount]) {
        let mut counted = self.0.lock();
        for UsageCount { day, profile, workload, item, uses } in counts.iter().cloned() {
            counted.add(What { day, profile, workload, item }, uses);
        }
    }
}

impl Counted {
    fn add(&mut self, what: What, uses: u64) {
        if let Some(so_far) = self.uses.get_mut(&what) {
            *so_far = so_far.saturating_add(uses);
        } else if self.uses.len() < MOST {
            self.uses.insert(what, uses);
        } else {
            self.left_out = self.left_out.saturating_add(uses);
        }
    }

    fn add_report(&mut self, lease: LeaseId, report: Report, uses: u64) {
        let has_room = self.reported < MOST;
        let of_lease = self.reports.get_mut(&lease);
        if let Some(so_far) = of_lease.and_then(|reports| reports.get_mut(&report)) {
            *so_far = so_far.saturating_add(uses);
        } else if has_room {
            self.reports.entry(lease).or_default().insert(report, uses);
            self.reported += 1;
        } else {
            self.left_out = self.left_out.saturating_add(uses);
        }
    }
}

/// Whether the acceptor can have seen this used: it may check the lease's credential, which grants it.
fn can_be(item: &UsedItem, record: &LeaseRecord, entry: &AcceptorEntry) -> bool {
    let body = &record.body;
    let may_check = match &body.audience {
        Some(audience) => entry.audiences.contains(audience),
        None => entry.certificates,
    };
    may_check
        && match item {
            UsedItem::Intent(intent) => body.intent.as_ref() == Some(intent),
            UsedItem::Scope(scope) => body.scopes.iter().any(|granted| granted == scope),
        }
}

impl Broker {
    /// Counts what a follower says that it used; its word is good for what it may check only.
    pub(crate) fn used(&self, by: &AcceptorName, lease: LeaseId, item: UsedItem, uses: u64) {
        self.usage().report(lease, Report { by: by.clone(), item }, uses);
    }

    /// Reads the leases that followers reported of and counts what can have been.
    async fn read_reports(&self) {
        let read = |(lease, reports)| async move { (lease, reports, self.leases().store().get(lease).await) };
        let mut settled = stream::iter(self.usage().take_reports()).map(read).buffer_unordered(READS);
        while let Some((lease, reports, record)) = settled.next().await {
            match record {
                Ok(record) => self.count_reports(lease, record.as_ref(), reports),
                Err(StoreError::Corrupt(_)) => self.count_reports(lease, None, reports),
                Err(e) => {
                    tracing::debug!(error = %e, "reported uses are counted later");
                    self.usage().put_back_reports(lease, reports);
                }
            }
        }
    }

    fn count_reports(&self, lease: LeaseId, record: Option<&LeaseRecord>, reports: HashMap<Report, u64>) {
        let (running, now) = (self.running(), self.clock().now());
        for (Report { by, item }, uses) in reports {
            let counts = record.zip(running.acceptors.get(&by)).filter(|(r, entry)| can_be(&item, r, entry));
            match counts.and_then(|(record, _)| Some((record.body.profile.as_ref()?, &record.body.workload)))
            {
                Some((profile, workload)) => self.usage().record(now, profile, workload, item, uses),
                None => {
                    tracing::debug!(acceptor = %by, %lease, "a report of uses is of no lease that it may check")
                }
            }
        }
    }

    /// Adds everything that was counted to the store; what it does not take is kept for the next time.
    pub async fn flush_usage(&self) {
        self.read_reports().await;
        let (counts, left_out) = self.usage().take();
        if left_out > 0 {
            tracing::warn!(left_out, "uses were not counted: too many different ones at once");
        }
        let mut left = counts.as_slice();
        while let Some((now, later)) =
            left.split_at_checked(AT_ONCE.min(left.len())).filter(|_| !left.is_empty())
        {
            if let Err(e) = self.leases().store().add_usage(now).await {
                tracing::debug!(error = %e, "uses are counted later");
                self.usage().put_back(left);
                return;
            }
            left = later;
        }
    }

    /// Flushes again and again.
    pub(crate) async fn usage_flusher(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.flush_usage().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(n: usize) -> UsedItem {
        UsedItem::Scope(format!("s{n}").parse().unwrap())
    }

    fn record(usage: &Usage, now: u64, item: UsedItem, uses: u64) {
        let workload = SpiffeId::parse("spiffe://acme.internal/ci/deploy").unwrap();
        usage.record(UnixMillis(now), &"deploy".parse().unwrap(), &workload, item, uses);
    }

    #[test]
    fn uses_add_up_by_day_and_thing() {
        let usage = Usage::default();
        record(&usage, 0, scope(1), 1);
        record(&usage, DAY_MS - 1, scope(1), 2);
        record(&usage, DAY_MS, scope(1), 4);
        record(&usage, 0, UsedItem::Intent("deploy:payments".parse().unwrap()), u64::MAX);
        record(&usage, 0, UsedItem::Intent("deploy:payments".parse().unwrap()), 1);
        let (mut counts, left_out) = usage.take();
        counts.sort_by_key(|c| c.uses);
        let seen: Vec<(u32, u64)> = counts.iter().map(|c| (c.day, c.uses)).collect();
        assert_eq!((seen, left_out), (vec![(0, 3), (1, 4), (0, u64::MAX)], 0));
        assert!(usage.take().0.is_empty());
        usage.put_back(&counts);
        record(&usage, 0, scope(1), 1);
        assert_eq!(usage.take().0.iter().find(|c| c.day == 0 && c.item == scope(1)).unwrap().uses, 4);
    }

    #[test]
    fn memory_is_bounded_and_what_is_known_still_counts() {
        let usage = Usage::default();
        (0..MOST + 5).for_each(|n| record(&usage, 0, scope(n), 1));
        record(&usage, 0, scope(0), 1);
        let (counts, left_out) = usage.take();
        assert_eq!((counts.len(), left_out), (MOST, 5));
        assert_eq!(counts.iter().find(|c| c.item == scope(0)).unwrap().uses, 2);
        assert_eq!(usage.take().1, 0);
    }
}
