//! The feed at a broker: follows the store, answers for its own freshness, and feeds the acceptors that follow it.
//!
//! One reader and one pinger, whatever the number of followers: ten thousand of them cost the store what one does. Must
//! never call the broker fresh on anything but a ping of its own, and never answer a follower's ping before everything
//! that was there when it was written was sent to that follower.

mod canary;
mod follow;
mod pings;
mod places;
mod registered;
mod seat;
mod sending;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod told;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mayfly_domain::feed::Position;
use mayfly_domain::time::BootClock;
use mayfly_domain::{Reason, Refusal};
use mayfly_lease::feed::FollowerId;
use parking_lot::RwLock;
use tokio::sync::{Mutex, Notify, Semaphore, watch};

pub(crate) use canary::Canaries;
pub use canary::{Canary, CanaryCounts, Place as CanaryPlace};
pub(crate) use canary::{is_canary, is_canarys};
pub(crate) use pings::Pings;
pub(crate) use places::Places;
pub(crate) use registered::Registered;
pub use seat::Seat;
pub use session::Follows;
pub use state::{Mark, Recent};
pub(crate) use state::{Snapshot, State};
pub use told::{CanarySeen, FollowStart, Ping, Told};

/// How many followers are sent a snapshot at once.
const SNAPSHOTS_AT_ONCE: usize = 64;
/// How far behind a shared snapshot may be before another is made.
const SNAPSHOT_BEHIND: u64 = 4_096;
/// How long whoever is refused for staleness waits.
const STALE_WAIT: Duration = Duration::from_millis(500);

/// What the deployment decides about the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedSettings {
    /// The broker's own bound, and that of followers that ask for none, in ms.
    pub bound_ms: u32,
    /// How often the broker and its followers ping, in ms.
    pub ping_ms: u32,
    /// How often a canary is let go, in ms; 0: never.
    pub canary_ms: u32,
    /// How many acceptors' processes may follow this broker at once.
    pub followers: usize,
}

impl FeedSettings {
    /// How many may follow a broker that has so many connections: four fifths of them, each with one of its own. The
    /// others are left to those who mint, check and revoke.
    pub fn followers_of(connections: u32) -> usize {
        usize::try_from(u64::from(connections) * 4 / 5).unwrap_or(usize::MAX).max(1)
    }
}

impl Default for FeedSettings {
    fn default() -> Self {
        use mayfly_domain::defaults;
        Self {
            bound_ms: defaults::FOLLOW_BOUND_MS,
            ping_ms: defaults::FOLLOW_PING_MS,
            canary_ms: defaults::CANARY_MS,
            followers: Self::followers_of(defaults::CONNECTIONS),
        }
    }
}

/// The hub.
#[derive(Debug)]
pub struct Feed {
    settings: FeedSettings,
    id: FollowerId,
    boot: Arc<dyn BootClock>,
    state: RwLock<State>,
    marks: watch::Sender<Mark>,
    /// Whether the workers follow; before that every look at the store catches up by itself.
    followed: AtomicBool,
    /// Told when freshness has come or gone.
    turned: Notify,
    pings: Pings,
    shared: Mutex<Weak<Snapshot>>,
    sending: Arc<Semaphore>,
    places: Arc<Places>,
    registered: Arc<Registered>,
    canaries: Canaries,
}

impl Feed {
    pub(crate) fn new(settings: FeedSettings, id: FollowerId, boot: Arc<dyn BootClock>) -> Self {
        Self {
            settings,
            id,
            boot,
            state: RwLock::new(State::new(settings.bound_ms)),
            marks: watch::Sender::new(Mark::default()),
            followed: AtomicBool::new(false),
            turned: Notify::new(),
            pings: Pings::default(),
            shared: Mutex::default(),
            sending: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
            places: Arc::new(Places::new(settings.followers)),
            registered: Arc::default(),
            canaries: Canaries::default(),
        }
    }

    /// What was configured.
    pub fn settings(&self) -> &FeedSettings {
        &self.settings
    }

    /// What the broker's table is complete to; none while it is not complete.
    pub fn position(&self) -> Option<Position> {
        self.marks.borrow().position
    }

    /// Whether the broker is within its bound: it has heard of everything that was acknowledged before its last
    /// answered ping was sent.
    pub fn is_fresh(&self) -> bool {
        // The clock last: what is read after it can't have been fresh for less.
        let until = self.state.read().fresh_until();
        self.boot.now() < until
    }

    /// Refuses where the broker is not fresh.
    ///
    /// # Errors
    /// `BROKER_NOT_FRESH`.
    pub fn fresh(&self) -> Result<(), Refusal> {
        if self.is_fresh() {
            return Ok(());
        }
        Err(Refusal::new(Reason::BrokerNotFresh, "no ping was answered within the bound").after(STALE_WAIT))
    }

    /// The positions, as they change.
    pub fn changed(&self) -> watch::Receiver<Mark> {
        self.marks.subscribe()
    }

    /// The events after a position, at most `limit`, of those that are still at hand.
    pub fn after(&self, position: &Position, limit: usize) -> Recent {
        self.state.read().after_position(position, limit)
    }

    /// How many acceptors follow this broker now.
    pub fn followers(&self) -> usize {
        self.places.taken()
    }

    /// What the canaries have shown so far.
    pub fn canaries(&self) -> CanaryCounts {
        self.canaries.counts()
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Acquire)
    }

    /// Waits until freshness may have come.
    pub(crate) async fn turned(&self) {
        self.turned.notified().await;
    }

    /// Changes the state and tells whoever waits.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.write();
        let was = self.boot.now() < state.fresh_until();
        let out = change(&mut state);
        let (mark, is) = (state.mark(), self.boot.now() < state.fresh_until());
        drop(state);
        self.marks.send_if_modified(|told| std::mem::replace(told, mark) != mark);
        if was != is {
            self.turned.notify_one();
        }
        out
    }

    /// A snapshot of now or of a moment ago, shared by those who ask together; none while the table is not complete.
    async fn snapshot(self: &Arc<Self>) -> Option<Arc<Snapshot>> {
        let mut shared = self.shared.lock().await;
        let mark = *self.marks.borrow();
        let at = mark.position?;
        let recent = shared.upgrade().filter(|made| {
            made.era == mark.era && made.position.number.saturating_add(SNAPSHOT_BEHIND) >= at.number
        });
        if let Some(recent) = recent {
            return Some(recent);
        }
        let feed = self.clone();
        // A large table takes milliseconds to copy.
        let made = tokio::task::spawn_blocking(move || feed.state.read().snapshot()).await.ok()??;
        let made = Arc::new(made);
        *shared = Arc::downgrade(&made);
        Some(made)
    }
}
