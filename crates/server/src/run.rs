//! A broker that serves: listeners, workers, reloads, until it is told to end.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_broker::{Broker, Standing};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal, SignerId, UnixMillis, defaults};
use mayfly_mint::{KeyRing, ServerName, x509};
use mayfly_proto::v1::acceptor_service_server::AcceptorServiceServer;
use mayfly_proto::v1::operator_service_server::OperatorServiceServer;
use mayfly_proto::v1::workload_service_server::WorkloadServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::server::NamedService;
use tonic::service::Routes;

use crate::bundle;
use crate::compose::{Composed, IssuerKeys, compose};
use crate::config::{self, Loaded};
use crate::http::App;
use crate::listen::serve;
use crate::local;
use crate::published::{Documents, Published};
use crate::reload::Reloader;
use crate::services::{Acceptors, Operators, Workloads};
use crate::telemetry::{Metrics, MetricsMeter, Readiness, serve_plain};
use crate::tls::{Clients, Tls};

/// How often the broker looks whether its certificate wants replacing.
const UPKEEP: Duration = Duration::from_millis(500);

/// The bound sockets of a server.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC and HTTPS.
    pub grpc: TcpListener,
    /// Metrics and health in plain HTTP.
    pub plain: TcpListener,
}

impl Listeners {
    /// Binds what the configuration names.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the address.
    pub async fn bind(server: &config::Server) -> Result<Self, Refusal> {
        Ok(Self { grpc: bind(server.listen).await?, plain: bind(server.metrics_listen).await? })
    }
}

/// A server that is bound but not running yet.
pub struct Bound {
    composed: Composed,
    keys: IssuerKeys,
    clock: SharedClock,
    metrics: Metrics,
    listeners: Listeners,
    config_file: Option<PathBuf>,
}

impl Bound {
    /// Wires a broker from `loaded` and binds its listeners. `config_file`: what a reload reads again.
    ///
    /// # Errors
    /// A refusal that says what is missing or in use.
    pub async fn new(
        loaded: Loaded,
        keys: IssuerKeys,
        clock: SharedClock,
        config_file: Option<PathBuf>,
    ) -> Result<Self, Refusal> {
        let listeners = Listeners::bind(&loaded.settings.server).await?;
        Self::with_listeners(loaded, keys, clock, config_file, listeners).await
    }

    /// As [`Bound::new`], on sockets that are bound already.
    ///
    /// # Errors
    /// A refusal that says what is missing.
    pub async fn with_listeners(
        loaded: Loaded,
        keys: IssuerKeys,
        clock: SharedClock,
        config_file: Option<PathBuf>,
        listeners: Listeners,
    ) -> Result<Self, Refusal> {
        let metrics = Metrics::default();
        let meter = Arc::new(MetricsMeter::new(&metrics));
        let composed = compose(loaded, &keys, meter, &clock).await?;
        Ok(Self { composed, keys, clock, metrics, listeners, config_file })
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<Broker> {
        &self.composed.broker
    }

    /// Where gRPC and HTTPS are served.
    ///
    /// # Errors
    /// `INTERNAL` where the system does not tell.
    pub fn address(&self) -> Result<SocketAddr, Refusal> {
        self.listeners.grpc.local_addr().map_err(|e| Refusal::new(Reason::Internal, e.to_string()))
    }

    /// Where metrics and health are served in plain HTTP.
    ///
    /// # Errors
    /// `INTERNAL` where the system does not tell.
    pub fn plain_address(&self) -> Result<SocketAddr, Refusal> {
        self.listeners.plain.local_addr().map_err(|e| Refusal::new(Reason::Internal, e.to_string()))
    }

    /// The settings.
    pub fn settings(&self) -> &config::Settings {
        &self.composed.settings
    }

    /// What reloads rules, profiles, policies, operators and acceptors; all or nothing.
    pub fn reloader(&self) -> Reloader {
        Reloader::new(
            self.composed.broker.clone(),
            self.composed.attestor.clone(),
            self.clock.clone(),
            self.config_file.clone(),
        )
    }

    /// Serves until `shutdown` is done, then drains.
    ///
    /// # Errors
    /// A refusal where the broker's certificate or local socket can't be made.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Refusal> {
        let Self { composed: Composed { broker, settings, .. }, keys, clock, metrics, listeners, .. } = self;
        let Listeners { grpc: listener, plain } = listeners;
        let names = names(&settings);
        let identity = Identity::new(&broker.keys(), &settings, &names, clock.now())?;
        let (ends, signer) = (identity.ends, identity.signer);
        let trusting = broker.clone();
        let clients = Clients::new(clock.clone(), move || trusting.keys().verifier().clone());
        let tls = Arc::new(
            Tls::new(clock.clone(), identity.chain, identity.key, clients)
                .map_err(|e| Refusal::new(Reason::Internal, e.to_string()))?,
        );
        let (keeper, feed) = (broker.clone(), broker.feed().clone());
        let documents = move || {
            let ring = keeper.keys();
            Documents {
                jwks: Bytes::copy_from_slice(ring.jwks()),
                ca_pem: Bytes::copy_from_slice(ring.ca_pem()),
                bundle: bundle::spiffe(ring.bundle()).into(),
            }
        };
        let published = Published::new(documents, move || feed.fresh());
        let app = App::new(
            routes(&broker)?,
            published.router(),
            &settings.limits,
            settings.server.call_timeout,
            metrics.clone(),
            clock.clone(),
        );
        broker.look().await;

        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (ready, readiness) = watch::channel(Readiness::Not(Reason::NotServing));
        tasks.spawn(broker.clone().work(stop.clone().cancelled_owned()));
        tasks.spawn(tell_readiness(broker.standing(), ready, stop.clone()));
        tasks.spawn(serve_plain(plain, metrics, readiness, stop.clone().cancelled_owned()));
        let local = local::listen(&settings.state_dir, broker.clone(), stop.clone())?;
        tasks.spawn(local);
        let upkeep = Upkeep { broker: broker.clone(), settings: settings.clone(), names, tls: tls.clone() };
        tasks.spawn(upkeep.run((ends, signer), clock, stop.clone()));
        if let IssuerKeys::Https(source) = keys {
            let stop = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = source.keep_fresh() => {}
                    () = stop.cancelled() => {}
                }
            });
        }

        serve(listener, tls, app, &settings.server, &settings.limits, async {
            shutdown.await;
            broker.drain();
        })
        .await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        broker.audit().close().await;
        Ok(())
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Refusal> {
    TcpListener::bind(address).await.map_err(|e| {
        let what = format!("{address} can't be listened on: {e}");
        Refusal::new(Reason::ConfigInvalid, what.clone()).fact("problem", what)
    })
}

/// The longest request for a description, in octets: a name.
const REFLECTION_OCTETS_MAX: usize = 4 * 1024;

fn routes(broker: &Arc<Broker>) -> Result<Routes, Refusal> {
    let internal = |e: tonic_reflection::server::Error| Refusal::new(Reason::Internal, e.to_string());
    let max = defaults::MESSAGE_OCTETS_MAX;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mayfly_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // What is served here; the local socket's service is in the same descriptors.
        .with_service_name(<WorkloadServiceServer<Workloads> as NamedService>::NAME)
        .with_service_name(<AcceptorServiceServer<Acceptors> as NamedService>::NAME)
        .with_service_name(<OperatorServiceServer<Operators> as NamedService>::NAME)
        .with_service_name("grpc.health.v1.Health")
        .build_v1()
        .map_err(internal)?
        // Its requests are a stream, which nothing before it bounds.
        .max_decoding_message_size(REFLECTION_OCTETS_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut standing = broker.standing();
    tokio::spawn(async move {
        loop {
            let serving = *standing.borrow_and_update() == Standing::Serving;
            let status = if serving {
                tonic_health::ServingStatus::Serving
            } else {
                tonic_health::ServingStatus::NotServing
            };
            reporter.set_service_status("", status).await;
            if standing.changed().await.is_err() {
                return;
            }
        }
    });
    let mut routes = Routes::builder();
    routes
        .add_service(
            WorkloadServiceServer::new(Workloads::new(broker.clone())).max_decoding_message_size(max),
        )
        .add_service(AcceptorServiceServer::new(Acceptors(broker.clone())).max_decoding_message_size(max))
        .add_service(
            OperatorServiceServer::new(Operators::new(broker.clone())).max_decoding_message_size(max),
        )
        .add_service(health)
        .add_service(reflection);
    Ok(routes.routes())
}

async fn tell_readiness(
    mut standing: watch::Receiver<Standing>,
    ready: watch::Sender<Readiness>,
    stop: CancellationToken,
) {
    loop {
        let now = match standing.borrow_and_update().refusal() {
            None => Readiness::Serving,
            Some(refusal) => Readiness::Not(refusal.reason),
        };
        ready.send_replace(now);
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// The names under which the broker is reached: the public URL's host, the listener's address, and the
/// loopback names where it listens there.
fn names(settings: &config::Settings) -> Vec<ServerName> {
    let host = settings.public_url.strip_prefix("https://").unwrap_or(&settings.public_url);
    let host = host.split('/').next().unwrap_or_default();
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(h, _)| h);
    let mut names = vec![ServerName::parse(host.trim_start_matches('[').trim_end_matches(']'))];
    let address = settings.server.listen.ip();
    if !address.is_unspecified() {
        names.push(ServerName::Ip(address));
    }
    for local in ["localhost", "127.0.0.1"] {
        names.push(ServerName::parse(local));
    }
    let mut unique: Vec<ServerName> = Vec::with_capacity(names.len());
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

struct Identity {
    chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    key: rustls_pki_types::PrivateKeyDer<'static>,
    ends: UnixMillis,
    signer: SignerId,
}

impl Identity {
    fn new(
        ring: &KeyRing,
        settings: &config::Settings,
        names: &[ServerName],
        now: UnixMillis,
    ) -> Result<Self, Refusal> {
        let id = crate::compose::broker_id(settings);
        let blocks = ring.system_authority().blocks();
        let make = || x509::broker_identity(ring, &id, names, defaults::BROKER_TTL, now);
        let made = mayfly_broker::blocking(blocks, make)?;
        Ok(Self {
            chain: made.chain,
            key: made.key,
            ends: made.expires,
            signer: ring.system_authority().id(),
        })
    }
}

/// Renews the broker's own certificate at half of its life, and at once when another authority issues.
struct Upkeep {
    broker: Arc<Broker>,
    settings: config::Settings,
    names: Vec<ServerName>,
    tls: Arc<Tls>,
}

impl Upkeep {
    async fn run(self, served: (UnixMillis, SignerId), clock: SharedClock, stop: CancellationToken) {
        let (mut ends, mut signer) = served;
        let mut changes = self.broker.key_changes();
        loop {
            let now = clock.now();
            let ring = changes.borrow_and_update().clone();
            if ends.minus(defaults::BROKER_TTL.as_millis() / 2) <= now
                || ring.system_authority().id() != signer
            {
                match self.renew(&ring, now) {
                    Ok(next) => (ends, signer) = next,
                    Err(e) => tracing::error!(error = %e, "the broker's certificate could not be renewed"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(UPKEEP) => {}
                changed = changes.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    fn renew(&self, ring: &KeyRing, now: UnixMillis) -> Result<(UnixMillis, SignerId), Refusal> {
        let identity = Identity::new(ring, &self.settings, &self.names, now)?;
        self.tls
            .replace(identity.chain, identity.key)
            .map_err(|e| Refusal::new(Reason::Internal, e.to_string()))?;
        Ok((identity.ends, identity.signer))
    }
}

/// Loads the configuration and serves until `SIGTERM` or `SIGINT`; `SIGHUP` reloads and reopens the audit
/// file. `told` is called once with what is served where.
///
/// # Errors
/// A refusal; its facts are for the person who started it.
pub async fn server(
    file: &Path,
    clock: SharedClock,
    extra_ca_pem: Option<&[u8]>,
    told: impl FnOnce(&Bound) + Send,
) -> Result<(), Refusal> {
    let loaded = config::load(file, std::env::vars()).map_err(|e| e.refusal())?;
    let source = mayfly_attestors::https::HttpsKeys::new(extra_ca_pem)
        .map_err(|e| Refusal::new(Reason::ConfigInvalid, e.to_string()).fact("problem", e.to_string()))?;
    let bound = Bound::new(loaded, IssuerKeys::Https(source), clock, Some(file.to_path_buf())).await?;
    let reloader = bound.reloader();
    told(&bound);
    let hangups = tokio::spawn(reloader.on_hangup());
    let outcome = bound.run(crate::signals::terminated()).await;
    hangups.abort();
    outcome
}
