//! A server whose clock is ahead for a while and goes back: by it, it has forgotten what still counts.

use std::sync::Arc;
use std::time::Duration;

use mayfly_lease::store::LeaseStore as _;
use mayfly_lease::transition::No;
use mayfly_lease::{Carry, GenerationRecord, StoreError};
use mayfly_store::redis::RedisStore;
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use crate::support::*;

const HOUR_S: i64 = 3_600;
const FAR_S: i64 = 40 * 24 * HOUR_S;

/// A server whose clock can be stepped, with a lease that was revoked; none where libfaketime is not installed.
#[expect(clippy::print_stderr, reason = "a test that can't do its work says so")]
async fn revoked() -> Option<(RedisServer, RedisStore)> {
    let (server, store) = ready(RedisOptions { own_clock: true, ..RedisOptions::default() }).await;
    if !server.step_clock(0) {
        eprintln!("libfaketime is not installed: no clock was stepped");
        return None;
    }
    store.mint(&mint(1)).await.unwrap();
    store.revoke(&revoke_owner(1)).await.unwrap();
    assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
    Some((server, store))
}

/// Steps the server's clock and waits, without a look at any key, until it has forgotten what is over by it.
async fn forget_by(server: &RedisServer, seconds: i64) {
    let mut admin = server.admin();
    let keys: Vec<Vec<u8>> = ::redis::cmd("KEYS").arg("*").query(&mut admin).unwrap();
    let stays = |key: &Vec<u8>| {
        let left: i64 = ::redis::cmd("PTTL").arg(key).query(&mut server.admin()).unwrap();
        left < 0 || left > seconds * 1_000
    };
    let left = keys.iter().filter(|key| stays(key)).count();
    assert!(left < keys.len());
    server.step_clock(seconds);
    // Redis tells of none of this.
    while ::redis::cmd("DBSIZE").query::<usize>(&mut admin).unwrap() > left {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whoever asks is told, a broker that comes fresh too, until a new generation begins; in that all of before is dead.
async fn is_found_out(server: &RedisServer, store: &RedisStore) {
    assert_eq!(store.check(&check(1)).await.map(drop), Err(StoreError::Forgot));
    assert_eq!(store.mint(&mint(2)).await.map(drop), Err(StoreError::Forgot));
    assert_eq!(store.revoke(&revoke_owner(2)).await.map(drop), Err(StoreError::Forgot));
    assert_eq!(store.feed_position().await.map(drop), Err(StoreError::Forgot));
    let fresh = open(server);
    for store in [store, &fresh] {
        let survey = store.survey().await.unwrap();
        assert!(survey.forgot);
        store.adopt(survey.generation.unwrap());
        assert_eq!(store.heartbeat("a", 1, 1_000).await, Err(StoreError::Forgot));
    }
    let stands = begin(&fresh, survey_number(store).await + 1).await;
    store.adopt(stands);
    assert!(!store.survey().await.unwrap().forgot);
    assert!(matches!(no(store.check(&check(1)).await), No::FenceMoved | No::NotFound));
    store.mint(&mint(2)).await.unwrap();
    store.check(&check(2)).await.unwrap();
}

async fn survey_number(store: &RedisStore) -> u32 {
    store.survey().await.unwrap().generation.unwrap().generation.number
}

#[tokio::test]
async fn a_clock_that_was_ahead_when_somebody_asked_needs_a_new_generation() {
    for ahead in [5 * HOUR_S, FAR_S] {
        let Some((mut server, store)) = revoked().await else { return };
        server.step_clock(ahead);
        let asked = store.check(&check(1)).await.map(drop);
        if ahead == FAR_S {
            // It would be the first in longer than anything lives.
            assert_eq!(asked, Err(StoreError::Forgot));
            // One whose start is by the clock of before is not begun.
            let wrong = store.begin_generation(&next(2), &Carry::default()).await;
            assert!(matches!(wrong, Err(StoreError::ClockSkew(_))), "{wrong:?}");
            let by_its_clock =
                GenerationRecord { started: soon(u64::try_from(ahead).unwrap() * 1_000), ..next(2) };
            store.adopt(store.begin_generation(&by_its_clock, &Carry::default()).await.unwrap());
            store.heartbeat("a", 1, 1_000).await.unwrap();
        } else {
            assert!(matches!(asked, Err(StoreError::ClockSkew(_))), "{asked:?}");
            store.revoke(&revoke_owner(9)).await.unwrap();
        }
        server.step_clock(0);
        server.restart();
        reached(async || store.survey().await).await.unwrap();
        is_found_out(&server, &store).await;
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_when_nobody_asked_needs_a_new_generation() {
    for ahead in [5 * HOUR_S, FAR_S] {
        let Some((server, store)) = revoked().await else { return };
        forget_by(&server, ahead).await;
        server.step_clock(0);
        is_found_out(&server, &store).await;
    }
}

/// Redis forgets bit by bit: a server that had only begun is found out by whoever comes after a while.
#[tokio::test]
async fn one_tick_that_is_gone_before_its_time_tells() {
    let (server, store) = ready(RedisOptions::default()).await;
    store.mint(&mint(1)).await.unwrap();
    let mut admin = server.admin();
    let clock: Vec<u8> = ::redis::cmd("GET").arg("mf:clock").query(&mut admin).unwrap();
    let (noted, last) = clock.split_at(8);
    let noted = u64::from_be_bytes(noted.try_into().unwrap()) - 5_000;
    let last = u64::from_be_bytes(last.try_into().unwrap());
    let gone: i64 = ::redis::cmd("DEL").arg(format!("mf:tick:{last}")).query(&mut admin).unwrap();
    assert_eq!(gone, 1);
    let paused = [noted.to_be_bytes(), last.to_be_bytes()].concat();
    ::redis::cmd("SET").arg("mf:clock").arg(paused).query::<()>(&mut admin).unwrap();
    assert_eq!(store.check(&check(1)).await.map(drop), Err(StoreError::Forgot));
    assert_eq!(store.heartbeat("a", 1, 1_000).await, Err(StoreError::Forgot), "and that stays so");
}

#[tokio::test]
async fn a_clock_that_steps_by_minutes_loses_nothing() {
    for seconds in [290, -290] {
        let Some((server, store)) = revoked().await else { return };
        store.mint(&mint(2)).await.unwrap();
        server.step_clock(seconds);
        // Reading a key that is over is enough for Redis to forget it.
        for n in [1, 2] {
            let minted = store.mint(&mint(n)).await;
            assert!(matches!(minted, Err(StoreError::ClockSkew(_))), "{minted:?}");
            assert!(matches!(store.check(&check(n)).await, Err(StoreError::ClockSkew(_))));
        }
        server.step_clock(0);
        assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
        assert_eq!(no(store.mint(&mint(1)).await), No::NonceUsed);
        store.check(&check(2)).await.unwrap();
        assert!(!store.survey().await.unwrap().forgot);
    }
}

/// A host that slept, brokers that were away: what ended has ended. But not what ended by a clock that was ahead meanwhile.
#[tokio::test]
async fn an_outage_needs_no_new_generation_unless_the_clock_was_ahead_in_it() {
    for ahead in [None, Some(20 * HOUR_S)] {
        let Some((server, first)) = revoked().await else { return };
        drop(first);
        if let Some(ahead) = ahead {
            forget_by(&server, ahead).await;
        }
        server.step_clock(10 * HOUR_S);
        let clock = TestClock::from_system();
        clock.advance(10 * 3_600_000);
        let store = RedisStore::open(config(&server), Arc::new(clock)).unwrap();
        let survey = store.survey().await.unwrap();
        assert_eq!(survey.forgot, ahead.is_some());
        store.adopt(survey.generation.unwrap());
        let forgot = if ahead.is_some() { Err(StoreError::Forgot) } else { Ok(()) };
        assert_eq!(store.heartbeat("a", 1, 1_000).await, forgot);
    }
}

/// Ticks are there until everything of now is over, whenever somebody looks.
#[tokio::test]
async fn ticks_are_added_as_time_goes_on() {
    let Some((server, store)) = revoked().await else { return };
    let last = || {
        let clock: Vec<u8> = ::redis::cmd("GET").arg("mf:clock").query(&mut server.admin()).unwrap();
        u64::from_be_bytes(clock[8..].try_into().unwrap())
    };
    let before = last();
    // An hour at a time, for more than the longest life.
    for hour in 1..=30 {
        server.step_clock(hour * HOUR_S);
        store.heartbeat("a", 1, 1_000).await.unwrap();
        assert_eq!(last(), before + u64::try_from(hour).unwrap() * 12);
    }
    let ticks: Vec<String> = ::redis::cmd("KEYS").arg("mf:tick:*").query(&mut server.admin()).unwrap();
    assert!(ticks.len() < 320, "those that are over go: {}", ticks.len());
}
