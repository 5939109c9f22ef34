//! Stores and commands for these tests.

use std::sync::Arc;

use mayfly_domain::*;
use mayfly_lease::command::*;
use mayfly_lease::job::JobId;
use mayfly_lease::record::LeaseBody;
use mayfly_lease::store::LeaseStore as _;
use mayfly_lease::task::TaskBody;
use mayfly_lease::{Carry, GenerationRecord, JoinId, JoinRecord, JoinState, StoreError};
use mayfly_store::redis::{RedisConfig, RedisStore};
use mayfly_testkit::redis::{RedisOptions, RedisServer};

pub(crate) fn config(server: &RedisServer) -> RedisConfig {
    let mut config = RedisConfig::new(server.url());
    config.password = server.password().map(|p| Secret::new(p.to_owned()));
    config.ca_pem = server.ca_file().map(|file| std::fs::read(file).unwrap());
    config
}

pub(crate) fn open(server: &RedisServer) -> RedisStore {
    RedisStore::open(config(server), Arc::new(SystemClock)).unwrap()
}

pub(crate) fn next(number: u32) -> GenerationRecord {
    GenerationRecord {
        generation: Generation { number, id: GenerationId([u8::try_from(number).unwrap(); 8]) },
        settled: true,
        started: SystemClock.now(),
        longest_life_ms: 86_400_000,
    }
}

pub(crate) async fn begin(store: &RedisStore, number: u32) -> GenerationRecord {
    let stands = store.begin_generation(&next(number), &Carry::default()).await.unwrap();
    store.adopt(stands);
    stands
}

/// A server with a store in generation 1.
pub(crate) async fn ready(options: RedisOptions) -> (RedisServer, RedisStore) {
    let server = RedisServer::start(options);
    let store = open(&server);
    begin(&store, 1).await;
    (server, store)
}

pub(crate) fn lease_id(n: u8) -> LeaseId {
    LeaseId::from_bytes([n; 16])
}

pub(crate) fn job_id(n: u8) -> JobId {
    JobId([n; 16])
}

pub(crate) fn workload() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/ci/build").unwrap()
}

pub(crate) fn everything() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

pub(crate) fn owner() -> Owner {
    Owner::parse("team:payments").unwrap()
}

pub(crate) fn soon(ms: u64) -> UnixMillis {
    SystemClock.now().plus(ms)
}

pub(crate) fn evidence(n: u8, key: u8) -> EvidenceUse {
    EvidenceUse {
        hash: EvidenceHash([n; 32]),
        alias: Some(EvidenceHash([n | 0x80; 32])),
        key: Thumbprint::from_bytes([key; 32]),
        issued_at: SystemClock.now(),
        until: soon(600_000),
        supersede: false,
        single_use: false,
        observes: vec![
            Subject::Workload(workload()),
            Subject::Owner(owner()),
            Subject::Everything(everything()),
        ],
    }
}

pub(crate) fn mint(n: u8) -> MintCommand {
    mint_of(n, "run-1", CredentialKind::Token)
}

pub(crate) fn mint_of(n: u8, task: &str, kind: CredentialKind) -> MintCommand {
    let task = TaskId::parse(task).unwrap();
    let used = evidence(n, 1);
    let body = LeaseBody {
        kind,
        workload: workload(),
        owners: Owners::new([owner()]).unwrap(),
        task: Some(task.clone()),
        intent: Some(Intent::parse("deploy:payments").unwrap()),
        profile: Some(ProfileName::parse("api").unwrap()),
        integration: Some(IntegrationName::parse("payments").unwrap()),
        audience: None,
        scopes: Scopes::default(),
        key: used.key,
        binding: Binding::Mtls,
        acceptors: AcceptorMode::Online,
        rule: None,
        evidence: Some(used.value()),
        x509: None,
    };
    let quota = |subject, live_max| QuotaRule { subject, live_max, per_min: 6_000, burst: 1_000 };
    MintCommand {
        id: lease_id(n),
        spend: Some(Spend { id: lease_id(n), until: soon(120_000) }),
        signer: SignerId::from_bytes([n; 16]),
        subjects: body.subjects(&everything()),
        ttl: Ttl::constant(300),
        lineage: Ttl::constant(3_600),
        not_after: UnixMillis(u64::MAX),
        task: Some(TaskPlan {
            body: TaskBody { id: task, workload: workload(), intent: None, reason: None, shared: false },
            window: Ttl::constant(1_800),
            keep_ms: 600_000,
        }),
        evidence: Some(used),
        parent: None,
        quotas: vec![quota(Subject::Workload(workload()), 1_000), quota(Subject::Owner(owner()), 1_000)],
        body,
    }
}

pub(crate) fn check(n: u8) -> CheckCommand {
    CheckCommand { id: lease_id(n), observation: None }
}

pub(crate) fn revoke(n: u8, what: RevokeWhat) -> RevokeCommand {
    RevokeCommand { id: job_id(n), what, reason: None, author: "test".into(), ticket: None }
}

pub(crate) fn revoke_owner(n: u8) -> RevokeCommand {
    revoke(n, RevokeWhat::Subject { subject: Subject::Owner(owner()), block: None })
}

pub(crate) fn block() -> Block {
    Block {
        reason: TaskReason::parse("stolen laptop").unwrap(),
        author: "alice".into(),
        since: SystemClock.now(),
        until: None,
    }
}

pub(crate) fn no<T: std::fmt::Debug>(result: Result<T, StoreError>) -> mayfly_lease::transition::No {
    match result {
        Err(StoreError::Refused(no)) => no,
        other => panic!("{other:?} is no refusal"),
    }
}

/// Repeats until the store is reached again.
pub(crate) async fn reached<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let give_up = Deadline::after(std::time::Duration::from_secs(20));
    loop {
        match call().await {
            Err(StoreError::Unavailable(why)) => assert!(!give_up.has_passed(), "{why}"),
            other => return other,
        }
    }
}

/// An open join token, made now.
pub(crate) fn join_token(n: u8) -> JoinRecord {
    JoinRecord {
        hash: EvidenceHash([n | 0x40; 32]),
        id: JoinId([n; 8]),
        workload: workload(),
        owners: Owners::new([owner()]).unwrap(),
        environment: None,
        created: SystemClock.now(),
        expires: soon(60_000),
        author: "alice".to_owned(),
        state: JoinState::Open,
    }
}

/// The mint that shows it.
pub(crate) fn joining(n: u8) -> MintCommand {
    let token = join_token(n).hash;
    let evidence = EvidenceUse { hash: token, alias: None, single_use: true, ..evidence(n, n) };
    MintCommand { evidence: Some(evidence), ..mint_of(n, "run-3", CredentialKind::X509) }
}

/// The renewal by the credential itself of what a mint made.
pub(crate) fn renewal(mint: &MintCommand) -> RenewCommand {
    RenewCommand {
        id: mint.id,
        spend: Spend { id: lease_id(200), until: soon(120_000) },
        workload: Subject::Workload(workload()),
        task: mint.body.task.clone().unwrap(),
        key: mint.body.key,
        next: None,
        signer: mint.signer,
        body: mint.body.clone(),
        ttl: Ttl::constant(300),
        evidence: None,
        subjects: mint.subjects.clone(),
    }
}
