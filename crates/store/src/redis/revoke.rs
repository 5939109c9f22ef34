//! Revocations and blocks: durable when they return.

use mayfly_domain::{Block, DimKey, EndReason, Fence, Gate, LeaseId, Subject, UnixMillis};
use mayfly_lease::command::{EvidenceUse, RevokeCommand, RevokeWhat, Revoked, Spend, is_indexed};
use mayfly_lease::job::{ExposureCount, Job, JobTarget};
use mayfly_lease::task::{TaskBody, encode_body};
use mayfly_lease::{StoreError, TaskRecord, gate};

use super::RedisStore;
use super::answer::Answer;
use super::evidence::present;
use super::keys::{self, Keys};
use super::pack::Pack;
use super::run::{Call, Lane};
use super::script::SCRIPTS;

/// How many gates are read in one step.
const GATES_AT_ONCE: usize = 200;

/// The job as it is asked for; the script adds when, and which fence.
fn job(command: &RevokeCommand, target: JobTarget, end: EndReason) -> Job {
    Job::new(command, target, end, UnixMillis(0))
}

/// How a task is ended.
struct TaskEnd<'a> {
    by: Option<&'a Subject>,
    spend: Option<Spend>,
    evidence: Option<&'a EvidenceUse>,
    keep: u64,
}

fn block_end(block: Option<&Block>) -> Vec<u8> {
    Pack::default().u64(block.and_then(|b| b.until).map_or(0, |t| t.0)).done()
}

fn fence(answer: &mut Answer) -> Result<Fence, StoreError> {
    Fence::new(answer.u64()?).map_err(|_| StoreError::Corrupt("a fence too large".into()))
}

/// Online, feed, offline, when the last ends; nothing where there is no index.
fn exposure(answer: &mut Answer) -> Result<Option<ExposureCount>, StoreError> {
    let mut counts = answer.list()?;
    if counts.left() == 0 {
        return Ok(None);
    }
    let (online, feed, offline) = (counts.u64()?, counts.u64()?, counts.u64()?);
    Ok(Some(ExposureCount { online, feed, offline, last_ends: UnixMillis(counts.u64()?) }))
}

impl RedisStore {
    pub(super) async fn do_revoke(&self, command: &RevokeCommand) -> Result<Revoked, StoreError> {
        match &command.what {
            RevokeWhat::Lease { id, unknown_until } => {
                let mut job = job(command, JobTarget::Lease(*id), EndReason::Revoked);
                let keys = Keys::new([keys::record(*id), keys::mark(*id), keys::job(job.id)]);
                let args = vec![
                    job.id.0.to_vec(),
                    job.encode()?,
                    Pack::default().time(*unknown_until).done(),
                    id.as_bytes().to_vec(),
                ];
                let call = Call::new(&SCRIPTS.revoke_lease, keys, args);
                let mut answer = self.run(Lane::Durable, call).await?;
                job.since = Self::time(&mut answer)?;
                let changes = self.known.told(answer.u64()?);
                Ok(Revoked { job: Some(job), gate: None, task: None, changes, exposure: None })
            }
            RevokeWhat::Subject { subject, block } => {
                self.revoke_subject(command, subject, block.as_ref()).await
            }
            RevokeWhat::Task { id, by, spend, evidence, keep_ms } => {
                let subject = Subject::Task(id.clone());
                let end =
                    TaskEnd { by: by.as_ref(), spend: *spend, evidence: evidence.as_ref(), keep: *keep_ms };
                let body = match by {
                    Some(Subject::Workload(workload)) => Some(TaskBody {
                        id: id.clone(),
                        workload: workload.clone(),
                        intent: None,
                        reason: None,
                        shared: false,
                    }),
                    _ => None,
                };
                self.revoke_task(command, &subject, &end, body.as_ref()).await
            }
        }
    }

    async fn revoke_subject(
        &self,
        command: &RevokeCommand,
        subject: &Subject,
        block: Option<&Block>,
    ) -> Result<Revoked, StoreError> {
        let job = job(command, JobTarget::Subject(subject.clone(), Fence::NONE), EndReason::Revoked);
        let index = is_indexed(subject).then(|| keys::index(subject.key()));
        let keys = Keys::new([keys::gate(subject.key()), keys::job(job.id)].into_iter().chain(index));
        let args = vec![
            job.id.0.to_vec(),
            job.encode()?,
            subject.key().0.to_vec(),
            gate::encode_tail(subject, None)?,
            if block.is_some() { b"1".to_vec() } else { b"0".to_vec() },
            block_end(block),
            gate::encode_tail(subject, block)?,
        ];
        let mut answer = self.run(Lane::Durable, Call::new(&SCRIPTS.revoke_subject, keys, args)).await?;
        let since = Self::time(&mut answer)?;
        let changes = self.known.told(answer.u64()?);
        let (_, gate) = gate::decode(&answer.bytes()?)?;
        let target = JobTarget::Subject(subject.clone(), fence(&mut answer)?);
        let exposure = exposure(&mut answer)?;
        Ok(Revoked {
            job: Some(Job { since, target, ..job }),
            gate: Some(gate),
            task: None,
            changes,
            exposure,
        })
    }

    async fn revoke_task(
        &self,
        command: &RevokeCommand,
        subject: &Subject,
        end: &TaskEnd<'_>,
        never_opened: Option<&TaskBody>,
    ) -> Result<Revoked, StoreError> {
        let job = job(command, JobTarget::Subject(subject.clone(), Fence::NONE), EndReason::Completed);
        let key = subject.key();
        // Without a nonce its place is held by one that the script leaves alone.
        let used = keys::used(end.spend.map_or(LeaseId::from_bytes([0; 16]), |s| s.id));
        let mut keys = Keys::new([keys::task(key), keys::gate(key), keys::job(job.id), used]);
        let presented = present(end.evidence, &mut keys)?;
        let by = match end.by {
            None => 0,
            Some(Subject::Workload(_)) => 1,
            Some(_) => 2,
        };
        let plan = Pack::default()
            .u8(keys.len())
            .u8(presented.binding_at)
            .flag(end.spend.is_some())
            .u8(by)
            .u64(end.spend.map_or(0, |s| s.until.0))
            .u64(end.keep)
            .bytes(&end.by.map_or(DimKey([0; 16]), Subject::key).0)
            .bytes(&key.0);
        keys.push(keys::index(key));
        let args = vec![
            job.id.0.to_vec(),
            job.encode()?,
            presented.packed,
            plan.done(),
            never_opened.map(encode_body).transpose()?.unwrap_or_default(),
            gate::encode_tail(subject, None)?,
        ];
        let mut answer = self.run(Lane::Durable, Call::placed(&SCRIPTS.revoke_task, keys, args)?).await?;
        let since = Self::time(&mut answer)?;
        let changes = self.known.told(answer.u64()?);
        let task = Some(TaskRecord::decode(&answer.bytes()?)?);
        let Some(gate) = answer.maybe()? else {
            return Ok(Revoked { job: None, gate: None, task, changes, exposure: None });
        };
        let (_, gate) = gate::decode(&gate)?;
        let target = JobTarget::Subject(subject.clone(), fence(&mut answer)?);
        let exposure = exposure(&mut answer)?;
        Ok(Revoked { job: Some(Job { since, target, ..job }), gate: Some(gate), task, changes, exposure })
    }

    pub(super) async fn do_set_block(
        &self,
        subject: &Subject,
        block: Option<Block>,
    ) -> Result<Gate, StoreError> {
        let args = vec![
            subject.key().0.to_vec(),
            if block.is_some() { b"1".to_vec() } else { b"0".to_vec() },
            block_end(block.as_ref()),
            gate::encode_tail(subject, block.as_ref())?,
        ];
        let keys = Keys::new([keys::gate(subject.key())]);
        let mut answer = self.run(Lane::Durable, Call::new(&SCRIPTS.set_block, keys, args)).await?;
        Ok(gate::decode(&answer.bytes()?)?.1)
    }

    pub(super) async fn do_blocks(&self) -> Result<Vec<(Subject, Gate)>, StoreError> {
        let call = Call::new(&SCRIPTS.blocks, Keys::new([]), Vec::new());
        let mut answer = self.run(Lane::Hot, call).await?.list()?;
        let mut all = Vec::with_capacity(answer.left());
        while answer.left() > 0 {
            if let (Some(subject), gate) = gate::decode(&answer.bytes()?)? {
                all.push((subject, gate));
            }
        }
        Ok(all)
    }

    pub(super) async fn do_gates(&self, list: &[DimKey]) -> Result<Vec<Option<Gate>>, StoreError> {
        let mut gates = Vec::with_capacity(list.len());
        for some in list.chunks(GATES_AT_ONCE) {
            let (_, values) = self.read(Lane::Hot, some.iter().map(|key| keys::gate(*key))).await?;
            for value in values {
                gates.push(value.as_deref().map(gate::decode).transpose()?.map(|(_, gate)| gate));
            }
        }
        Ok(gates)
    }

    pub(super) async fn do_knows(&self, subject: &Subject) -> Result<bool, StoreError> {
        let key = subject.key();
        let index = is_indexed(subject).then(|| keys::index(key));
        let keys = Keys::new([keys::gate(key), keys::task(key)].into_iter().chain(index));
        let mut answer = self.run(Lane::Hot, Call::new(&SCRIPTS.knows, keys, Vec::new())).await?;
        Ok(answer.int()? == 1)
    }
}
