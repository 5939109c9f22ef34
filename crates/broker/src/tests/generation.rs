//! Generations: what a store that forgot does to what was minted, and what outlives it.

use std::sync::Arc;

use mayfly_domain::{Clock as _, Generation, GenerationId, Reason, Ttl, UnixMillis, defaults};
use mayfly_lease::{LeaseStore as _, StoreError};
use mayfly_store::embedded::EmbeddedStore;
use mayfly_testkit::memory::MemoryView;

use super::site::*;
use crate::*;

fn flush(site: &Site) {
    site.store.tamper(|view| *view = MemoryView::default());
}

#[tokio::test]
async fn the_first_look_adopts_what_stands_and_copies_it() {
    let site = Site::new().await;
    let node = site.node("two", Arc::new(site.store.another()), |_| ()).await;
    assert_eq!(node.standing(), Standing::Starting);
    assert_eq!(why(node.broker.nonce()), Reason::NotServing);
    node.broker.look().await;
    assert_eq!((node.standing(), node.number()), (Standing::Serving, 1));
    let (mine, first) = (node.copied(), site.broker("one").await.copied());
    assert_eq!((mine.generation, mine.keys, mine.changes), (first.generation, first.keys, first.changes));
}

#[tokio::test]
async fn a_flushed_store_begins_a_generation_with_keys_and_blocks_and_everything_before_is_dead() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, api) = (node.operator("alice").await, node.acceptor("deploy-api").await);
    let (worker, billing) = (Worker::payments("1"), Worker::billing("1042", "1"));
    let token = site.token(&worker);
    let issued = node.mint(&worker, &token, deploy()).await.unwrap();
    node.check(&api, &worker, &issued).await.unwrap();
    node.block(&alice, owner("team:billing"), None).await;
    let (jwks, version) = (node.broker.keys().jwks().clone(), node.broker.keys().version());
    let opened = node.open(&worker, "Mint").unwrap();
    let (nonce, _) = node.broker.nonce().unwrap();

    flush(&site);
    site.clock.advance(defaults::SKEW_MS + 1_000);
    let refused = node.broker.mint(&node.call(), &opened, &evidence(&token), deploy().into()).await;
    assert_eq!(why(refused), Reason::GenerationChanged);
    assert_eq!(node.standing(), Standing::Settling, "it serves nobody before it has looked");
    node.broker.look().await;

    assert_eq!((node.standing(), node.number()), (Standing::Serving, 2));
    assert_eq!((node.broker.keys().jwks().clone(), node.broker.keys().version()), (jwks, version));
    assert_eq!(site.store.survey().await.unwrap().keys_version, Some(version), "the store has them too");
    assert_eq!(why(node.opened(&worker, "Mint", nonce)), Reason::NonceInvalid);
    assert_eq!(why(node.mint(&worker, &token, deploy()).await), Reason::EvidencePredatesGeneration);
    let shows = why(node.broker.operator(None).await);
    assert_eq!(shows, Reason::CertificateRequired);
    let (alice, api) = (node.operator("alice").await, node.acceptor("deploy-api").await);
    assert!(node.check(&api, &worker, &issued).await.is_err(), "what was minted before is dead");
    let again = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    node.check(&api, &worker, &again).await.unwrap();
    assert_eq!(why(node.mint(&billing, &site.token(&billing), report()).await), Reason::Blocked);
    let blocks = node.broker.blocks(&node.call(), &alice).await.unwrap();
    assert_eq!(blocks.iter().map(|(s, _)| s.clone()).collect::<Vec<_>>(), [owner("team:billing")]);
    assert_eq!(node.copied().generation, Some(node.store.generation().unwrap().generation));

    node.broker.look().await;
    assert_eq!(node.number(), 2, "one loss is one generation");
    assert_eq!(node.audited_as("generation").len(), 1);
}

#[tokio::test]
async fn an_older_copy_of_the_store_is_a_new_generation() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let backup = site.store.tamper(|view| view.clone());
    node.revoke(&alice, owner("team:payments")).await;
    node.broker.look().await;

    site.store.tamper(|view| *view = backup.clone());
    node.broker.look().await;
    assert_eq!(node.number(), 2);
    let api = node.acceptor("deploy-api").await;
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked), "it does not come back");

    site.store.tamper(|view| *view = backup);
    node.broker.look().await;
    assert_eq!((node.number(), node.standing()), (3, Standing::Serving), "an older generation is one too");
}

#[tokio::test]
async fn the_same_number_with_another_id_is_a_new_generation() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    site.store.tamper(|view| {
        view.generation.as_mut().unwrap().generation = Generation { number: 1, id: GenerationId([9; 8]) };
    });
    node.broker.look().await;
    assert_eq!((node.number(), node.standing()), (2, Standing::Serving));
}

#[tokio::test]
async fn an_unsettled_generation_is_replaced_by_a_higher_one() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    site.store.tamper(|view| {
        let stored = view.generation.as_mut().unwrap();
        (stored.settled, stored.generation.number) = (false, 4);
    });
    node.broker.look().await;
    assert_eq!((node.number(), node.standing()), (5, Standing::Serving));

    let bare = Site::empty();
    let broker = bare.broker("two").await;
    bare.store.tamper(|view| {
        view.generation = Some(mayfly_lease::GenerationRecord {
            generation: Generation { number: 4, id: GenerationId([9; 8]) },
            settled: false,
            started: START,
            longest_life_ms: 1,
        });
    });
    broker.broker.look().await;
    assert_eq!(broker.standing(), Standing::Holding, "nobody knows what it would have to carry over");
}

#[tokio::test]
async fn of_two_brokers_one_begins_and_the_other_adopts() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    flush(&site);
    one.broker.look().await;
    two.broker.look().await;
    one.broker.look().await;
    assert_eq!((one.number(), two.number()), (2, 2));
    assert_eq!(one.store.generation(), two.store.generation());
    assert_eq!((one.standing(), two.standing()), (Standing::Serving, Standing::Serving));
    let worker = Worker::payments("1");
    let issued = one.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    two.check(&two.acceptor("deploy-api").await, &worker, &issued).await.unwrap();
}

#[tokio::test]
async fn a_block_that_only_one_brokers_copy_has_survives_whoever_begins() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let alice = one.operator("alice").await;
    one.block(&alice, owner("team:payments"), None).await;
    flush(&site);
    two.broker.look().await;
    let (worker, api) = (Worker::payments("1"), two.acceptor("deploy-api").await);
    let early = two.mint(&worker, &site.token(&worker), deploy()).await;
    one.broker.look().await;
    two.broker.look().await;
    assert_eq!(one.store.generation(), two.store.generation());
    for node in [&one, &two] {
        assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::Blocked);
    }
    let dead = match early {
        Ok(issued) => match two.broker.check(&two.call(), &api, &bearer(&issued)).await.unwrap() {
            Checked::Accepted(_) => panic!("minted in spite of a block"),
            Checked::Refused(_) => true,
        },
        Err(_) => true,
    };
    assert!(dead);
    let settled = one.number();
    for node in [&one, &two, &one] {
        node.broker.look().await;
    }
    assert_eq!((one.number(), two.number()), (settled, settled), "and then it is quiet");
}

#[tokio::test]
async fn keys_that_only_one_brokers_copy_has_survive_whoever_begins() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let alice = one.operator("alice").await;
    one.broker.rotate_keys(&one.call(), &alice, KeyStep::Prepare(None)).await.unwrap();
    flush(&site);
    two.broker.look().await;
    one.broker.look().await;
    two.broker.look().await;
    assert_eq!((one.broker.keys().version(), two.broker.keys().version()), (2, 2));
    assert_eq!(one.broker.keys().jwks(), two.broker.keys().jwks());
    assert_eq!(site.store.survey().await.unwrap().keys_version, Some(2));
}

#[tokio::test]
async fn a_lifted_block_never_comes_back_by_a_carry_over() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let alice = one.operator("alice").await;
    one.block(&alice, owner("team:payments"), None).await;
    two.broker.look().await;
    assert_eq!(two.copied().blocks.len(), 1, "the other one's copy has it");
    one.lift(&alice, owner("team:payments")).await.unwrap();
    flush(&site);
    // The broker whose copy still has the block is the first to look.
    two.broker.look().await;
    one.broker.look().await;
    two.broker.look().await;
    let worker = Worker::payments("1");
    for node in [&one, &two] {
        node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    }
    flush(&site);
    two.broker.look().await;
    two.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
}

#[tokio::test]
async fn nor_where_the_broker_that_lifted_it_looks_first() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let alice = one.operator("alice").await;
    one.block(&alice, owner("team:payments"), None).await;
    two.broker.look().await;
    one.lift(&alice, owner("team:payments")).await.unwrap();
    flush(&site);
    for node in [&one, &two, &one] {
        node.broker.look().await;
    }
    let worker = Worker::payments("1");
    two.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    assert_eq!((one.number(), two.number()), (2, 2), "there was nothing to carry");
}

#[tokio::test]
async fn an_empty_store_and_an_empty_copy_hold_and_never_serve() {
    let site = Site::empty();
    let node = site.broker("one").await;
    for _ in 0..2 {
        node.broker.note(&StoreError::ServerChanged);
        node.broker.look().await;
        assert_eq!(node.standing(), Standing::Holding);
        assert_eq!(why(node.broker.nonce()), Reason::StoreHolding);
        assert_eq!(site.store.survey().await.unwrap().generation, None);
    }
    site.init(&site.store.another()).await.unwrap();
    node.broker.look().await;
    assert_eq!((node.standing(), node.number()), (Standing::Serving, 1));
    assert!(matches!(site.init(&site.store.another()).await, Err(InitError::Already(_))));
    flush(&site);
    assert!(matches!(site.init(&site.store.another()).await, Err(InitError::CopyThere(_))));
}

#[tokio::test]
async fn a_store_that_is_away_refuses_and_is_found_again() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let worker = Worker::payments("1");
    let opened = node.open(&worker, "Mint").unwrap();
    node.store.faults.lock().all = Some(StoreError::Unavailable("gone".into()));
    let refused =
        node.broker.mint(&node.call(), &opened, &evidence(&site.token(&worker)), deploy().into()).await;
    assert_eq!(why(refused), Reason::StoreUnavailable);
    node.broker.look().await;
    assert_eq!(why(node.broker.nonce()), Reason::StoreUnavailable);
    node.store.faults.lock().all = None;
    let stop = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(node.broker.clone().work(async move { drop(stop.1.await) }));
    node.broker.standing().wait_for(|s| *s == Standing::Serving).await.unwrap();
    drop(stop.0);
    working.await.unwrap();
    assert_eq!(node.number(), 1, "being away is no loss");
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
}

#[tokio::test]
async fn another_server_is_a_new_generation_once() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let worker = Worker::payments("1");
    let opened = one.open(&worker, "Mint").unwrap();
    site.store.tamper(|view| view.server = [9; 16]);
    let refused =
        one.broker.mint(&one.call(), &opened, &evidence(&site.token(&worker)), deploy().into()).await;
    assert_eq!(why(refused), Reason::GenerationChanged);
    assert_eq!(one.standing(), Standing::Settling);
    one.broker.look().await;
    assert_eq!(one.standing(), Standing::Settling, "it has found out why");
    two.broker.note(&StoreError::ServerChanged);
    for node in [&one, &two, &one, &two] {
        node.broker.look().await;
        assert_eq!((node.standing(), node.number()), (Standing::Serving, 2));
    }
}

#[tokio::test]
async fn a_server_that_nobody_here_has_seen_is_a_new_generation_too() {
    let site = Site::new().await;
    site.broker("one").await.broker.audit().close().await;
    site.store.tamper(|view| view.server = [9; 16]);
    // One that has no copy, and one whose copy is of an older generation.
    let fresh = site.node("two", Arc::new(site.store.another()), |_| ()).await;
    fresh.broker.look().await;
    assert_eq!((fresh.standing(), fresh.number()), (Standing::Serving, 2));
    site.store.tamper(|view| view.server = [8; 16]);
    let late = site.node("one", Arc::new(site.store.another()), |_| ()).await;
    late.broker.look().await;
    assert_eq!((late.standing(), late.number()), (Standing::Serving, 3));
}

#[tokio::test]
async fn a_generation_begins_by_the_stores_clock() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    flush(&site);
    node.store.faults.lock().clock_difference_ms = -3_600_000;
    node.broker.look().await;
    assert_eq!(node.standing(), Standing::ClockSkew(-3_600_000));
    let started = site.store.survey().await.unwrap().generation.unwrap().started;
    assert_eq!(started, UnixMillis(site.clock.now().0 - 3_600_000));
}

#[tokio::test]
async fn clocks_apart_and_unsafe_settings_keep_nobody_from_revoking() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, api, worker) =
        (node.operator("alice").await, node.acceptor("deploy-api").await, Worker::payments("1"));
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let cases = [
        (30_001, vec![], Reason::ClockSkew),
        (-30_001, vec![], Reason::ClockSkew),
        (0, vec!["appendfsync-everysec".to_owned()], Reason::StoreUnsafe),
    ];
    for (difference, risks, reason) in cases {
        let opened = node.open(&worker, "Mint").unwrap();
        {
            let mut faults = node.store.faults.lock();
            (faults.clock_difference_ms, faults.risks) = (difference, risks);
        }
        node.broker.look().await;
        let refused =
            node.broker.mint(&node.call(), &opened, &evidence(&site.token(&worker)), deploy().into()).await;
        assert_eq!(why(refused), reason);
        assert_eq!(why(node.broker.check(&node.call(), &api, &bearer(&issued)).await), reason);
        node.revoke(&alice, owner("team:payments")).await;
        *node.store.faults.lock() = super::store::Faults::default();
        node.broker.look().await;
        assert_eq!(node.standing(), Standing::Serving);
    }
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked));
    node.store.faults.lock().clock_difference_ms = 30_000;
    node.broker.look().await;
    assert_eq!(node.standing(), Standing::Serving, "the skew itself is tolerated");
}

#[tokio::test]
async fn a_risk_is_accepted_by_its_name_alone() {
    let site = Site::new().await;
    let node = site.broker_with("one", |s| s.accepted_risks = vec!["appendfsync-everysec".to_owned()]).await;
    node.store.faults.lock().risks = vec!["appendfsync-everysec".to_owned()];
    node.broker.look().await;
    assert_eq!(node.standing(), Standing::Serving);
    let alice = node.operator("alice").await;
    let status = node.broker.status(&node.call(), &alice).await.unwrap();
    assert_eq!(status.risks, ["accepted:appendfsync-everysec"]);
    node.store.faults.lock().risks.push("maxmemory-evicts".to_owned());
    node.broker.look().await;
    assert_eq!(node.standing(), Standing::Unsafe(vec!["maxmemory-evicts".to_owned()]));
}

#[tokio::test]
async fn a_broker_that_drains_stays_so() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let alice = node.operator("alice").await;
    let (worker, opened) = (Worker::payments("1"), node.open(&Worker::payments("1"), "Mint").unwrap());
    node.broker.drain();
    node.broker.look().await;
    let refused =
        node.broker.mint(&node.call(), &opened, &evidence(&site.token(&worker)), deploy().into()).await;
    assert_eq!(why(refused), Reason::NotServing);
    node.revoke(&alice, owner("team:payments")).await;
}

#[tokio::test]
async fn a_broker_starts_from_its_copy_alone() {
    let site = Site::empty();
    let file = site.dir.path().join("store.redb");
    let open = || Arc::new(EmbeddedStore::open(&file, Arc::new(site.clock.clone())).unwrap());
    let store = open();
    site.init(store.as_ref()).await.unwrap();
    let node = site.node("one", store, |_| ()).await;
    node.broker.look().await;
    let (alice, worker) = (node.operator("alice").await, Worker::payments("1"));
    node.block(&alice, owner("team:billing"), Some(Ttl::parse("1h").unwrap())).await;
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let (jwks, billing) = (node.broker.keys().jwks().clone(), Worker::billing("1042", "1"));
    node.broker.audit().close().await;
    drop(node);

    std::fs::remove_file(&file).unwrap();
    site.clock.advance(60_000);
    let node = site.node("one", open(), |_| ()).await;
    node.broker.look().await;
    assert_eq!((node.standing(), node.number()), (Standing::Serving, 2));
    assert_eq!(*node.broker.keys().jwks(), jwks, "tokens are signed with the keys of before");
    let api = node.acceptor("deploy-api").await;
    assert!(node.check(&api, &worker, &issued).await.is_err());
    assert_eq!(why(node.mint(&billing, &site.token(&billing), report()).await), Reason::Blocked);
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    site.clock.advance(3_600_000);
    node.broker.look().await;
    node.mint(&billing, &site.token(&billing), report()).await.unwrap();
}
