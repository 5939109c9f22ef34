//! Waiting until nobody decides without a change any more.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::{BootTime, Deadline, Generation, Invalid, Reason, Refusal, defaults};
use mayfly_lease::StoreError;
use mayfly_lease::barrier::{Barrier, Progress, StoreTime};
use mayfly_lease::feed::Followers;
use mayfly_policy::OperatorAction;

use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;
use crate::standing::Standing;

/// Between two looks: the first wait, and the longest.
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(25);
/// How long a look may take: the end of a wait does not depend on the store.
const LOOK: Duration = Duration::from_millis(500);
/// How often a wait that comes no further says so.
const TELL: Duration = Duration::from_millis(200);

/// What is waited for.
#[derive(Debug, Clone)]
pub struct BarrierInput {
    /// The number of the change, as it was acknowledged.
    pub number: u64,
    /// The generation, as it was acknowledged.
    pub generation: Generation,
    /// How long the caller waits at most; none: until every bound has passed.
    pub timeout: Option<Duration>,
}

/// How far a wait is.
#[derive(Debug, Clone)]
pub struct BarrierTold {
    /// The wait's state. Names are left out where the caller may not list followers.
    pub progress: Progress,
    /// The number that is waited for.
    pub number: u64,
    /// The store's clock a moment ago, for how long followers have been silent; none where it can't be read.
    pub store: Option<StoreTime>,
    /// Since it began.
    pub elapsed: Duration,
}

/// A wait.
#[derive(Debug)]
pub struct BarrierWait {
    broker: Arc<Broker>,
    barrier: Barrier,
    /// The generation in which the first look was.
    generation: Generation,
    names: bool,
    begun: BootTime,
    until: Option<Deadline>,
    pause: Duration,
    store: Option<StoreTime>,
    told: Option<(Progress, BootTime)>,
    over: bool,
}

impl Broker {
    /// Begins to wait until nobody decides without a change. Whoever may call as an operator may wait; the names of
    /// followers are for those who may list.
    ///
    /// # Errors
    /// `INPUT_INVALID` for a number or a generation that was never acknowledged, or the store's refusal. The change
    /// itself stands.
    pub async fn barrier(
        self: &Arc<Self>,
        call: &Call,
        operator: &Operator,
        input: &BarrierInput,
    ) -> Result<BarrierWait, Refusal> {
        self.revoking()?;
        let store = self.leases().store();
        let record = store.generation().ok_or(Reason::StoreHolding)?;
        let current = record.generation;
        let no = |what: &'static str, shown: String, why: &'static str| {
            Refusal::from(Invalid::new(what, &shown, why))
        };
        if input.generation.number > current.number {
            return Err(Refusal::new(
                Reason::GenerationChanged,
                "a generation that this broker has not seen yet",
            )
            .after(LONGEST));
        }
        if input.generation.number == current.number && input.generation != current {
            return Err(no("generation", input.generation.to_string(), "is not one of this store"));
        }
        let begun = self.boot().now();
        let barrier = if input.generation == current {
            let position = store.feed_position().await.map_err(|e| self.refused(e))?;
            if input.number == 0 || input.number > position.number {
                return Err(no("number", input.number.to_string(), "is not one of the feed's"));
            }
            let all = store.followers_behind(u64::MAX).await.map_err(|e| self.refused(e))?;
            let mut barrier = Barrier::new(input.number, &all, self.boot().now());
            if !self.saw_store(all.now).1 {
                barrier.doubt();
            }
            // Before the first one there was nobody.
            if current.number > 1 {
                barrier.after_another_generation(record.started, defaults::FOLLOW_BOUND_MAX_MS.into())
            } else {
                barrier
            }
        } else {
            Barrier::of_ended_generation(defaults::FOLLOW_BOUND_MAX_MS.into(), begun)
        };
        Ok(BarrierWait {
            broker: self.clone(),
            barrier,
            generation: current,
            names: self.permit(call, operator, OperatorAction::List, self.anything()).is_ok(),
            begun,
            until: input.timeout.map(Deadline::after),
            pause: Duration::ZERO,
            store: None,
            told: None,
            over: false,
        })
    }

    /// Looks at the followers that have not applied `number`, with how far the store's clock is to be believed, and
    /// whether the store knows all that may decide.
    async fn look_at_followers(&self, number: u64) -> Result<(Followers, StoreTime, bool), StoreError> {
        let asked = self.leases().store().followers_behind(number);
        let late = |_| StoreError::Unavailable("it did not answer in time".into());
        let found = tokio::time::timeout(LOOK, asked).await.map_err(late)??;
        let (time, whole) = self.saw_store(found.now);
        Ok((found, time, whole))
    }
}

impl BarrierWait {
    /// How far it is: at once, then whenever it has come further, and from time to time. None after the end: it was
    /// complete, the caller's time was over, or the broker ends its work.
    pub async fn next(&mut self) -> Option<BarrierTold> {
        if self.over {
            return None;
        }
        loop {
            self.wait().await;
            let drains = *self.broker.standing().borrow() == Standing::Draining;
            self.look().await;
            let now = self.broker.boot().now();
            let progress = self.barrier.progress(now, self.store);
            self.over =
                progress.complete || drains || self.until.is_some_and(mayfly_domain::Deadline::has_passed);
            let is_new = match &self.told {
                None => true,
                Some((told, at)) => {
                    told.confirmed != progress.confirmed
                        || told.passed != progress.passed
                        || now.since(*at) >= TELL
                }
            };
            if is_new || self.over {
                self.told = Some((progress.clone(), now));
                return Some(self.shown(progress, now));
            }
        }
    }

    async fn wait(&mut self) {
        let left = self.until.map_or(Duration::MAX, mayfly_domain::Deadline::left);
        tokio::time::sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
    }

    async fn look(&mut self) {
        match self.broker.look_at_followers(self.barrier.number()).await {
            // Another generation knows nobody of this one's followers: whoever is not there has not applied anything.
            Ok(_) if !self.is_in_its_generation() => self.store = None,
            Ok((behind, time, whole)) => {
                self.store = Some(time);
                if !whole {
                    self.barrier.doubt();
                }
                self.barrier.look(&behind);
            }
            Err(e) => {
                // It goes on: whoever could not ping may not decide after its bound.
                self.broker.note(&e);
                self.store = None;
            }
        }
    }

    /// Asked after a look: one that was in another generation is so found out.
    fn is_in_its_generation(&self) -> bool {
        let now = self.broker.leases().store().generation();
        now.is_some_and(|record| record.generation == self.generation)
    }

    fn shown(&self, mut progress: Progress, now: BootTime) -> BarrierTold {
        if !self.names {
            for seen in &mut progress.waiting {
                seen.ping.name.clear();
                seen.ping.broker.clear();
            }
        }
        BarrierTold {
            progress,
            number: self.barrier.number(),
            store: self.store,
            elapsed: now.since(self.begun),
        }
    }
}
