//! Pings that wait for their write: one write answers all of them, and the broker's own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mayfly_domain::feed::Position;
use mayfly_lease::StoreError;
use mayfly_lease::feed::{FollowerId, FollowerKind, FollowerPing};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Feed;
use crate::broker::Broker;

/// How many pings one write takes.
const AT_ONCE: usize = 1_024;
/// How long the pinger waits after a write that failed, at first and at most.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_millis(500);

/// Where an answer is left for its follower.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    answered: Mutex<Option<(u64, Position)>>,
    /// The number of the last ping that was written.
    written: AtomicU64,
    pub(crate) told: Notify,
}

impl Mailbox {
    pub(crate) fn answer(&self, id: u64, position: Position) {
        *self.answered.lock() = Some((id, position));
        self.written.fetch_max(id, Ordering::AcqRel);
        self.told.notify_one();
    }

    /// Waits until the ping of this number was written.
    pub(crate) async fn written(&self, id: u64) {
        while self.written.load(Ordering::Acquire) < id {
            self.told.notified().await;
        }
    }

    /// The last answer, where `due` says that its time has come.
    pub(crate) fn take(&self, due: impl FnOnce(&Position) -> bool) -> Option<(u64, Position)> {
        let mut answered = self.answered.lock();
        answered.take_if(|(_, position)| due(position))
    }
}

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) id: u64,
    pub(crate) ping: FollowerPing,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// The pings that wait.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    waiting: Mutex<HashMap<FollowerId, Waiting>>,
    /// Whether the broker has something new to say of itself.
    own: AtomicBool,
    wanted: Notify,
}

impl Pings {
    /// Lets a ping wait for the next write. A follower's later one takes the place of its earlier one.
    pub(crate) fn put(&self, waiting: Waiting) {
        self.waiting.lock().insert(waiting.ping.id, waiting);
        self.wanted.notify_one();
    }

    /// The broker pings with the next write.
    pub(crate) fn want_own(&self) {
        self.own.store(true, Ordering::Release);
        self.wanted.notify_one();
    }

    /// Takes back a follower's ping that was not written; whether there was one. One that is being written is not there.
    pub(crate) fn withdraw(&self, id: FollowerId) -> bool {
        self.waiting.lock().remove(&id).is_some()
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        if waiting.len() <= AT_ONCE {
            return waiting.drain().map(|(_, ping)| ping).collect();
        }
        let ids: Vec<FollowerId> = waiting.keys().take(AT_ONCE).copied().collect();
        let taken = ids.iter().filter_map(|id| waiting.remove(id)).collect();
        self.wanted.notify_one();
        taken
    }

    /// Puts back what could not be written, but for followers that pinged again.
    fn put_back(&self, batch: Vec<Waiting>) {
        let mut waiting = self.waiting.lock();
        for ping in batch {
            waiting.entry(ping.ping.id).or_insert(ping);
        }
    }
}

impl Feed {
    /// The broker's own sign of life.
    pub(super) fn own_ping(&self, broker: &str, reuse_ms: u32) -> FollowerPing {
        let at = self.state.read().position().unwrap_or_default();
        FollowerPing {
            id: self.id,
            kind: FollowerKind::Broker,
            name: broker.to_owned(),
            broker: broker.to_owned(),
            bound_ms: self.settings.bound_ms,
            reuse_ms,
            applied: at.number,
            epoch: at.epoch,
        }
    }
}

impl Broker {
    /// Writes pings for as long as the broker runs.
    pub(crate) async fn pinger(&self) {
        let feed = self.feed();
        let every = Duration::from_millis(u64::from(feed.settings.ping_ms));
        let (mut next, mut retry) = (Instant::now(), RETRY);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => feed.pings.own.store(true, Ordering::Release),
                () = feed.pings.wanted.notified() => {}
            }
            match self.ping_all().await {
                Ok(own) => {
                    retry = RETRY;
                    if own || next <= Instant::now() {
                        next = Instant::now() + every;
                    }
                }
                Err(e) => {
                    self.note(&e);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MOST);
                    feed.pings.want_own();
                }
            }
        }
    }

    /// One write for all that wait; whether the broker's own was among them.
    pub(crate) async fn ping_all(&self) -> Result<bool, StoreError> {
        let feed = self.feed();
        let batch = feed.pings.take();
        let mut pings: Vec<FollowerPing> = batch.iter().map(|waiting| waiting.ping.clone()).collect();
        let wanted = feed.pings.own.swap(false, Ordering::AcqRel);
        let now = feed.boot.now();
        let reuse_ms = self.reuse_ms();
        let own = if wanted { feed.change(|state| state.ping(now)) } else { None };
        if own.is_some() {
            pings.push(feed.own_ping(&self.settings().broker_id, reuse_ms));
        }
        if pings.is_empty() {
            return Ok(false);
        }
        match self.leases().store().ping(&pings).await {
            Ok(pinged) => {
                self.saw_store(pinged.at);
                for waiting in batch {
                    waiting.mailbox.answer(waiting.id, pinged.position);
                }
                if own.is_some() {
                    self.reuse_registered(reuse_ms);
                }
                feed.change(|state| {
                    state.heard(pinged.at);
                    if let Some(id) = own {
                        state.answered(id, &pinged);
                        state.settle();
                    }
                });
                Ok(own.is_some())
            }
            Err(e) => {
                feed.pings.put_back(batch);
                if own.is_some() {
                    feed.change(super::State::unanswered);
                }
                Err(e)
            }
        }
    }
}
