//! `WatchBundle`: the trust bundle, now and after each change.
//!
//! Waits for changes and asks for nothing; the number of those who wait is bounded, and they are let go when the broker
//! drains.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use mayfly_broker::{Broker, Standing};
use mayfly_domain::{Reason, Refusal};
use mayfly_mint::{Bundle, KeyRing};
use mayfly_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tonic::Status;

use crate::bundle;

/// The most callers that wait at once.
const WATCHERS_MAX: usize = 4_096;
/// How long one that finds no place waits.
const FULL_WAIT: Duration = Duration::from_secs(5);

/// What a caller reads.
pub(super) type Bundles = Pin<Box<dyn Stream<Item = Result<v1::TrustBundle, Status>> + Send>>;

/// The places for those who wait.
#[derive(Debug, Clone)]
pub(super) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS_MAX)))
    }
}

struct Watching {
    keys: watch::Receiver<Arc<KeyRing>>,
    standing: watch::Receiver<Standing>,
    told: Option<Arc<Bundle>>,
    _place: OwnedSemaphorePermit,
}

impl Watchers {
    /// The bundle of now, then each that differs from the one before.
    ///
    /// # Errors
    /// `BROKER_NOT_FRESH`, `OVERLOADED`.
    pub(super) fn watch(&self, broker: &Broker) -> Result<Bundles, Refusal> {
        broker.feed().fresh()?;
        let place = self.0.clone().try_acquire_owned().map_err(|_| {
            Refusal::new(Reason::Overloaded, "as many watch the bundle as may").after(FULL_WAIT)
        })?;
        let watching =
            Watching { keys: broker.key_changes(), standing: broker.standing(), told: None, _place: place };
        Ok(Box::pin(stream::unfold(watching, |mut watching| async {
            let next = watching.next().await?;
            let wire = bundle::wire(&next);
            watching.told = Some(next);
            Some((Ok(wire), watching))
        })))
    }
}

impl Watching {
    /// The next bundle that the caller has not seen; none where the broker ends its work.
    async fn next(&mut self) -> Option<Arc<Bundle>> {
        loop {
            if *self.standing.borrow_and_update() == Standing::Draining {
                return None;
            }
            let now = self.keys.borrow_and_update().bundle().clone();
            if !self.told.as_ref().is_some_and(|told| says_the_same(told, &now)) {
                return Some(now);
            }
            tokio::select! {
                changed = self.keys.changed() => changed.ok()?,
                changed = self.standing.changed() => changed.ok()?,
            }
        }
    }
}

/// Keys change in ways that nobody who verifies need know.
fn says_the_same(a: &Bundle, b: &Bundle) -> bool {
    a.workload_anchors == b.workload_anchors && a.roots == b.roots && a.jwks == b.jwks
}
