//! How a server is reached: TLS, an ACL user with no more than the documented rights, a socket, bad words.

use std::sync::Arc;

use mayfly_domain::{Secret, SystemClock};
use mayfly_lease::store::LeaseStore as _;
use mayfly_lease::sweep;
use mayfly_lease::{EvidenceUse, ListQuery, MintCommand, StoreError};
use mayfly_store::redis::{ConfigError, RedisConfig, RedisStore};
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use crate::support::*;

/// The rights that `RedisConfig` documents.
const RIGHTS: &str = "~mf:* resetchannels -@all +evalsha +script|load +info +config|get +wait +time +get +mget \
     +set +setrange +getrange +incr +exists +del +pexpireat +pexpiretime +zadd +zrem +zcard +zcount +zscore +zrange \
     +zrangebyscore +sadd +srem +smembers +hset +hget +hdel +hgetall +hmget +hlen +hexists +hincrby +xadd +xrange \
     +xread";

/// Everything that a store does, once.
async fn everything_works(store: &RedisStore) {
    begin(store, 1).await;
    store.mint(&mint(1)).await.unwrap();
    store.mint(&mint_of(2, "run-2", mayfly_domain::CredentialKind::Account)).await.unwrap();
    store.check(&check(1)).await.unwrap();
    store.confirm(lease_id(2)).await.unwrap();
    store.set_block(&mayfly_domain::Subject::Owner(owner()), Some(block())).await.unwrap();
    store.set_block(&mayfly_domain::Subject::Owner(owner()), None).await.unwrap();
    store.blocks().await.unwrap();
    store.revoke(&revoke_owner(1)).await.unwrap();
    let job = store.claim_job(1_000).await.unwrap().unwrap();
    assert!(sweep::step(store, job).await.unwrap().job.done);
    store.list(&ListQuery { along: None, after: None, limit: 5 }).await.unwrap();
    for due in store.due_undos(5).await.unwrap() {
        store.undone(&due).await.unwrap();
    }
    store.counts().await.unwrap();
    store.put_keys(0, 1, b"sealed").await.unwrap();
    for n in [3, 4] {
        store.put_join(&join_token(n)).await.unwrap();
    }
    store.mint(&joining(3)).await.unwrap();
    let withdrawn = store.withdraw_join(join_token(4).id).await.unwrap().unwrap();
    assert_eq!(withdrawn.state, mayfly_lease::JoinState::Withdrawn);
    assert_eq!(store.joins().await.unwrap().len(), 2);
    store.check(&check(3)).await.unwrap();
    store.renew(&renewal(&joining(3))).await.unwrap();
    let takes_over = |key: u8| {
        let evidence = EvidenceUse { supersede: true, ..evidence(9, key) };
        MintCommand {
            evidence: Some(evidence),
            ..mint_of(9 + key, "run-9", mayfly_domain::CredentialKind::Token)
        }
    };
    store.mint(&takes_over(1)).await.unwrap();
    assert_eq!(store.mint(&takes_over(2)).await.unwrap().superseded, Some(1));
    store.keys().await.unwrap();
    store.heartbeat("a", 1, 0).await.unwrap();
    store.brokers().await.unwrap();
    store.knows(&mayfly_domain::Subject::Owner(owner())).await.unwrap();
    store.survey().await.unwrap();
}

#[tokio::test]
async fn tls_and_a_user_with_the_documented_rights() {
    let server = RedisServer::start(RedisOptions {
        tls: true,
        user: Some(("broker".into(), "s3cret-word".into())),
        acl: RIGHTS.into(),
        ..RedisOptions::default()
    });
    assert!(server.url().starts_with("rediss://broker@"));
    everything_works(&open(&server)).await;
    let documented: String = include_str!("../../src/redis/config.rs")
        .lines()
        .filter_map(|l| l.trim().strip_prefix("/// "))
        .collect::<Vec<_>>()
        .join(" ");
    assert!(documented.contains(&RIGHTS.split_whitespace().collect::<Vec<_>>().join(" ")), "{documented}");

    let mut wrong = config(&server);
    wrong.password = Some(Secret::new("wr0ng-word".to_owned()));
    let words = format!("{:?}", RedisStore::open(wrong, Arc::new(SystemClock)).unwrap().survey().await);
    assert!(words.contains("Unavailable") && !words.contains("wr0ng-word"), "{words}");

    // A file is read at each connection: what is wrong in it can be mended.
    let file = server.dir().join("password");
    std::fs::write(&file, "wr0ng-word").unwrap();
    let mut mended = config(&server);
    mended.password_file = Some(file.clone());
    let mended = RedisStore::open(mended, Arc::new(SystemClock)).unwrap();
    assert!(matches!(mended.survey().await, Err(StoreError::Unavailable(_))));
    std::fs::write(&file, "s3cret-word\n").unwrap();
    reached(async || mended.survey().await).await.unwrap();

    let mut stranger = config(&server);
    stranger.ca_pem = Some(mayfly_testkit::tls::ServerTls::loopback().ca_pem.into_bytes());
    let refused = RedisStore::open(stranger, Arc::new(SystemClock)).unwrap().survey().await;
    let Err(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("TLS"), "{why}");
}

#[tokio::test]
async fn a_user_without_config_is_a_risk_with_a_name() {
    let server = RedisServer::start(RedisOptions {
        user: Some(("broker".into(), "s3cret-word".into())),
        acl: RIGHTS.replace("+config|get ", ""),
        ..RedisOptions::default()
    });
    let store = open(&server);
    assert_eq!(store.survey().await.unwrap().risks, ["config-unreadable"]);
    everything_works(&store).await;
}

#[tokio::test]
async fn a_socket() {
    let server = RedisServer::start(RedisOptions::default());
    let url = format!("unix://{}", server.dir().join("redis.sock").display());
    let store = RedisStore::open(RedisConfig::new(url), Arc::new(SystemClock)).unwrap();
    everything_works(&store).await;
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let mut config = RedisConfig::new("redis://127.0.0.1:1");
    config.connect_timeout = std::time::Duration::from_millis(100);
    let store = RedisStore::open(config, Arc::new(SystemClock)).unwrap();
    let answer = store.survey().await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}

#[tokio::test]
async fn bad_addresses_are_refused() {
    for url in ["http://x", "redis://:word@host", "rediss://host/#insecure", "", "redis://"] {
        let opened = RedisStore::open(RedisConfig::new(url), Arc::new(SystemClock));
        assert!(matches!(opened, Err(ConfigError::Url(_))), "{url}: {opened:?}");
        assert!(!format!("{opened:?}").contains("word@"), "{url}");
    }
    let mut config = RedisConfig::new("rediss://host");
    config.ca_pem = Some(b"nothing".to_vec());
    assert!(matches!(RedisStore::open(config, Arc::new(SystemClock)), Err(ConfigError::Ca(_))));
}
