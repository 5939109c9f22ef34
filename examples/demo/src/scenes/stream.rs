//! A gRPC stream between two services: the one that serves it decides by itself, and it ends with the lease of the one that
//! opened it.

use mayfly_client::identity::Options;
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Env, Peers, RotatingChannel, Source, X509Identity};
use mayfly_domain::{Clock as _, SpiffeId, SystemClock, UnixMillis};
use mayfly_verify::{Server, Verifier};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{PATIENCE, services};
use crate::cast::Cast;
use crate::program::acknowledged;
use crate::stage::{Stage, Wrong};

/// A service with a certificate of its own, as the ledger or as its caller.
async fn service(cast: &Cast, name: &str, owner: &str) -> Result<X509Identity, Wrong> {
    let wrong = |e: &dyn std::fmt::Display| Wrong::of(&format!("{name}'s certificate"), e);
    let join = services::join(cast, name, owner).await?;
    let env = Env::of([("MAYFLY_JOIN_TOKEN_FILE", join.display().to_string())]);
    let source = Source::discover(None, &env).map_err(|e| wrong(&e))?;
    let ask = CertificateAsk::new("ledger-mtls".parse().map_err(|e| wrong(&e))?);
    X509Identity::start(&cast.anyone()?, source, Options::new(ask)).await.map_err(|e| wrong(&e))
}

fn only(name: &str) -> Result<Peers, Wrong> {
    let id = SpiffeId::parse(&format!("spiffe://acme.internal/svc/{name}"));
    Ok(Peers::ids([id.map_err(|e| Wrong::of(name, e))?]))
}

/// A stream that is open, and what it takes.
struct Open {
    verifier: Verifier,
    serving: JoinHandle<std::io::Result<()>>,
    /// The lease of the one that calls.
    lease: String,
    stream: tonic::Streaming<HealthCheckResponse>,
    _caller: (X509Identity, RotatingChannel),
}

impl Open {
    async fn between(cast: &Cast) -> Result<Self, Wrong> {
        let (ledger, caller) =
            (service(cast, "ledger", "books").await?, service(cast, "payments", "shop").await?);
        let verifier = Verifier::builder(cast.services()?).start()?;
        timeout(PATIENCE, verifier.ready()).await.map_err(|_| Wrong::new("it is never fresh"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| Wrong::of("a port", e))?;
        let at = listener.local_addr().map_err(|e| Wrong::of("a port", e))?;
        let url = format!("https://{at}").parse().map_err(|e| Wrong::of("a port", e))?;
        let (callers, watched) = (only("payments")?, verifier.clone());
        let serving = tokio::spawn(async move {
            let (_reporter, health) = tonic_health::server::health_reporter();
            let routes = tonic::service::Routes::new(health).prepare();
            Server::new(&ledger, &watched, callers).run(listener, routes, std::future::pending()).await
        });
        let lease = caller.svid().ok_or_else(|| Wrong::new("the caller has no certificate"))?.lease;
        let channel =
            caller.channel(&url, only("ledger")?).await.map_err(|e| Wrong::of("no connection", e))?;
        let watch =
            HealthClient::new(channel.clone()).watch(HealthCheckRequest { service: String::new() }).await;
        let mut stream = watch.map_err(|e| Wrong::of("no stream", e))?.into_inner();
        stream.message().await.map_err(|e| Wrong::of("nothing comes on the stream", e))?;
        Ok(Self { verifier, serving, lease: lease.to_string(), stream, _caller: (caller, channel) })
    }

    /// Ends the service that serves it.
    async fn end(self) {
        self.serving.abort();
        self.verifier.shutdown().await;
    }
}

/// Waits until the stream is cut: when, and what its caller is told.
async fn cut(
    stream: &mut tonic::Streaming<HealthCheckResponse>,
) -> Result<(UnixMillis, tonic::Status), Wrong> {
    match timeout(PATIENCE, stream.message()).await {
        Ok(Err(status)) => Ok((SystemClock.now(), status)),
        Ok(Ok(_)) | Err(_) => Err(Wrong::new("the stream goes on, or ends as if all were well")),
    }
}

pub(super) async fn play(stage: &mut Stage, cast: &Cast) -> Result<(), Wrong> {
    let mut open = Open::between(cast).await?;
    let words = format!("lease revoke {} --reason drill", open.lease);
    stage
        .line("`mayfly lease revoke` of a service that calls", "an open gRPC stream ends with it", async {
            let (told, cut) = tokio::join!(cast.operator.json(&words), cut(&mut open.stream));
            let (acknowledged, (ended, status)) = (acknowledged(&told?)?, cut?);
            let after = ended.0.saturating_sub(acknowledged.0);
            let seen = format!("cut {after} ms after the acknowledgement; it saw {:?}: ", status.code());
            Ok(((), seen + status.message()))
        })
        .await?;
    open.end().await;
    Ok(())
}
