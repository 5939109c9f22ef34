//! The feed: every change is an event of its own step, numbers are dense, and a snapshot with the events after its
//! position is the truth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::feed::{Change, Epoch, Event, GateState, Numbered, Position};
use mayfly_domain::follow::FenceTable;
use mayfly_domain::{Dimension, Fence, LeaseId, UnixMillis};
use mayfly_lease::feed::{FEED_WAIT_MAX, FeedRead};
use mayfly_lease::{Carry, LeaseStore, StoreError, gate};

use super::World;
use crate::words::{self, Wish};

const AT_ONCE: Duration = Duration::ZERO;

/// Everything after a position that is there now.
async fn rest(store: &dyn LeaseStore, from: Position) -> Vec<Numbered> {
    let (mut at, mut all) = (from, Vec::new());
    loop {
        match store.feed_read(&at, 7, AT_ONCE).await.unwrap() {
            FeedRead::Events(events) if events.is_empty() => return all,
            FeedRead::Events(events) => {
                at.number = events.last().unwrap().number;
                all.extend(events);
            }
            FeedRead::Lost => panic!("lost after {at:?}"),
        }
    }
}

/// A whole snapshot, by small parts.
async fn snapshot(store: &dyn LeaseStore, table: &mut FenceTable) -> Position {
    let position = store.feed_position().await.unwrap();
    let mut after = None;
    loop {
        let page = store.feed_page(after.as_ref(), 5).await.unwrap();
        assert!(page.gates.len() + page.marks.len() <= 5);
        for gate in page.gates {
            table.apply(&Change::Gate(gate)).unwrap();
        }
        for (lease, until) in page.marks {
            table.apply(&Change::Mark { lease, until }).unwrap();
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return position,
        }
    }
}

/// What a table comes to at `now`.
fn shown(
    table: &FenceTable,
    now: UnixMillis,
) -> (BTreeMap<[u8; 16], GateState>, BTreeMap<LeaseId, UnixMillis>) {
    let mut table = table.clone();
    table.clean(now);
    (table.gates().map(|gate| (gate.key.0, *gate)).collect(), table.marks().collect())
}

async fn only(store: &dyn LeaseStore, from: Position) -> Numbered {
    let events = rest(store, from).await;
    assert_eq!(events.len(), 1, "{events:?}");
    events[0]
}

/// Revocations by subject, id and task, blocks set and lifted, takeovers and keys: one event each, with the number that the
/// store has counted to.
pub async fn each_change_is_one_event(w: World) {
    let s = &*w.store;
    let supersede = Wish { supersede: true, ..w.wish() };
    let lease = w.minted(&supersede).await;
    let mut at = s.feed_position().await.unwrap();
    assert_eq!(at.generation, words::generation(1, w.start).generation);
    assert_eq!((at.epoch, at.number), (Epoch(s.identity()), 0), "a mint changes nothing that is followed");
    let mut next = async |told: Change, by: Option<[u8; 16]>| {
        let found = only(s, at).await;
        let event = Event { at: w.now(), revocation: by, change: told };
        assert_eq!(found, Numbered { number: at.number + 1, event });
        at = s.feed_position().await.unwrap();
        assert_eq!(at.number, found.number);
        assert_eq!(s.survey().await.unwrap().changes, found.number);
    };
    w.clock.advance(1_000);

    let subject = words::subject(Dimension::Owner, 7);
    let revoked = w.revoke(Dimension::Owner, 7).await;
    let told = |gate| Change::Gate(gate::state(subject.key(), gate));
    next(told(revoked.gate.as_ref().unwrap()), Some(revoked.job.unwrap().id.0)).await;

    let revoked = w.revoke_subject(subject.clone(), Some(words::block(w.now(), Some(5_000)))).await;
    next(told(revoked.gate.as_ref().unwrap()), Some(revoked.job.unwrap().id.0)).await;

    let lifted = s.set_block(&subject, None).await.unwrap();
    next(told(&lifted), None).await;
    let set = s.set_block(&subject, Some(words::block(w.now(), None))).await.unwrap();
    next(told(&set), None).await;

    let revoked = w.revoke_lease(lease.id).await;
    let until = lease.expires.max(lease.renewable_until).plus(60_000);
    next(Change::Mark { lease: lease.id, until }, Some(revoked.job.unwrap().id.0)).await;

    let task = words::subject(Dimension::Task, 1);
    let complete = w.wish().complete(w.number(), w.number(), w.now());
    let done = s.revoke(&complete).await.unwrap();
    next(Change::Gate(gate::state(task.key(), done.gate.as_ref().unwrap())), Some(complete.id.0)).await;

    let other = Wish { key: 2, task: Some(2), supersede: true, ..w.wish() };
    let taken = w.mint(&other).await.unwrap();
    let evidence = mayfly_domain::Subject::Evidence(other.evidence().unwrap().value()).key();
    let own = s.gates(&[evidence]).await.unwrap()[0].clone().unwrap();
    assert_eq!(taken.superseded, Some(1));
    next(Change::Gate(gate::state(evidence, &own)), Some(*taken.record.id.as_bytes())).await;

    assert!(s.put_keys(0, 3, b"sealed").await.unwrap());
    next(Change::Keys { version: 3 }, None).await;
}

/// Nothing that changed nothing is told.
pub async fn what_changes_nothing_is_no_event(w: World) {
    let wish = w.wish();
    w.minted(&wish).await;
    w.renew(&wish).await.unwrap();
    let complete = |n| wish.complete(n, n, w.now());
    w.store.revoke(&complete(w.number())).await.unwrap();
    let at = w.store.feed_position().await.unwrap();
    assert!(w.store.revoke(&complete(w.number())).await.unwrap().job.is_none());
    assert!(w.store.set_block(&words::subject(Dimension::Owner, 9), None).await.is_err());
    assert!(!w.store.put_keys(7, 8, b"late").await.unwrap());
    w.sweep().await;
    assert_eq!(w.store.feed_position().await.unwrap(), at);
    assert_eq!(rest(&*w.store, at).await, []);
}

/// A reader that waits gets what comes, at once and in order; one whose time is up gets nothing.
pub async fn a_reader_waits_for_what_comes(mut w: World) {
    let other = w.another().await;
    let at = w.store.feed_position().await.unwrap();
    let none = w.store.feed_read(&at, 10, Duration::from_millis(20)).await.unwrap();
    assert_eq!(none, FeedRead::Events(Vec::new()));
    let reader = tokio::spawn({
        let store = Arc::clone(&w.store);
        async move { store.feed_read(&at, 10, FEED_WAIT_MAX).await }
    });
    let revoke = words::revoke_subject(w.number(), words::subject(Dimension::Owner, 1), None);
    let number = other.revoke(&revoke).await.unwrap().changes;
    let FeedRead::Events(events) = reader.await.unwrap().unwrap() else { panic!("lost") };
    assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [number]);
}

/// A read that nobody waits for any more keeps no other one waiting.
pub async fn a_reader_may_walk_away(w: World) {
    let at = w.store.feed_position().await.unwrap();
    let abandoned = tokio::spawn({
        let store = Arc::clone(&w.store);
        async move { store.feed_read(&at, 10, FEED_WAIT_MAX).await }
    });
    tokio::task::yield_now().await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    w.revoke(Dimension::Owner, 1).await;
    let read = tokio::time::timeout(FEED_WAIT_MAX / 2, async {
        loop {
            // The connection that was given up is opened again meanwhile.
            match w.store.feed_read(&at, 10, AT_ONCE).await {
                Err(StoreError::Unavailable(_)) => {}
                other => return other.unwrap(),
            }
        }
    });
    let FeedRead::Events(events) = read.await.unwrap() else { panic!("lost") };
    assert_eq!(events.len(), 1);
}

/// Of another epoch or generation, ahead, or older than the log: each needs a snapshot.
pub async fn an_unknown_position_is_lost(w: World) {
    w.revoke(Dimension::Owner, 1).await;
    let at = w.store.feed_position().await.unwrap();
    let mut epoch = at;
    epoch.epoch.0[0] ^= 1;
    let mut generation = at;
    generation.generation.id.0[0] ^= 1;
    let ahead = Position { number: at.number + 1, ..at };
    for position in [epoch, generation, ahead] {
        assert_eq!(w.store.feed_read(&position, 10, AT_ONCE).await.unwrap(), FeedRead::Lost, "{position:?}");
    }
    let carry = Carry { changes: at.number + 100, ..Carry::default() };
    w.store.begin_generation(&words::generation(2, w.now()), &carry).await.unwrap();
    let other = w.store.feed_read(&at, 10, AT_ONCE).await;
    assert!(matches!(other, Err(StoreError::OtherGeneration(_))), "{other:?}");
    w.adopt().await;
    let begun = w.store.feed_position().await.unwrap();
    assert_eq!(begun.number, at.number + 100, "numbers only grow");
    assert_eq!(w.store.feed_read(&at, 10, AT_ONCE).await.unwrap(), FeedRead::Lost);
    assert_eq!(rest(&*w.store, begun).await, [], "the log begins anew");
    for number in [at.number, begun.number - 1] {
        let older = Position { number, ..begun };
        assert_eq!(w.store.feed_read(&older, 10, AT_ONCE).await.unwrap(), FeedRead::Lost);
    }
    w.revoke(Dimension::Owner, 2).await;
    assert_eq!(only(&*w.store, begun).await.number, begun.number + 1);
    let older = Position { number: begun.number - 1, ..begun };
    assert_eq!(w.store.feed_read(&older, 10, AT_ONCE).await.unwrap(), FeedRead::Lost);
}

/// A reader that waits in a generation that ends learns of it.
pub async fn a_reader_learns_of_another_generation(w: World) {
    let at = w.store.feed_position().await.unwrap();
    let reader = tokio::spawn({
        let store = Arc::clone(&w.store);
        async move { store.feed_read(&at, 10, Duration::from_millis(500)).await }
    });
    tokio::task::yield_now().await;
    w.store.begin_generation(&words::generation(2, w.now()), &Carry::default()).await.unwrap();
    let read = reader.await.unwrap();
    assert!(matches!(read, Err(StoreError::OtherGeneration(_))), "{read:?}");
}

/// Fences that stand, blocks that were not lifted, marks that are kept; what is over is not in it.
pub async fn a_snapshot_has_what_stands(w: World) {
    let short = w.minted(&Wish { ttl_s: 60, lineage_s: 60, ..w.wish() }).await;
    w.revoke_lease(short.id).await;
    w.revoke(Dimension::Owner, 1).await;
    for n in 0..12 {
        w.block(Dimension::Workload, 20 + n, None).await;
    }
    w.block(Dimension::Profile, 3, Some(5_000)).await;
    let mut table = FenceTable::new(1_000);
    let at = snapshot(&*w.store, &mut table).await;
    assert_eq!((table.len(), at.number), (15, 15));
    assert!(table.is_marked(short.id));
    assert!(table.fence(words::subject(Dimension::Owner, 1).key()).is_some());

    w.clock.advance(words::LONGEST_LIFE_MS + 60_000);
    w.revoke(Dimension::Owner, 2).await;
    w.store.set_block(&words::subject(Dimension::Workload, 20), None).await.unwrap();
    let mut later = FenceTable::new(1_000);
    snapshot(&*w.store, &mut later).await;
    let blocked = later.gates().filter(|gate| gate.blocked).count();
    assert_eq!((later.len(), blocked, later.is_marked(short.id)), (13, 11, false));
    assert_eq!(later.fence(words::subject(Dimension::Owner, 1).key()), None);
    // Who followed all the way has the same.
    for event in rest(&*w.store, at).await {
        table.apply(&event.event.change).unwrap();
    }
    assert_eq!(shown(&table, w.now()), shown(&later, w.now()));
}

/// A block that outlives a fence keeps the gate; the fence is over all the same.
pub async fn a_fence_that_is_over_is_none_in_a_snapshot(w: World) {
    let subject = words::subject(Dimension::Owner, 1);
    w.revoke_subject(subject.clone(), Some(words::block(w.now(), None))).await;
    w.clock.advance(words::LONGEST_LIFE_MS + 60_000);
    let mut table = FenceTable::new(10);
    snapshot(&*w.store, &mut table).await;
    let gate = *table.gates().next().unwrap();
    assert_eq!((gate.key, gate.fence, gate.blocked), (subject.key(), Fence::NONE, true));
}
