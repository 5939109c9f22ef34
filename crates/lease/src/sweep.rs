//! The sweep: a stored job that ends, in small batches, the leases that a check refuses already.

use std::collections::BTreeSet;

use mayfly_domain::{AcceptorMode, LeaseId, LeaseState, defaults};

use crate::command::{ListQuery, ancestor_key, is_indexed};
use crate::job::{Job, JobTarget};
use crate::record::LeaseRecord;
use crate::store::{LeaseStore, StoreError};
use crate::transition::would_be_refused;

/// How long a claimed job is left alone by other brokers, in ms.
pub const CLAIM_MS: u64 = 10_000;

/// One step of a job: what it ended, and whether the job is done.
#[derive(Debug, Clone)]
pub struct SweepStep {
    /// The job after the step.
    pub job: Job,
    /// The leases that this step ended.
    pub ended: Vec<LeaseId>,
}

/// Takes one step of a claimed job: reads a page of its index, ends what the job's fence made dead, stores
/// the cursor. Repeating a step after a crash ends nothing twice.
///
/// # Errors
/// [`StoreError`]; the job stays open.
pub async fn step(store: &dyn LeaseStore, mut job: Job) -> Result<SweepStep, StoreError> {
    let (records, next) = match &job.target {
        JobTarget::Lease(id) => {
            let query =
                ListQuery { along: Some(ancestor_key(*id)), after: job.cursor, limit: defaults::SWEEP_BATCH };
            let mut page = store.list(&query).await?;
            if job.cursor.is_none() {
                page.records.extend(store.get(*id).await?);
            }
            (page.records, page.next)
        }
        JobTarget::Subject(subject, fence) => {
            let query = ListQuery {
                along: is_indexed(subject).then(|| subject.key()),
                after: job.cursor,
                limit: defaults::SWEEP_BATCH,
            };
            let page = store.list(&query).await?;
            let dead: Vec<LeaseRecord> =
                page.records.into_iter().filter(|r| would_be_refused(r, subject, *fence)).collect();
            (dead, page.next)
        }
    };
    let ids: Vec<LeaseId> = records.iter().filter(|r| is_open(r, &job)).map(|r| r.id).collect();
    let ended = if ids.is_empty() { Vec::new() } else { store.end_batch(&job, &ids).await? };
    let ended: BTreeSet<LeaseId> = ended.into_iter().collect();
    for record in records.iter().filter(|r| ended.contains(&r.id)) {
        job.ended += 1;
        job.with_side_effects += u64::from(record.has_side_effect());
        match record.body.acceptors {
            AcceptorMode::Online => job.exposure.online += 1,
            AcceptorMode::Feed => job.exposure.feed += 1,
            AcceptorMode::Offline => job.exposure.offline += 1,
        }
        job.exposure.last_ends = job.exposure.last_ends.max(record.expires);
    }
    job.cursor = next;
    job.done = next.is_none();
    store.save_job(&job, CLAIM_MS).await?;
    Ok(SweepStep { job, ended: ended.into_iter().collect() })
}

/// Whether the sweep has something to end: a record that is not over, or one that is shown as revoked by
/// this job's mark only.
fn is_open(record: &LeaseRecord, job: &Job) -> bool {
    !matches!(record.state, LeaseState::Ended(_)) || record.revocation == Some(job.id)
}
