//! The verifier: what it shares with its follower, and the checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use mayfly_client::{Bundle, Target};
use mayfly_credential::{Nonces, Presented, ReplayWindow, Usage, VerifiedToken, WorkloadCertificate, dpop};
use mayfly_domain::defaults::{FOLLOW_BOUND_MS, TOKEN_OCTETS_MAX};
use mayfly_domain::feed::Position;
use mayfly_domain::follow::Dead;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Audience, BootClock, LeaseId, Reason, Refusal, Scopes, Thumbprint};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::ask::Asking;
use crate::builder::{Builder, PastBound};
use crate::cache::{Cache, Entry};
use crate::follower;
use crate::follower::dial::Dial;
use crate::guards::{Guard, Guards};
use crate::judged::{Judged, Kind, Request};
use crate::known::Known;
use crate::metrics::{Freshness, Metrics};
use crate::table::{State, Table, Verdict};
use crate::usage;

/// The longest certificate that is looked at, in octets.
const CERTIFICATE_OCTETS_MAX: usize = 16 * 1024;

/// How a verifier is to be.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) bound_ms: u32,
    pub(crate) past_bound: PastBound,
    pub(crate) capacity: usize,
    pub(crate) remember: usize,
    pub(crate) proofs: usize,
    pub(crate) audiences: Vec<Audience>,
    pub(crate) demand_nonce: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            bound_ms: FOLLOW_BOUND_MS,
            past_bound: PastBound::Refuse,
            capacity: 1_000_000,
            remember: 16_384,
            proofs: ReplayWindow::CAPACITY,
            audiences: Vec::new(),
            demand_nonce: false,
        }
    }
}

/// What checks and the follower share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) wishes: Wishes,
    /// This follower, from its start to its end.
    pub(crate) id: [u8; 16],
    pub(crate) clock: SharedClock,
    pub(crate) boot: Arc<dyn BootClock>,
    pub(crate) state: ArcSwap<State>,
    // Put in place before the state that depends on it, and read after it.
    pub(crate) known: ArcSwap<Known>,
    pub(crate) tokens: Cache,
    pub(crate) certificates: [Cache; 2],
    pub(crate) guards: Guards,
    pub(crate) usage: usage::Usage,
    pub(crate) metrics: Metrics,
    // The latest moment until which a table ever was fresh.
    pub(crate) promised: AtomicU64,
    pub(crate) fresh: watch::Sender<bool>,
    pub(crate) bundle: watch::Sender<Option<Arc<Bundle>>>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) asking: Asking,
    nonces: Option<Nonces>,
    window: ReplayWindow,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    follower: tokio::task::AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// Decides in-process whether a credential is to be accepted. Cloning gives the same one.
///
/// Until the first snapshot is complete, and whenever nothing was heard from a broker for longer than the bound, it
/// accepts nothing.
#[derive(Debug, Clone)]
pub struct Verifier(Arc<Handle>);

impl Verifier {
    /// A verifier that follows this broker, with the acceptor's certificate of its context.
    pub fn builder(target: Target) -> Builder {
        Builder::new(target)
    }

    pub(crate) fn start(
        wishes: Wishes,
        clock: SharedClock,
        boot: Arc<dyn BootClock>,
        dial: Arc<dyn Dial>,
        nonces: Option<Nonces>,
    ) -> Result<Self, Refusal> {
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| Refusal::new(Reason::Internal, "no randomness"))?;
        let shared = Arc::new(Shared {
            state: ArcSwap::from_pointee(State::new(Position::default(), Table::new(0))),
            known: ArcSwap::default(),
            tokens: Cache::new(wishes.remember),
            certificates: [Cache::new(wishes.remember / 4), Cache::new(wishes.remember / 4)],
            guards: Guards::default(),
            usage: usage::Usage::default(),
            metrics: Metrics::default(),
            promised: AtomicU64::new(0),
            fresh: watch::Sender::new(false),
            bundle: watch::Sender::new(None),
            dial,
            asking: Asking::default(),
            nonces,
            window: ReplayWindow::new(wishes.proofs),
            id,
            wishes,
            clock,
            boot,
        });
        let follower = tokio::spawn(follower::run(Arc::clone(&shared))).abort_handle();
        Ok(Self(Arc::new(Handle { shared, follower })))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn guards(&self) -> &Guards {
        &self.0.shared.guards
    }

    /// Judges an access token and what binds it to the request, now. A token that was verified before costs no
    /// signature, no lock that others wait for, and no allocation; its proof costs its own.
    ///
    /// A token that is bound to a key needs a DPoP proof by that key or, where there is none, a TLS client that has
    /// proven it in the handshake.
    ///
    /// # Errors
    /// Why it is not accepted; [`Reason::AcceptorNotFresh`] where nothing may be decided.
    pub fn check_token(&self, token: &str, request: &Request<'_>) -> Result<Arc<Judged>, Refusal> {
        self.counted(self.0.shared.token(token, request))
    }

    /// Judges a workload's certificate (DER) whose key the peer has proven in its handshake, now.
    ///
    /// # Errors
    /// As [`Verifier::check_token`].
    pub fn check_certificate(&self, leaf: &[u8], usage: Usage) -> Result<Arc<Judged>, Refusal> {
        self.counted(self.0.shared.certificate(leaf, usage))
    }

    pub(crate) fn counted(&self, judged: Result<Arc<Judged>, Refusal>) -> Result<Arc<Judged>, Refusal> {
        match &judged {
            Ok(_) => self.metrics().accept(),
            Err(refusal) => self.metrics().refuse(refusal.reason),
        }
        judged
    }

    /// Registers a guard for a connection that rests on this credential. It must be asked once more
    /// ([`Guard::check`]) before the connection begins.
    pub fn guard(&self, judged: &Arc<Judged>) -> Guard {
        Guard::register(self.clone(), Arc::clone(judged))
    }

    /// Whether a credential that was accepted here still is.
    ///
    /// # Errors
    /// Why it is not.
    pub fn still(&self, judged: &Judged) -> Result<(), Refusal> {
        self.0.shared.judge(judged)
    }

    /// Whether it may decide now.
    pub fn is_fresh(&self) -> bool {
        self.0.shared.boot.now() < self.0.shared.state.load().fresh_until()
    }

    /// Waits until it may decide.
    pub async fn ready(&self) {
        let mut fresh = self.fresh();
        // The sender lives as long as this verifier.
        let _ = fresh.wait_for(|fresh| *fresh).await;
    }

    /// Whether it may decide, as it changes; told within a quarter of a second where the bound runs out.
    pub fn fresh(&self) -> watch::Receiver<bool> {
        self.0.shared.fresh.subscribe()
    }

    /// What it has applied of the feed.
    pub fn position(&self) -> Position {
        self.0.shared.state.load().position()
    }

    /// How many fences and single revocations it holds.
    pub fn revocations(&self) -> usize {
        self.0.shared.state.load().table.len()
    }

    /// What verifies workloads' certificates, as it changes; none before the first keys came. For TLS configurations.
    pub fn bundle(&self) -> watch::Receiver<Option<Arc<Bundle>>> {
        self.0.shared.bundle.subscribe()
    }

    /// The value of a `DPoP-Nonce` header for this moment, where nonces are demanded (RFC 9449 section 9).
    pub fn nonce(&self) -> Option<String> {
        self.0.shared.nonces.as_ref().map(|nonces| nonces.give(self.0.shared.clock.now()))
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// What it counts, in Prometheus' text format.
    pub fn render_metrics(&self) -> String {
        let shared = &self.0.shared;
        let state = shared.state.load();
        let left = state.fresh_until().since(shared.boot.now());
        shared.metrics.render(Freshness { left, number: state.position().number })
    }
}

impl Shared {
    pub(crate) fn token(&self, token: &str, request: &Request<'_>) -> Result<Arc<Judged>, Refusal> {
        let entry = self.shown(token, request)?;
        self.judge(&entry.judged)?;
        count(&entry, request.scopes);
        Ok(Arc::clone(&entry.judged))
    }

    /// Verifies what the request shows; whether the lease lives is another question.
    fn shown(&self, token: &str, request: &Request<'_>) -> Result<Arc<Entry>, Refusal> {
        if token.len() > TOKEN_OCTETS_MAX {
            return Err(Refusal::new(Reason::TokenMalformed, "longer than any token"));
        }
        let known = self.known.load();
        let entry = match self.tokens.get(token.as_bytes()) {
            Some(entry) if entry.epoch == known.epoch => entry,
            _ => self.new_token(&known, token)?,
        };
        let judged = &entry.judged;
        if !judged.audience.as_ref().is_some_and(|audience| known.takes(audience)) {
            return Err(Reason::TokenAudience.into());
        }
        grants(&judged.scopes, request.scopes)?;
        self.bound(token, judged, request)?;
        Ok(entry)
    }

    /// The lease of a token that is bound to this connection's key.
    pub(crate) fn bound_lease(&self, token: &str, request: &Request<'_>) -> Result<LeaseId, Refusal> {
        let entry = self.shown(token, request)?;
        if self.clock.now() >= entry.judged.expires {
            return Err(Reason::LeaseExpired.into());
        }
        Ok(entry.judged.credential.lease)
    }

    fn new_token(&self, known: &Known, token: &str) -> Result<Arc<Entry>, Refusal> {
        let (Some(keys), Some(terms)) = (&known.keys, &known.terms) else {
            return Err(Reason::AcceptorNotFresh.into());
        };
        let now = self.clock.now();
        let verified = terms.tokens.verify(&keys.tokens, token, now);
        let verified = verified.map_err(|refusal| match refusal.reason {
            // It may be of a key that could not be told.
            Reason::TokenSignature if !self.is_fresh() => Reason::AcceptorNotFresh.into(),
            _ => refusal,
        })?;
        Ok(self.remember(&self.tokens, token.as_bytes(), of_token(verified), known.epoch))
    }

    pub(crate) fn certificate(&self, leaf: &[u8], usage: Usage) -> Result<Arc<Judged>, Refusal> {
        if leaf.len() > CERTIFICATE_OCTETS_MAX {
            return Err(Refusal::new(Reason::CertificateNotAllowed, "longer than any certificate"));
        }
        let known = self.known.load();
        let (Some(keys), Some(terms)) = (&known.keys, &known.terms) else {
            return Err(Reason::AcceptorNotFresh.into());
        };
        if !terms.certificates {
            return Err(Reason::TokenAudience.into());
        }
        let [clients, servers] = &self.certificates;
        let cache = match usage {
            Usage::Client => clients,
            Usage::Server => servers,
        };
        let entry = match cache.get(leaf) {
            Some(entry) if entry.epoch == known.epoch => entry,
            _ => {
                let chain = [CertificateDer::from(leaf)];
                let verified = keys.anchors.workload_chain(&chain, usage, self.clock.now());
                let verified = verified.map_err(|mut refusal| {
                    match refusal.reason {
                        // What is told of evidence elsewhere is told of a lease here.
                        Reason::EvidenceExpired => refusal.reason = Reason::LeaseExpired,
                        Reason::CertificateNotAllowed if !self.is_fresh() => {
                            return Reason::AcceptorNotFresh.into();
                        }
                        _ => {}
                    }
                    refusal
                })?;
                self.remember(cache, leaf, of_certificate(verified), known.epoch)
            }
        };
        self.judge(&entry.judged)?;
        Ok(Arc::clone(&entry.judged))
    }

    fn remember(&self, cache: &Cache, octets: &[u8], judged: Judged, epoch: u64) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(octets, judged, epoch));
        for gone in cache.insert(&entry) {
            self.usage.collect(&gone);
        }
        entry
    }

    /// What binds the token to this request.
    fn bound(&self, token: &str, judged: &Judged, request: &Request<'_>) -> Result<(), Refusal> {
        let Some(key) = &judged.key else { return Ok(()) };
        match (request.dpop, request.peer) {
            (Some(proof), _) => {
                let nonces = self.nonces.as_ref();
                let presented = Presented { method: request.method, url: request.url, token, key, nonces };
                dpop::verify(proof, &presented, &self.window, self.clock.now())
            }
            (None, Some(peer)) if peer == key => Ok(()),
            (None, Some(_)) => {
                Err(Refusal::new(Reason::ProofMissing, "no proof, and the connection's key is another"))
            }
            (None, None) => Err(Reason::ProofMissing.into()),
        }
    }

    pub(crate) fn judge(&self, judged: &Judged) -> Result<(), Refusal> {
        let (Some(observation), Some(signer)) = (&judged.observation, &judged.signer) else {
            return Err(Refusal::new(Reason::AcceptorNotFresh, "only a broker has judged it"));
        };
        let state = self.state.load();
        let (verdict, is_known) = state.judge(
            judged.credential.lease,
            observation,
            judged.expires,
            || self.known.load().knows(signer),
            || self.clock.now(),
            || self.boot.now(),
        );
        match verdict {
            Verdict::NotFresh => Err(Reason::AcceptorNotFresh.into()),
            Verdict::Expired => Err(Reason::LeaseExpired.into()),
            Verdict::Dead(dead) => Err(revoked(dead)),
            Verdict::Lives if !is_known => Err(Reason::SignerWithdrawn.into()),
            Verdict::Lives => Ok(()),
        }
    }

    /// Whether the table or the keys say that a credential is dead, however fresh they are.
    ///
    /// # Errors
    /// Why it is.
    pub(crate) fn dead(&self, judged: &Judged) -> Result<(), Reason> {
        let (Some(observation), Some(signer)) = (&judged.observation, &judged.signer) else {
            return Err(Reason::AcceptorNotFresh);
        };
        if self.state.load().dead(judged.credential.lease, observation).is_some() {
            return Err(Reason::LeaseRevoked);
        }
        if self.known.load().knows(signer) { Ok(()) } else { Err(Reason::SignerWithdrawn) }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.boot.now() < self.state.load().fresh_until()
    }

    /// Whether the nonce of a proof is one of ours, where that is demanded; whoever asks a broker has it verified.
    pub(crate) fn nonce_is_good(&self, proof: Option<&str>) -> Result<(), Refusal> {
        match (&self.nonces, proof) {
            (Some(nonces), Some(proof)) => nonces.demand_in(proof, self.clock.now()),
            _ => Ok(()),
        }
    }
}

fn revoked(dead: Dead) -> Refusal {
    Refusal::new(Reason::LeaseRevoked, dead.to_string())
}

pub(crate) fn grants(granted: &Scopes, demanded: &[&str]) -> Result<(), Refusal> {
    let lacks = |scope: &&&str| !granted.iter().any(|granted| granted.as_str() == **scope);
    match demanded.iter().find(lacks) {
        Some(scope) => Err(Refusal::from(Reason::TokenScope).fact("scope", *scope)),
        None => Ok(()),
    }
}

fn count(entry: &Entry, demanded: &[&str]) {
    let mut counters = entry.uses.iter();
    if let Some(intent) = counters.next() {
        intent.fetch_add(1, Ordering::Relaxed);
    }
    for (scope, counter) in entry.judged.scopes.iter().zip(counters) {
        if demanded.contains(&scope.as_str()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn of_token(token: VerifiedToken) -> Judged {
    Judged {
        kind: Kind::Token,
        credential: token.id,
        workload: token.workload,
        owners: Some(token.owners),
        task: Some(token.task),
        intent: Some(token.intent),
        profile: None,
        scopes: token.scopes,
        audience: Some(token.audience),
        expires: token.expires,
        observation: Some(token.observation),
        key: token.key,
        signer: Some(token.signer),
    }
}

fn of_certificate(certificate: WorkloadCertificate) -> Judged {
    Judged {
        kind: Kind::Certificate,
        credential: certificate.credential,
        workload: certificate.id,
        owners: None,
        task: None,
        intent: None,
        profile: None,
        scopes: Scopes::default(),
        audience: None,
        expires: certificate.expires,
        observation: Some(certificate.observation),
        key: Some(certificate.key),
        signer: Some(certificate.signer),
    }
}

/// The thumbprint of a certificate's key, whoever issued it: what a TLS client has proven in its handshake.
///
/// # Errors
/// [`Reason::CertificateNotAllowed`] where it is no certificate, or its key neither P-256 nor Ed25519.
pub fn key_of(leaf: &[u8]) -> Result<Thumbprint, Refusal> {
    mayfly_credential::certificate::key_of(&CertificateDer::from(leaf))
}
