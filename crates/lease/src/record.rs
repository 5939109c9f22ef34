//! The lease record and its compact binary form.
//!
//! # Layout (version 1, integers big-endian)
//! | octets | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1 | state: 0 reserved, 1 active, 2 ended |
//! | 2 | end reason: 0 none, 1 expired, 2 released, 3 completed, 4 revoked, 5 abandoned |
//! | 3 | flags: 1 side effect, 2 ended while reserved, 4 undone once, 8 undone for good |
//! | 4–7 | renewal counter |
//! | 8–15 | issued, ms |
//! | 16–23 | hard expiry of the newest credential, ms |
//! | 24–31 | renewable until, ms |
//! | 32–39 | to be confirmed by, ms |
//! | 40–55 | id of the revocation that ended it, zeros for none |
//! | 56–71 | what signed the newest credential: the first half of its key's thumbprint |
//! | 72–73 | length of the observation |
//! | 74– | observation, then the body (postcard) |
//!
//! The head has fixed places so that a store's scripts read and change it without knowing the body.

use std::collections::BTreeMap;

use mayfly_domain::codec::{Malformed, Reader};
use mayfly_domain::{
    AcceptorMode, Audience, Binding, CredentialId, CredentialKind, EndReason, Environment, EvidenceHash,
    IntegrationName, Intent, LeaseId, LeaseState, Observation, Owners, ProfileName, RuleName, San, Scopes,
    SignerId, SpiffeId, Subject, TaskId, Thumbprint, TrustDomain, UnixMillis,
};

use crate::job::JobId;

const VERSION: u8 = 1;
const WHAT: &str = "lease record";

/// Length of the fixed head, the observation's length included.
pub const HEAD_LEN: usize = 74;

/// Flag: making the credential leaves something at a target.
pub const FLAG_SIDE_EFFECT: u8 = 1;
/// Flag: the record was ended before its credential was confirmed.
pub const FLAG_ENDED_RESERVED: u8 = 2;
/// Flag: of such a record, the first undo is done.
pub const FLAG_UNDONE_ONCE: u8 = 4;
/// Flag: the undo is confirmed for good.
pub const FLAG_UNDONE: u8 = 8;

/// What a lease is about; written once, but for the key, which a renewal may change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeaseBody {
    /// The kind of credential.
    pub kind: CredentialKind,
    /// Who holds it.
    pub workload: SpiffeId,
    /// Who answers for it.
    pub owners: Owners,
    /// The task, for a workload's lease.
    pub task: Option<TaskId>,
    /// The task's intent.
    pub intent: Option<Intent>,
    /// The profile.
    pub profile: Option<ProfileName>,
    /// What it opens.
    pub integration: Option<IntegrationName>,
    /// Who accepts it.
    pub audience: Option<Audience>,
    /// What it may do there.
    pub scopes: Scopes,
    /// The holder's key; a renewal that proves both may change it.
    pub key: Thumbprint,
    /// How it is bound to the key.
    pub binding: Binding,
    /// How acceptors check it.
    pub acceptors: AcceptorMode,
    /// The trust rule that accepted the evidence.
    pub rule: Option<RuleName>,
    /// The evidence that it was minted with.
    pub evidence: Option<EvidenceHash>,
    /// What a certificate's lease has beside.
    pub x509: Option<X509Body>,
}

/// What a certificate's lease has beside: its names, and what its holder may show when it uses the certificate as
/// evidence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct X509Body {
    /// The names beside the SPIFFE ID.
    pub names: Vec<San>,
    /// Whether it is for TLS clients.
    pub client: bool,
    /// Whether it is for TLS servers.
    pub server: bool,
    /// The environment of the first evidence's trust rule.
    pub environment: Option<Environment>,
    /// The claims that policies may see.
    pub tags: BTreeMap<String, String>,
}

impl LeaseBody {
    /// Every value of a dimension that this lease can be revoked by, its trust domain included for
    /// workloads' leases.
    pub fn subjects(&self, trust_domain: &TrustDomain) -> Vec<Subject> {
        let mut all = Vec::with_capacity(10);
        all.push(Subject::Workload(self.workload.clone()));
        all.extend(self.owners.iter().cloned().map(Subject::Owner));
        all.extend(self.task.clone().map(Subject::Task));
        all.extend(self.profile.clone().map(Subject::Profile));
        all.extend(self.integration.clone().map(Subject::Integration));
        if self.kind.is_workload() {
            all.push(Subject::Everything(trust_domain.clone()));
        }
        all.extend(self.evidence.map(Subject::Evidence));
        all
    }
}

/// A lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Its id.
    pub id: LeaseId,
    /// Where it stands.
    pub state: LeaseState,
    /// The flags of the layout.
    pub flags: u8,
    /// The renewal counter.
    pub counter: u32,
    /// When it was minted.
    pub issued: UnixMillis,
    /// The hard expiry of its newest credential: a whole second.
    pub expires: UnixMillis,
    /// Until when it may be renewed.
    pub renewable_until: UnixMillis,
    /// Until when its mint must be confirmed.
    pub confirm_by: UnixMillis,
    /// The revocation that ended it.
    pub revocation: Option<JobId>,
    /// What signed its newest credential.
    pub signer: SignerId,
    /// What it observed when it was minted, for ever.
    pub observation: Observation,
    /// What it is about.
    pub body: LeaseBody,
}

impl LeaseRecord {
    /// The newest credential's id.
    pub fn credential(&self) -> CredentialId {
        CredentialId { lease: self.id, counter: self.counter }
    }

    /// Whether making the credential left something at a target.
    pub fn has_side_effect(&self) -> bool {
        self.flags & FLAG_SIDE_EFFECT != 0
    }

    /// The partition of the expiry index: the last octet of the id.
    pub fn partition(id: LeaseId) -> u8 {
        let [.., last] = *id.as_bytes();
        last
    }

    /// Writes the layout above.
    ///
    /// # Errors
    /// [`Malformed`] where the body can't be written or the observation is too long.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let body = self.encode_body()?;
        let observation = self.observation.encode();
        let mut out = Vec::with_capacity(HEAD_LEN + observation.len() + body.len());
        let (state, reason) = state_octets(self.state);
        out.extend_from_slice(&[VERSION, state, reason, self.flags]);
        out.extend_from_slice(&self.counter.to_be_bytes());
        for time in [self.issued, self.expires, self.renewable_until, self.confirm_by] {
            out.extend_from_slice(&time.0.to_be_bytes());
        }
        out.extend_from_slice(&self.revocation.map_or([0; 16], |id| id.0));
        out.extend_from_slice(self.signer.as_bytes());
        let length = u16::try_from(observation.len())
            .map_err(|_| Malformed { what: WHAT, why: "observation too long" })?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&observation);
        out.extend_from_slice(&body);
        Ok(out)
    }

    /// The body alone, as a script takes it.
    ///
    /// # Errors
    /// [`Malformed`] where it can't be written.
    pub fn encode_body(&self) -> Result<Vec<u8>, Malformed> {
        encode_body(&self.body)
    }

    /// Reads the layout above.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong.
    pub fn decode(id: LeaseId, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != VERSION {
            return Err(r.malformed("unknown version"));
        }
        let (state, reason) = (r.u8()?, r.u8()?);
        let state = state_from_octets(state, reason).ok_or_else(|| r.malformed("unknown state"))?;
        let flags = r.u8()?;
        let counter = r.u32()?;
        let [issued, expires, renewable_until, confirm_by] =
            [UnixMillis(r.u64()?), UnixMillis(r.u64()?), UnixMillis(r.u64()?), UnixMillis(r.u64()?)];
        let revocation: [u8; 16] = r.array()?;
        let signer = SignerId::from_bytes(r.array()?);
        let length = r.u16()?;
        let observation = Observation::decode(r.take(usize::from(length))?)?;
        let body = crate::body::read(WHAT, r.rest())?;
        Ok(Self {
            id,
            state,
            flags,
            counter,
            issued,
            expires,
            renewable_until,
            confirm_by,
            revocation: (revocation != [0; 16]).then_some(JobId(revocation)),
            signer,
            observation,
            body,
        })
    }
}

/// The body alone, as a script takes it.
///
/// # Errors
/// [`Malformed`] where it can't be written.
pub fn encode_body(body: &LeaseBody) -> Result<Vec<u8>, Malformed> {
    postcard::to_allocvec(body).map_err(|_| Malformed { what: WHAT, why: "body can't be written" })
}

/// The two octets of a state.
pub const fn state_octets(state: LeaseState) -> (u8, u8) {
    match state {
        LeaseState::Reserved => (0, 0),
        LeaseState::Active => (1, 0),
        LeaseState::Ended(reason) => (2, reason_octet(reason)),
    }
}

/// The octet of an end's reason.
pub const fn reason_octet(reason: EndReason) -> u8 {
    match reason {
        EndReason::Expired => 1,
        EndReason::Released => 2,
        EndReason::Completed => 3,
        EndReason::Revoked => 4,
        EndReason::Abandoned => 5,
    }
}

/// Reads the two octets of a state.
pub fn state_from_octets(state: u8, reason: u8) -> Option<LeaseState> {
    match (state, reason) {
        (0, 0) => Some(LeaseState::Reserved),
        (1, 0) => Some(LeaseState::Active),
        (2, n) => EndReason::ALL.into_iter().find(|r| reason_octet(*r) == n).map(LeaseState::Ended),
        _ => None,
    }
}

/// The mark of a lease that was revoked by its id; kept apart from the record, and longer.
///
/// Stored as 8 octets until (ms, big-endian) and 16 octets revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The revocation.
    pub revocation: JobId,
    /// Until when the mark is kept.
    pub until: UnixMillis,
}

impl Mark {
    /// Writes the layout above.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.until.0.to_be_bytes().to_vec();
        out.extend_from_slice(&self.revocation.0);
        out
    }

    /// Reads the layout above.
    ///
    /// # Errors
    /// [`Malformed`] for any other length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("mark", bytes);
        let mark = Self { until: UnixMillis(r.u64()?), revocation: JobId(r.array()?) };
        r.finish()?;
        Ok(mark)
    }
}
