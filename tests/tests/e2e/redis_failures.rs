//! Redis dies, forgets, or comes back as it once was.

use std::fs;

use mayfly_broker::SealedCopy;
use mayfly_mint::Seal;
use mayfly_proto::v1 as pb;
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use crate::harness::{Job, Node, Operator, Site, load_spec, owner, refused, until};

async fn state(alice: &Operator) -> (String, String) {
    let told = alice.client.get_status(pb::GetStatusRequest {}).await;
    told.map(|s| (s.store_state, s.generation)).unwrap_or_default()
}

/// Waits until the broker serves, in another generation than `old`.
async fn next_generation(node: &Node, old: &str) {
    let mut standing = node.broker.standing();
    until(async || {
        let serving = *standing.borrow_and_update() == mayfly_broker::Standing::Serving;
        let feed = node.broker.feed();
        let followed = feed.position().is_some_and(|at| at.generation.to_string() != old) && feed.is_fresh();
        (serving && followed && generation(node) != old).then_some(())
    })
    .await;
}

/// The generation that the broker's own copy was made in.
fn generation(node: &Node) -> String {
    let seal = Seal::from_file(&node.dir.with_file_name("seal.key")).unwrap();
    let copy = SealedCopy::open(&node.dir.join("state"), &seal).unwrap();
    copy.content().generation.map(|g| g.to_string()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_redis_is_unavailable_and_a_living_one_is_found_again() {
    let mut redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let acceptor = node.acceptor("load-api").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let lease = job.mint("load", "use:load").await.unwrap().lease;
    let revoked = job.mint("load", "use:load").await.unwrap().lease;
    alice.revoke_lease(&revoked).await.unwrap();
    let (_, before) = state(&alice).await;

    redis.kill9();
    assert_eq!(refused(job.mint("load", "use:load").await), "STORE_UNAVAILABLE");
    assert_eq!(acceptor.lease(&lease).await.unwrap_err(), "STORE_UNAVAILABLE");
    let impatient = alice.client.clone().patience(std::time::Duration::from_secs(2));
    let what = Some(pb::revoke_request::What::Subject(owner("user:gh-1")));
    let revoke = pb::RevokeRequest { what, reason: "test".to_owned(), ..Default::default() };
    let no = refused(impatient.revoke(revoke).await);
    assert!(["STORE_UNAVAILABLE", "DEADLINE"].contains(&no.as_str()), "{no}");

    redis.restart();
    until(async || job.mint("load", "use:load").await.ok()).await;
    assert_eq!(generation(&node), before, "a server that syncs before it answers forgot nothing");
    assert_eq!(acceptor.lease(&lease).await, Ok(()));
    assert!(acceptor.lease(&revoked).await.is_err());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stops_in_the_middle_hands_out_nothing_and_forgets_nothing() {
    let redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let acceptor = node.acceptor("load-api").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let evidence = job.evidence();
    let lease = job.mint_with(&evidence, "load", "use:load", 0).await.unwrap().lease;
    let impatient = alice.client.clone().patience(std::time::Duration::from_secs(2));
    let what = Some(pb::revoke_request::What::Subject(owner("user:gh-1")));
    let revoke = pb::RevokeRequest { what, reason: "test".to_owned(), ..Default::default() };

    redis.freeze();
    let (minted, revoked) =
        tokio::join!(job.mint_with(&evidence, "load", "use:load", 0), impatient.revoke(revoke.clone()));
    for no in [refused(minted), refused(revoked)] {
        assert!(["STORE_UNAVAILABLE", "DEADLINE"].contains(&no.as_str()), "{no}");
    }
    assert!(acceptor.lease(&lease).await.is_err(), "what can't be asked is not accepted");
    redis.thaw();
    until(async || impatient.revoke(revoke.clone()).await.ok()).await;
    assert_eq!(acceptor.lease(&lease).await.unwrap_err(), "LEASE_REVOKED");
    let late = job.mint_with(&evidence, "load", "use:load", 0).await;
    assert_eq!(refused(late), "EVIDENCE_PREDATES_REVOCATION");
    let status = async || alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    until(async || (status().await.open_sweeps == 0).then_some(())).await;
    assert!(alice.leases(None).await.is_empty(), "a mint that nobody got is ended with the others");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_starts_while_redis_is_away_and_serves_when_it_is_back() {
    let mut redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let node = site.start("one").await;
    let alice = node.operator("alice").await.certified;
    node.stop().await;
    redis.kill9();
    let node = site.start("one").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    assert_eq!(refused(job.mint("load", "use:load").await), "STORE_UNAVAILABLE");
    redis.restart();
    until(async || job.mint("load", "use:load").await.ok()).await;
    let client =
        mayfly_client::OperatorClient::connect(&node.target(Some(alice.files.clone()))).await.unwrap();
    client.get_status(pb::GetStatusRequest {}).await.expect("a certificate of before is still one");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_keeps_keys_and_blocks_and_no_credential() {
    let redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let (node, other) = (site.start("one").await, site.start("two").await);
    let alice = node.operator("alice").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let blocked = node.job(&site, &load_spec("2", "2")).await;
    let minted = job.mint("load", "use:load").await.unwrap();
    blocked.mint("load", "use:load").await.unwrap();
    alice.revoke(owner("user:gh-2"), true).await.unwrap();
    let (old, keys) = (generation(&node), node.broker.keys().jwks().to_vec());

    redis.flushall();
    next_generation(&node, &old).await;
    next_generation(&other, &old).await;
    assert_eq!(generation(&node), generation(&other));
    assert_eq!(**node.broker.keys().jwks(), keys, "keys outlive the store");
    let acceptor = node.acceptor("load-api").await;
    assert!(acceptor.lease(&minted.lease).await.is_err());
    assert!(acceptor.token(&minted.credential, job.proof(&minted.credential)).await.is_err());
    let no = refused(alice.client.get_status(pb::GetStatusRequest {}).await);
    assert_eq!(no, "CERTIFICATE_NOT_ALLOWED", "certificates were credentials too");
    assert_eq!(refused_anew(&blocked).await, "BLOCKED");
    let again = job.mint("load", "use:load").await.unwrap();
    assert_eq!(acceptor.lease(&again.lease).await, Ok(()));
    assert_eq!(acceptor.token(&again.credential, job.proof(&again.credential)).await, Ok(()));
    node.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_went_back_in_time_begins_a_new_generation() {
    let mut redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let acceptor = node.acceptor("load-api").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let revoked = node.job(&site, &load_spec("2", "2")).await;
    let lease = job.mint("load", "use:load").await.unwrap().lease;
    let dead = revoked.mint("load", "use:load").await.unwrap().lease;
    let older = redis.copy();

    alice.revoke(owner("user:gh-2"), true).await.unwrap();
    assert!(acceptor.lease(&dead).await.is_err());
    let old = generation(&node);
    redis.replace_by(&older);

    next_generation(&node, &old).await;
    let acceptor = node.acceptor("load-api").await;
    assert!(acceptor.lease(&dead).await.is_err(), "a restored copy revives nothing that was revoked");
    assert!(acceptor.lease(&lease).await.is_err(), "what stood beside it is as old");
    assert_eq!(refused_anew(&revoked).await, "BLOCKED", "a block of after the copy");
    let again = job.mint("load", "use:load").await.unwrap().lease;
    assert_eq!(acceptor.lease(&again).await, Ok(()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_a_copy_at_an_empty_redis_holds() {
    let mut redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let node = site.start("one").await;
    node.stop().await;
    redis.replace_by_empty();
    fs::remove_file(site.path("one/state/copy.sealed")).unwrap();
    let held = Node::try_start(&site, "one").await;
    let reason = match held {
        Err(refusal) => refusal.reason,
        Ok(node) => {
            let reason = node.broker.standing().borrow().refusal().unwrap().reason;
            node.stop().await;
            reason
        }
    };
    assert_eq!(reason, mayfly_domain::Reason::StoreHolding);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_could_forget_a_revocation_are_refused_unless_named() {
    let redis = RedisServer::start(RedisOptions {
        appendonly: false,
        directives: vec!["maxmemory-policy allkeys-lru".to_owned()],
        ..RedisOptions::default()
    });
    let site = Site::on(&redis);
    let node = site.start("one").await;
    let refusal = node.broker.standing().borrow().refusal().unwrap();
    assert_eq!(refusal.reason, mayfly_domain::Reason::StoreUnsafe);
    let risks: Vec<String> = refusal.detail.split(", ").map(str::to_owned).collect();
    node.stop().await;

    let file = site.path("one/mayfly.toml");
    let text =
        fs::read_to_string(&file).unwrap().replace("[store]", &format!("[store]\naccept_risks = {risks:?}"));
    fs::write(&file, text).unwrap();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let told = alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    for risk in &risks {
        assert!(told.store_risks.contains(&format!("accepted:{risk}")), "{:?}", told.store_risks);
    }
    let job = node.job(&site, &load_spec("1", "1")).await;
    job.mint("load", "use:load").await.unwrap();
    node.stop().await;
}

/// Why evidence that was issued after the generation began is refused: issuers tell the second alone.
async fn refused_anew(job: &Job) -> String {
    let why = async || refused(job.mint("load", "use:load").await);
    until(async || Some(why().await).filter(|why| why != "EVIDENCE_PREDATES_GENERATION")).await
}
