//! The second proof of the chain: a policy permitted an action.

use std::marker::PhantomData;
use std::sync::Arc;

use mayfly_attest::AttestedFacts;
use mayfly_domain::{
    CredentialKind, Deadline, Environment, Intent, LeaseId, OperatorName, Owner, Owners, PolicyId,
    ProfileName, San, Scopes, SpiffeId, Subject, TaskReason, Ttl,
};

use crate::profile::Profile;

/// The action of a [`Authorized`]: mint.
#[derive(Debug)]
pub enum Mint {}
/// The action of a [`Authorized`]: renew.
#[derive(Debug)]
pub enum Renew {}
/// The action of a [`Authorized`]: open, read, complete a task or release leases, as the workload itself.
#[derive(Debug)]
pub enum TaskAct {}
/// The action of a [`Authorized`]: something that an operator does.
#[derive(Debug)]
pub enum Operate {}

/// The action of a [`Authorized`]: give an operator or an acceptor its certificate.
#[derive(Debug)]
pub enum Staff {}

/// The kinds of action, and the grant that each comes with.
pub trait Act: sealed::Sealed {
    /// What was granted.
    type Grant: std::fmt::Debug;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Mint {}
    impl Sealed for super::Renew {}
    impl Sealed for super::TaskAct {}
    impl Sealed for super::Operate {}
    impl Sealed for super::Staff {}
}

impl Act for Mint {
    type Grant = Grant;
}
impl Act for Renew {
    type Grant = Grant;
}
impl Act for TaskAct {
    type Grant = AttestedFacts;
}
impl Act for Operate {
    type Grant = OperatorGrant;
}

impl Act for Staff {
    type Grant = StaffGrant;
}

/// What a workload claims of its own will; nothing of it is proven.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The profile.
    pub profile: ProfileName,
    /// The intent; none: the profile's only one.
    pub intent: Option<Intent>,
    /// Words for people.
    pub reason: Option<TaskReason>,
    /// The life; none: the profile's default.
    pub ttl: Option<Ttl>,
    /// The scopes; empty: all of the profile's.
    pub scopes: Scopes,
    /// Of a certificate, the names beside the SPIFFE ID; empty: all of the profile's.
    pub names: Vec<San>,
    /// The kind of credential that the call can take, where it is particular; none: what the profile grants.
    pub kind: Option<CredentialKind>,
}

/// What a workload was granted.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The attestation.
    pub attested: AttestedFacts,
    /// The profile.
    pub profile: Arc<Profile>,
    /// The intent.
    pub intent: Intent,
    /// Words for people.
    pub reason: Option<TaskReason>,
    /// The life: the least of what was asked, the profile and the deciding policies' `@max_ttl` allow.
    pub ttl: Ttl,
    /// The scopes.
    pub scopes: Scopes,
    /// Of a certificate, the names beside the SPIFFE ID.
    pub names: Vec<San>,
    /// The policies that decided.
    pub decided_by: Vec<PolicyId>,
}

/// What operators do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperatorAction {
    /// See leases, tasks, blocks, status.
    List,
    /// End leases and tasks.
    Revoke,
    /// Refuse new mints.
    Block,
    /// Lift a block.
    Lift,
    /// Read audit records.
    Audit,
    /// Rotate, withdraw and replace signing keys and issuing CAs.
    Rotate,
    /// Make, list and withdraw join tokens for a workload.
    Join,
}

impl OperatorAction {
    /// Every action.
    pub const ALL: [Self; 7] =
        [Self::List, Self::Revoke, Self::Block, Self::Lift, Self::Audit, Self::Rotate, Self::Join];

    /// The action's id in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Revoke => "revoke",
            Self::Block => "block",
            Self::Lift => "lift",
            Self::Audit => "audit",
            Self::Rotate => "rotate",
            Self::Join => "join",
        }
    }
}

/// What an operator names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A value of a dimension; "everything" for calls that name nothing in particular.
    Subject(Subject),
    /// One lease, with what policies may ask of it.
    Lease {
        /// The lease.
        id: LeaseId,
        /// Its workload.
        workload: SpiffeId,
        /// Its owners: a policy on one of them covers the lease.
        owners: Owners,
        /// Its profile, where it has one.
        profile: Option<ProfileName>,
        /// Its task, where it has one.
        task: Option<mayfly_domain::TaskId>,
    },
    /// A workload that is to be vouched for, under one of the owners that it would have: whoever may name an owner
    /// is asked for each of them.
    Workload {
        /// The workload.
        id: SpiffeId,
        /// One of its owners.
        owner: Owner,
        /// The environment that it would have.
        environment: Option<Environment>,
    },
}

/// What an operator was permitted.
#[derive(Debug, Clone)]
pub struct OperatorGrant {
    /// Who.
    pub operator: OperatorName,
    /// What.
    pub action: OperatorAction,
    /// On what.
    pub target: Target,
    /// The policies that decided.
    pub decided_by: Vec<PolicyId>,
}

/// Whose certificate may be made: an operator or an acceptor that the configuration names.
#[derive(Debug, Clone)]
pub struct StaffGrant {
    /// Operator or acceptor.
    pub kind: CredentialKind,
    /// `spiffe://TD/mayfly/operator/NAME` or `/mayfly/acceptor/NAME`.
    pub identity: SpiffeId,
    /// Who answers for it: revoking one of them ends it.
    pub owners: Owners,
    /// The certificate's life.
    pub ttl: Ttl,
}

/// Proof that a policy permitted `A`. Only this crate's engine makes it; consumed by value by the step that it
/// permits, and worth nothing after its deadline.
#[derive(Debug)]
pub struct Authorized<A: Act> {
    grant: A::Grant,
    deadline: Deadline,
    act: PhantomData<A>,
}

impl<A: Act> Authorized<A> {
    pub(crate) fn new(grant: A::Grant, deadline: Deadline) -> Self {
        Self { grant, deadline, act: PhantomData }
    }

    /// What was granted.
    pub fn grant(&self) -> &A::Grant {
        &self.grant
    }

    /// Until when it counts.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Ends the proof and keeps what was granted.
    pub fn into_grant(self) -> A::Grant {
        self.grant
    }
}
