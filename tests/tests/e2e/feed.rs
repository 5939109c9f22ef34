//! The feed over the wire: a follower by the bare contract, at one broker and at two on one Redis.

pub(crate) mod follower;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use mayfly_client::channel;
use mayfly_domain::LeaseId;
use mayfly_domain::time::{BootClock as _, Clock as _, SystemBootClock, SystemClock};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::operator_service_client::OperatorServiceClient;
use mayfly_testkit::redis::RedisServer;
use mayfly_verify::{Request, Verifier};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use crate::harness::{API, Node, Operator, Site, load_spec, owner, proof_of, until};
use follower::{Bare, Raw, begin, reason};

const BOUND: Duration = Duration::from_secs(5);
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_hears_all_then_each_event_and_a_revocation_within_moments() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let minted = job.mint("load", "use:load").await.unwrap();
    revoke(&alice, owner("team:before")).await;

    let api = node.acceptor("load-api").await;
    let mut bare = Bare::follow(&node, &api, begin(1)).await.unwrap();
    let accepted = bare.accepted.clone();
    assert_eq!((accepted.bound_ms, accepted.ping_ms, accepted.resumed), (5_000, 1_000, false));
    assert_eq!((accepted.broker.as_str(), accepted.certificates), ("one", true));
    assert_eq!(accepted.audiences, ["https://load.acme.internal"]);
    bare.fresh().await;
    assert!(bare.keys.as_ref().is_some_and(|keys| keys.version > 0 && !keys.jwks.is_empty()));
    assert!(bare.fenced("owner", "team:before"));
    assert!(!bare.fenced("owner", "user:gh-1"));

    let revoked = alice.revoke(owner("user:gh-1"), false).await.unwrap();
    bare.until(|bare| bare.number() >= revoked.number).await;
    assert!(bare.fenced("owner", "user:gh-1"));
    let lease = LeaseId::parse(&minted.lease).unwrap();
    let one = alice.revoke_lease(&minted.lease).await.unwrap();
    bare.until(|bare| bare.number() >= one.number).await;
    assert!(bare.table.is_marked(lease));

    // Everybody who follows has confirmed it, or it would wait for them.
    bare.ping().await;
    bare.until_answered().await;
    assert!(barrier(&node, &alice, &one).await.complete);
    bare.bye().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_comes_back_resumes_and_one_from_elsewhere_begins_anew() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let api = node.acceptor("load-api").await;
    let mut bare = Bare::follow(&node, &api, begin(1)).await.unwrap();
    bare.fresh().await;
    let at = bare.follower.position().unwrap();
    drop(bare);
    let revoked = revoke(&alice, owner("team:meanwhile")).await;
    node.broker
        .feed()
        .changed()
        .wait_for(|m| m.position.is_some_and(|p| p.number >= revoked.number))
        .await
        .unwrap();

    let resume = |at| pb::FollowStart { resume: Some(follower::place(&at)), ..begin(1) };
    let mut raw = Raw::follow(&node, &api, resume(at)).await.unwrap();
    let (first, _) = (raw.next().await.unwrap(), raw.next().await.unwrap());
    assert!(matches!(first, pb::follow_response::What::Accepted(a) if a.resumed));
    let pb::follow_response::What::Events(events) = raw.next().await.unwrap() else { panic!("no snapshot") };
    assert_eq!(events.first.unwrap().number, at.number + 1);

    let ahead = mayfly_domain::feed::Position { number: at.number + 1_000, ..at };
    let bare = Bare::follow(&node, &api, resume(ahead)).await.unwrap();
    assert!(!bare.accepted.resumed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_is_refused_with_its_reason() {
    let site = Site::embedded();
    site.configure("one");
    let policy = r#"@id("not-the-mesh") forbid (
        principal == Mayfly::Acceptor::"mesh-api", action == Mayfly::Action::"follow", resource);"#;
    std::fs::write(site.path("one").join("policies/mesh-api.cedar"), policy).unwrap();
    let node = site.start("one").await;
    let (load, mesh) = (node.acceptor("load-api").await, node.acceptor("mesh-api").await);
    assert_eq!(reason(Bare::follow(&node, &mesh, begin(1)).await), "FOLLOW_NOT_ALLOWED");
    let hour = pb::FollowStart { bound_ms: 3_600_000, ..begin(1) };
    assert_eq!(reason(Bare::follow(&node, &load, hour).await), "BOUND_TOO_LONG");
    let short = pb::FollowStart { follower: vec![1; 15], ..begin(1) };
    assert_eq!(reason(Bare::follow(&node, &load, short).await), "INPUT_INVALID");
    let nobody = Raw::anonymous(&node, begin(1)).await;
    assert_eq!(reason(nobody), "CERTIFICATE_REQUIRED");

    let mut raw = Raw::follow(&node, &load, begin(1)).await.unwrap();
    raw.until_told(|told| matches!(told, pb::follow_response::What::SnapshotEnd(_))).await;
    raw.say(pb::FollowPing { id: 1, applied: u64::MAX, ..Default::default() }).await;
    assert_eq!(raw.end().await, "INPUT_INVALID", "it can't have applied what it was not told");

    let mut twice = Raw::follow(&node, &load, begin(2)).await.unwrap();
    twice.say_start(begin(2)).await;
    assert_eq!(twice.end().await, "INPUT_INVALID");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_certificate_is_revoked_is_told_nothing_more() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let api = node.acceptor("load-api").await;
    let mut raw = Raw::follow(&node, &api, begin(1)).await.unwrap();
    raw.until_told(|told| matches!(told, pb::follow_response::What::SnapshotEnd(_))).await;
    alice.revoke_lease(&api.certified.lease.to_string()).await.unwrap();
    assert_eq!(raw.end().await, "CERTIFICATE_NOT_ALLOWED");
    assert_eq!(reason(Raw::follow(&node, &api, begin(1)).await), "CERTIFICATE_NOT_ALLOWED");
    node.stop().await;
}

/// Its connection's window is full of what it left unread, and nobody waits for it: neither others nor a barrier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_never_reads_holds_nobody_up() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let api = node.acceptor("load-api").await;
    let mut mute = Raw::follow(&node, &api, begin(1)).await.unwrap();
    mute.until_told(|told| matches!(told, pb::follow_response::What::SnapshotEnd(_))).await;
    let mut bare = Bare::follow(&node, &api, begin(2)).await.unwrap();
    bare.fresh().await;
    let mut last = revoke(&alice, owner("team:first")).await;
    for n in 0..50 {
        last = revoke(&alice, owner(&format!("team:t{n}"))).await;
    }
    bare.until(|bare| bare.number() >= last.number).await;
    assert!(bare.fenced("owner", "team:t49"));
    bare.ping().await;
    bare.until_answered().await;

    let clock = SystemBootClock;
    let began = clock.now();
    let told = barrier(&node, &alice, &last).await;
    assert!(told.complete && told.passed >= 1, "{told:?}");
    assert!(clock.now().since(began) < Duration::from_secs(11), "within the longest bound");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_broker_revokes_the_followers_of_another_hear_of() {
    let redis = RedisServer::start(Default::default());
    let site = Site::on(&redis);
    let (one, two) = (site.start("one").await, site.start("two").await);
    let alice = one.operator("alice").await;
    let api = two.acceptor("load-api").await;
    let mut bare = Bare::follow(&two, &api, begin(1)).await.unwrap();
    bare.fresh().await;
    let clock = SystemBootClock;
    let before = clock.now();
    let revoked = alice.revoke(owner("team:load"), false).await.unwrap();
    bare.until(|bare| bare.number() >= revoked.number).await;
    assert!(bare.fenced("owner", "team:load"));
    assert!(clock.now().since(before) < BOUND, "long before any bound");
    // Its own owner is team:load: that was the last that it was told, at the other broker too.
    assert_eq!(bare.raw.end().await, "CERTIFICATE_NOT_ALLOWED");
    let followers = operators(&one, &alice).await.list_followers(pb::ListFollowersRequest {}).await;
    let followers = followers.unwrap().into_inner().followers;
    let brokers: Vec<&str> =
        followers.iter().filter(|f| f.kind == "broker").map(|f| f.name.as_str()).collect();
    assert_eq!((brokers.len(), brokers.contains(&"one"), brokers.contains(&"two")), (2, true, true));
    let status = alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    assert!(status.feed_fresh && status.feed_number >= revoked.number && status.followers >= 2, "{status:?}");
    one.stop().await;
    two.stop().await;
}

/// A broker that hears nothing any more accepts nothing, mints nothing and vouches for no key, until it hears again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_store_is_silent_says_so_and_comes_back_by_itself() {
    let redis = RedisServer::start(Default::default());
    let site = Site::on(&redis);
    let node = site.start("one").await;
    let api = node.acceptor("load-api").await;
    let mut bare = Bare::follow(&node, &api, begin(1)).await.unwrap();
    bare.fresh().await;
    redis.freeze();
    let silent = async {
        while node.broker.feed().is_fresh() || bare.is_fresh() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, silent).await.unwrap();
    let refused = jwks(&node).await;
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.to_lowercase().contains("retry-after: "),
        "{refused}"
    );
    redis.thaw();
    let mut standing = node.broker.standing();
    let served = standing.wait_for(|now| *now == mayfly_broker::Standing::Serving);
    tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    assert!(jwks(&node).await.starts_with("HTTP/1.1 200"));
    bare.fresh().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_follow_are_told_when_to_come_back() {
    let site = Site::embedded();
    let file = site.configure("one");
    let text = std::fs::read_to_string(&file).unwrap();
    let few = "connections = 10\nconnections_per_address = 10\n";
    std::fs::write(&file, text.replacen("connections_per_address = 10_000\n", few, 1)).unwrap();
    let node = site.start("one").await;
    let api = node.acceptor("load-api").await;
    let channel = channel::connect(&node.target(Some(api.certified.files.clone()))).await.unwrap();
    // Four fifths of the connections may follow, be it over one.
    let followers = join_all((1..=8).map(|id| Bare::over(channel.clone(), begin(id)))).await;
    let mut followers: Vec<Bare> = followers.into_iter().map(Result::unwrap).collect();
    let other = channel::connect(&node.target(Some(api.certified.files.clone()))).await.unwrap();
    let refused = Bare::over(other.clone(), begin(9)).await.err().unwrap();
    assert_eq!(refused.code, "OVERLOADED");
    assert!(refused.retry_after.is_some_and(|wait| wait >= Duration::from_secs(1)), "{refused:?}");
    followers.remove(0).bye().await;
    let again = async || Bare::over(other.clone(), begin(9)).await.ok();
    crate::harness::until(again).await;
    node.stop().await;
}

/// As after a restart of everything: all come at once, and checks go on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_that_come_at_once_are_all_served_and_hold_no_check_up() {
    const CONNECTIONS: usize = 40;
    const EACH: u8 = 8;
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let minted = job.mint("load", "use:load").await.unwrap();
    let api = node.acceptor("load-api").await;
    let target = node.target(Some(api.certified.files.clone()));
    let connections: Vec<_> = join_all((0..CONNECTIONS).map(|_| channel::connect(&target))).await;
    let all = connections.into_iter().map(Result::unwrap).enumerate().flat_map(|(n, channel)| {
        (0..EACH).map(move |id| {
            let mut start = begin(id);
            start.follower[0] = u8::try_from(n).unwrap();
            Bare::over(channel.clone(), start)
        })
    });
    let checks = async {
        for _ in 0..50 {
            assert_eq!(api.lease(&minted.lease).await, Ok(()));
        }
    };
    let (followers, ()) = tokio::join!(join_all(all), checks);
    let mut followers: Vec<Bare> = followers.into_iter().map(Result::unwrap).collect();
    assert_eq!(node.broker.feed().followers(), CONNECTIONS * usize::from(EACH));
    let revoked = alice.revoke(owner("user:gh-1"), false).await.unwrap();
    join_all(followers.iter_mut().map(|bare| bare.until(|bare| bare.number() >= revoked.number))).await;
    assert!(followers.iter().all(|bare| bare.fenced("owner", "user:gh-1")));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canaries_are_measured_here_and_at_followers() {
    let mut site = Site::embedded();
    site.configure_also("[feed]\ncanary = \"1s\"\n");
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let api = node.acceptor("load-api").await;
    let mut bare = Bare::follow(&node, &api, begin(1)).await.unwrap();
    bare.fresh().await;
    bare.until(|bare| bare.canaries >= 2).await;
    bare.ping().await;
    bare.until_answered().await;
    let measured = measured(&node).await;
    assert!(measured >= 1, "{measured}");
    let status = alice.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    let canaries = status.canaries.unwrap();
    assert!(canaries.measured >= 1 && canaries.accepted_after == 0, "{canaries:?}");
    let all = pb::ListLeasesRequest { ended: true, page_size: 1_000, ..Default::default() };
    let listed = alice.client.list_leases(all).await.unwrap().leases;
    assert!(listed.iter().all(|lease| !lease.workload.contains("canary")));
    assert!(!node.audit().contains("canary"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_decides_by_itself_tells_what_was_used_and_goes_on_following() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let alice = node.operator("alice").await;
    let job = node.job(&site, &load_spec("1", "1")).await;
    let minted = job.mint("load", "use:load").await.unwrap();
    let api = node.acceptor("load-api").await;
    let target = node.target(Some(api.certified.files.clone()));
    let verifier = Verifier::builder(target).bound(Duration::from_secs(1)).start().unwrap();
    verifier.ready().await;

    let token = minted.credential.as_str();
    let uses = async || {
        let proof = proof_of(&job.key, token, SystemClock.now());
        let request = Request { method: "GET", url: API, dpop: Some(&proof), ..Request::default() };
        verifier.check_token(token, &request).unwrap();
        node.broker.flush_usage().await;
        let asked = pb::GetUsageRequest { profile: "load".into() };
        let days = alice.client.get_usage(asked).await.unwrap().days;
        days.iter().map(|day| (day.workload.clone(), day.intent.clone(), day.uses)).next()
    };
    let (workload, intent, first) = until(uses).await;
    assert_eq!((workload, intent.as_str()), (minted.workload.clone(), "use:load"));
    until(async || uses().await.filter(|(.., uses)| *uses > first + 1)).await;
    assert_eq!(verifier.metrics().sessions(), 1, "it told twice in the session in which it began");
    node.stop().await;
}

/// Revokes what an owner answers for, whether or not anybody knows the owner.
async fn revoke(operator: &Operator, subject: pb::Subject) -> pb::RevokeResponse {
    let what = Some(pb::revoke_request::What::Subject(subject));
    let request = pb::RevokeRequest { what, reason: "test".into(), force: true, ..Default::default() };
    operator.client.revoke(request).await.unwrap()
}

/// The JWKS as anybody fetches it, with its head.
async fn jwks(node: &Node) -> String {
    let mut config = channel::tls(&node.target(None)).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let url = node.target(None).url;
    let host = url.host_str().unwrap().to_owned();
    let tcp = TcpStream::connect((host.as_str(), url.port().unwrap())).await.unwrap();
    let name = ServerName::try_from(host).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let ask = b"GET /.well-known/jwks.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The whole contract for operators.
async fn operators(node: &Node, operator: &Operator) -> OperatorServiceClient<Channel> {
    let target = node.target(Some(operator.certified.files.clone()));
    OperatorServiceClient::new(channel::connect(&target).await.unwrap())
}

/// Waits until nobody accepts what was revoked.
async fn barrier(node: &Node, operator: &Operator, revoked: &pb::RevokeResponse) -> pb::BarrierProgress {
    let (number, generation) = (revoked.number, revoked.generation.clone());
    let request = pb::WaitBarrierRequest { number, generation, timeout_ms: 0 };
    let mut told = operators(node, operator).await.wait_barrier(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(progress) = told.message().await.unwrap() {
        last = Some(progress);
    }
    last.unwrap()
}

/// How many canaries a follower refused, by the metrics.
async fn measured(node: &Node) -> u64 {
    let text = node.metrics().await;
    assert!(text.contains("mayfly_canary_accepted_after_total{where=\"feed\"} 0"), "{text}");
    let line = "mayfly_canary_refused_seconds_count{where=\"feed\"} ";
    let found = text.lines().find_map(|l| l.strip_prefix(line)).expect("it is there from the beginning");
    found.parse().unwrap()
}
