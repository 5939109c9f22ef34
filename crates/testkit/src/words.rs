//! A small world of workloads, owners, tasks, keys and tokens, named by numbers, and the commands about them.

use mayfly_domain::{
    AcceptorMode, Audience, Binding, Block, CredentialKind, Dimension, EvidenceHash, Generation,
    GenerationId, IntegrationName, LeaseId, Owner, Owners, ProfileName, San, Scopes, SignerId, SpiffeId,
    Subject, TaskId, TaskReason, Thumbprint, TrustDomain, Ttl, UnixMillis, defaults,
};
use mayfly_lease::command::{EndCommand, StartTaskCommand};
use mayfly_lease::record::X509Body;
use mayfly_lease::task::TaskBody;
use mayfly_lease::{
    EvidenceUse, GenerationRecord, JobId, JoinId, JoinRecord, JoinState, LeaseBody, LeaseRecord, MintCommand,
    ParentLink, QuotaRule, RenewCommand, RevokeCommand, RevokeWhat, Spend, TaskPlan,
};

/// How long fences are kept in the small world: its longest life.
pub const LONGEST_LIFE_MS: u64 = 24 * 3_600_000;
/// How long its tokens are valid.
pub const TOKEN_LIFE_MS: u64 = 3_600_000;
/// How long its join tokens may be used.
pub const JOIN_LIFE_MS: u64 = 600_000;
/// How long evidence may name a task after its last use.
pub const TASK_KEEP_MS: u64 = 2 * 3_600_000;

/// The trust domain.
pub fn trust_domain() -> TrustDomain {
    TrustDomain::parse("acme.test").unwrap()
}

/// Workload `n`.
pub fn workload(n: u8) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://acme.test/ci/w{n}")).unwrap()
}

/// Owner `n`.
pub fn owner(n: u8) -> Owner {
    Owner::parse(&format!("team:o{n}")).unwrap()
}

/// Task `n`.
pub fn task(n: u8) -> TaskId {
    TaskId::parse(&format!("run-{n}")).unwrap()
}

/// The subject with number `n` in a dimension; everything is one.
pub fn subject(dimension: Dimension, n: u8) -> Subject {
    match dimension {
        Dimension::Workload => Subject::Workload(workload(n)),
        Dimension::Owner => Subject::Owner(owner(n)),
        Dimension::Task => Subject::Task(task(n)),
        Dimension::Profile => Subject::Profile(ProfileName::parse(&format!("p{n}")).unwrap()),
        Dimension::Integration => Subject::Integration(IntegrationName::parse(&format!("i{n}")).unwrap()),
        Dimension::Everything => Subject::Everything(trust_domain()),
        Dimension::Evidence => Subject::Evidence(token(n.into())),
    }
}

/// Key `n`.
pub fn key(n: u8) -> Thumbprint {
    Thumbprint::from_bytes([n; 32])
}

/// Whatever signs with key `n`.
pub fn signer(n: u8) -> SignerId {
    SignerId::from(key(n))
}

/// The signing input of token `n`, hashed.
pub fn token(n: u32) -> EvidenceHash {
    EvidenceHash::of(&n.to_be_bytes())
}

/// The hash of join token `n`.
pub fn join_token(n: u8) -> EvidenceHash {
    EvidenceHash::of(&[b'j', n])
}

/// Lease `n`; the last octet, which is its partition, is the low one of `n`.
pub fn lease(n: u32) -> LeaseId {
    let [a, b, c, d] = n.to_be_bytes();
    LeaseId::from_parts(UnixMillis(1_700_000_000_000), &[9, 9, 9, 9, 9, 9, a, b, c, d])
}

/// Revocation `n`.
pub fn revocation(n: u32) -> JobId {
    let [a, b, c, d] = n.to_be_bytes();
    JobId([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, a, b, c, d])
}

/// Generation `number`, settled, begun at `started`.
pub fn generation(number: u32, started: UnixMillis) -> GenerationRecord {
    GenerationRecord {
        generation: Generation { number, id: GenerationId([u8::try_from(number % 256).unwrap(); 8]) },
        settled: true,
        started,
        longest_life_ms: LONGEST_LIFE_MS,
    }
}

/// A block from `since`, for so long.
pub fn block(since: UnixMillis, for_ms: Option<u64>) -> Block {
    Block {
        reason: TaskReason::parse("a key was seen in a log").unwrap(),
        author: "alice".to_owned(),
        since,
        until: for_ms.map(|ms| since.plus(ms)),
    }
}

/// A nonce's single use by what leads to lease id `n`.
pub fn spend(n: u32, now: UnixMillis) -> Spend {
    Spend { id: lease(n), until: now.plus(defaults::NONCE_LIFE_MS + 2 * defaults::SKEW_MS) }
}

/// What a workload asks for. The defaults are a token for workload 1, owner 1, task 1, with key 1 and token 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The lease.
    pub lease: u32,
    /// The workload.
    pub workload: u8,
    /// Its owners.
    pub owners: Vec<u8>,
    /// The task, if any.
    pub task: Option<u8>,
    /// Profile and integration.
    pub profile: u8,
    /// The key.
    pub key: u8,
    /// The token, if any.
    pub token: Option<u32>,
    /// The join token that is shown instead, if any.
    pub join: Option<u8>,
    /// Another form of the token: the number of its issuer's `jti`.
    pub alias: Option<u8>,
    /// When the token was issued.
    pub issued_at: UnixMillis,
    /// Whether its rule lets another key take it over.
    pub supersede: bool,
    /// The kind of credential.
    pub kind: CredentialKind,
    /// How its acceptors check it.
    pub acceptors: AcceptorMode,
    /// Its life in seconds.
    pub ttl_s: u32,
    /// How long it may be renewed, in seconds.
    pub lineage_s: u32,
    /// The window with which the task would be opened, in seconds.
    pub window_s: u32,
    /// The owners' and the workload's quota of live leases.
    pub live_max: u32,
    /// Their quota of mints a minute.
    pub per_min: u32,
    /// Their quota of mints at once.
    pub burst: u32,
    /// The parent.
    pub parent: Option<ParentLink>,
}

impl Wish {
    /// The defaults, for lease `n`; the token was issued at `issued_at`.
    pub fn new(n: u32, issued_at: UnixMillis) -> Self {
        Self {
            lease: n,
            workload: 1,
            owners: vec![1],
            task: Some(1),
            profile: 1,
            key: 1,
            token: Some(1),
            join: None,
            alias: None,
            issued_at,
            supersede: false,
            kind: CredentialKind::Token,
            acceptors: AcceptorMode::Online,
            ttl_s: 300,
            lineage_s: 3_600,
            window_s: 1_800,
            live_max: 10_000,
            per_min: 100_000,
            burst: 100_000,
            parent: None,
        }
    }

    /// The child of a live lease: same workload, owners and key, no evidence of its own.
    #[must_use]
    pub fn child_of(mut self, parent: &LeaseRecord) -> Self {
        self.parent = Some(ParentLink {
            id: parent.id,
            observation: parent.observation.clone(),
            expires: parent.expires,
        });
        self.token = None;
        self.join = None;
        self
    }

    /// Of another kind.
    #[must_use]
    pub fn kind(mut self, kind: CredentialKind) -> Self {
        self.kind = kind;
        self
    }

    /// The evidence.
    pub fn evidence(&self) -> Option<EvidenceUse> {
        let mut observes = vec![Subject::Workload(workload(self.workload))];
        observes.extend(self.owners.iter().map(|n| Subject::Owner(owner(*n))));
        observes.push(Subject::Everything(trust_domain()));
        if let Some(n) = self.join {
            return Some(EvidenceUse {
                hash: join_token(n),
                alias: None,
                key: key(self.key),
                issued_at: self.issued_at,
                until: self.issued_at.plus(JOIN_LIFE_MS + defaults::SKEW_MS),
                supersede: false,
                single_use: true,
                observes,
            });
        }
        self.token.map(|n| EvidenceUse {
            hash: token(n),
            alias: self.alias.map(|n| EvidenceHash::of(&[n, b'j', b't', b'i'])),
            key: key(self.key),
            issued_at: self.issued_at,
            until: self.issued_at.plus(TOKEN_LIFE_MS + defaults::SKEW_MS),
            supersede: self.supersede,
            single_use: false,
            observes,
        })
    }

    /// What the lease is about.
    pub fn body(&self) -> LeaseBody {
        LeaseBody {
            kind: self.kind,
            workload: workload(self.workload),
            owners: Owners::new(self.owners.iter().map(|n| owner(*n))).unwrap(),
            task: self.task.map(task),
            intent: None,
            profile: Some(ProfileName::parse(&format!("p{}", self.profile)).unwrap()),
            integration: Some(IntegrationName::parse(&format!("i{}", self.profile)).unwrap()),
            audience: Some(Audience::parse("https://deploy.acme.test").unwrap()),
            scopes: Scopes::default(),
            key: key(self.key),
            binding: if self.kind == CredentialKind::X509 { Binding::Mtls } else { Binding::Dpop },
            acceptors: self.acceptors,
            rule: None,
            evidence: self.evidence().map(|e| e.value()),
            x509: (self.kind == CredentialKind::X509).then(|| X509Body {
                names: vec![San::dns(&format!("w{}.acme.test", self.workload)).unwrap()],
                client: true,
                server: true,
                environment: None,
                tags: [("repository".to_owned(), "payments".to_owned())].into(),
            }),
        }
    }

    /// The task, as it would be opened.
    pub fn plan(&self) -> Option<TaskPlan> {
        self.task.map(|n| TaskPlan {
            body: TaskBody {
                id: task(n),
                workload: workload(self.workload),
                intent: None,
                reason: None,
                shared: true,
            },
            window: Ttl::constant(self.window_s),
            keep_ms: TASK_KEEP_MS,
        })
    }

    /// Every subject of the lease.
    pub fn subjects(&self) -> Vec<Subject> {
        self.body().subjects(&trust_domain())
    }

    /// The mint.
    pub fn mint(&self, now: UnixMillis) -> MintCommand {
        let mut holders = vec![Subject::Workload(workload(self.workload))];
        holders.extend(self.body().owners.iter().cloned().map(Subject::Owner));
        MintCommand {
            id: lease(self.lease),
            spend: Some(spend(self.lease, now)),
            body: self.body(),
            signer: signer(101),
            subjects: self.subjects(),
            ttl: Ttl::constant(self.ttl_s),
            lineage: Ttl::constant(self.lineage_s),
            not_after: UnixMillis(u64::MAX),
            task: self.plan(),
            evidence: self.evidence(),
            parent: self.parent.clone(),
            quotas: holders
                .into_iter()
                .map(|subject| QuotaRule {
                    subject,
                    live_max: self.live_max,
                    per_min: self.per_min,
                    burst: self.burst,
                })
                .collect(),
        }
    }

    /// The join token `n` for its workload and owners, made at `created`.
    pub fn join_token(&self, n: u8, created: UnixMillis) -> JoinRecord {
        JoinRecord {
            hash: join_token(n),
            id: JoinId([n; 8]),
            workload: workload(self.workload),
            owners: self.body().owners,
            environment: None,
            created,
            expires: created.plus(JOIN_LIFE_MS),
            author: "alice".to_owned(),
            state: JoinState::Open,
        }
    }

    /// The mint of an operator's certificate, which no nonce, task or evidence leads to.
    pub fn staff(&self) -> MintCommand {
        let body = LeaseBody {
            kind: CredentialKind::Operator,
            task: None,
            profile: None,
            integration: None,
            evidence: None,
            ..self.body()
        };
        MintCommand {
            spend: None,
            subjects: body.subjects(&trust_domain()),
            body,
            task: None,
            evidence: None,
            quotas: Vec::new(),
            ..self.mint(UnixMillis(0))
        }
    }

    /// The renewal of the lease, spending the nonce that would lead to lease id `nonce`.
    pub fn renewal(&self, nonce: u32, now: UnixMillis) -> RenewCommand {
        RenewCommand {
            id: lease(self.lease),
            spend: spend(nonce, now),
            workload: Subject::Workload(workload(self.workload)),
            task: task(self.task.unwrap_or(0)),
            key: key(self.key),
            next: None,
            signer: signer(102),
            body: self.body(),
            ttl: Ttl::constant(self.ttl_s),
            evidence: self.evidence(),
            subjects: self.subjects(),
        }
    }

    /// The start of its task, spending the nonce that would lead to lease id `nonce`.
    pub fn start(&self, nonce: u32, now: UnixMillis) -> StartTaskCommand {
        let mut subjects = vec![Subject::Workload(workload(self.workload))];
        subjects.extend(self.body().owners.iter().cloned().map(Subject::Owner));
        subjects.extend(self.task.map(|n| Subject::Task(task(n))));
        subjects.push(Subject::Everything(trust_domain()));
        StartTaskCommand {
            spend: spend(nonce, now),
            task: self.plan().unwrap(),
            evidence: self.evidence(),
            subjects,
        }
    }

    /// Giving the lease back.
    pub fn release(&self) -> EndCommand {
        let holder =
            (Subject::Workload(workload(self.workload)), task(self.task.unwrap_or(0)), key(self.key));
        EndCommand {
            id: lease(self.lease),
            holder: Some(holder),
            reason: mayfly_domain::EndReason::Released,
            revocation: None,
        }
    }

    /// Completing the task, spending the nonce that would lead to lease id `nonce`.
    pub fn complete(&self, revocation: u32, nonce: u32, now: UnixMillis) -> RevokeCommand {
        revoke(
            revocation,
            RevokeWhat::Task {
                id: task(self.task.unwrap_or(0)),
                by: Some(Subject::Workload(workload(self.workload))),
                spend: Some(spend(nonce, now)),
                evidence: self.evidence(),
                keep_ms: TASK_KEEP_MS,
            },
        )
    }
}

/// Revocation `n` of anything.
pub fn revoke(n: u32, what: RevokeWhat) -> RevokeCommand {
    RevokeCommand {
        id: revocation(n),
        what,
        reason: Some(TaskReason::parse("seen in a log").unwrap()),
        author: "alice".to_owned(),
        ticket: None,
    }
}

/// Revocation `n` of a subject.
pub fn revoke_subject(n: u32, subject: Subject, block: Option<Block>) -> RevokeCommand {
    revoke(n, RevokeWhat::Subject { subject, block })
}

/// Revocation `n` of one lease; an unknown one's mark is kept to `unknown_until`.
pub fn revoke_lease(n: u32, id: LeaseId, unknown_until: UnixMillis) -> RevokeCommand {
    revoke(n, RevokeWhat::Lease { id, unknown_until })
}
