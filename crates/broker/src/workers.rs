//! What a broker does by itself: watch the store, sweep, withdraw old keys.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use mayfly_audit::{Kind, Outcome, Record, Stored};
use mayfly_domain::{Deadline, LeaseId};
use mayfly_lease::sweep::{CLAIM_MS, SweepStep, step};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::Broker;
use crate::feed::is_canarys;
use crate::guard::TICK;

/// How often the sweeper looks for jobs that nobody here started.
const SWEEP_IDLE: Duration = Duration::from_secs(1);
/// How many leases one audit record of a sweep names.
const RECORD_LEASES: usize = 100;
/// How long a step of a sweep waits for revocations under way, and for the next one of somebody who revokes one
/// after the other.
const STAND_BACK: Duration = Duration::from_millis(200);
const QUIET: Duration = Duration::from_millis(5);
/// How often keys are looked at.
const KEYS_IDLE: Duration = Duration::from_secs(30);

/// A revocation on its way to its acknowledgement: sweeps stand back as long as this lives.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a watch::Sender<Revocations>);

/// The revocations on their way to their acknowledgement, and until when another one is likely.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    under_way: usize,
    quiet: Option<Deadline>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|revocations| {
            revocations.under_way = revocations.under_way.saturating_sub(1);
            revocations.quiet = Some(Deadline::after(QUIET));
        });
    }
}

impl Broker {
    /// Says that a revocation is under way.
    pub(crate) fn under_way(&self) -> UnderWay<'_> {
        self.revocations().send_modify(|revocations| revocations.under_way += 1);
        UnderWay(self.revocations())
    }

    /// Runs the workers until `shutdown` is done. A sweep under way goes on where it was stored, at whichever broker
    /// claims it next.
    pub async fn work(self: Arc<Self>, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        tokio::select! {
            () = self.guard() => {}
            () = self.sweeper() => {}
            () = self.old_keys() => {}
            () = self.usage_flusher() => {}
            () = self.follower() => {}
            () = self.pinger() => {}
            () = self.feed_cleaner() => {}
            () = self.canary_keeper() => {}
            () = &mut shutdown => {}
        }
        self.flush_usage().await;
    }

    async fn guard(&self) {
        loop {
            self.look().await;
            let feed = self.feed();
            let number = feed.position().map_or(0, |at| at.number);
            self.meter().feed(number, feed.is_fresh(), feed.followers());
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = self.guard_woken().notified() => {}
                () = self.feed().turned() => {}
            }
        }
    }

    async fn sweeper(&self) {
        loop {
            while self.sweep_one().await {}
            tokio::select! {
                () = tokio::time::sleep(SWEEP_IDLE) => {}
                () = self.sweeper_woken().notified() => {}
            }
        }
    }

    /// Claims one job and sweeps it to its end; `false` where there was none or the store is away.
    pub(crate) async fn sweep_one(&self) -> bool {
        if self.revoking().is_err() {
            return false;
        }
        let store = self.leases().store();
        let mut job = match store.claim_job(CLAIM_MS).await {
            Ok(Some(job)) => job,
            Ok(None) => return false,
            Err(e) => {
                self.note(&e);
                return false;
            }
        };
        self.open_sweeps().fetch_add(1, Ordering::Relaxed);
        let mut records = Vec::new();
        let swept = loop {
            self.stand_back().await;
            match step(store.as_ref(), job).await {
                Ok(SweepStep { job: next, ended }) => {
                    // The last step's records are written while this one ran.
                    join_all(std::mem::take(&mut records)).await;
                    if !is_canarys(&next.author) {
                        records = self.swept(&next.id.to_string(), &ended);
                    }
                    if next.done {
                        if !is_canarys(&next.author) {
                            tracing::info!(revocation = %next.id, ended = next.ended, "sweep complete");
                        }
                        break true;
                    }
                    job = next;
                    tokio::task::yield_now().await;
                }
                Err(e) => {
                    tracing::warn!(error = %e, "a sweep stopped; it is resumed when its claim ends");
                    self.note(&e);
                    break false;
                }
            }
        };
        join_all(records).await;
        self.open_sweeps().fetch_sub(1, Ordering::Relaxed);
        swept
    }

    /// Lets revocations go first: a sweep tidies records that are dead already, and a step of it is one large write that
    /// an acknowledgement would wait behind. Not for long, or a stream of revocations would hold sweeps up for ever.
    pub(crate) async fn stand_back(&self) {
        let mut revocations = self.revocations().subscribe();
        let quiet = async {
            while let Ok(none) = revocations.wait_for(|r| r.under_way == 0).await.map(|r| r.quiet) {
                match none.map(|quiet| quiet.left()).filter(|left| !left.is_zero()) {
                    Some(left) => tokio::time::sleep(left).await,
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(STAND_BACK, quiet).await;
    }

    /// Hands a step's audit records in; each future is done when its record is kept.
    fn swept(&self, revocation: &str, ended: &[LeaseId]) -> Vec<JoinHandle<Stored>> {
        self.meter().swept(u64::try_from(ended.len()).unwrap_or(u64::MAX));
        let record = |leases: &[LeaseId]| {
            let mut record = Record::new(Kind::Sweep, Outcome::Allowed);
            record.revocation = Some(revocation.to_owned());
            record.count = u64::try_from(leases.len()).ok();
            record.leases = leases.to_vec();
            let audit = self.audit().clone();
            tokio::spawn(async move { audit.record_or_defer(record).await })
        };
        ended.chunks(RECORD_LEASES).map(record).collect()
    }

    async fn old_keys(&self) {
        loop {
            tokio::time::sleep(KEYS_IDLE).await;
            self.retire_finished_keys().await;
        }
    }
}
