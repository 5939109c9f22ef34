//! What a workload asks for, and what it gets.

use mayfly_domain::{Intent, ProfileName, Reason, San, Scopes, Secret, TaskReason, Ttl, UnixMillis};
use mayfly_proto::v1 as pb;

use crate::failure::Failure;
use crate::svid::Svid;

/// A wanted access token.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The profile.
    pub profile: ProfileName,
    /// What it is for; may be left out where the profile lists exactly one.
    pub intent: Option<Intent>,
    /// Words for people.
    pub reason: Option<TaskReason>,
    /// How long it should live; none: the profile's default.
    pub ttl: Option<Ttl>,
    /// The scopes; none: all that the profile grants.
    pub scopes: Scopes,
}

/// A wanted certificate.
#[derive(Debug, Clone)]
pub struct CertificateAsk {
    /// The profile.
    pub profile: ProfileName,
    /// What it is for; may be left out where the profile lists exactly one.
    pub intent: Option<Intent>,
    /// Words for people.
    pub reason: Option<TaskReason>,
    /// How long it should live; none: the profile's default.
    pub ttl: Option<Ttl>,
    /// The names beside the SPIFFE ID; none: all that the profile grants.
    pub names: Vec<San>,
    /// Whether a handle that can complete the task should come with it.
    pub completion_handle: bool,
    /// A certificate request for the same key, PKCS #10 in DER, whose names count as asked for; else the bare key.
    pub csr: Option<Vec<u8>>,
}

impl CertificateAsk {
    /// All that a profile grants, for its default time.
    pub const fn new(profile: ProfileName) -> Self {
        Self {
            profile,
            intent: None,
            reason: None,
            ttl: None,
            names: Vec::new(),
            completion_handle: false,
            csr: None,
        }
    }
}

pub(super) fn mint_request(
    profile: &ProfileName,
    intent: Option<&Intent>,
    reason: Option<&TaskReason>,
    ttl: Option<Ttl>,
) -> pb::MintRequest {
    pb::MintRequest {
        profile: profile.to_string(),
        intent: intent.map(ToString::to_string).unwrap_or_default(),
        reason: reason.map(ToString::to_string).unwrap_or_default(),
        ttl_s: ttl.map(Ttl::as_secs).unwrap_or_default(),
        ..pb::MintRequest::default()
    }
}

/// A credential and its lease.
#[derive(Debug)]
pub struct Minted {
    /// The compact access token.
    pub token: Secret<String>,
    /// The lease.
    pub lease: String,
    /// When the token ends, whatever happens.
    pub expires: UnixMillis,
    /// Until when the lease may be renewed.
    pub renewable_until: UnixMillis,
    /// The task that it belongs to.
    pub task: Option<pb::Task>,
    /// What it permits.
    pub scopes: Vec<String>,
    /// Whom it is for.
    pub audience: String,
    /// How it is bound: `dpop`, `mtls` or `bearer`.
    pub binding: String,
    /// The request's id.
    pub request: String,
    /// What the broker warns of.
    pub warnings: Vec<String>,
}

/// What a profile of either kind gave.
#[derive(Debug)]
pub enum Credential {
    /// An access token.
    Token(Box<Minted>),
    /// A certificate.
    Certificate(Box<Svid>),
}

impl TryFrom<pb::MintResponse> for Minted {
    type Error = Failure;

    fn try_from(r: pb::MintResponse) -> Result<Self, Failure> {
        if r.credential.is_empty() {
            return Err(Failure::of(Reason::KindMismatch).fact("kind", &r.kind).fact("lease", &r.lease));
        }
        Ok(Self {
            token: Secret::new(r.credential),
            lease: r.lease,
            expires: UnixMillis(r.expires_ms),
            renewable_until: UnixMillis(r.renewable_until_ms),
            task: r.task,
            scopes: r.scopes,
            audience: r.audience,
            binding: r.binding,
            request: r.request,
            warnings: r.warnings,
        })
    }
}

/// An open task.
#[derive(Debug)]
pub struct Started {
    /// The task.
    pub task: pb::Task,
    /// Whether it was open already.
    pub joined: bool,
    /// The handle that can complete it and do nothing else, where one was asked for.
    pub handle: Option<Secret<String>>,
    /// The request's id.
    pub request: String,
}

impl From<pb::StartTaskResponse> for Started {
    fn from(r: pb::StartTaskResponse) -> Self {
        Self {
            task: r.task.unwrap_or_default(),
            joined: r.joined,
            handle: handle(r.completion_handle),
            request: r.request,
        }
    }
}

pub(crate) fn handle(text: String) -> Option<Secret<String>> {
    Some(text).filter(|t| !t.is_empty()).map(Secret::new)
}

/// An answer that carries the next call's nonce.
pub(super) trait Answer {
    fn take_nonce(&mut self) -> Vec<u8>;
}

macro_rules! answers {
    ($($name:ident),*) => {
        $(impl Answer for pb::$name {
            fn take_nonce(&mut self) -> Vec<u8> {
                std::mem::take(&mut self.next_nonce)
            }
        })*
    };
}
answers!(MintResponse, ReleaseResponse, StartTaskResponse, CompleteTaskResponse, GetTaskResponse);
