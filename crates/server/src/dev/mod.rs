//! `mayfly dev`: a whole broker on this machine's loopback, with the example configuration and a stand-in CI
//! issuer. For trying Mayfly and for tests; never for serving others.

mod home;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mayfly_attestors::keys::StaticKeys;
use mayfly_broker::{Broker, Call, RequestId, StaffKind, StaffRequest};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{AcceptorName, KeyAlg, OperatorName, Reason, Refusal, TrustDomain, defaults};
use mayfly_mint::MemorySigner;
use mayfly_standin::{GITHUB_ISSUER, GITLAB_ISSUER, JobTokens, StandIn};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use home::{Home, configuration};

use crate::compose::IssuerKeys;
use crate::config;
use crate::run::{Bound, Listeners};

/// The port that is taken where it is free.
pub const PORT: u16 = 8443;
/// The operator and the acceptors that get certificates, as the example configuration names them.
const OPERATOR: &str = "alice";
const ACCEPTORS: [&str; 2] = ["deploy-api", "ledger-api"];

/// How a development broker is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it keeps everything.
    pub dir: PathBuf,
    /// Take a free port even where [`PORT`] is free. A directory's broker comes back at its own port where that
    /// is still free: its tokens and contexts name it.
    pub any_port: bool,
}

/// What a development broker tells the person who started it.
#[derive(Debug, Clone)]
pub struct Told {
    /// The broker's URL.
    pub url: String,
    /// Where metrics and health are.
    pub metrics: SocketAddr,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The CA certificates that a client pins.
    pub ca: PathBuf,
    /// The operator's certificate and key.
    pub operator: (PathBuf, PathBuf),
    /// The acceptors' names with their certificates and keys.
    pub acceptors: Vec<(String, PathBuf, PathBuf)>,
    /// What `ACTIONS_ID_TOKEN_REQUEST_URL` is set to in a stand-in job.
    pub token_url: String,
    /// The configuration that it runs with.
    pub config: PathBuf,
}

/// A development broker, bound and with its certificates written.
pub struct Dev {
    bound: Bound,
    told: Told,
    home: Home,
    clock: SharedClock,
    ci: TcpListener,
}

impl Dev {
    /// Prepares the directory, initialises the store the first time, binds, and writes the certificates.
    ///
    /// # Errors
    /// A refusal that says what is in the way.
    pub async fn new(options: &Options, clock: SharedClock) -> Result<Self, Refusal> {
        let home = Home::open(&options.dir)?;
        let listeners = listeners(home.port().or((!options.any_port).then_some(PORT))).await?;
        let ci = local(0).await?;
        let url = format!("https://127.0.0.1:{}", address(&listeners.grpc)?.port());
        let file = home.write_config(&url)?;
        let loaded = config::load(&file, std::iter::empty()).map_err(|e| e.refusal())?;
        home.initialise(&loaded.settings, &clock).await?;
        let issuer = StandIn::new(&home.ci_key()?).map_err(internal)?;
        let jwks = issuer.jwks().to_string();
        let keys = StaticKeys::new([(GITHUB_ISSUER, jwks.as_bytes()), (GITLAB_ISSUER, jwks.as_bytes())])
            .map_err(internal)?;
        let trust_domain = loaded.settings.trust_domain.clone();
        let bound = Bound::with_listeners(
            loaded,
            IssuerKeys::Given(keys),
            clock.clone(),
            Some(file.clone()),
            listeners,
        )
        .await?;
        bound.broker().look().await;
        let told = Told {
            metrics: bound.plain_address()?,
            trust_domain,
            ca: home.write("ca.pem", bound.broker().keys().ca_pem())?,
            operator: issue_or_keep(bound.broker(), &home, "operator", OPERATOR).await?,
            acceptors: {
                let mut all = Vec::with_capacity(ACCEPTORS.len());
                for name in ACCEPTORS {
                    let (certificate, key) = issue_or_keep(bound.broker(), &home, "acceptor", name).await?;
                    all.push((name.to_owned(), certificate, key));
                }
                all
            },
            token_url: format!("http://{}/token?api-version=2.0", address(&ci)?),
            config: file,
            url,
        };
        home.write("token-url", told.token_url.as_bytes())?;
        Ok(Self { bound, told, home, clock, ci })
    }

    /// What it serves where.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// The broker, bound and not running yet.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Serves until `shutdown` is done; renews the certificates that it wrote.
    ///
    /// # Errors
    /// As [`Bound::run`].
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Refusal> {
        let Self { bound, home, clock, ci, .. } = self;
        let stop = CancellationToken::new();
        let key = home.ci_key()?;
        let issuer = StandIn::new(&key).map_err(internal)?;
        let router = mayfly_standin::router(Arc::new(issuer), JobTokens::new(&key), clock);
        let ended = stop.clone().cancelled_owned();
        let ci = tokio::spawn(async move { axum::serve(ci, router).with_graceful_shutdown(ended).await });
        let renewals = tokio::spawn(renew(bound.broker().clone(), home));
        let outcome = bound.run(shutdown).await;
        renewals.abort();
        stop.cancel();
        if let Ok(Err(e)) = ci.await {
            tracing::warn!(error = %e, "the stand-in issuer failed");
        }
        outcome
    }
}

async fn renew(broker: Arc<Broker>, home: Home) {
    loop {
        tokio::time::sleep(Duration::from_millis(defaults::OPERATOR_TTL.as_millis() / 2)).await;
        let all = std::iter::once(("operator", OPERATOR)).chain(ACCEPTORS.map(|a| ("acceptor", a)));
        for (kind, name) in all {
            if let Err(e) = issue(&broker, &home, kind, name).await {
                tracing::warn!(error = %e, kind, name, "a certificate could not be renewed");
            }
        }
    }
}

/// A block on the owner of somebody's certificate keeps nobody from trying what a block does: what was issued
/// before stays in its file, and is worth what its lease is.
async fn issue_or_keep(
    broker: &Broker,
    home: &Home,
    kind: &str,
    name: &str,
) -> Result<(PathBuf, PathBuf), Refusal> {
    match (issue(broker, home, kind, name).await, home.certificate(kind, name)) {
        (Err(e), Some(kept)) if e.reason == Reason::Blocked => {
            tracing::warn!(kind, name, error = %e, "no new certificate; the one of the last start is kept");
            Ok(kept)
        }
        (outcome, _) => outcome,
    }
}

async fn issue(broker: &Broker, home: &Home, kind: &str, name: &str) -> Result<(PathBuf, PathBuf), Refusal> {
    let staff = match kind {
        "operator" => StaffKind::Operator(OperatorName::parse(name)?),
        _ => StaffKind::Acceptor(AcceptorName::parse(name)?),
    };
    let key = MemorySigner::generate_pkcs8(KeyAlg::P256).map_err(internal)?;
    let pair = rcgen::KeyPair::try_from(key.expose().as_slice()).map_err(internal)?;
    let spki = rcgen::PublicKeyData::subject_public_key_info(&pair);
    let call = Call { request: RequestId::new(broker.clock().now()), peer: None };
    let issued = broker.issue_staff(&call, &StaffRequest { kind: staff, spki, ttl: None }).await?;
    let key_file =
        home.write(Path::new(kind).join(format!("{name}.key")), pair.serialize_pem().as_bytes())?;
    let certificate =
        home.write(Path::new(kind).join(format!("{name}.crt")), issued.certificate_pem.as_bytes())?;
    Ok((certificate, key_file))
}

async fn listeners(wanted: Option<u16>) -> Result<Listeners, Refusal> {
    let grpc = match local(wanted.unwrap_or_default()).await {
        Ok(listener) => listener,
        Err(_) => local(0).await?,
    };
    Ok(Listeners { grpc, plain: local(0).await? })
}

async fn local(port: u16) -> Result<TcpListener, Refusal> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| {
        let what = format!("127.0.0.1:{port} can't be listened on: {e}");
        Refusal::new(Reason::ConfigInvalid, what.clone()).fact("problem", what)
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Refusal> {
    listener.local_addr().map_err(internal)
}

fn internal(e: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::Internal, e.to_string())
}
