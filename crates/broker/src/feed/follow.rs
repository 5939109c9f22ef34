//! The broker's own following of the store: position, pages, then events, for as long as it runs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mayfly_domain::Refusal;
use mayfly_domain::feed::{Change, Numbered, Position};
use mayfly_domain::follow::Resync;
use mayfly_lease::StoreError;
use mayfly_lease::feed::FeedRead;

use super::Feed;
use crate::broker::Broker;

/// How many entries of a snapshot, and how many events, are read at once.
const PAGE: u32 = 4_096;
const EVENTS: u32 = 1_024;
/// How long a read waits for the first event.
const WAIT: Duration = Duration::from_secs(1);
/// How long the reader waits after something went wrong, at first and at most.
const RETRY: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// How often what is over is forgotten.
const CLEAN: Duration = Duration::from_secs(60);
/// How often a single look reads on before it gives up on an end.
const ROUNDS: usize = 64;

/// Why the reader does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the keys could not be loaded: {0}")]
    Keys(Refusal),
    #[error("a new snapshot is needed: {0}")]
    Resync(#[from] Resync),
    #[error("the store does not know the position")]
    Lost,
}

impl Broker {
    /// Follows for as long as the broker runs.
    pub(crate) async fn follower(&self) {
        self.feed().followed.store(true, Ordering::Release);
        let mut retry = RETRY;
        loop {
            match self.follow_on(WAIT).await {
                Ok(_) => retry = RETRY,
                Err(trouble) => {
                    self.troubled(&trouble);
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MOST);
                }
            }
        }
    }

    /// Forgets what is over, again and again.
    pub(crate) async fn feed_cleaner(&self) {
        loop {
            tokio::time::sleep(CLEAN).await;
            self.feed().change(|state| state.clean(self.clock().now()));
        }
    }

    /// Reads everything that there is and pings once: what the workers do all the time, for a broker whose workers do
    /// not run yet.
    pub(crate) async fn catch_up(&self) {
        if let Err(trouble) = self.caught_up().await {
            self.troubled(&trouble);
        }
    }

    async fn caught_up(&self) -> Result<(), Trouble> {
        for _ in 0..ROUNDS {
            match self.follow_on(Duration::ZERO).await {
                Ok(false) => {}
                Ok(true) => continue,
                Err(trouble @ (Trouble::Lost | Trouble::Resync(_))) => {
                    self.troubled(&trouble);
                    continue;
                }
                Err(trouble) => return Err(trouble),
            }
            self.feed().pings.want_own();
            self.ping_all().await?;
            if self.feed().is_fresh() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What was heard of in another generation is worth nothing in this one.
    pub(crate) fn follows_adopted(&self) {
        let adopted = self.leases().store().generation().map(|record| record.generation);
        let feed = self.feed();
        if feed.position().is_some_and(|at| Some(at.generation) != adopted) {
            feed.change(|state| state.resync(Resync::OtherGeneration));
        }
    }

    /// One step: a whole snapshot where there is none, else what came; whether anything did.
    async fn follow_on(&self, wait: Duration) -> Result<bool, Trouble> {
        let feed = self.feed();
        let Some(at) = feed.position() else {
            self.load_table().await?;
            return Ok(true);
        };
        match self.leases().store().feed_read(&at, EVENTS, wait).await? {
            FeedRead::Events(events) => self.apply(&at, &events).await,
            FeedRead::Lost => Err(Trouble::Lost),
        }
    }

    /// Registers, then reads the position, then everything: what changes meanwhile comes again as an event.
    async fn load_table(&self) -> Result<(), Trouble> {
        let (feed, store) = (self.feed(), self.leases().store());
        let pinged = store.ping(&[feed.own_ping(&self.settings().broker_id, self.reuse_ms())]).await?;
        let position = store.feed_position().await?;
        feed.change(|state| {
            state.begin(position);
            state.heard(pinged.at);
        });
        let mut after = None;
        loop {
            let page = store.feed_page(after.as_ref(), PAGE).await?;
            feed.change(|state| state.load(&page))?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.newest_keys().await.map_err(Trouble::Keys)?;
        self.recent_acceptors().forget();
        feed.change(|state| state.end(position))?;
        tracing::info!(number = position.number, "the feed's snapshot is complete");
        feed.pings.want_own();
        Ok(())
    }

    /// Applies events in order. Keys are loaded before their event counts, so that no follower hears of it before
    /// this broker serves with them.
    async fn apply(&self, along: &Position, events: &[Numbered]) -> Result<bool, Trouble> {
        let feed = self.feed();
        let mut left = events;
        while !left.is_empty() {
            let until = left.iter().position(|e| matches!(e.event.change, Change::Keys { .. }));
            let (plain, rest) = left.split_at_checked(until.unwrap_or(left.len())).unwrap_or((left, &[]));
            feed.take(along, plain)?;
            if let Some((keys, rest)) = rest.split_first() {
                if let Change::Keys { version } = keys.event.change {
                    self.keys_since(version).await.map_err(Trouble::Keys)?;
                }
                feed.take(along, std::slice::from_ref(keys))?;
                left = rest;
            } else {
                left = &[];
            }
        }
        if events.is_empty() {
            return Ok(false);
        }
        events.iter().for_each(|event| self.bus().heard(event));
        // What was found live a moment ago is asked about again.
        self.recent_acceptors().forget();
        feed.pings.want_own();
        Ok(true)
    }

    fn troubled(&self, trouble: &Trouble) {
        let feed = self.feed();
        match trouble {
            Trouble::Store(e) => {
                self.note(e);
                match e {
                    StoreError::OtherGeneration(_) | StoreError::ServerChanged | StoreError::Forgot => {
                        feed.change(|state| state.resync(Resync::OtherGeneration));
                    }
                    // A table that is complete stays so; half a snapshot is none.
                    _ if feed.position().is_none() => feed.change(|state| state.resync(Resync::NoSnapshot)),
                    _ => {}
                }
                tracing::debug!(error = %e, "the feed can't be read");
            }
            Trouble::Keys(refusal) => {
                if feed.position().is_none() {
                    feed.change(|state| state.resync(Resync::NoSnapshot));
                }
                tracing::warn!(error = %refusal, "the feed waits for the keys");
            }
            Trouble::Resync(why) => {
                feed.change(|state| state.resync(*why));
                tracing::warn!(%why, "the feed begins anew");
            }
            Trouble::Lost => {
                feed.change(|state| state.resync(Resync::Skipped));
                tracing::warn!("the store does not know the feed's position: the feed begins anew");
            }
        }
    }
}

impl Feed {
    fn take(&self, along: &Position, events: &[Numbered]) -> Result<(), Resync> {
        if events.is_empty() {
            return Ok(());
        }
        self.change(|state| {
            events.iter().try_for_each(|event| state.apply(along, event))?;
            state.settle();
            Ok(())
        })
    }
}
