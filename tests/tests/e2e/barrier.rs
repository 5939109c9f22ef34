//! The barrier, from the wire and from the command line, at two brokers on one Redis; and what a watcher sees of it.

use std::time::Duration;

use mayfly_client::operator::EventStream;
use mayfly_domain::time::{BootClock as _, SystemBootClock};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::watch_event::What;
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use crate::feed::follower::{Bare, begin};
use crate::harness::{Node, Operator, Site, load_spec, owner, refused};
use crate::support::mayfly;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits as an operator's command does.
async fn waited(
    alice: &Operator,
    answer: &pb::RevokeResponse,
    patience: Option<Duration>,
) -> pb::BarrierProgress {
    alice.client.wait_barrier(answer.number, &answer.generation, patience, |_| ()).await.unwrap()
}

/// Follows until it has heard of `number` and said so.
async fn confirms(bare: &mut Bare, number: u64) {
    bare.until(|bare| bare.number() >= number).await;
    bare.until_answered().await;
}

/// The command line as `alice`, at `node`: exit code and what it wrote as JSON.
async fn command(node: &Node, alice: &Operator, line: &str) -> (i32, serde_json::Value) {
    let target = node.target(None);
    let (certificate, key) = &alice.certified.files;
    let output = tokio::process::Command::new(mayfly())
        .args(line.split(' '))
        .args(["--output", "json"])
        .env_clear()
        .env("HOME", &node.dir)
        .env("MAYFLY_URL", target.url.as_str())
        .env("MAYFLY_CA_FILE", node.dir.join("ca.pem"))
        .env("MAYFLY_TRUST_DOMAIN", target.trust_domain.unwrap().to_string())
        .env("MAYFLY_CERT_FILE", certificate)
        .env("MAYFLY_KEY_FILE", key)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap();
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_completes_when_the_followers_of_all_brokers_have_confirmed() {
    let redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let (one, two) = (site.start("one").await, site.start("two").await);
    let alice = one.operator("alice").await;
    // Somebody whom the store knows.
    let job = one.job(&site, &load_spec("1", "1")).await;
    job.mint("load", "use:load").await.unwrap();
    let (load, mesh) = (one.acceptor("load-api").await, two.acceptor("mesh-api").await);
    let mut first = Bare::follow(&one, &load, begin(1)).await.unwrap();
    let mut second = Bare::follow(&two, &mesh, begin(2)).await.unwrap();
    first.fresh().await;
    second.fresh().await;

    let answer = alice.revoke(owner("user:gh-1"), false).await.unwrap();
    assert!(answer.number > 0 && !answer.generation.is_empty());
    confirms(&mut first, answer.number).await;
    // One has it and the other not: it is not complete, and says who is missing.
    let early = waited(&alice, &answer, Some(Duration::from_millis(500))).await;
    let missing: Vec<&str> = early.waiting.iter().map(|f| f.name.as_str()).collect();
    assert_eq!((early.complete, missing), (false, vec!["mesh-api"]), "{early:?}");
    assert_eq!((early.waiting[0].broker.as_str(), early.waiting[0].kind.as_str()), ("two", "acceptor"));

    let (done, ()) = tokio::join!(waited(&alice, &answer, None), confirms(&mut second, answer.number));
    assert!(done.complete, "{done:?}");
    assert_eq!((done.followers, done.confirmed, done.passed), (4, 4, 0), "two brokers and two acceptors");

    let listed = alice.client.list_followers(pb::ListFollowersRequest {}).await.unwrap();
    let mut names: Vec<_> = listed.followers.iter().map(|f| (f.kind.as_str(), f.name.as_str())).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [("acceptor", "load-api"), ("acceptor", "mesh-api"), ("broker", "one"), ("broker", "two")]
    );
    assert!(listed.followers.iter().all(|f| f.applied >= answer.number), "{listed:?}");

    // What was never acknowledged is not waited for.
    let wait = async |number, generation: &str| {
        refused(alice.client.wait_barrier(number, generation, None, |_| ()).await)
    };
    for (number, generation) in
        [(listed.number + 1_000_000, &*answer.generation), (0, &answer.generation), (1, "1-00"), (1, "x")]
    {
        assert_eq!(wait(number, generation).await, "INPUT_INVALID", "{number} {generation}");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_follower_delays_it_until_its_bound_and_is_named_before() {
    // Built before anybody's bound runs.
    mayfly();
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let load = node.acceptor("load-api").await;
    let start = pb::FollowStart { bound_ms: 10_000, ..begin(1) };
    let mut silent = Bare::follow(&node, &load, start).await.unwrap();
    silent.fresh().await;

    // It says nothing any more, and may decide until its bound.
    let begun = SystemBootClock.now();
    let (code, told) =
        command(&node, &alice, "revoke --owner user:gh-1 --no-block --force --reason test --wait-for 1s")
            .await;
    let barrier = &told["barrier"];
    assert_eq!((code, &barrier["complete"]), (8, &false.into()), "{told}");
    assert_eq!(barrier["waiting"][0]["name"], "load-api", "{told}");
    assert_eq!((&told["acknowledged"].is_string(), &told["number"].is_u64()), (&true, &true), "{told}");
    assert!(silent.is_fresh(), "it may still decide: that is why it is waited for");

    let (code, told) = command(&node, &alice, "revoke --task gone --force --reason test").await;
    let barrier = &told["barrier"];
    assert_eq!((code, &barrier["complete"], &barrier["passed"]), (0, &true.into(), &1.into()), "{told}");
    assert!(!silent.is_fresh(), "whoever is counted as passed may not decide");
    let took = SystemBootClock.now().since(begun);
    assert!(took < Duration::from_secs(10) + PATIENCE, "{took:?}");

    let (code, told) = command(&node, &alice, "revoke --task gone --force --reason test --no-wait").await;
    assert_eq!((code, &told["barrier"]), (0, &serde_json::Value::Null), "{told}");
    node.stop().await;
}

async fn sees(events: &mut EventStream, wanted: impl Fn(&What) -> bool) -> What {
    let seen = async {
        loop {
            let event = events.next().await.unwrap().expect("it goes on");
            assert!(event.at_ms > 0);
            if let Some(what) = event.what.filter(&wanted) {
                return what;
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("it is seen")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_sees_decisions_here_revocations_everywhere_and_followers() {
    let redis = RedisServer::start(RedisOptions::default());
    let site = Site::on(&redis);
    let (one, two) = (site.start("one").await, site.start("two").await);
    let alice = one.operator("alice").await;
    let api = one.acceptor("load-api").await;
    let job = one.job(&site, &load_spec("1", "1")).await;
    let mut events = alice.client.watch().await.unwrap();

    let minted = job.mint("load", "use:load").await.unwrap();
    let lease = minted.lease.clone();
    sees(&mut events, |what| {
        matches!(what, What::Decision(d) if d.kind == "mint" && d.lease == lease && d.reason.is_empty())
    })
    .await;
    assert_eq!(api.lease(&minted.lease).await, Ok(()));
    sees(&mut events, |what| {
        matches!(what, What::Decision(d) if d.kind == "check" && d.reason.is_empty() && d.acceptor == "load-api")
    })
    .await;

    let elsewhere = alice.at(&two).await;
    let revoke = |subject: pb::Subject| pb::RevokeRequest {
        what: Some(pb::revoke_request::What::Subject(subject)),
        reason: "drill".into(),
        ..Default::default()
    };
    let answer = elsewhere.revoke(revoke(owner("user:gh-1"))).await.unwrap();
    let seen = sees(&mut events, |what| matches!(what, What::Revocation(_))).await;
    let What::Revocation(there) = seen else { unreachable!() };
    assert_eq!((there.revocation, there.number, there.here), (answer.revocation, answer.number, false));
    assert_eq!((there.author.as_str(), there.subject.unwrap().value), ("alice", "user:gh-1".to_owned()));

    assert!(api.lease(&minted.lease).await.is_err());
    sees(
        &mut events,
        |what| matches!(what, What::Decision(d) if d.kind == "check" && d.reason == "LEASE_REVOKED"),
    )
    .await;
    let here = alice.revoke(owner("user:gh-1"), false).await.unwrap();
    let told = here.revocation.clone();
    sees(&mut events, |what| matches!(what, What::Revocation(r) if r.here && r.revocation == told)).await;
    sees(&mut events, |what| {
        matches!(what, What::Followers(f) if f.mints > 0 && f.checks > 0 && f.followers.len() == 2 && f.number >= here.number)
    })
    .await;

    // Who may not read the audit may not watch, and whose certificate ends stops watching.
    let bob = one.operator("bob").await;
    assert_eq!(refused(bob.client.watch().await.map(drop)), "POLICY_DENIED");
    let admin = one.operator("alice").await;
    admin.revoke_lease(&alice.certified.lease.to_string()).await.unwrap();
    let ended = async { while let Ok(Some(_)) = events.next().await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends with the certificate");
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_meant_is_told() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let block = |for_s| pb::SetBlockRequest {
        subject: Some(owner("team:load")),
        reason: "drill".into(),
        for_s,
        force: true,
    };
    let warnings = async |request| alice.client.set_block(request).await.unwrap().warnings;
    assert!(warnings(block(3_600)).await.is_empty());
    let replaced = warnings(block(0)).await;
    assert!(replaced.len() == 1 && replaced[0].contains("now has none"), "{replaced:?}");
    assert!(warnings(block(0)).await.is_empty());

    let own = alice.revoke(owner("user:alice"), true).await.unwrap();
    assert!(own.warnings.iter().any(|text| text.contains("until another operator")), "{own:?}");
    node.stop().await;
}
