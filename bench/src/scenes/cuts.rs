//! How soon an open stream between two services ends after its lease was revoked, as the peer that lost it sees it.

use std::time::Duration;

use mayfly_client::{Peers, RotatingChannel, X509Identity};
use mayfly_domain::SpiffeId;
use mayfly_proto::v1 as pb;
use mayfly_verify::{Server, Verifier};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use url::Url;

use super::{Scene, services};
use crate::load::{millis, nanos, times};
use crate::measure::{Measured, Target};
use crate::outcome::say;
use crate::report::Report;
use crate::site::{ACCEPTOR, CERTIFICATES};
use crate::{Failed, Result};

/// Callers, each of which is revoked.
const CALLERS: usize = 100;
const GIVE_UP: Duration = Duration::from_secs(30);

/// A caller with a stream that is open.
struct Caller {
    identity: X509Identity,
    _channel: RotatingChannel,
    stream: tonic::Streaming<HealthCheckResponse>,
}

/// From the acknowledgement of each revocation to the end of the stream.
pub(super) async fn streams(scene: &Scene, report: &mut Report) -> Result<()> {
    let site = &scene.broker.site;
    let verifier = Verifier::builder(scene.broker.target(Some(ACCEPTOR))?).start()?;
    timeout(GIVE_UP, verifier.ready()).await?;
    let server = services::start(site, scene.jobs.service(&scene.broker, 2_000)?, CERTIFICATES).await?;
    let server_id = services::id(&server)?;
    let mut identities = Vec::with_capacity(CALLERS);
    for n in 1..=CALLERS {
        let evidence = scene.jobs.service(&scene.broker, 2_000 + n)?;
        identities.push(services::start(site, evidence, CERTIFICATES).await?);
    }
    let callers: Result<Vec<SpiffeId>> = identities.iter().map(services::id).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = Url::parse(&format!("https://{}", listener.local_addr()?))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (peers, watched) = (Peers::ids(callers?), verifier.clone());
    let serving = tokio::spawn(async move {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let routes = tonic::service::Routes::new(health).prepare();
        let stopped = async { drop(stopped.await) };
        Server::new(&server, &watched, peers).run(listener, routes, stopped).await
    });
    say(&format!("cutting {CALLERS} streams, one after the other"));
    let mut open = Vec::with_capacity(CALLERS);
    for identity in identities {
        open.push(Caller::open(identity, &url, server_id.clone()).await?);
    }
    let operator = scene.broker.operator().await?;
    let mut all = times()?;
    for caller in open {
        let lease =
            caller.identity.svid().ok_or_else(|| Failed::new("a caller without a certificate"))?.lease;
        let ended = tokio::spawn(caller.ended());
        let request = pb::RevokeRequest {
            what: Some(pb::revoke_request::What::Lease(lease.to_string())),
            reason: "measured".to_owned(),
            ..pb::RevokeRequest::default()
        };
        operator.revoke(request).await?;
        let acknowledged = Instant::now();
        let cut = timeout(GIVE_UP, ended).await???;
        all.saturating_record(nanos(cut.saturating_duration_since(acknowledged)));
    }
    let _ = stop.send(());
    serving.await??;
    let measured = Measured::of("connection_cut_p99_ms", "ms", &[millis(&all, 0.99)]);
    report.add(measured.times(&all).target(Target::AtMost(20.0)).reference(
        "streams cut",
        CALLERS as f64,
        "",
    ));
    Ok(())
}

impl Caller {
    async fn open(identity: X509Identity, url: &Url, server: SpiffeId) -> Result<Self> {
        let channel = identity.channel(url, Peers::ids([server])).await?;
        let request = HealthCheckRequest { service: String::new() };
        let mut stream = HealthClient::new(channel.clone()).watch(request).await?.into_inner();
        stream.message().await?;
        Ok(Self { identity, _channel: channel, stream })
    }

    /// When its stream has ended.
    async fn ended(mut self) -> Result<Instant> {
        match self.stream.message().await {
            Err(_) | Ok(None) => Ok(Instant::now()),
            Ok(Some(_)) => Err(Failed::new("a status where the end was awaited")),
        }
    }
}
