//! The verifier: what it shares with its follower, and the checks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use mayfly_client::{Bundle, Target};
use mayfly_credential::{Nonces, ReplayWindow, Usage};
use mayfly_domain::defaults::FOLLOW_BOUND_MS;
use mayfly_domain::feed::Position;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Audience, BootClock, Reason, Refusal};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::ask::Asking;
use crate::builder::{Builder, PastBound};
use crate::cache::Cache;
use crate::follower;
use crate::follower::dial::Dial;
use crate::guards::{Guard, Guards};
use crate::judged::{Judged, Request};
use crate::known::Known;
use crate::metrics::{Freshness, Metrics};
use crate::table::{State, Table};
use crate::usage;

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
    pub(crate) policies: bool,
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
            policies: false,
        }
    }
}

/// How far a verifier has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    /// It follows.
    Follows,
    /// It was asked to end.
    Ends,
    /// It accepts nothing any more, and tells its broker so.
    Leaves,
    /// It has ended.
    Ended,
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
    pub(crate) life: watch::Sender<Life>,
    pub(crate) bundle: watch::Sender<Option<Arc<Bundle>>>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) asking: Asking,
    #[cfg(feature = "policy")]
    pub(crate) policies: arc_swap::ArcSwapOption<crate::policy::Policies>,
    pub(crate) nonces: Option<Nonces>,
    pub(crate) window: ReplayWindow,
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
            life: watch::Sender::new(Life::Follows),
            bundle: watch::Sender::new(None),
            dial,
            asking: Asking::default(),
            #[cfg(feature = "policy")]
            policies: arc_swap::ArcSwapOption::empty(),
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
        self.0.shared.is_fresh()
    }

    /// For how long it may decide without a further answer, and how far it has come.
    pub fn freshness(&self) -> Freshness {
        let state = self.0.shared.state.load();
        let left = state.fresh_until().since(self.0.shared.boot.now());
        Freshness { left, number: state.position().number }
    }

    /// Waits until it may decide; for ever where it was shut down.
    pub async fn ready(&self) {
        let mut fresh = self.fresh();
        // The sender lives as long as this verifier.
        let _ = fresh.wait_for(|fresh| *fresh).await;
    }

    /// Whether it may decide, as it changes; told within a quarter of a second where the bound runs out.
    pub fn fresh(&self) -> watch::Receiver<bool> {
        self.0.shared.fresh.subscribe()
    }

    /// Ends it: from here on it accepts nothing, as do its clones, every guard has ended, and its broker is told, so that
    /// no barrier waits for this process. Call it when everything that was accepted here is over, before the process
    /// ends: one that ends without it is waited for until its bound is over.
    ///
    /// Returns when the broker has heard it; where none hears, after two seconds at most.
    pub async fn shutdown(&self) {
        let shared = &self.0.shared;
        shared.life.send_if_modified(|life| {
            let follows = *life == Life::Follows;
            if follows {
                *life = Life::Ends;
            }
            follows
        });
        // Longer than it takes, for a runtime that ends at the same time and its tasks with it.
        let _ = timeout(2 * follower::LEAVE, shared.comes_to(Life::Ended)).await;
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
        self.metrics().render(self.freshness())
    }
}
