//! How a verifier is made.

use std::sync::Arc;
use std::time::Duration;

use mayfly_client::{Failure, Target, channel};
use mayfly_credential::Nonces;
use mayfly_domain::defaults::FOLLOW_BOUND_MAX_MS;
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Audience, BootClock, Reason, SystemBootClock, SystemClock};
use url::Url;

use crate::follower::dial::{Dial, Targets};
use crate::verifier::{Verifier, Wishes};

/// What happens when nothing was heard from a broker for longer than the bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PastBound {
    /// Everything is refused, with `ACCEPTOR_NOT_FRESH`.
    #[default]
    Refuse,
    /// `check_token_or_ask` and `check_certificate_or_ask` ask a broker about each request. Where none answers they
    /// refuse; so does whatever does not ask. The layer asks again, once in each bound, about requests and answers that
    /// go on. Connections that are guarded end all the same.
    AskOnline,
}

/// Collects how a verifier is to be.
#[derive(Debug)]
pub struct Builder {
    targets: Vec<Target>,
    pub(crate) wishes: Wishes,
    clock: SharedClock,
    boot: Arc<dyn BootClock>,
    dial: Option<Arc<dyn Dial>>,
}

impl Builder {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            targets: vec![target],
            wishes: Wishes::default(),
            clock: Arc::new(SystemClock),
            boot: Arc::new(SystemBootClock),
            dial: None,
        }
    }

    /// More brokers of the same deployment, tried in turn: the same CA and the same certificate, another URL.
    #[must_use]
    pub fn or_at(mut self, urls: impl IntoIterator<Item = Url>) -> Self {
        if let Some(first) = self.targets.first().cloned() {
            self.targets.extend(urls.into_iter().map(|url| Target { url, ..first.clone() }));
        }
        self
    }

    /// For how long it decides by itself without an answer of a broker; the broker may allow less. 5 s where nothing is
    /// said, 10 s at most.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Self {
        let bound_ms = u32::try_from(bound.as_millis()).unwrap_or(u32::MAX);
        self.wishes.bound_ms = bound_ms.clamp(1, FOLLOW_BOUND_MAX_MS);
        self
    }

    /// What happens past the bound.
    #[must_use]
    pub fn past_bound(mut self, past_bound: PastBound) -> Self {
        self.wishes.past_bound = past_bound;
        self
    }

    /// How many revocations it can hold: 1,000,000 where nothing is said, at most 200 octets each. A verifier that
    /// is full refuses everything.
    #[must_use]
    pub fn capacity(mut self, revocations: usize) -> Self {
        self.wishes.capacity = revocations;
        self
    }

    /// How many credentials are remembered as verified: 16,384 where nothing is said, about 2 KiB each.
    #[must_use]
    pub fn remember(mut self, credentials: usize) -> Self {
        self.wishes.remember = credentials;
        self
    }

    /// Takes tokens of these audiences only. Where nothing is said, of all that the broker's configuration gives this
    /// acceptor; never of others.
    #[must_use]
    pub fn audiences(mut self, audiences: impl IntoIterator<Item = Audience>) -> Self {
        self.wishes.audiences = audiences.into_iter().collect();
        self
    }

    /// Asks for the policies that judge requests, for [`Verifier::check_request`]. Nothing is accepted before they came.
    #[cfg(feature = "policy")]
    #[must_use]
    pub fn with_policies(mut self) -> Self {
        self.wishes.policies = true;
        self
    }

    /// Demands a nonce of this process in each DPoP proof (RFC 9449 section 9), at most two minutes old.
    #[must_use]
    pub fn demand_nonce(mut self) -> Self {
        self.wishes.demand_nonce = true;
        self
    }

    /// How many DPoP proofs are remembered, each for its life of a minute: 1,048,576 where nothing is said. A verifier
    /// whose memory is full refuses further proofs. Another process does not know what this one has seen.
    #[must_use]
    pub fn proofs(mut self, proofs: usize) -> Self {
        self.wishes.proofs = proofs;
        self
    }

    /// Other clocks than the machine's, for tests. Wall time judges expiry; the boot clock, which must run while the
    /// machine is suspended, judges freshness.
    #[must_use]
    pub fn clocks(mut self, wall: SharedClock, boot: Arc<dyn BootClock>) -> Self {
        (self.clock, self.boot) = (wall, boot);
        self
    }

    #[cfg(test)]
    pub(crate) fn dial(mut self, dial: Arc<dyn Dial>) -> Self {
        self.dial = Some(dial);
        self
    }

    /// Starts to follow, on the runtime that this is called in. It accepts nothing before it is fresh:
    /// [`Verifier::ready`] waits for that.
    ///
    /// # Errors
    /// `CERTIFICATE_REQUIRED` where the context has no certificate or one that is over, `CONFIG_INVALID` where it can't
    /// be read.
    pub fn start(self) -> Result<Verifier, Failure> {
        let dial = match self.dial {
            Some(dial) => dial,
            None => {
                for target in &self.targets {
                    if target.identity.is_none() {
                        return Err(Failure::of(Reason::CertificateRequired).fact("context", &target.name));
                    }
                    channel::tls(target)?;
                }
                Arc::new(Targets::new(self.targets))
            }
        };
        let nonces = self.wishes.demand_nonce.then(|| Nonces::new(Nonces::LIFE_MS)).transpose()?;
        Ok(Verifier::start(self.wishes, self.clock, self.boot, dial, nonces)?)
    }
}
