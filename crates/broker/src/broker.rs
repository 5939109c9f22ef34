//! The broker: what its use cases share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use mayfly_attest::envelope::{Envelope, Opened};
use mayfly_attest::nonce::NonceScope;
use mayfly_attest::verifier::Verifier;
use mayfly_audit::Audit;
use mayfly_credential::{ReplayWindow, TokenVerifier};
use mayfly_domain::time::{SharedBootClock, SharedClock};
use mayfly_domain::{AcceptorName, Reason, Refusal, SecretBytes, Ttl, UnixMillis};
use mayfly_lease::barrier::{StoreTime, StoreWatch};
use mayfly_lease::feed::FollowerId;
use mayfly_lease::proof::MintLimits;
use mayfly_lease::{Leases, StoreError, Survey};
use mayfly_mint::{Custody, KeyRing, KeySet, Minter, Seal};
use mayfly_policy::Engine;
use parking_lot::{Mutex, RwLock};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};

use crate::copy::SealedCopy;
use crate::feed::Feed;
use crate::handle::{self, Handles};
use crate::inforce::{KeysInForce, key_ring, nonce_keys};
use crate::meter::Meter;
use crate::recent::RecentAcceptors;
use crate::reuse::Reuse;
use crate::settings::Settings;
use crate::staff::AcceptorEntry;
use crate::standing::Standing;
use crate::unattested::Unattested;
use crate::usage::Usage;
use crate::watch::Bus;
use crate::workers::Revocations;

/// The label under which the local socket's proof key is derived from the seal.
pub const LOCAL_PROOF_LABEL: &str = "local socket";

/// What a reload replaces, all or nothing: policies with profiles and operators, and the acceptors. Trust
/// rules live in the verifier and are replaced in the same call.
pub struct Running {
    /// Policies, profiles, operators' groups.
    pub engine: Engine,
    /// Who may check what.
    pub acceptors: BTreeMap<AcceptorName, AcceptorEntry>,
    /// When it was loaded.
    pub loaded: UnixMillis,
}

/// What a broker is made of.
pub struct BrokerParts {
    /// The deployment's settings.
    pub settings: Settings,
    /// Wall time.
    pub clock: SharedClock,
    /// The clock that freshness is counted by.
    pub boot: SharedBootClock,
    /// The leases.
    pub leases: Leases,
    /// The verifier, with its trust rules.
    pub verifier: Verifier,
    /// Policies and the rest.
    pub running: Running,
    /// The seal.
    pub seal: Seal,
    /// The sealed copy.
    pub copy: SealedCopy,
    /// The keys: the store's, else the copy's.
    pub keys: KeySet,
    /// Where private keys are made and kept.
    pub custody: Custody,
    /// The audit.
    pub audit: Audit,
    /// The counts.
    pub meter: Arc<dyn Meter>,
}

/// A broker.
pub struct Broker {
    settings: Settings,
    clock: SharedClock,
    boot: SharedBootClock,
    leases: Leases,
    verifier: Verifier,
    running: ArcSwap<Running>,
    reload_errors: ArcSwap<Vec<String>>,
    seal: Seal,
    copy: AsyncMutex<SealedCopy>,
    keys: KeysInForce,
    handles: Handles,
    custody: Custody,
    minter: Minter,
    tokens: TokenVerifier,
    replay: ReplayWindow,
    unattested: Unattested,
    /// Completions by handle of tasks that had ended before.
    repeats: Unattested,
    acceptors: RecentAcceptors,
    usage: Usage,
    reuse: Reuse,
    store_watch: Mutex<StoreWatch>,
    bus: Arc<Bus>,
    feed: Arc<Feed>,
    audit: Audit,
    meter: Arc<dyn Meter>,
    standing: watch::Sender<Standing>,
    guard: Notify,
    sweeper: Notify,
    server_changed: AtomicBool,
    worked_on: RwLock<Option<[u8; 16]>>,
    last_survey: ArcSwap<Option<Survey>>,
    started: UnixMillis,
    open_sweeps: AtomicU64,
    revocations: watch::Sender<Revocations>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("id", &self.settings.broker_id).finish_non_exhaustive()
    }
}

impl Broker {
    /// Puts a broker together. It serves nothing before its first look at the store.
    ///
    /// # Errors
    /// `INTERNAL` where the keys can't be used.
    pub fn new(parts: BrokerParts) -> Result<Self, Refusal> {
        let ring = key_ring(&parts.keys, &parts.custody)?;
        parts.verifier.set_nonce_keys(nonce_keys(&ring)?);
        let handles = parts.seal.derive(handle::LABEL).map_err(internal)?;
        let started = parts.clock.now();
        let bus = Arc::new(Bus::default());
        Ok(Self {
            minter: Minter::new(parts.settings.issuer.clone()),
            tokens: TokenVerifier::new(parts.settings.issuer.clone()),
            replay: ReplayWindow::default(),
            unattested: Unattested::default(),
            repeats: Unattested::default(),
            acceptors: RecentAcceptors::default(),
            usage: Usage::default(),
            reuse: Reuse::of(&parts.running),
            store_watch: Mutex::default(),
            audit: parts.audit.observed(bus.clone()),
            bus,
            feed: Arc::new(Feed::new(parts.settings.feed, follower_id()?, parts.boot.clone())),
            settings: parts.settings,
            clock: parts.clock,
            boot: parts.boot,
            leases: parts.leases,
            verifier: parts.verifier,
            running: ArcSwap::from_pointee(parts.running),
            reload_errors: ArcSwap::default(),
            seal: parts.seal,
            copy: AsyncMutex::new(parts.copy),
            keys: KeysInForce::new(ring),
            handles: Handles::new(&handles),
            custody: parts.custody,
            meter: parts.meter,
            standing: watch::Sender::new(Standing::Starting),
            guard: Notify::new(),
            sweeper: Notify::new(),
            server_changed: AtomicBool::new(false),
            worked_on: RwLock::default(),
            last_survey: ArcSwap::from_pointee(None),
            started,
            open_sweeps: AtomicU64::new(0),
            revocations: watch::Sender::new(Revocations::default()),
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The clock.
    pub fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// The clock that freshness is counted by.
    pub(crate) fn boot(&self) -> &SharedBootClock {
        &self.boot
    }

    /// The feed as this broker follows and serves it.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The present keys.
    pub fn keys(&self) -> arc_swap::Guard<Arc<KeyRing>> {
        self.keys.load()
    }

    pub(crate) fn in_force(&self) -> &KeysInForce {
        &self.keys
    }

    /// The audit.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The verifier.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Where it stands; changes can be awaited.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Stops minting and accepting; revocations still work until the end.
    pub fn drain(&self) {
        self.stand(Standing::Draining);
    }

    /// Policies and the rest, as loaded last.
    pub fn running(&self) -> arc_swap::Guard<Arc<Running>> {
        self.running.load()
    }

    /// The same, to keep.
    pub(crate) fn running_now(&self) -> Arc<Running> {
        self.running.load_full()
    }

    /// The key with which a caller on the local socket shows that it can open the seal.
    ///
    /// # Errors
    /// `INTERNAL` where it can't be derived.
    pub fn local_proof_key(&self) -> Result<SecretBytes, Refusal> {
        self.seal.derive(LOCAL_PROOF_LABEL).map_err(internal)
    }

    /// Replaces trust rules, policies, profiles, operators and acceptors.
    pub fn reload(&self, rules: mayfly_attest::ruleset::RuleSet, running: Running) {
        self.verifier.set_rules(rules);
        self.reuse.set(running.reuse_ms());
        self.running.store(Arc::new(running));
        self.reload_errors.store(Arc::default());
        self.meter.reloaded(true);
    }

    /// Keeps what runs, and shows why the reload was refused.
    pub fn reload_refused(&self, errors: Vec<String>) {
        self.reload_errors.store(Arc::new(errors));
        self.meter.reloaded(false);
    }

    /// Why the last reload was refused.
    pub fn reload_errors(&self) -> Arc<Vec<String>> {
        self.reload_errors.load_full()
    }

    /// A nonce for the next call, with its end.
    ///
    /// # Errors
    /// A refusal where the broker can't even end anything: a nonce is needed to complete a task, too.
    pub fn nonce(&self) -> Result<(Vec<u8>, UnixMillis), Refusal> {
        self.revoking()?;
        self.verifier.issue_nonce(&self.nonce_scope()?)
    }

    /// Opens an envelope for `rpc`: size, nonce, signature, in this order.
    ///
    /// # Errors
    /// A refusal; nothing was spent or stored.
    pub fn open(&self, rpc: &str, envelope: Envelope) -> Result<Opened, Refusal> {
        // A task may be completed and a lease released while settings are unsafe; each use case asks again.
        self.standing.borrow().revoking()?;
        self.verifier.open(&self.nonce_scope()?, rpc, envelope)
    }

    /// Refuses where the broker does not serve, or could have missed a revocation.
    pub(crate) fn serving(&self) -> Result<(), Refusal> {
        self.standing.borrow().serving()?;
        self.feed.fresh()
    }

    /// What every mint is allowed: the settings, and never a lineage longer than the store keeps fences.
    pub(crate) fn limits(&self) -> MintLimits {
        let mut limits = self.settings.limits;
        if let Some(record) = self.leases.store().generation() {
            let kept = i64::try_from(record.longest_life_ms / 1_000).unwrap_or(i64::MAX);
            if let Ok(kept) = Ttl::from_secs(kept) {
                limits.token_lineage = limits.token_lineage.min(kept);
                limits.x509_lineage = limits.x509_lineage.min(kept);
            }
        }
        limits
    }

    pub(crate) fn revoking(&self) -> Result<(), Refusal> {
        self.standing.borrow().revoking()
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn handles(&self) -> &Handles {
        &self.handles
    }

    pub(crate) fn minter(&self) -> &Minter {
        &self.minter
    }

    pub(crate) fn tokens(&self) -> &TokenVerifier {
        &self.tokens
    }

    pub(crate) fn unattested(&self) -> &Unattested {
        &self.unattested
    }

    pub(crate) fn repeats(&self) -> &Unattested {
        &self.repeats
    }

    pub(crate) fn replay(&self) -> &ReplayWindow {
        &self.replay
    }

    pub(crate) fn recent_acceptors(&self) -> &RecentAcceptors {
        &self.acceptors
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// What operators who watch see.
    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Every reading of the store's clock is told here. Tells how far it is to be believed, and whether the store knows
    /// every follower that may still decide.
    pub(crate) fn saw_store(&self, at: UnixMillis) -> (StoreTime, bool) {
        self.store_watch.lock().saw(self.leases().store().identity(), at, self.boot().now())
    }

    pub(crate) fn reuse(&self) -> &Reuse {
        &self.reuse
    }

    pub(crate) fn meter(&self) -> &dyn Meter {
        self.meter.as_ref()
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.seal
    }

    pub(crate) fn custody(&self) -> &Custody {
        &self.custody
    }

    pub(crate) fn copy(&self) -> &AsyncMutex<SealedCopy> {
        &self.copy
    }

    pub(crate) fn started(&self) -> UnixMillis {
        self.started
    }

    pub(crate) fn survey(&self) -> Arc<Option<Survey>> {
        self.last_survey.load_full()
    }

    pub(crate) fn saw(&self, survey: &Survey) {
        self.last_survey.store(Arc::new(Some(survey.clone())));
    }

    pub(crate) fn stand(&self, next: Standing) {
        self.standing.send_if_modified(|now| {
            if *now == next || (*now == Standing::Draining) {
                return false;
            }
            tracing::info!(from = now.as_str(), to = next.as_str(), "standing");
            *now = next;
            true
        });
    }

    pub(crate) fn wake_guard(&self) {
        self.guard.notify_one();
    }

    pub(crate) fn guard_woken(&self) -> &Notify {
        &self.guard
    }

    pub(crate) fn wake_sweeper(&self) {
        self.sweeper.notify_one();
    }

    pub(crate) fn sweeper_woken(&self) -> &Notify {
        &self.sweeper
    }

    /// The revocations on their way to their acknowledgement.
    pub(crate) fn revocations(&self) -> &watch::Sender<Revocations> {
        &self.revocations
    }

    pub(crate) fn open_sweeps(&self) -> &AtomicU64 {
        &self.open_sweeps
    }

    pub(crate) fn server_changed(&self) {
        self.server_changed.store(true, Ordering::Release);
    }

    pub(crate) fn has_server_changed(&self) -> bool {
        self.server_changed.load(Ordering::Acquire)
    }

    /// The store answered in the adopted generation on this server.
    pub(crate) fn server_settled(&self, identity: [u8; 16]) {
        *self.worked_on.write() = Some(identity);
        self.server_changed.store(false, Ordering::Release);
    }

    /// The server on which this broker last worked in its generation.
    pub(crate) fn worked_on(&self) -> Option<[u8; 16]> {
        *self.worked_on.read()
    }

    /// Turns a store's error into a refusal, after the guard took note of it.
    pub(crate) fn refused(&self, error: StoreError) -> Refusal {
        self.note(&error);
        error.into()
    }

    fn nonce_scope(&self) -> Result<NonceScope, Refusal> {
        let store = self.leases.store();
        let Some(record) = store.generation() else { return Err(Reason::NotServing.into()) };
        Ok(NonceScope { generation: record.generation, store: store.identity() })
    }
}

/// An id of this process among those who follow the feed.
fn follower_id() -> Result<FollowerId, Refusal> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| internal("no randomness"))?;
    Ok(FollowerId(id))
}

fn internal(e: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::Internal, e.to_string())
}
