//! The feed at its work: three brokers over one Redis with a million leases, twenty acceptors that follow and decide by
//! themselves. How soon all of them refuse, and whether anybody accepts after that.

use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use mayfly_domain::feed::{Change, Event, GateState};
use mayfly_domain::time::Clock as _;
use mayfly_domain::{DimKey, Fence, SystemClock, UnixMillis};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::operator_service_client::OperatorServiceClient;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use mayfly_verify::{Guard, Request, Verifier};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use super::filler;
use crate::broker::Broker;
use crate::jobs::{Held, Jobs, Minter, Team, URL, Wish};
use crate::load::{Step as _, millis, nanos, times};
use crate::measure::{Measured, Target};
use crate::outcome::say;
use crate::picture;
use crate::report::Report;
use crate::site::{ACCEPTOR, OPERATOR, Site};
use crate::{Failed, Plan, Result, host};

const BROKERS: usize = 3;
const FOLLOWERS: usize = 20;
/// Revocations that are timed.
const ROUNDS: usize = 500;
/// Events that are put into the feed at once.
const EVENTS: u64 = 100_000;
const BATCH: u64 = 1_000;
const GIVE_UP: Duration = Duration::from_secs(60);

struct Scene {
    server: RedisServer,
    brokers: Vec<Broker>,
    followers: Vec<Verifier>,
    minter: Minter,
    operator: OperatorServiceClient<Channel>,
    _dir: TempDir,
}

/// Measures all of it and draws the histogram beside the report.
pub(super) async fn on_redis(plan: &Plan, report_file: &Path, report: &mut Report) -> Result<()> {
    let mut scene = Scene::start().await?;
    let first = scene.minter.newest()?;
    let id = mayfly_domain::LeaseId::parse(&first.lease)?;
    filler::fill(&mut scene.server.admin(), id.as_bytes(), plan.feed_leases)?;
    refusals(&mut scene, plan, report_file, report).await?;
    throughput(&scene, report).await
}

impl Scene {
    async fn start() -> Result<Self> {
        say(&format!("starting {BROKERS} brokers and {FOLLOWERS} followers"));
        let server = RedisServer::start(RedisOptions::default());
        let dir = tempfile::tempdir()?;
        let site = Site::write(dir.path().join("0"), Some(&server.url()))?;
        let mut brokers = vec![Broker::start(site.clone()).await?];
        for n in 1..BROKERS {
            brokers.push(Broker::start(site.beside(dir.path().join(n.to_string()), &server.url())?).await?);
        }
        let first = brokers.first().ok_or_else(|| Failed::new("no broker"))?;
        let mut followers = Vec::new();
        for broker in brokers.iter().cycle().take(FOLLOWERS) {
            followers.push(Verifier::builder(broker.target(Some(ACCEPTOR))?).start()?);
        }
        for follower in &followers {
            follower.ready().await;
        }
        let jobs = Jobs::new(first)?;
        let minter = jobs.minter(&first.channel().await?, Team::Bench, 1, 1_000, Wish::Token).await?;
        let operator = OperatorServiceClient::new(first.channel_as(OPERATOR).await?);
        Ok(Self { server, brokers, followers, minter, operator, _dir: dir })
    }

    /// Has every follower accept a new token, and guard a connection by it.
    fn guarded(&self, held: &Held) -> Result<Vec<Guard>> {
        let proof = held.proof()?;
        let request = Request { method: "POST", url: URL, dpop: Some(&proof), ..Request::default() };
        let accept = |follower: &Verifier| {
            let judged = follower.check_token(held.token(), &request)?;
            let guard = follower.guard(&judged);
            guard.check()?;
            Ok::<_, mayfly_domain::Refusal>(guard)
        };
        let all: std::result::Result<Vec<_>, _> = self.followers.iter().map(accept).collect();
        all.map_err(|e| Failed::new(format!("a live token was refused: {e}")))
    }
}

fn lease(id: &str) -> pb::RevokeRequest {
    pb::RevokeRequest {
        what: Some(pb::revoke_request::What::Lease(id.to_owned())),
        reason: "measured".to_owned(),
        ..pb::RevokeRequest::default()
    }
}

/// One lease after another: minted, accepted by all, revoked at one broker.
async fn refusals(scene: &mut Scene, plan: &Plan, report_file: &Path, report: &mut Report) -> Result<()> {
    let mut acceptors = Vec::new();
    for broker in &scene.brokers {
        acceptors.push(broker.acceptor().await?);
    }
    let (mut refused, mut barriers, mut accepted) = (times()?, times()?, 0_u64);
    let mut asked = 0_u64;
    for _ in 0..ROUNDS {
        scene.minter.step().await?;
        let held = scene.minter.newest()?;
        let mut ends = JoinSet::new();
        for guard in scene.guarded(&held)? {
            ends.spawn(async move {
                guard.ended().await;
                (Instant::now(), guard)
            });
        }
        let acknowledged = scene.operator.revoke(lease(&held.lease)).await?.into_inner();
        let from = Instant::now();
        let question = || pb::CheckRequest {
            credential: Some(pb::check_request::Credential::Lease(held.lease.clone())),
            ..pb::CheckRequest::default()
        };
        let mut online = JoinSet::new();
        for acceptor in &acceptors {
            let acceptor = acceptor.clone();
            let question = question();
            online.spawn(async move {
                acceptor.check(question).await.map(|answer| (answer.accepted, Instant::now()))
            });
        }
        barrier(scene, &acknowledged).await?;
        barriers.saturating_record(nanos(from.elapsed()));
        while let Some(answer) = online.join_next().await {
            let (wrong, at) = answer??;
            accepted += u64::from(wrong);
            refused.saturating_record(nanos(at.duration_since(from)).max(1));
            asked += 1;
        }
        while let Some(end) = ends.join_next().await {
            let (at, guard) = end?;
            refused.saturating_record(nanos(at.saturating_duration_since(from)).max(1));
            accepted += u64::from(guard.check().is_ok());
            asked += 1;
        }
    }
    let p99 = Measured::of("revoke_to_refused_p99_ms", "ms", &[millis(&refused, 0.99)])
        .times(&refused)
        .target(Target::AtMost(10.0))
        .reference("leases in the store", plan.feed_leases as f64, "");
    report.add(p99);
    report.add(
        Measured::of("barrier_p99_ms", "ms", &[millis(&barriers, 0.99)])
            .times(&barriers)
            .target(Target::AtMost(50.0))
            .reference("followers", FOLLOWERS as f64, ""),
    );
    report.add(
        Measured::of("accepted_after_revoke", "", &[accepted as f64]).target(Target::Exactly(0.0)).reference(
            "judged after it",
            asked as f64,
            "",
        ),
    );
    draw(&refused, report_file)
}

/// Waits until nobody decides without the change.
async fn barrier(scene: &mut Scene, change: &pb::RevokeResponse) -> Result<()> {
    let request = pb::WaitBarrierRequest {
        number: change.number,
        generation: change.generation.clone(),
        timeout_ms: 0,
    };
    let mut progress = scene.operator.wait_barrier(request).await?.into_inner();
    while let Some(step) = progress.message().await? {
        if step.complete {
            return Ok(());
        }
    }
    Err(Failed::new("a barrier did not end"))
}

fn draw(all: &Histogram<u64>, report_file: &Path) -> Result<()> {
    let file = report_file.with_file_name("revoke_to_refused.svg");
    picture::histogram(all, "From acknowledged revocation to refusal", &file)?;
    say(&format!("drew {}", file.display()));
    Ok(())
}

/// Puts events into the feed as fast as Redis takes them and waits until every follower has applied the last one.
async fn throughput(scene: &Scene, report: &mut Report) -> Result<()> {
    let mut redis = scene.server.admin();
    let append = redis::Script::new(
        "for _, e in ipairs(ARGV) do
           redis.call('XADD', 'mf:feed', redis.call('INCR', 'mf:changes') .. '-0', 'e', e)
         end
         return redis.call('GET', 'mf:changes')",
    );
    let now = SystemClock.now();
    let held = || scene.followers.iter().map(Verifier::revocations).sum::<usize>();
    let resident = || host::resident(std::process::id()).unwrap_or_default();
    let (before, smaller) = (held(), resident());
    let begin = Instant::now();
    let mut last = 0_u64;
    for batch in 0..EVENTS / BATCH {
        let mut call = append.prepare_invoke();
        for n in 0..BATCH {
            call.arg(fence(batch * BATCH + n, now).encode());
        }
        let number: String = call.invoke(&mut redis)?;
        last = number.parse()?;
        tokio::task::yield_now().await;
    }
    let give_up = Instant::now() + GIVE_UP;
    while scene.followers.iter().any(|f| f.position().number < last) {
        if Instant::now() > give_up {
            return Err(Failed::new("a follower did not come to the end of the feed"));
        }
        sleep(Duration::from_millis(2)).await;
    }
    let per_s = EVENTS as f64 / begin.elapsed().as_secs_f64();
    let applied = held().saturating_sub(before) as f64;
    report.add(
        Measured::of("feed_events_per_s", "1/s", &[per_s]).target(Target::AtLeast(20_000.0)).reference(
            "applied by all followers",
            applied,
            "",
        ),
    );
    let grown = resident().saturating_sub(smaller) as f64;
    report.add(
        Measured::of("verify_bytes_per_revocation", "B", &[grown / applied])
            .target(Target::AtMost(200.0))
            .reference("this process grew by", grown / f64::from(1 << 20), "MiB"),
    );
    Ok(())
}

fn fence(n: u64, now: UnixMillis) -> Event {
    let mut key = [0xfe; 16];
    key[..8].copy_from_slice(&n.to_be_bytes());
    let gate = GateState {
        key: DimKey(key),
        fence: Fence::NONE.moved(now),
        fence_until: now.plus(3_600_000),
        block_version: 0,
        blocked: false,
        block_until: None,
    };
    Event { at: now, revocation: None, change: Change::Gate(gate) }
}
