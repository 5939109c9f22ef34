//! The feed: every change is an event of its own step, numbers are dense, and a snapshot with the events after its
//! position is the truth.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::feed::{Change, Epoch, Event, Numbered, Position};
use mayfly_domain::{Dimension, Fence};
use mayfly_lease::feed::{FEED_WAIT_MAX, FeedRead};
use mayfly_lease::{Carry, LeaseStore, StoreError, gate};

use super::World;
use crate::feed::{Following, rest};
use crate::words::{self, Wish};

const AT_ONCE: Duration = Duration::ZERO;

async fn only(store: &dyn LeaseStore, from: Position) -> Numbered {
    let events = rest(store, from, 7).await;
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
    assert_eq!(rest(&*w.store, at, 7).await, []);
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
    assert_eq!(rest(&*w.store, begun, 7).await, [], "the log begins anew");
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
    let mut all_along = Following::start(&*w.store, 5).await;
    assert_eq!((all_along.table.len(), all_along.at.number), (15, 15));
    assert!(all_along.table.is_marked(short.id));
    assert!(all_along.table.fence(words::subject(Dimension::Owner, 1).key()).is_some());

    w.clock.advance(words::LONGEST_LIFE_MS + 60_000);
    w.revoke(Dimension::Owner, 2).await;
    w.store.set_block(&words::subject(Dimension::Workload, 20), None).await.unwrap();
    let late = Following::start(&*w.store, 5).await;
    let blocked = late.table.gates().filter(|gate| gate.blocked).count();
    assert_eq!((late.table.len(), blocked, late.table.is_marked(short.id)), (13, 11, false));
    assert_eq!(late.table.fence(words::subject(Dimension::Owner, 1).key()), None);
    // Who followed all the way has the same.
    all_along.catch_up(&*w.store).await;
    assert_eq!(all_along.shown(w.now()), late.shown(w.now()));
}

/// A block that outlives a fence keeps the gate; the fence is over all the same.
pub async fn a_fence_that_is_over_is_none_in_a_snapshot(w: World) {
    let subject = words::subject(Dimension::Owner, 1);
    w.revoke_subject(subject.clone(), Some(words::block(w.now(), None))).await;
    w.clock.advance(words::LONGEST_LIFE_MS + 60_000);
    let gate = *Following::start(&*w.store, 5).await.table.gates().next().unwrap();
    assert_eq!((gate.key, gate.fence, gate.blocked), (subject.key(), Fence::NONE, true));
}

/// A block that is lifted after its fence was over brings the fence back for nobody: what was minted since lives.
pub async fn a_lifted_block_brings_no_fence_back(w: World) {
    let subject = words::subject(Dimension::Owner, 1);
    let mut follower = Following::start(&*w.store, 5).await;
    w.revoke(Dimension::Owner, 1).await;
    follower.catch_up(&*w.store).await;
    w.clock.advance(words::LONGEST_LIFE_MS + 60_000);
    let fresh = Wish { token: Some(2), issued_at: w.now(), ..w.wish() };
    let record = w.minted(&fresh).await;
    w.block(Dimension::Owner, 1, None).await;
    w.store.set_block(&subject, None).await.unwrap();
    follower.catch_up(&*w.store).await;
    follower.table.clean(w.now());
    assert!(w.check(record.id).await.is_ok());
    let judged = follower.table.judge(follower.at.generation, record.id, &record.observation);
    assert_eq!(judged, Ok(()));
}

/// Where changes, snapshots and reads race: numbers are dense and in order, everybody ends with the truth, and it is what
/// the gates say.
pub async fn followers_end_with_the_truth(mut w: World) {
    let other = w.another().await;
    let start = w.store.feed_position().await.unwrap();
    let mut changers = Vec::new();
    for n in 0..4_u32 {
        let (store, now) = (Arc::clone(if n % 2 == 0 { &w.store } else { &other }), w.now());
        changers.push(tokio::spawn(async move {
            for step in 0..60 {
                let value = u8::try_from((step * 7 + n) % 12).unwrap();
                let (number, subject) = (n * 1_000 + step, words::subject(Dimension::Owner, value));
                match step % 4 {
                    0 => drop(store.set_block(&subject, Some(words::block(now, None))).await.unwrap()),
                    1 => drop(store.set_block(&subject, None).await),
                    2 => {
                        let revoke = words::revoke_lease(number, words::lease(number), now.plus(60_000));
                        store.revoke(&revoke).await.unwrap();
                    }
                    _ => {
                        let block = (step % 8 == 3).then(|| words::block(now, Some(1_000)));
                        store.revoke(&words::revoke_subject(number, subject, block)).await.unwrap();
                    }
                }
            }
        }));
    }
    let mut followers = Vec::new();
    while changers.iter().any(|changer| !changer.is_finished()) {
        followers.push(Following::start(&*w.store, 3).await);
        for follower in &mut followers {
            follower.catch_up(&*w.store).await;
        }
        tokio::task::yield_now().await;
    }
    for changer in changers {
        changer.await.unwrap();
    }
    let events = rest(&*w.store, start, 1_000).await;
    let end = w.store.feed_position().await.unwrap();
    assert!(events.iter().map(|event| event.number).eq(1..=end.number), "dense");
    assert!(events.is_sorted_by_key(|event| event.event.at));
    let truth = Following::start(&*w.store, 100).await.shown(w.now());
    let keys: Vec<_> = truth.0.keys().copied().collect();
    for (key, stored) in keys.iter().zip(w.store.gates(&keys).await.unwrap()) {
        assert_eq!(gate::state(*key, &stored.unwrap()), truth.0[key]);
    }
    assert_eq!(truth.1.len(), 60, "each lease was marked");
    for mut follower in followers {
        follower.catch_up(&*w.store).await;
        assert_eq!((follower.at, follower.shown(w.now())), (end, truth.clone()));
    }
}
