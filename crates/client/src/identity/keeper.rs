//! The task that keeps a certificate fresh: it waits, renews, falls back, and says what it did.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use mayfly_domain::Reason;
use mayfly_domain::time::SharedClock;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::issuer::Issuer;
use super::plan::{Plan, chance};
use super::verdict::{self, Verdict};
use super::wake::Wake;
use super::{Event, State};
use crate::bundle::Bundle;
use crate::failure::Failure;
use crate::svid::Svid;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// What an attempt gets where only the wall clock, which may have jumped, says that the end has come.
const LAST_ATTEMPT: Duration = Duration::from_secs(5);
/// The first wait after a failure, and the longest while a certificate lives.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait while there is none.
const LONGEST_WITHOUT: Duration = Duration::from_secs(30);
/// By how much the clocks may differ over one wait before that is said.
const JUMP_MS: u64 = 2_000;

/// Why a certificate is gone.
enum Gone {
    Expired,
    Dead(Failure, bool),
}

pub(super) struct Keeper<I> {
    pub(super) issuer: I,
    pub(super) clock: SharedClock,
    pub(super) state: watch::Sender<State>,
    pub(super) bundle: watch::Sender<Arc<Bundle>>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) wake: Arc<Wake>,
    /// Whether [`Event::FellBack`] was said for what goes on now.
    pub(super) fell_back: bool,
}

fn waits(longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT.min(longest))
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}

impl<I: Issuer> Keeper<I> {
    /// Keeps it until no new certificate can be had any more.
    pub(super) async fn run(mut self, mut svid: Arc<Svid>) {
        loop {
            let plan = Plan::new(&svid, self.clock.now(), chance());
            self.until_due(&plan).await;
            svid = match self.renewed(&svid, &plan).await {
                Ok(new) => new,
                Err(gone) => {
                    self.withdraw(gone);
                    match self.first().await {
                        Some(new) => new,
                        None => return,
                    }
                }
            };
        }
    }

    /// Wakes halfway and when the renewal is due; sooner where somebody asks, or uses what is due.
    async fn until_due(&self, plan: &Plan) {
        let (began, wall) = (Instant::now(), self.clock.now());
        let halfway = began + plan.due.saturating_duration_since(began) / 2;
        for at in [halfway, plan.due] {
            self.wake.arm(plan.due_wall());
            let asked = tokio::select! {
                () = sleep_until(at) => false,
                () = self.wake.called() => true,
            };
            let now = self.clock.now();
            let ran = wall.plus(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            if now.distance(ran) > JUMP_MS {
                tracing::info!(
                    forward = now > ran,
                    by_ms = now.distance(ran),
                    "the wall clock jumped, or the machine was suspended"
                );
            }
            if asked || plan.is_due(now) {
                break;
            }
        }
        self.wake.disarm();
    }

    /// Renews, until that succeeds or the certificate is gone.
    async fn renewed(&mut self, held: &Arc<Svid>, plan: &Plan) -> Result<Arc<Svid>, Gone> {
        let mut waits = waits((plan.left(self.clock.now()) / 4).clamp(FIRST_WAIT, LONGEST_WAIT));
        let mut outgrown = false;
        loop {
            let patience = plan.left(self.clock.now()).clamp(LAST_ATTEMPT, ATTEMPT);
            let mut failure = None;
            if !outgrown {
                match self.issuer.renew(held, patience).await {
                    Ok(new) => return Ok(self.take(new, Event::Renewed)),
                    Err(failed) => match verdict::renewal(&failed) {
                        Verdict::Revoked => return Err(Gone::Dead(failed, true)),
                        Verdict::Dead => return Err(Gone::Dead(failed, false)),
                        Verdict::Outgrown => {
                            outgrown = true;
                            self.fall_back(&failed);
                        }
                        Verdict::Again => failure = Some(failed),
                    },
                }
            }
            let failure = match failure {
                Some(failure) => failure,
                None => match self.issuer.first(patience).await {
                    Ok(new) => return Ok(self.take(new, Event::Issued)),
                    Err(failed) => failed,
                },
            };
            let left = plan.left(self.clock.now());
            if left.is_zero() {
                return Err(Gone::Expired);
            }
            let wait = match outgrown && self.is_last(&failure) {
                true => left,
                false => waits.next().unwrap_or(LONGEST_WAIT).max(failure.retry_after.unwrap_or_default()),
            };
            self.failed(failure, wait, false);
            tokio::select! {
                () = sleep(wait.min(left)) => {}
                () = self.wake.called() => {}
            }
            if plan.left(self.clock.now()).is_zero() {
                return Err(Gone::Expired);
            }
        }
    }

    /// Shows first evidence until it gives a certificate; none where it never will.
    async fn first(&mut self) -> Option<Arc<Svid>> {
        let mut waits = waits(LONGEST_WITHOUT);
        loop {
            let failure = match self.issuer.first(ATTEMPT).await {
                Ok(new) => return Some(self.take(new, Event::Issued)),
                Err(failure) => failure,
            };
            if self.is_last(&failure) {
                tracing::error!(
                    reason = %failure.code, next = %failure.next,
                    "no certificate any more: this service needs new evidence"
                );
                self.failed(failure, Duration::ZERO, true);
                return None;
            }
            let wait = waits.next().unwrap_or(LONGEST_WITHOUT).max(failure.retry_after.unwrap_or_default());
            self.failed(failure, wait, false);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.wake.called() => {}
            }
        }
    }

    fn is_last(&self, failure: &Failure) -> bool {
        !self.issuer.evidence_may_change() && verdict::spent(failure)
    }

    fn take(&mut self, svid: Svid, event: fn(Arc<Svid>) -> Event) -> Arc<Svid> {
        let svid = Arc::new(svid);
        self.fell_back = false;
        // The stream of the bundle may be broken just now.
        self.bundle.send_if_modified(|held| {
            let newer = svid.bundle.version > held.version;
            if newer {
                *held = Arc::clone(&svid.bundle);
            }
            newer
        });
        self.state.send_replace(State::Live(Arc::clone(&svid)));
        self.say(event(Arc::clone(&svid)));
        svid
    }

    fn withdraw(&mut self, gone: Gone) {
        let why = match gone {
            Gone::Expired => {
                self.say(Event::Expired);
                Failure::of(Reason::LeaseExpired)
            }
            Gone::Dead(failure, revoked) => {
                if revoked {
                    self.say(Event::Revoked(failure.clone()));
                }
                failure
            }
        };
        self.state.send_replace(State::Ended(why.clone()));
        self.fall_back(&why);
    }

    fn fall_back(&mut self, why: &Failure) {
        if !std::mem::replace(&mut self.fell_back, true) {
            tracing::warn!(
                reason = %why.code, message = %why.message,
                "the certificate can't renew itself any more: falling back to first evidence"
            );
            self.say(Event::FellBack(why.clone()));
        }
    }

    fn failed(&self, failure: Failure, wait: Duration, last: bool) {
        tracing::info!(reason = %failure.code, wait_ms = wait.as_millis(), "no new certificate yet");
        self.say(Event::Failed { failure, last });
    }

    fn say(&self, event: Event) {
        // Nobody has to listen.
        let _ = self.events.send(event);
    }
}
