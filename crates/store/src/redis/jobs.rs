//! Sweeps as stored jobs, and side effects that wait to be undone.

use mayfly_domain::{Fence, LeaseId, UnixMillis};
use mayfly_lease::command::sweep_key;
use mayfly_lease::job::{Job, JobId, JobTarget};
use mayfly_lease::record::{FLAG_UNDONE_ONCE, reason_octet};
use mayfly_lease::{LeaseRecord, StoreError, Swept};

use super::RedisStore;
use super::keys::{self, Keys};
use super::lease::{cursor, place};
use super::pack::Pack;
use super::run::{Call, Lane};
use super::script::SCRIPTS;

/// Reads a stored job and until when it is kept: the octets that a script wrote say when it began and which
/// fence it set.
fn stored_job(bytes: &[u8]) -> Result<(Job, Option<UnixMillis>), StoreError> {
    let mut r = mayfly_domain::codec::Reader::new("job", bytes);
    let (since, fence, until) = (UnixMillis(r.u64()?), r.u64()?, r.u64()?);
    let mut job = Job::decode(r.rest())?;
    job.since = since;
    if let JobTarget::Subject(_, set) = &mut job.target {
        *set = Fence::new(fence).map_err(|_| StoreError::Corrupt("a job's fence".into()))?;
    }
    Ok((job, (until != 0).then_some(UnixMillis(until))))
}

/// What stands before a job: when it began, and the fence.
fn began(job: &Job) -> Vec<u8> {
    let fence = match &job.target {
        JobTarget::Lease(_) => 0,
        JobTarget::Subject(_, fence) => fence.value(),
    };
    Pack::default().time(job.since).u64(fence).done()
}

impl RedisStore {
    pub(super) async fn do_claim_job(&self, lease_ms: u64) -> Result<Option<Job>, StoreError> {
        let args = vec![Pack::default().u64(lease_ms).done()];
        let mut answer = self.run(Lane::Back, Call::new(&SCRIPTS.claim_job, Keys::new([]), args)).await?;
        Ok(answer.maybe()?.map(|job| stored_job(&job)).transpose()?.map(|(job, _)| job))
    }

    pub(super) async fn do_sweep(&self, job: &Job, limit: u32, lease_ms: u64) -> Result<Swept, StoreError> {
        let (covers, itself) = match &job.target {
            JobTarget::Subject(subject, fence) => {
                (Pack::default().bytes(&subject.key().0).u48(fence.value()).done(), Vec::new())
            }
            JobTarget::Lease(id) if job.cursor.is_none() => (Vec::new(), id.as_bytes().to_vec()),
            JobTarget::Lease(_) => Default::default(),
        };
        let args = vec![
            place(job.cursor, limit),
            job.id.0.to_vec(),
            began(job),
            job.encode()?,
            Pack::default().u64(lease_ms).done(),
            vec![reason_octet(job.end)],
            covers,
            itself,
        ];
        let keys = [keys::job(job.id)].into_iter().chain(sweep_key(&job.target).map(keys::index));
        let mut answer = self.run(Lane::Back, Call::new(&SCRIPTS.sweep, Keys::new(keys), args)).await?;
        let next = answer.maybe()?.map(|place| cursor(&place)).transpose()?;
        let (mut found, mut broken) = (answer.list()?, answer.list()?);
        let mut swept = Swept { next, ..Swept::default() };
        while found.left() > 0 {
            let bytes = found.bytes()?;
            let mut r = mayfly_domain::codec::Reader::new("swept lease", &bytes);
            let (id, now) = (LeaseId::from_bytes(r.array()?), r.flag()?);
            swept.ended.extend(now.then_some(id));
            let record = LeaseRecord::decode(id, r.rest()).map_err(StoreError::from);
            swept.found.extend(self.unreadable.pass(id, record)?);
        }
        while broken.left() > 0 {
            self.unreadable.note(LeaseId::from_bytes(broken.id()?), "not of a record's form");
        }
        Ok(swept)
    }

    pub(super) async fn do_save_job(&self, job: &Job, lease_ms: u64) -> Result<(), StoreError> {
        let args = vec![
            job.id.0.to_vec(),
            began(job),
            job.encode()?,
            if job.done { b"1".to_vec() } else { b"0".to_vec() },
            Pack::default().u64(lease_ms).done(),
            Pack::default().u64(job.brief_ms().unwrap_or_default()).done(),
        ];
        let keys = Keys::new([keys::job(job.id)]);
        self.run(Lane::Back, Call::new(&SCRIPTS.save_job, keys, args)).await?;
        Ok(())
    }

    pub(super) async fn do_job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let (now, values) = self.read(Lane::Hot, [keys::job(id)]).await?;
        let stored = values.into_iter().flatten().next().map(|bytes| stored_job(&bytes)).transpose()?;
        Ok(stored.filter(|(_, until)| until.is_none_or(|until| now < until)).map(|(job, _)| job))
    }

    pub(super) async fn do_due_undos(&self, limit: u32) -> Result<Vec<LeaseRecord>, StoreError> {
        let args = vec![Pack::default().u32(limit.min(1_000)).done()];
        let call = Call::new(&SCRIPTS.due_undos, Keys::new([]), args);
        let mut answer = self.run(Lane::Back, call).await?.list()?;
        let mut due = Vec::with_capacity(answer.left());
        while answer.left() > 0 {
            let bytes = answer.bytes()?;
            let mut r = mayfly_domain::codec::Reader::new("undo", &bytes);
            let id = LeaseId::from_bytes(r.array()?);
            let record = LeaseRecord::decode(id, r.rest()).map_err(StoreError::from);
            due.extend(self.unreadable.pass(id, record)?);
        }
        Ok(due)
    }

    pub(super) async fn do_undone(&self, due: &LeaseRecord) -> Result<(), StoreError> {
        let once = due.flags & FLAG_UNDONE_ONCE != 0;
        let args = vec![due.id.as_bytes().to_vec(), vec![u8::from(once)]];
        let keys = Keys::new([keys::record(due.id)]);
        self.run(Lane::Back, Call::new(&SCRIPTS.undone, keys, args)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mayfly_domain::{Dimension, EndReason, Subject};
    use mayfly_lease::job::ExposureCount;

    #[test]
    fn what_the_script_wrote_goes_before_what_was_asked() {
        let mut job = Job {
            id: JobId([7; 16]),
            target: JobTarget::Subject(Subject::parse(Dimension::Profile, "x").unwrap(), Fence::NONE),
            end: EndReason::Revoked,
            reason: None,
            author: "spiffe://example.org/mayfly/operator/a".into(),
            ticket: None,
            since: UnixMillis(0),
            cursor: None,
            ended: 0,
            with_side_effects: 0,
            exposure: ExposureCount::default(),
            done: false,
        };
        let written = Pack::default().u64(1_000).u64(77).u64(0).bytes(&job.encode().unwrap()).done();
        job.since = UnixMillis(1_000);
        if let JobTarget::Subject(_, fence) = &mut job.target {
            *fence = Fence::new(77).unwrap();
        }
        assert_eq!(stored_job(&written).unwrap(), (job.clone(), None));
        let done = [began(&job), 5_u64.to_be_bytes().to_vec(), job.encode().unwrap()].concat();
        assert_eq!(stored_job(&done).unwrap(), (job, Some(UnixMillis(5))));
        assert!(stored_job(&written[..20]).is_err());
    }
}
