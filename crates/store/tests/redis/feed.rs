//! The feed on a server that trims, restarts, or has an entry that is none of ours.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::*;
use mayfly_lease::StoreError;
use mayfly_lease::feed::{FEED_WAIT_MAX, FeedRead};
use mayfly_lease::store::LeaseStore as _;
use mayfly_testkit::feed::{Following, rest};
use mayfly_testkit::redis::RedisOptions;

use crate::support::*;

#[tokio::test]
async fn a_position_before_the_oldest_event_is_lost() {
    let (server, store) = ready(RedisOptions::default()).await;
    let start = store.feed_position().await.unwrap();
    for n in 1..=5 {
        store.revoke(&revoke_owner(n)).await.unwrap();
    }
    let trim = |keep: u32| {
        let mut trim = ::redis::cmd("XTRIM");
        trim.arg("mf:feed").arg("MAXLEN").arg(keep).query::<i64>(&mut server.admin()).unwrap()
    };
    assert_eq!(trim(3), 2);
    assert_eq!(store.feed_read(&start, 10, Duration::ZERO).await.unwrap(), FeedRead::Lost);
    let third = feed::Position { number: start.number + 2, ..start };
    assert_eq!(rest(&store, third, 10).await.len(), 3);
    assert_eq!(trim(0), 3);
    assert_eq!(store.feed_read(&third, 10, Duration::ZERO).await.unwrap(), FeedRead::Lost);
    let end = store.feed_position().await.unwrap();
    assert_eq!(rest(&store, end, 10).await, []);
}

/// What was acknowledged is in the feed of the server that comes after; its numbers are of another epoch.
#[tokio::test]
async fn a_restarted_server_is_another_epoch() {
    let (mut server, store) = ready(RedisOptions::default()).await;
    store.revoke(&revoke_owner(1)).await.unwrap();
    let before = store.feed_position().await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::new(open(&server));
        store.survey().await.unwrap();
        store.adopt(next(1));
        async move { store.feed_read(&before, 10, FEED_WAIT_MAX).await }
    });
    tokio::task::yield_now().await;
    server.kill9();
    // It ends with the connection, not with its patience.
    let cut = tokio::time::timeout(FEED_WAIT_MAX / 2, waiting).await.unwrap().unwrap();
    assert!(matches!(cut, Err(StoreError::Unavailable(_))), "{cut:?}");
    server.restart();
    let after = reached(async || store.feed_position().await).await.unwrap();
    assert_eq!((after.generation, after.number), (before.generation, before.number));
    assert_ne!(after.epoch, before.epoch);
    let read = reached(async || store.feed_read(&before, 10, Duration::ZERO).await).await.unwrap();
    assert_eq!(read, FeedRead::Lost);
    let follower = reached(async || Ok(Following::start(&store, 10).await)).await.unwrap();
    assert!(follower.table.fence(Subject::Owner(owner()).key()).is_some());
}

#[tokio::test]
async fn an_entry_that_is_none_of_ours_is_corrupt() {
    let (server, store) = ready(RedisOptions::default()).await;
    let start = store.feed_position().await.unwrap();
    let mut add = ::redis::cmd("XADD");
    add.arg("mf:feed").arg("1-0").arg("e").arg("hello").query::<String>(&mut server.admin()).unwrap();
    let read = store.feed_read(&start, 10, Duration::ZERO).await;
    assert!(matches!(read, Err(StoreError::Corrupt(_))), "{read:?}");
}

/// A server that was acknowledged more than it has now is asked nothing, on no connection, before another generation.
#[tokio::test]
async fn an_older_copy_is_asked_nothing() {
    let (mut server, store) = ready(RedisOptions::default()).await;
    store.mint(&mint(1)).await.unwrap();
    store.check(&check(1)).await.unwrap();
    let older = server.copy();
    store.revoke(&revoke_owner(1)).await.unwrap();
    server.kill9();
    server.replace_by(&older);
    let answer = reached(async || store.check(&check(1)).await.map(drop)).await;
    assert_eq!(answer, Err(StoreError::ServerChanged));
    let position = store.feed_position().await;
    assert_eq!(position.map(drop), Err(StoreError::ServerChanged));
    begin(&store, 2).await;
    store.revoke(&revoke_owner(2)).await.unwrap();
}
