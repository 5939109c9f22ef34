//! A follower of a store, in a few words: reads snapshots and events and keeps a table.

use std::collections::BTreeMap;
use std::time::Duration;

use mayfly_domain::feed::{Change, GateState, Numbered, Position};
use mayfly_domain::follow::FenceTable;
use mayfly_domain::{DimKey, LeaseId, UnixMillis};
use mayfly_lease::LeaseStore;
use mayfly_lease::feed::FeedRead;

/// How many entries a follower's table takes.
const CAPACITY: usize = 100_000;

/// What a table comes to.
pub type Shown = (BTreeMap<DimKey, GateState>, BTreeMap<LeaseId, UnixMillis>);

/// Everything after a position that is there now, by reads of `limit`.
///
/// # Panics
/// Where the position is lost, or the store can't be read.
pub async fn rest(store: &dyn LeaseStore, from: Position, limit: u32) -> Vec<Numbered> {
    let (mut at, mut all) = (from, Vec::new());
    loop {
        match store.feed_read(&at, limit, Duration::ZERO).await.unwrap() {
            FeedRead::Events(events) if events.is_empty() => return all,
            FeedRead::Events(events) => {
                assert!(events.len() <= usize::try_from(limit).unwrap());
                at.number = events.last().unwrap().number;
                all.extend(events);
            }
            FeedRead::Lost => panic!("lost after {at:?}"),
        }
    }
}

/// A follower.
#[derive(Debug, Clone)]
pub struct Following {
    /// What it knows.
    pub table: FenceTable,
    /// What that is complete to.
    pub at: Position,
}

impl Following {
    /// One that has read a whole snapshot, by parts of `limit`.
    ///
    /// # Panics
    /// Where the store can't be read.
    pub async fn start(store: &dyn LeaseStore, limit: u32) -> Self {
        let mut table = FenceTable::new(CAPACITY);
        let at = store.feed_position().await.unwrap();
        let mut after = None;
        loop {
            let page = store.feed_page(after.as_ref(), limit).await.unwrap();
            assert!(page.gates.len() + page.marks.len() <= usize::try_from(limit).unwrap());
            for gate in page.gates {
                table.apply(&Change::Gate(gate)).unwrap();
            }
            for (lease, until) in page.marks {
                table.apply(&Change::Mark { lease, until }).unwrap();
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Self { table, at },
            }
        }
    }

    /// Applies every event that is there now.
    ///
    /// # Panics
    /// Where its position is lost, or the store can't be read.
    pub async fn catch_up(&mut self, store: &dyn LeaseStore) {
        for event in rest(store, self.at, 1_000).await {
            self.table.apply(&event.event.change).unwrap();
            self.at.number = event.number;
        }
    }

    /// What its table comes to at `now`.
    pub fn shown(&self, now: UnixMillis) -> Shown {
        let mut table = self.table.clone();
        table.clean(now);
        (table.gates().map(|gate| (gate.key, *gate)).collect(), table.marks().collect())
    }
}
