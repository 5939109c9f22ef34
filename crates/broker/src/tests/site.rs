//! A site: one store, brokers on it, and the people and jobs that call them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mayfly_attest::envelope::Opened;
use mayfly_attest::verifier::Verifier;
use mayfly_attestors::Attestors;
use mayfly_attestors::keys::StaticKeys;
use mayfly_attestors::x509::read_authority;
use mayfly_audit::{Audit, AuditConfig, SyncMode};
use mayfly_domain::{
    Clock as _, CredentialId, LeaseId, Owner, Reason, Refusal, Secret, SpiffeId, Subject, TaskReason,
    TrustDomain, Ttl, UnixMillis, defaults,
};
use mayfly_lease::{LeaseStore, Leases};
use mayfly_mint::{Custody, KeySet, Seal};
use mayfly_policy::Claimed;
use mayfly_testkit::clock::{TestBootClock, TestClock};
use mayfly_testkit::issuer::{GITHUB_ISSUER, GITLAB_ISSUER, StandInIssuer};
use mayfly_testkit::memory::MemoryStore;
use mayfly_testkit::x509::{ForeignCa, KeyKind};
use serde_json::Value;
use tempfile::TempDir;

pub(super) use super::config::running;
use super::config::{rules, settings};
use super::store::Flaky;
pub(super) use super::worker::*;
use crate::*;

pub(super) const START: UnixMillis = UnixMillis(1_800_000_000_000);
pub(super) const API: &str = "https://deploy.acme.internal/v1/deploy";

const PEER: [u8; 4] = [192, 0, 2, 7];

pub(super) fn domain() -> TrustDomain {
    TrustDomain::parse("acme.internal").unwrap()
}

pub(super) fn owner(name: &str) -> Subject {
    Subject::Owner(Owner::parse(name).unwrap())
}

pub(super) fn one_lease(id: LeaseId) -> RevokeInput {
    RevokeInput::Lease { id, force: false }
}

pub(super) fn text(words: &str) -> TaskReason {
    TaskReason::parse(words).unwrap()
}

pub(super) fn why<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> Reason {
    outcome.expect_err("it should be refused").reason
}

/// One store, one clock, one CI issuer, one authority for machines.
pub(super) struct Site {
    pub(super) clock: TestClock,
    pub(super) boot: TestBootClock,
    pub(super) store: MemoryStore,
    pub(super) issuer: StandInIssuer,
    pub(super) machines: ForeignCa,
    pub(super) dir: TempDir,
}

/// One broker, its connection and its disk.
pub(super) struct Node {
    pub(super) broker: Arc<Broker>,
    pub(super) store: Arc<Flaky>,
    pub(super) clock: TestClock,
    pub(super) state: PathBuf,
}

pub(super) fn seal() -> Seal {
    Seal::from_env_value(&Secret::new("11".repeat(32))).unwrap()
}

impl Site {
    /// A site whose store is empty and whose brokers have no copies.
    pub(super) fn empty() -> Self {
        let clock = TestClock::at(START);
        let store = MemoryStore::new(Arc::new(clock.clone()));
        let machines = ForeignCa::new(KeyKind::P256, "machines");
        let boot = TestBootClock::default();
        Self { clock, boot, store, issuer: StandInIssuer::new(), machines, dir: tempfile::tempdir().unwrap() }
    }

    /// A site that was initialised on the host of broker `one`.
    pub(super) async fn new() -> Self {
        let site = Self::empty();
        site.init(&site.store.another()).await.unwrap();
        site
    }

    pub(super) async fn init(&self, store: &dyn LeaseStore) -> Result<KeySet, InitError> {
        let clock = Arc::new(self.clock.clone()) as _;
        initialise(
            store,
            &self.state("one"),
            &seal(),
            &Custody::sealed(),
            &domain(),
            defaults::LINEAGE_MAX,
            &clock,
        )
        .await
    }

    pub(super) fn state(&self, id: &str) -> PathBuf {
        let path = self.dir.path().join(id);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// A broker that has looked at the store once.
    pub(super) async fn broker(&self, id: &str) -> Node {
        self.broker_with(id, |_| ()).await
    }

    pub(super) async fn broker_with(&self, id: &str, change: impl FnOnce(&mut Settings)) -> Node {
        let node = self.node(id, Arc::new(self.store.another()), change).await;
        node.broker.look().await;
        node
    }

    /// A broker that has not looked yet. Its keys are the store's or its copy's; a broker that has neither
    /// gets others, which nobody knows.
    pub(super) async fn node(
        &self,
        id: &str,
        store: Arc<dyn LeaseStore>,
        change: impl FnOnce(&mut Settings),
    ) -> Node {
        let clock: mayfly_domain::time::SharedClock = Arc::new(self.clock.clone());
        let state = self.state(id);
        let copy = SealedCopy::open(&state, &seal()).unwrap();
        let stored = match store.survey().await.unwrap().generation {
            Some(generation) => {
                store.adopt(generation);
                store.keys().await.unwrap_or_else(|_| self.store.tamper(|view| view.keys.clone()))
            }
            None => None,
        };
        let keys = match copy.content().keys.clone().into_iter().chain(stored).max_by_key(|(v, _)| *v) {
            Some((_, sealed)) => KeySet::open(&seal(), &sealed).unwrap(),
            None => KeySet::init(&domain(), &Custody::sealed(), START).unwrap(),
        };
        let jwks = self.issuer.jwks().to_string();
        let source = StaticKeys::new([(GITHUB_ISSUER, jwks.clone()), (GITLAB_ISSUER, jwks)]).unwrap();
        let own = OwnAttestor::new(store.clone(), defaults::X509_LINEAGE);
        let attestor = Arc::new(Attestors::new(Arc::new(source), Arc::new(own)));
        let rules = rules(read_authority(self.machines.pem().as_bytes()).unwrap());
        attestor.set_rules(&rules);
        let verifier = Verifier::new(domain(), attestor, clock.clone());
        verifier.set_rules(rules);
        let audit_file = state.join("audit.jsonl");
        let audit = AuditConfig {
            path: audit_file.clone(),
            reserve: state.join("audit.reserve"),
            reserve_octets: 64 * 1024,
            sync: SyncMode::Batch,
            queue: AuditConfig::QUEUE,
        };
        let mut settings = settings(id, audit_file);
        change(&mut settings);
        let store = Arc::new(Flaky::new(store));
        let broker = Broker::new(BrokerParts {
            settings,
            leases: Leases::new(store.clone(), domain()),
            verifier,
            running: running(),
            seal: seal(),
            copy,
            keys,
            custody: Custody::sealed(),
            audit: Audit::open(&audit, clock.clone()).unwrap(),
            meter: Arc::new(NoMeter),
            clock,
            boot: Arc::new(self.boot.clone()),
        });
        Node { broker: Arc::new(broker.unwrap()), store, clock: self.clock.clone(), state }
    }

    /// Withdraws every key at once, as another broker would; no broker is told.
    pub(super) fn withdraw_keys(&self) {
        let next = KeySet::init(&domain(), &Custody::sealed(), self.clock.now())
            .unwrap()
            .rotate_nonce_key()
            .unwrap();
        let sealed = next.seal(&seal()).unwrap();
        self.store.tamper(|view| {
            assert!(view.keys.as_ref().is_some_and(|(version, _)| *version < next.version()));
            view.keys = Some((next.version(), sealed));
        });
    }

    /// A new CI token for the worker's key, issued now.
    pub(super) fn token(&self, worker: &Worker) -> String {
        if worker.gitlab {
            return self.issuer.gitlab_token(&worker.job, "acme.internal", self.clock.now());
        }
        let audience = format!("acme.internal#{}", worker.public.thumbprint());
        self.issuer.github_token(&worker.job, &audience, self.clock.now())
    }
}

impl Node {
    pub(super) fn call(&self) -> Call {
        Call { request: RequestId::new(self.clock.now()), peer: Some(IpAddr::from(PEER)) }
    }

    pub(super) fn open(&self, worker: &Worker, rpc: &str) -> Result<Opened, Refusal> {
        let (nonce, _) = self.broker.nonce()?;
        self.opened(worker, rpc, nonce)
    }

    pub(super) fn opened(&self, worker: &Worker, rpc: &str, nonce: Vec<u8>) -> Result<Opened, Refusal> {
        self.broker.open(&format!("mayfly.v1.WorkloadService/{rpc}"), worker.envelope(nonce, rpc))
    }

    pub(super) async fn mint(
        &self,
        worker: &Worker,
        token: &str,
        claimed: Claimed,
    ) -> Result<Issued, Refusal> {
        let opened = self.open(worker, "Mint")?;
        self.broker.mint(&self.call(), &opened, &evidence(token), claimed.into()).await
    }

    pub(super) async fn renew(&self, worker: &Worker, token: &str, id: LeaseId) -> Result<Issued, Refusal> {
        let opened = self.open(worker, "Renew")?;
        self.broker
            .renew(&self.call(), &opened, &evidence(token), RenewInput { lease: id, ttl: None, csr: None })
            .await
    }

    pub(super) async fn complete(&self, worker: &Worker, token: &str) -> Result<Completed, Refusal> {
        let opened = self.open(worker, "CompleteTask")?;
        self.broker.complete_task(&self.call(), &opened, &evidence(token)).await
    }

    /// A certificate as the transport would show it, from a new key.
    pub(super) async fn certificate(
        &self,
        kind: StaffKind,
    ) -> Result<(ClientCertificate, StaffIssued), Refusal> {
        let key = Worker::payments("1");
        let path = match &kind {
            StaffKind::Operator(name) => format!("/mayfly/operator/{name}"),
            StaffKind::Acceptor(name) => format!("/mayfly/acceptor/{name}"),
        };
        let request = StaffRequest { kind, spki: key.spki(), ttl: None };
        let issued = self.broker.issue_staff(&self.call(), &request).await?;
        let certificate = ClientCertificate {
            id: SpiffeId::new(&domain(), &path).unwrap(),
            credential: CredentialId { lease: issued.lease, counter: 0 },
            key: key.public.thumbprint(),
            role: mayfly_mint::Role::System,
            signer: self.broker.keys().system_authority().id(),
        };
        Ok((certificate, issued))
    }

    pub(super) async fn operator(&self, name: &str) -> Operator {
        let kind = StaffKind::Operator(name.parse().unwrap());
        let (certificate, _) = self.certificate(kind).await.unwrap();
        self.broker.operator(Some(&certificate)).await.unwrap()
    }

    pub(super) async fn acceptor(&self, name: &str) -> Acceptor {
        let kind = StaffKind::Acceptor(name.parse().unwrap());
        let (certificate, _) = self.certificate(kind).await.unwrap();
        self.broker.acceptor(Some(&certificate)).await.unwrap()
    }

    /// Asks whether a request with this token and a new proof is accepted.
    pub(super) async fn check(
        &self,
        acceptor: &Acceptor,
        worker: &Worker,
        issued: &Issued,
    ) -> Result<(), Reason> {
        let mut input = bearer(issued);
        input.dpop = Some(worker.proof(issued.token().unwrap().compact().expose(), "POST", self.clock.now()));
        self.judge(acceptor, &input).await
    }

    pub(super) async fn judge(&self, acceptor: &Acceptor, input: &CheckInput) -> Result<(), Reason> {
        match self.broker.check(&self.call(), acceptor, input).await.unwrap() {
            Checked::Accepted(_) => Ok(()),
            Checked::Refused(refusal) => Err(refusal.reason),
        }
    }

    pub(super) async fn block(&self, operator: &Operator, subject: Subject, length: Option<Ttl>) {
        let named = Named { subject, force: true };
        let input = BlockInput { named, reason: text("stolen"), length };
        self.broker.set_block(&self.call(), operator, input).await.unwrap();
    }

    pub(super) async fn lift(&self, operator: &Operator, subject: Subject) -> Result<(), Refusal> {
        self.broker.lift_block(&self.call(), operator, subject, None).await.map(|_| ())
    }

    pub(super) async fn revoke(&self, operator: &Operator, subject: Subject) -> RevokeOutcome {
        let input = RevokeInput::Subject { named: Named { subject, force: true }, block: None };
        self.broker.revoke(&self.call(), operator, input, text("incident"), None, false).await.unwrap()
    }

    pub(super) fn standing(&self) -> Standing {
        self.broker.standing().borrow().clone()
    }

    /// The audit records so far.
    pub(super) fn audited(&self) -> Vec<Value> {
        let lines = std::fs::read_to_string(self.state.join("audit.jsonl")).unwrap();
        lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// The audit records of a kind.
    pub(super) fn audited_as(&self, kind: &str) -> Vec<Value> {
        self.audited().into_iter().filter(|r| r["kind"] == kind).collect()
    }

    pub(super) fn number(&self) -> u32 {
        self.store.generation().unwrap().generation.number
    }

    /// The sealed copy as it is on the disk.
    pub(super) fn copied(&self) -> crate::copy::Content {
        SealedCopy::open(&self.state, &seal()).unwrap().content().clone()
    }
}
