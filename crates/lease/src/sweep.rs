//! The sweep: a stored job that ends, in small batches, the leases that a check refuses already.

use mayfly_domain::{LeaseId, defaults};

use crate::job::Job;
use crate::store::{LeaseStore, StoreError};

/// How long a claimed job is left alone by other brokers, in ms.
pub const CLAIM_MS: u64 = 10_000;

/// One step of a job: what it ended, and whether the job is done.
#[derive(Debug, Clone)]
pub struct SweepStep {
    /// The job after the step. It is stored by the next step, or by this one where it is done.
    pub job: Job,
    /// The leases that this step ended.
    pub ended: Vec<LeaseId>,
}

/// Takes one step of a claimed job. Repeating a step after a crash ends nothing twice, and counts what the step
/// before it had ended.
///
/// # Errors
/// [`StoreError`]; the job stays open.
pub async fn step(store: &dyn LeaseStore, mut job: Job) -> Result<SweepStep, StoreError> {
    let swept = store.sweep(&job, defaults::SWEEP_BATCH, CLAIM_MS).await?;
    for record in &swept.found {
        job.ended += 1;
        job.with_side_effects += u64::from(record.has_side_effect());
        job.exposure.add(record.body.acceptors, 1, record.expires);
    }
    job.cursor = swept.next;
    job.done = swept.next.is_none();
    if job.done {
        store.save_job(&job, CLAIM_MS).await?;
    }
    Ok(SweepStep { job, ended: swept.ended })
}
