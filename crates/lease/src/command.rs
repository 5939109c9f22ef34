//! What is asked of a store, as plain data.

use mayfly_domain::{
    Block, DimKey, EndReason, EvidenceHash, Fence, Gate, LeaseId, Observation, SignerId, Subject, TaskId,
    TaskReason, Thumbprint, Ttl, UnixMillis,
};

use crate::job::{ExposureCount, Job, JobId, JobTarget};
use crate::record::{LeaseBody, LeaseRecord};
use crate::task::{TaskBody, TaskRecord};

/// The single use of a nonce by a key: known by the lease id that they derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spend {
    /// The derived id.
    pub id: LeaseId,
    /// Until when the used mark is kept: longer than the nonce may be used.
    pub until: UnixMillis,
}

/// The use of bearer evidence by a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceUse {
    /// The hash of its signing input.
    pub hash: EvidenceHash,
    /// The hash of its issuer and `jti`, where it has one: must belong to the same key.
    pub alias: Option<EvidenceHash>,
    /// The key that presents it.
    pub key: Thumbprint,
    /// When it was issued: before the generation began (less the skew) it is refused.
    pub issued_at: UnixMillis,
    /// Until when the binding is kept: its expiry plus the skew.
    pub until: UnixMillis,
    /// Whether another key may take it over, ending what the first one got.
    pub supersede: bool,
    /// Whether one mint uses it up: a join token, which the store knows before anybody shows it.
    pub single_use: bool,
    /// The subjects whose fences the evidence observes when it is first bound: workload, owners, everything.
    pub observes: Vec<Subject>,
}

impl MintCommand {
    /// The job that ends, with its side effects, what another key got with the evidence that this mint takes
    /// over. The store sets the fence and when.
    pub fn takeover_job(&self) -> Option<Job> {
        let evidence = self.evidence.as_ref().filter(|e| e.supersede && !e.single_use)?;
        let command = RevokeCommand {
            id: JobId(*self.id.as_bytes()),
            what: RevokeWhat::Subject { subject: evidence.subject(), block: None },
            reason: TaskReason::parse("its evidence was taken over by another key").ok(),
            author: self.body.workload.to_string(),
            ticket: None,
        };
        let target = JobTarget::Subject(evidence.subject(), Fence::NONE);
        Some(Job::new(&command, target, EndReason::Revoked, UnixMillis(0)))
    }
}

impl EvidenceUse {
    /// The value of the dimension `evidence` that leases minted with it carry: the same for every form in
    /// which the issuer could show one token.
    pub fn value(&self) -> EvidenceHash {
        self.alias.unwrap_or(self.hash)
    }

    /// The same as a subject.
    pub fn subject(&self) -> Subject {
        Subject::Evidence(self.value())
    }
}

/// The task that a call joins, or opens where it is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPlan {
    /// What it would be opened with.
    pub body: TaskBody,
    /// The window that it would be opened with.
    pub window: Ttl,
    /// How long after now, at least, evidence may name it.
    pub keep_ms: u64,
}

/// A limit on what one value of a dimension may hold and mint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaRule {
    /// Whose limit it is.
    pub subject: Subject,
    /// Leases not past their hard expiry.
    pub live_max: u32,
    /// Mints a minute.
    pub per_min: u32,
    /// Mints at once.
    pub burst: u32,
}

/// A live credential that was used as evidence: the parent of what is minted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentLink {
    /// The parent's lease.
    pub id: LeaseId,
    /// What the parent carries.
    pub observation: Observation,
    /// The parent's hard expiry: the child ends no later.
    pub expires: UnixMillis,
}

/// A mint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintCommand {
    /// The lease's id.
    pub id: LeaseId,
    /// The nonce's single use; none where no nonce leads to the lease (an operator's certificate).
    pub spend: Option<Spend>,
    /// What the lease is about.
    pub body: LeaseBody,
    /// What will sign the credential.
    pub signer: SignerId,
    /// Every subject that it can be revoked by ([`LeaseBody::subjects`]).
    pub subjects: Vec<Subject>,
    /// The life of the first credential.
    pub ttl: Ttl,
    /// How long it may be renewed.
    pub lineage: Ttl,
    /// Bounds that the caller knows (an issuer's expiry), or the far future.
    pub not_after: UnixMillis,
    /// The task.
    pub task: Option<TaskPlan>,
    /// The evidence.
    pub evidence: Option<EvidenceUse>,
    /// The parent.
    pub parent: Option<ParentLink>,
    /// The quotas.
    pub quotas: Vec<QuotaRule>,
}

/// What a mint made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The lease: active, or reserved where its credential has a side effect.
    pub record: LeaseRecord,
    /// Its task.
    pub task: Option<TaskRecord>,
    /// For each quota, how many live leases there are now.
    pub live: Vec<u32>,
    /// Whether this bound the evidence to its key: then it must be durable before anything leaves.
    pub first_binding: bool,
    /// How often the evidence has changed its key by now, where this call changed it.
    pub superseded: Option<u8>,
    /// The version of the stored keys at that moment; 0 for none. Who has older ones loads them before
    /// anything leaves.
    pub keys_version: u64,
}

/// A renewal of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewCommand {
    /// The lease.
    pub id: LeaseId,
    /// The nonce's single use.
    pub spend: Spend,
    /// Who renews: must be the lease's workload.
    pub workload: Subject,
    /// The task that the evidence names: must be the lease's.
    pub task: TaskId,
    /// The key that proves the lease: must be the lease's.
    pub key: Thumbprint,
    /// The key from now on, where it is to be another; the caller has seen its proof.
    pub next: Option<Thumbprint>,
    /// What will sign the credential.
    pub signer: SignerId,
    /// What the lease is about, as read before: one that has changed since is not renewed.
    pub body: LeaseBody,
    /// The life of the next credential.
    pub ttl: Ttl,
    /// The evidence.
    pub evidence: Option<EvidenceUse>,
    /// The lease's subjects, as read before: blocks on them refuse.
    pub subjects: Vec<Subject>,
}

impl RenewCommand {
    /// Whether the lease, as read before, is the caller's.
    pub fn is_holders(&self) -> bool {
        Subject::Workload(self.body.workload.clone()) == self.workload
            && self.body.task.as_ref() == Some(&self.task)
            && self.body.key == self.key
    }

    /// What the lease is about from now on, where that is something else.
    pub fn next_body(&self) -> Option<LeaseBody> {
        self.next.filter(|next| *next != self.body.key).map(|key| LeaseBody { key, ..self.body.clone() })
    }
}

/// What a renewal made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The lease.
    pub record: LeaseRecord,
    /// The version of the stored keys at that moment; 0 for none.
    pub keys_version: u64,
}

/// A lease whose credential should be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The lease.
    pub record: LeaseRecord,
    /// The version of the stored keys at that moment; 0 for none. Who has older ones loads them first, and
    /// accepts nothing that none of them signed.
    pub keys_version: u64,
}

/// A question whether a credential should be accepted now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckCommand {
    /// The lease.
    pub id: LeaseId,
    /// The observation that the credential carries, where the caller holds the credential; must then be the
    /// record's own.
    pub observation: Option<Observation>,
}

/// What a revocation names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokeWhat {
    /// One lease; the mark of an unknown one is kept to `unknown_until` (the lineage's hard maximum).
    Lease {
        /// The lease.
        id: LeaseId,
        /// Until when to keep the mark of a lease that has no record.
        unknown_until: UnixMillis,
    },
    /// A value of a dimension, with a block in the same step where one is given.
    Subject {
        /// The subject.
        subject: Subject,
        /// The block.
        block: Option<Block>,
    },
    /// The end of a task: its fence moves and its record is ended (made, where there is none, so that it
    /// is not opened later).
    Task {
        /// The task.
        id: TaskId,
        /// Who must have opened it; none for an operator.
        by: Option<Subject>,
        /// The nonce's single use, for a workload.
        spend: Option<Spend>,
        /// The evidence, for a workload: must belong to its key.
        evidence: Option<EvidenceUse>,
        /// How long evidence may still name the task.
        keep_ms: u64,
    },
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeCommand {
    /// Its id.
    pub id: JobId,
    /// What it ends.
    pub what: RevokeWhat,
    /// Why, for people.
    pub reason: Option<TaskReason>,
    /// Who.
    pub author: String,
    /// A ticket.
    pub ticket: Option<String>,
}

/// What a revocation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The job that sweeps; none where there was nothing to do (a task that had ended before).
    pub job: Option<Job>,
    /// The gate after it, for a subject or a task.
    pub gate: Option<Gate>,
    /// The task after it, where one was ended.
    pub task: Option<TaskRecord>,
    /// How many changes the store has counted: the number of its event.
    pub changes: u64,
    /// How the leases that it covers are checked, where the index tells: for a workload, an owner and a task. Those that
    /// had ended already count until their hard expiry.
    pub exposure: Option<ExposureCount>,
}

/// A task that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStarted {
    /// The task.
    pub task: TaskRecord,
    /// Whether it was open before.
    pub joined: bool,
    /// Whether this bound the evidence to its key.
    pub first_binding: bool,
}

/// The start of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartTaskCommand {
    /// The nonce's single use.
    pub spend: Spend,
    /// The task.
    pub task: TaskPlan,
    /// The evidence.
    pub evidence: Option<EvidenceUse>,
    /// Subjects whose blocks refuse: workload, owners, task, everything.
    pub subjects: Vec<Subject>,
}

/// A holder's wish to end a lease of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndCommand {
    /// The lease.
    pub id: LeaseId,
    /// Who must hold it: workload, task and key.
    pub holder: Option<(Subject, TaskId, Thumbprint)>,
    /// How it is marked.
    pub reason: EndReason,
    /// The job that ends it, if one does.
    pub revocation: Option<JobId>,
}

/// A place in the list of leases: stable while leases come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Cursor {
    /// The partition of the expiry index; along a subject the number of the acceptors' mode.
    pub partition: u8,
    /// The expiry of the last lease that was seen.
    pub expires: UnixMillis,
    /// Its id.
    pub id: LeaseId,
}

/// A list of leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Along the index of this key ([`is_indexed`] subjects, and [`ancestor_key`]); none: along the expiry
    /// partitions, which hold every lease.
    pub along: Option<DimKey>,
    /// After this place.
    pub after: Option<Cursor>,
    /// How many index entries to look at.
    pub limit: u32,
}

/// A page of the list: what the index entries lead to. Records that are gone are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The records, with their marks applied: a marked one is shown as revoked. One that can't be read is left out;
    /// the store names it and counts it.
    pub records: Vec<LeaseRecord>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// What one step of a sweep came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The records of the page that the job has ended, by this step or by one that was not stored any more.
    pub found: Vec<LeaseRecord>,
    /// Those that this step ended.
    pub ended: Vec<LeaseId>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// Whether the index has entries for this subject's dimension.
pub const fn is_indexed(subject: &Subject) -> bool {
    matches!(subject, Subject::Workload(_) | Subject::Owner(_) | Subject::Task(_))
}

/// The key that indexes the descendants of a lease that have side effects.
pub const fn ancestor_key(id: LeaseId) -> DimKey {
    DimKey(*id.as_bytes())
}

/// The index that a job's sweep walks; none: the expiry partitions. What a takeover of evidence ended is indexed
/// only where it has a side effect, and nothing else of it waits for a sweep.
pub fn sweep_key(target: &JobTarget) -> Option<DimKey> {
    match target {
        JobTarget::Lease(id) => Some(ancestor_key(*id)),
        JobTarget::Subject(subject @ Subject::Evidence(_), _) => Some(subject.key()),
        JobTarget::Subject(subject, _) => is_indexed(subject).then(|| subject.key()),
    }
}

/// The keys that index a lease by subject.
pub fn index_keys(subjects: &[Subject]) -> Vec<DimKey> {
    subjects.iter().filter(|s| is_indexed(s)).map(Subject::key).collect()
}
