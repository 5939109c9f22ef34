//! A service's own certificate, there within milliseconds and kept fresh for as long as it is wanted.
//!
//! [`X509Identity::start`] gets the first certificate with first evidence. From then on one task renews it over
//! mTLS, by the certificate itself, so that nothing else has to be kept: at two thirds of its life, earlier where
//! the profile's `outage_budget` asks for it, a little earlier still by chance, so that a fleet does not come at
//! once. What fails is tried again until the certificate ends. A certificate that has ended, or whose lease is
//! dead, is not presented any more; then first evidence is shown again, and that is said once. A service that
//! started from a join token, or from any evidence that is good only once, needs new evidence then.
//!
//! Nothing is polled: the task wakes twice for a renewal, once to do it and once halfway to compare the clocks. A
//! jump of the wall clock, a suspended machine too, is seen there or when the certificate is next used.
//!
//! It must never present a certificate that it knows to be dead, and never judge a peer's lease: that is what
//! [`AcceptorClient`](crate::AcceptorClient) asks the broker.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::time::SharedClock;
use mayfly_domain::{Deadline, Reason, SystemClock, TrustDomain};
use tokio::sync::{broadcast, watch};

use crate::bundle::Bundle;
use crate::channel;
use crate::context::Target;
use crate::evidence::Source;
use crate::failure::Failure;
use crate::grpc::RotatingChannel;
use crate::keys::{KeyHome, WorkloadKey};
use crate::mtls::Resolver;
use crate::retry;
use crate::svid::Svid;
use crate::workload::{CertificateAsk, Line, WorkloadClient};

mod follow;
mod issuer;
mod keeper;
mod plan;
mod verdict;
mod wake;

use issuer::{AtBroker, Issuer as _};
use keeper::Keeper;
pub(crate) use wake::Wake;

/// How many events a slow listener may fall behind; [`State`] always has the newest.
const EVENTS: usize = 32;

/// How an identity is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is asked for.
    pub ask: CertificateAsk,
    /// Where the first key lives, so that it is the one of all calls of this task; none: in this process alone.
    pub home: Option<KeyHome>,
    /// The first key, where the caller has one; `home` is not looked at then.
    pub key: Option<Arc<WorkloadKey>>,
    /// A certificate that was minted for this already, in place of the first mint.
    pub svid: Option<Arc<Svid>>,
    /// Whether each renewal keeps the key; else each makes a new one.
    pub keep_key: bool,
    /// How long the first certificate may take.
    pub patience: Duration,
    /// Wall time.
    pub clock: SharedClock,
}

impl Options {
    /// A new key at each renewal, held in this process alone; 30 s for the first certificate.
    pub fn new(ask: CertificateAsk) -> Self {
        Self {
            ask,
            home: None,
            key: None,
            svid: None,
            keep_key: false,
            patience: retry::CALL,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What an identity has now.
#[derive(Debug, Clone)]
pub enum State {
    /// A certificate that is live as far as is known.
    Live(Arc<Svid>),
    /// None: the last one ended, for this reason, and a new one is tried for where that can help.
    Ended(Failure),
}

impl State {
    /// The certificate, where there is a live one.
    pub const fn svid(&self) -> Option<&Arc<Svid>> {
        match self {
            Self::Live(svid) => Some(svid),
            Self::Ended(_) => None,
        }
    }
}

/// What happened to an identity.
#[derive(Debug, Clone)]
pub enum Event {
    /// A certificate was minted with first evidence: the first, or after [`Event::FellBack`].
    Issued(Arc<Svid>),
    /// The certificate was renewed.
    Renewed(Arc<Svid>),
    /// The certificate can't renew itself any more; first evidence is shown from now on. Once for each time.
    FellBack(Failure),
    /// An attempt failed; another follows by itself, unless `last`.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether no further attempt follows: the evidence was good only once, or can't change.
        last: bool,
    },
    /// The lease was revoked: the certificate is not presented any more.
    Revoked(Failure),
    /// The certificate came to its end before a new one was there.
    Expired,
}

/// A certificate that keeps itself fresh for as long as this, or anything made from it, is held: a TLS
/// configuration, a channel, a receiver of [`X509Identity::state`]. Its lease ends by [`X509Identity::release`], or
/// with its last certificate.
#[derive(Debug)]
pub struct X509Identity {
    target: Target,
    line: Line,
    clock: SharedClock,
    wake: Arc<Wake>,
    state: watch::Receiver<State>,
    bundle: watch::Receiver<Arc<Bundle>>,
    events: broadcast::Sender<Event>,
}

impl X509Identity {
    /// Gets the first certificate and begins to keep it fresh: one connection, one nonce, one mint.
    ///
    /// # Errors
    /// Why there is none: no connection, no evidence, or the refusal.
    pub async fn start(target: &Target, source: Source, options: Options) -> Result<Self, Failure> {
        let Options { ask, home, key, svid, keep_key, patience, clock } = options;
        let deadline = Deadline::after(patience);
        // Unless it is the evidence itself, a certificate from files has no part in this: it may be anybody's.
        let identity = target.identity.clone().filter(|_| matches!(source, Source::Live(_)));
        let target = Target { identity, ..target.clone() };
        let line = Line::connect(&target, patience).await?;
        let mut issuer = AtBroker {
            target: target.clone(),
            line: line.clone(),
            source: Arc::new(source),
            ask,
            home: home.filter(|_| key.is_none()),
            keep_key,
            clock: Arc::clone(&clock),
            first_key: key,
            next_key: None,
        };
        let svid = match svid {
            Some(svid) => svid,
            None => Arc::new(issuer.first(deadline.left()).await?),
        };
        let (events, _) = broadcast::channel(EVENTS);
        let (state, shown) = watch::channel(State::Live(Arc::clone(&svid)));
        let (bundle, verifies) = watch::channel(Arc::clone(&svid.bundle));
        let wake = Arc::new(Wake::default());
        let keeper = Keeper {
            issuer,
            clock: Arc::clone(&clock),
            state: state.clone(),
            bundle: bundle.clone(),
            events: events.clone(),
            wake: Arc::clone(&wake),
            fell_back: false,
        };
        tokio::spawn(follow::follow(line.clone(), bundle));
        let stopping = Arc::clone(&wake);
        tokio::spawn(async move {
            tokio::select! {
                () = state.closed() => {}
                () = keeper.run(svid) => {}
                () = stopping.stopped() => {
                    state.send_replace(State::Ended(Failure::of(Reason::LeaseEnded)));
                }
            }
        });
        Ok(Self { target, line, clock, wake, state: shown, bundle: verifies, events })
    }

    /// The certificate, where there is a live one.
    pub fn svid(&self) -> Option<Arc<Svid>> {
        self.wake.used(self.clock.now());
        self.state.borrow().svid().cloned()
    }

    /// What there is now, and each change. It closes when no new certificate can be had any more.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// What verifies peers now, and each change: the broker's stream tells it at once.
    pub fn bundle(&self) -> watch::Receiver<Arc<Bundle>> {
        self.bundle.clone()
    }

    /// The trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.line.trust_domain
    }

    pub(crate) fn clock(&self) -> SharedClock {
        Arc::clone(&self.clock)
    }

    /// Renews now, or tries again now what failed before.
    pub fn renew_now(&self) {
        self.wake.call();
    }

    /// A client whose evidence is the live certificate: what it mints descends from it and ends with it. Its own
    /// key is the certificate's, as it is now.
    ///
    /// # Errors
    /// `CERTIFICATE_REQUIRED` where there is no live one; else why there is no connection.
    pub async fn client(&self) -> Result<WorkloadClient, Failure> {
        let svid = self.svid().ok_or_else(|| Failure::of(Reason::CertificateRequired))?;
        let (target, resolver) = (self.target.clone(), Arc::new(self.resolver()));
        let dial = move || {
            let (target, resolver) = (target.clone(), Arc::clone(&resolver));
            async move { channel::connect_as(&target, resolver).await }
        };
        let channel = RotatingChannel::new(self.state(), Arc::default(), dial).await?;
        let source = Arc::new(Source::Live(svid.id.clone()));
        let line = self.line.over(channel);
        Ok(WorkloadClient::over(line, source, Arc::clone(&svid.key), Arc::clone(&self.clock)))
    }

    /// Ends the lease, and with it the certificate: nothing is minted or renewed by it any more. What was minted by it
    /// before ends by itself; only a revocation takes that along. Whatever was made from the identity presents nothing
    /// from then on.
    ///
    /// # Errors
    /// The refusal; the identity is over all the same.
    pub async fn release(self) -> Result<(), Failure> {
        let client = self.client().await;
        let lease = self.svid().map(|svid| svid.lease);
        self.wake.stop();
        match lease {
            Some(lease) => client?.release(Some(lease)).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// What presents the newest certificate, to servers and to clients.
    pub fn resolver(&self) -> Resolver {
        Resolver::new(self.state(), Arc::clone(&self.wake), Arc::clone(&self.clock))
    }
}

#[cfg(test)]
mod tests;
