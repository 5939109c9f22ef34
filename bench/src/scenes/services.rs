//! Services that live by certificates, with the client library: how soon they have the first one, what keeping it
//! costs them, and whether their callers notice a new one.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mayfly_client::identity::Options;
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Event, KeyHome, Peers, RotatingChannel, Source, X509Identity, grpc};
use mayfly_domain::SpiffeId;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use url::Url;

use super::{IN_FLIGHT, Scene};
use crate::broker::target;
use crate::load::{self, Step, Until, millis, nanos, times};
use crate::measure::{Measured, Target};
use crate::outcome::say;
use crate::report::Report;
use crate::serve::READY;
use crate::site::{SHORT, Site, read};
use crate::{Failed, Result};

/// Services that are started to be timed.
const STARTS: usize = 100;
/// Requests between two services while their certificates are replaced.
const REQUESTS: u64 = 100_000;
/// How long each of the callers waits between two requests, so that they see several certificates.
const PAUSE: Duration = Duration::from_millis(16);
/// Renewals whose wake-ups are counted.
const RENEWALS: u64 = 6;
/// A thread that slept for longer was asleep: what wakes it within a shorter time is the answer that it waits for.
const ASLEEP: Duration = Duration::from_millis(50);
const GIVE_UP: Duration = Duration::from_secs(120);

/// A service's identity, with first evidence from a file and its key in the site's home.
pub(crate) async fn start(site: &Site, evidence: PathBuf, profile: &str) -> Result<X509Identity> {
    let url = read(&site.path("url")).ok_or_else(|| Failed::new("there is no broker"))?;
    let broker = target(&url, site.path("ca.pem"), None, None)?;
    let mut options = Options::new(CertificateAsk::new(profile.parse()?));
    options.home = Some(KeyHome::at(site.path("jobs"))?);
    Ok(X509Identity::start(&broker, Source::File(evidence), options).await?)
}

/// From the start of a process to its certificate.
pub(super) async fn first(scene: &Scene, report: &mut Report) -> Result<()> {
    let evidence = scene.jobs.service(&scene.broker, 1_000)?;
    say(&format!("starting {STARTS} services"));
    let (mut with, mut without) = (times()?, times()?);
    for _ in 0..STARTS {
        without.saturating_record(nanos(started(scene, None).await?));
        with.saturating_record(nanos(started(scene, Some(&evidence)).await?));
    }
    let measured = Measured::of("first_certificate_ms", "ms", &[millis(&with, 0.5)])
        .times(&with)
        .target(Target::AtMost(30.0))
        .reference("the same program without asking, p50", millis(&without, 0.5), "ms");
    report.add(measured);
    Ok(())
}

async fn started(scene: &Scene, evidence: Option<&PathBuf>) -> Result<Duration> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("first").arg(&scene.broker.site.0).args(evidence);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let begin = Instant::now();
    let mut process = command.spawn()?;
    let out = process.stdout.take().ok_or_else(|| Failed::new("a service without its output"))?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).await?;
    let took = begin.elapsed();
    process.wait().await?;
    if line == READY { Ok(took) } else { Err(Failed::new("a service got no certificate")) }
}

/// How often a service that does nothing else is woken for a renewal.
pub(super) async fn wakeups(scene: &Scene, report: &mut Report) -> Result<()> {
    let evidence = scene.jobs.service(&scene.broker, 1_001)?;
    let site = scene.broker.site.clone();
    say("counting what wakes a service");
    // A thread of its own, with nothing else on it.
    let woken = tokio::task::spawn_blocking(move || alone(&site, evidence)).await??;
    report.add(
        Measured::of("client_renewal_wakeups", "wake-ups", &[woken as f64 / RENEWALS as f64])
            .target(Target::AtMost(3.0))
            .reference("renewals", RENEWALS as f64, ""),
    );
    Ok(())
}

fn alone(site: &Site, evidence: PathBuf) -> Result<u64> {
    let woken = Arc::new(AtomicU64::new(0));
    let slept = Arc::new(std::sync::Mutex::new(None::<Instant>));
    let (falls, wakes, counts) = (Arc::clone(&slept), slept, Arc::clone(&woken));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || {
            if let Ok(mut since) = falls.lock() {
                *since = Some(Instant::now());
            }
        })
        .on_thread_unpark(move || {
            if let Ok(mut since) = wakes.lock()
                && since.take().is_some_and(|since| since.elapsed() >= ASLEEP)
            {
                counts.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()?;
    runtime.block_on(async {
        let identity = start(site, evidence, SHORT).await?;
        let mut events = identity.events();
        let before = woken.load(Ordering::Relaxed);
        for _ in 0..RENEWALS {
            renewed(&mut events).await?;
        }
        Ok(woken.load(Ordering::Relaxed) - before)
    })
}

async fn renewed(events: &mut Receiver<Event>) -> Result<()> {
    match timeout(GIVE_UP, events.recv()).await?? {
        Event::Renewed(_) => Ok(()),
        other => Err(Failed::new(format!("no renewal, but {other:?}"))),
    }
}

/// Requests between two services, each of which gets a new certificate every few seconds.
pub(super) async fn rotation(scene: &Scene, report: &mut Report) -> Result<()> {
    let site = &scene.broker.site;
    let server = start(site, scene.jobs.service(&scene.broker, 1_002)?, SHORT).await?;
    let caller = start(site, scene.jobs.service(&scene.broker, 1_003)?, SHORT).await?;
    let changed = Arc::new(AtomicU64::new(0));
    for events in [server.events(), caller.events()] {
        tokio::spawn(count(events, Arc::clone(&changed)));
    }
    let (server_id, caller_id) = (id(&server)?, id(&caller)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = Url::parse(&format!("https://{}", listener.local_addr()?))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let routes = tonic::service::Routes::new(health);
        let stopped = async { drop(stopped.await) };
        grpc::serve(listener, &server, Peers::ids([caller_id]), routes, stopped).await
    });
    let channel = caller.channel(&url, Peers::ids([server_id])).await?;
    let failed = Arc::new(AtomicU64::new(0));
    let one = || Caller { client: HealthClient::new(channel.clone()), failed: Arc::clone(&failed) };
    let mut callers: Vec<_> = std::iter::repeat_with(one).take(IN_FLIGHT).collect();
    say(&format!("{REQUESTS} requests between two services"));
    let run = load::run(&mut callers, Until::Made(REQUESTS), &[]).await?;
    let failed = failed.load(Ordering::Relaxed) as f64;
    report.add(
        Measured::of_runs("rotation_failed_requests", "requests", &[run], |_| failed)
            .target(Target::Exactly(0.0))
            .reference("certificates replaced meanwhile", changed.load(Ordering::Relaxed) as f64, ""),
    );
    drop(callers);
    // The server is gone where nobody listens any more.
    let _ = stop.send(());
    Ok(serving.await??)
}

pub(super) fn id(identity: &X509Identity) -> Result<SpiffeId> {
    let svid = identity.svid().ok_or_else(|| Failed::new("a service without a certificate"))?;
    Ok(svid.id.clone())
}

async fn count(mut events: Receiver<Event>, changed: Arc<AtomicU64>) {
    while let Ok(event) = events.recv().await {
        if let Event::Renewed(_) = event {
            changed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A caller of the other service; a failure is counted and ends nothing.
struct Caller {
    client: HealthClient<RotatingChannel>,
    failed: Arc<AtomicU64>,
}

impl Step for Caller {
    async fn step(&mut self) -> Result<()> {
        let answer = self.client.check(HealthCheckRequest { service: String::new() }).await;
        if let Err(status) = answer {
            say(&format!("a request failed: {status}"));
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn rest(&mut self) {
        sleep(PAUSE).await;
    }
}
