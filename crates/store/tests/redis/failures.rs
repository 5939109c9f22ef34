//! A server that dies, forgets, freezes or is another one.

use std::sync::Arc;

use mayfly_domain::*;
use mayfly_lease::command::{MintCommand, RevokeWhat};
use mayfly_lease::store::LeaseStore as _;
use mayfly_lease::transition::No;
use mayfly_lease::{Carry, ListQuery, StoreError, sweep};
use mayfly_store::redis::{RedisStore, refused_risks};
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::redis::{AppendFsync, RedisOptions, RedisServer};

use crate::support::*;

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let (mut server, store) = ready(RedisOptions::default()).await;
    store.mint(&mint(1)).await.unwrap();
    store.mint(&mint_of(2, "run-2", CredentialKind::Token)).await.unwrap();
    let task = Subject::Task(TaskId::parse("run-1").unwrap());
    store.revoke(&revoke(1, RevokeWhat::Subject { subject: task, block: None })).await.unwrap();
    let identity = store.identity();
    server.kill9();
    let lost = store.check(&check(2)).await;
    assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    server.restart();
    // The file is synced always: the same generation goes on.
    reached(async || store.check(&check(2)).await).await.unwrap();
    assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
    assert_ne!(store.identity(), identity);
}

#[tokio::test]
async fn a_server_that_may_have_forgotten_needs_a_new_generation() {
    let options = RedisOptions { appendfsync: AppendFsync::EverySec, ..RedisOptions::default() };
    let (mut server, store) = ready(options).await;
    let survey = store.survey().await.unwrap();
    assert_eq!(survey.risks, ["appendfsync-everysec"]);
    assert_eq!(refused_risks(&survey, &[]), ["appendfsync-everysec"]);
    assert!(refused_risks(&survey, &["appendfsync-everysec".to_owned()]).is_empty());
    store.mint(&mint(1)).await.unwrap();
    server.restart();
    let changed = reached(async || store.check(&check(1)).await).await;
    assert_eq!(changed, Err(StoreError::ServerChanged));
    // Neither the old generation nor a broker that comes fresh may go on in it.
    let fresh = open(&server);
    for store in [&store, &fresh] {
        let survey = reached(async || store.survey().await).await.unwrap();
        store.adopt(survey.generation.unwrap());
        assert_eq!(store.check(&check(1)).await, Err(StoreError::ServerChanged));
    }
    begin(&fresh, 2).await;
    fresh.mint(&mint(2)).await.unwrap();
    // Evidence and leases of the old one are worth nothing.
    assert_eq!(no(fresh.check(&check(1)).await), No::FenceMoved);
    let survey = store.survey().await.unwrap();
    store.adopt(survey.generation.unwrap());
    store.check(&check(2)).await.unwrap();
}

#[tokio::test]
async fn a_flushed_server_has_no_generation_and_takes_over_keys_and_blocks() {
    let (server, store) = ready(RedisOptions::default()).await;
    let subject = Subject::Owner(owner());
    store.set_block(&subject, Some(block())).await.unwrap();
    assert_eq!(no(store.mint(&mint(1)).await), No::Blocked(1));
    let carry = Carry {
        keys: Some((4, b"sealed".to_vec())),
        blocks: store.blocks().await.unwrap(),
        changes: store.survey().await.unwrap().changes,
    };
    server.flushall();
    // The scripts are still there; without them the store loads them again.
    ::redis::cmd("SCRIPT").arg("FLUSH").query::<()>(&mut server.admin()).unwrap();
    assert_eq!(store.mint(&mint(1)).await, Err(StoreError::OtherGeneration(None)));
    let stands = store.begin_generation(&next(2), &carry).await.unwrap();
    assert_eq!(stands.generation, next(2).generation);
    assert_eq!(store.mint(&mint(1)).await, Err(StoreError::OtherGeneration(Some(stands))));
    store.adopt(stands);
    assert_eq!(no(store.mint(&mint(1)).await), No::Blocked(1));
    assert_eq!(store.blocks().await.unwrap(), carry.blocks);
    assert_eq!(store.keys().await.unwrap(), carry.keys);
    assert_eq!(store.survey().await.unwrap().changes, carry.changes);
    // An older copy brings nothing back, and a lower generation does not stand.
    let lifted = store.set_block(&subject, None).await.unwrap();
    assert_eq!(store.begin_generation(&next(1), &carry).await.unwrap(), stands);
    store.adopt(store.begin_generation(&next(3), &carry).await.unwrap());
    assert_eq!(store.gates(&[subject.key()]).await.unwrap(), [Some(lifted)]);
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_and_recovers() {
    let server = RedisServer::start(RedisOptions::default());
    let mut config = config(&server);
    config.response_timeout = std::time::Duration::from_millis(200);
    config.connect_timeout = std::time::Duration::from_millis(200);
    let store = RedisStore::open(config, Arc::new(SystemClock)).unwrap();
    begin(&store, 1).await;
    store.mint(&mint(1)).await.unwrap();
    server.freeze();
    assert!(matches!(store.check(&check(1)).await, Err(StoreError::Unavailable(_))));
    server.thaw();
    reached(async || store.check(&check(1)).await).await.unwrap();
}

#[tokio::test]
async fn clocks_that_differ_stop_mints_but_no_revocation() {
    let (server, store) = ready(RedisOptions::default()).await;
    store.mint(&mint(1)).await.unwrap();
    let clock = TestClock::from_system();
    clock.advance(45_000);
    let late = RedisStore::open(config(&server), Arc::new(clock)).unwrap();
    late.adopt(late.survey().await.unwrap().generation.unwrap());
    let Err(StoreError::ClockSkew(ms)) = late.mint(&mint(2)).await else { panic!("no skew") };
    assert!((-46_000..=-40_000).contains(&ms), "{ms}");
    assert!(matches!(late.check(&check(1)).await, Err(StoreError::ClockSkew(_))));
    late.revoke(&revoke_owner(1)).await.unwrap();
    assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
}

#[tokio::test]
async fn a_replica_that_is_missing_leaves_the_fence_and_acknowledges_nothing() {
    let server = RedisServer::start(RedisOptions::default());
    let store = open(&server);
    begin(&store, 1).await;
    let mut waiting = config(&server);
    waiting.wait_replicas = 1;
    waiting.wait_timeout = std::time::Duration::from_millis(20);
    let waiting = RedisStore::open(waiting, Arc::new(SystemClock)).unwrap();
    waiting.adopt(store.generation().unwrap());
    store.mint(&mint(1)).await.unwrap();
    // A first binding counts as a revocation does; evidence that is bound already takes the short way.
    assert!(matches!(waiting.mint(&mint(2)).await, Err(StoreError::Unavailable(_))));
    let mut bound = mint(3);
    bound.evidence = mint(1).evidence;
    bound.subjects = mint(1).subjects;
    bound.evidence.as_mut().unwrap().until = UnixMillis(0);
    waiting.mint(&bound).await.unwrap();
    assert!(matches!(waiting.revoke(&revoke_owner(1)).await, Err(StoreError::Unavailable(_))));
    assert_eq!(no(store.check(&check(1)).await), No::FenceMoved);
}

#[tokio::test]
async fn replicas_acknowledge_and_are_no_place_to_write() {
    let primary = RedisServer::start(RedisOptions { appendonly: false, ..RedisOptions::default() });
    let replica = RedisServer::start(RedisOptions {
        directives: vec![format!("replicaof 127.0.0.1 {}", primary.port())],
        ..RedisOptions::default()
    });
    let mut config = config(&primary);
    config.wait_replicas = 1;
    let store = RedisStore::open(config, Arc::new(SystemClock)).unwrap();
    assert!(store.survey().await.unwrap().risks.is_empty(), "replicas keep what the file does not");
    // The replica may still be at its first copy.
    let stands = reached(async || store.begin_generation(&next(1), &Carry::default()).await).await.unwrap();
    store.adopt(stands);
    let (evidence, subjects) = (mint(1).evidence, mint(1).subjects);
    let bound = |n: u8| MintCommand { evidence: evidence.clone(), subjects: subjects.clone(), ..mint(n) };
    assert!(reached(async || store.mint(&bound(1)).await).await.unwrap().first_binding);
    assert!(!store.mint(&bound(2)).await.unwrap().first_binding);
    reached(async || store.revoke(&revoke_owner(1)).await).await.unwrap();

    let there = open(&replica);
    let survey = there.survey().await.unwrap();
    assert_eq!(survey.risks, ["replica"]);
    there.adopt(survey.generation.unwrap());
    assert_eq!(there.gates(&[Subject::Owner(owner()).key()]).await.unwrap().len(), 1);
    let refused = there.mint(&mint(3)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

/// A record that somebody wrote over: cut, of another version, of another type, with a broken body.
#[tokio::test]
async fn a_broken_record_is_passed_over_and_counted() {
    let (server, store) = ready(RedisOptions::default()).await;
    for n in 1..=6 {
        store.mint(&mint(n)).await.unwrap();
    }
    let account = store.mint(&mint_of(7, "run-1", CredentialKind::Account)).await.unwrap().record;
    store.confirm(account.id).await.unwrap();
    let mut admin = server.admin();
    let key = |n: u8| [b"mf:l:{l".as_slice(), lease_id(n).as_bytes(), b"}"].concat();
    let set = |admin: &mut ::redis::Connection, n: u8, value: &[u8]| {
        ::redis::cmd("SET").arg(key(n)).arg(value).query::<()>(admin).unwrap();
    };
    let whole: Vec<u8> = ::redis::cmd("GET").arg(key(4)).query(&mut admin).unwrap();
    set(&mut admin, 1, b"x");
    set(&mut admin, 2, &[&[9], &whole[1..]].concat());
    set(&mut admin, 4, &whole[..whole.len() - 3]);
    set(&mut admin, 7, &whole[..60]);
    ::redis::cmd("DEL").arg(key(3)).query::<()>(&mut admin).unwrap();
    ::redis::cmd("SADD").arg(key(3)).arg("x").query::<()>(&mut admin).unwrap();

    let subject = Subject::Owner(owner());
    for along in [None, Some(subject.key())] {
        let page = store.list(&ListQuery { along, after: None, limit: 10 }).await.unwrap();
        let mut ids: Vec<_> = page.records.iter().map(|r| r.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [5, 6].map(lease_id), "a list passes them over");
    }
    // One of another type is no record at all.
    assert_eq!(store.counts().await.unwrap().unreadable, 4);
    for what in [subject, Subject::Profile(ProfileName::parse("api").unwrap())] {
        let n = store.counts().await.unwrap().open_jobs + 1;
        let what = RevokeWhat::Subject { subject: what, block: None };
        store.revoke(&revoke(u8::try_from(n).unwrap(), what)).await.unwrap();
    }
    let (mut done, mut ended) = (0, Vec::new());
    while let Some(mut job) = store.claim_job(10_000).await.unwrap() {
        while !job.done {
            let step = sweep::step(&store, job).await.unwrap();
            ended.extend(step.ended);
            job = step.job;
        }
        done += 1;
    }
    ended.sort_unstable();
    // What has a head is ended by it, though its body can't be read.
    assert_eq!((done, ended), (2, [4, 5, 6].map(lease_id).to_vec()));
    assert_eq!(store.counts().await.unwrap().unreadable, 4);
    // The undo queue goes on as well.
    let wait = ::redis::cmd("ZADD").arg("mf:u").arg(0).arg(account.id.as_bytes()).query::<i64>(&mut admin);
    assert_eq!(wait.unwrap(), 0);
    assert_eq!(store.due_undos(10).await.unwrap(), []);
}
