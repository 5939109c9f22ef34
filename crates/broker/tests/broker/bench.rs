//! Brokers on one store in memory, with an attestor that believes what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use mayfly_attest::{
    Attestor, Challenge, ClaimValue, Envelope, Evidence, Judged, Opened, RawMatch, RawTask, RawTrustRule,
    RuleSet, TrustRule, Verified, Verifier,
};
use mayfly_audit::{Audit, AuditConfig, SyncMode};
use mayfly_broker::{
    Broker, BrokerParts, Call, ClientCertificate, NoMeter, Operator, RequestId, Running, SealedCopy,
    Settings, StaffKind, StaffRequest, initialise,
};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{
    CredentialId, EvidenceHash, GroupName, KeyAlg, OperatorName, PublicKey, Refusal, Secret, SpiffeId,
    TrustDomain, Ttl, UnixMillis, envelope,
};
use mayfly_lease::Leases;
use mayfly_lease::proof::{HolderQuota, MintLimits};
use mayfly_mint::{Custody, KeySet, MemorySigner, Seal, Signer};
use mayfly_policy::profile::{RawToken, RawTtl};
use mayfly_policy::{Claimed, Engine, Profile, RawProfile, TtlLimits};
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::memory::MemoryStore;
use tempfile::TempDir;

pub(crate) const MINT: &str = "mayfly.v1.WorkloadService/Mint";
pub(crate) const RENEW: &str = "mayfly.v1.WorkloadService/Renew";
const SEAL_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000001";
const POLICIES: &str = r#"
@id("robots")
permit (principal is Mayfly::Workload, action in [Mayfly::Action::"mint", Mayfly::Action::"renew"], resource);
@id("operators")
permit (principal is Mayfly::Operator in Mayfly::Group::"oncall", action, resource);
"#;

/// A token that is nobody's.
pub(crate) const NOBODYS: &str = "nobody's";

/// Every token but one is the robot's; its text is its hash.
struct Believer;

#[async_trait]
impl Attestor for Believer {
    async fn verify(
        &self,
        evidence: &Evidence,
        _: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Judged, Refusal> {
        let Evidence::Oidc(token) = evidence else { unreachable!("only tokens are shown here") };
        if token.expose() == NOBODYS {
            return Err(mayfly_domain::Reason::IssuerUnknown.into());
        }
        let text = |t: &str| ClaimValue::Text(t.to_owned());
        Ok(Judged::Foreign(Verified {
            kind: "oidc",
            issuer: "https://issuer.example".into(),
            audience: "acme.internal".into(),
            claims: [("sub".to_owned(), text("robot")), ("job".to_owned(), text("j7"))].into(),
            hash: EvidenceHash::of(token.expose().as_bytes()),
            alias: None,
            issued_at: now,
            expires: now.plus(600_000),
            holder: None,
        }))
    }
}

pub(crate) struct Site {
    pub(crate) clock: TestClock,
    pub(crate) store: MemoryStore,
    dir: TempDir,
}

pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    key: MemorySigner,
}

fn domain() -> TrustDomain {
    TrustDomain::parse("acme.internal").unwrap()
}

pub(crate) fn seal() -> Seal {
    Seal::from_env_value(&Secret::new(SEAL_KEY.to_owned())).unwrap()
}

fn rules() -> RuleSet {
    let raw = RawTrustRule {
        name: "robots".into(),
        issuer: Some("https://issuer.example".into()),
        spiffe_id: "/robots/{job}".into(),
        owners: vec!["team:robots".into()],
        matches: vec![("sub".into(), RawMatch::Exact("robot".into()))],
        task: RawTask { id: Some("t-{job}".into()), ..RawTask::default() },
        ..RawTrustRule::default()
    };
    RuleSet::new(vec![TrustRule::compile(raw, &domain()).unwrap()]).unwrap()
}

fn engine() -> Engine {
    let raw = RawProfile {
        name: "deploy".into(),
        summary: "deploy".into(),
        kind: "token".into(),
        integration: "k8s".into(),
        owner: "team:platform".into(),
        intents: vec!["deploy:all".into()],
        token: Some(RawToken {
            audience: "https://deploy.acme.internal".into(),
            scopes: vec!["deploy:write".into()],
            ttl: RawTtl { default: Some("5m".into()), max: Some("15m".into()) },
            acceptors: "online".into(),
            ..RawToken::default()
        }),
        ..RawProfile::default()
    };
    let profile = Profile::compile(&raw, TtlLimits::default()).unwrap();
    let alice = OperatorName::parse("alice").unwrap();
    let operators = BTreeMap::from([(alice, vec![GroupName::parse("oncall").unwrap()])]);
    Engine::load(domain(), &[], &[("all.cedar".into(), POLICIES.into())], vec![profile], operators).unwrap()
}

impl Site {
    /// An initialised store.
    pub(crate) async fn new() -> Self {
        let clock = TestClock::at(UnixMillis(1_800_000_000_000));
        let shared: SharedClock = Arc::new(clock.clone());
        let site = Self { store: MemoryStore::new(shared.clone()), clock, dir: TempDir::new().unwrap() };
        site.state("a");
        let longest = Ttl::parse("30d").unwrap();
        initialise(&site.store, &site.path("a"), &seal(), &Custody::sealed(), &domain(), longest, &shared)
            .await
            .unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn state(&self, name: &str) {
        std::fs::create_dir_all(self.path(name)).unwrap();
    }

    /// A broker with a state directory of its own, which has looked at the store once.
    pub(crate) async fn broker(&self, name: &str) -> Node {
        self.state(name);
        let clock: SharedClock = Arc::new(self.clock.clone());
        let (_, sealed) = self.store.tamper(|view| view.keys.clone()).unwrap();
        let verifier = Verifier::new(domain(), Arc::new(Believer), clock.clone());
        verifier.set_rules(rules());
        let audit = AuditConfig {
            path: self.path(name).join("audit.jsonl"),
            reserve: self.path(name).join("audit.reserve"),
            reserve_octets: 1 << 20,
            sync: SyncMode::Batch,
            queue: AuditConfig::QUEUE,
        };
        let quota = HolderQuota { live_leases: 10_000, mints_per_min: 10_000, burst: 10_000 };
        let settings = Settings {
            trust_domain: domain(),
            issuer: "https://mayfly.acme.internal".into(),
            broker_id: name.into(),
            limits: MintLimits {
                token_lineage: Ttl::parse("1d").unwrap(),
                x509_lineage: Ttl::parse("7d").unwrap(),
                workload: quota,
                owner: quota,
                evidence_life: Ttl::parse("6h").unwrap(),
            },
            lineage_max: Ttl::parse("30d").unwrap(),
            longest_life: Ttl::parse("30d").unwrap(),
            accepted_risks: Vec::new(),
            pointers: mayfly_mint::x509::Pointers::default(),
            audit_file: audit.path.clone(),
            feed: mayfly_broker::FeedSettings::default(),
            skew_ms: 30_000,
        };
        let broker = Broker::new(BrokerParts {
            settings,
            clock: clock.clone(),
            boot: Arc::new(mayfly_testkit::clock::TestBootClock::default()),
            leases: Leases::new(Arc::new(self.store.another()), domain()),
            verifier,
            running: Running { engine: engine(), acceptors: BTreeMap::new(), loaded: clock.now() },
            seal: seal(),
            copy: SealedCopy::open(&self.path(name), &seal()).unwrap(),
            keys: KeySet::open(&seal(), &sealed).unwrap(),
            custody: Custody::sealed(),
            audit: Audit::open(&audit, clock).unwrap(),
            meter: Arc::new(NoMeter),
        });
        let broker = Arc::new(broker.unwrap());
        broker.look().await;
        Node { broker, key: signer() }
    }
}

fn signer() -> MemorySigner {
    MemorySigner::from_pkcs8(KeyAlg::P256, &MemorySigner::generate_pkcs8(KeyAlg::P256).unwrap()).unwrap()
}

impl Node {
    pub(crate) fn call(&self) -> Call {
        Call { request: RequestId::new(self.broker.clock().now()), peer: None }
    }

    pub(crate) fn standing(&self) -> &'static str {
        self.broker.standing().borrow().as_str()
    }

    pub(crate) fn open(&self, rpc: &str) -> Opened {
        let (nonce, _) = self.broker.nonce().unwrap();
        let key: PublicKey = self.key.public_key().clone();
        let input = envelope::signing_input(&domain(), rpc, &nonce, &key, b"");
        let signature = self.key.sign(&input).unwrap().to_vec();
        self.broker.open(rpc, Envelope { payload: Vec::new(), key, nonce, signature }).unwrap()
    }

    pub(crate) async fn mint(&self, token: &str) -> Result<mayfly_broker::Issued, Refusal> {
        let claimed = Claimed {
            profile: "deploy".parse().unwrap(),
            intent: None,
            reason: Some("said by its caller".parse().unwrap()),
            ttl: None,
            scopes: mayfly_domain::Scopes::default(),
            names: Vec::new(),
            kind: None,
        };
        self.broker.mint(&self.call(), &self.open(MINT), &evidence(token), claimed.into()).await
    }

    /// An operator with a new certificate.
    pub(crate) async fn operator(&self) -> Operator {
        let key = signer();
        let spki = p256_spki(key.public_key().as_bytes());
        let kind = StaffKind::Operator(OperatorName::parse("alice").unwrap());
        let issued =
            self.broker.issue_staff(&self.call(), &StaffRequest { kind, spki, ttl: None }).await.unwrap();
        let certificate = ClientCertificate {
            id: SpiffeId::parse("spiffe://acme.internal/mayfly/operator/alice").unwrap(),
            credential: CredentialId { lease: issued.lease, counter: 0 },
            key: key.public_key().thumbprint(),
            role: mayfly_mint::Role::System,
            signer: self.broker.keys().system_authority().id(),
        };
        self.broker.operator(Some(&certificate)).await.unwrap()
    }
}

pub(crate) fn evidence(token: &str) -> Evidence {
    Evidence::Oidc(Secret::new(token.to_owned()))
}

/// RFC 5480: the algorithm's identifiers, then the point.
fn p256_spki(point: &[u8]) -> Vec<u8> {
    let mut out = vec![
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    out.extend_from_slice(point);
    out
}
