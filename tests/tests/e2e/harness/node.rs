//! A broker in the test's own process, as the server runs it, on ports that the kernel gives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_attestors::keys::StaticKeys;
use mayfly_broker::Broker;
use mayfly_client::{Pin, Target};
use mayfly_domain::{Refusal, TrustDomain};
use mayfly_server::compose::{IssuerKeys, open_seal};
use mayfly_server::config::{self, Loaded};
use mayfly_server::init::initialise;
use mayfly_server::reload::Reloader;
use mayfly_server::run::Bound;
use mayfly_standin::{GITHUB_ISSUER, GITLAB_ISSUER};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::job::{Job, Spec};
use super::people::{Acceptor, Operator};
use super::site::Site;

/// A running broker.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) broker: Arc<Broker>,
    pub(crate) reloader: Reloader,
    pub(crate) metrics: SocketAddr,
    address: SocketAddr,
    trust_domain: TrustDomain,
    ca: PathBuf,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Refusal>>,
}

impl Node {
    pub(crate) async fn start(site: &Site, name: &str) -> Self {
        Self::try_start(site, name).await.unwrap()
    }

    /// As [`Site::start`], where it may be refused.
    pub(crate) async fn try_start(site: &Site, name: &str) -> Result<Self, Refusal> {
        let dir = site.path(name);
        let file = dir.join("mayfly.toml");
        let loaded = Self::initialise(site, &file).await;
        let jwks = site.issuer.jwks().to_string();
        let keys =
            StaticKeys::new([(GITHUB_ISSUER, jwks.as_bytes()), (GITLAB_ISSUER, jwks.as_bytes())]).unwrap();
        let bound = Bound::new(loaded, IssuerKeys::Given(keys), site.clock.clone(), Some(file)).await?;
        bound.broker().look().await;
        let ca = dir.join("ca.pem");
        std::fs::write(&ca, bound.broker().keys().ca_pem()).unwrap();
        let stop = CancellationToken::new();
        Ok(Self {
            name: name.to_owned(),
            dir,
            broker: bound.broker().clone(),
            reloader: bound.reloader(),
            metrics: bound.plain_address().unwrap(),
            address: bound.address().unwrap(),
            trust_domain: site.trust_domain.clone(),
            ca,
            running: tokio::spawn(bound.run(stop.clone().cancelled_owned())),
            stop,
        })
    }

    /// Loads the configuration and initialises the store where nobody did.
    pub(crate) async fn initialise(site: &Site, file: &Path) -> Loaded {
        let loaded = config::load(file, std::iter::empty()).unwrap_or_else(|e| panic!("{e:?}"));
        let seal = open_seal(&loaded.settings).unwrap();
        if !loaded.settings.state_dir.exists() {
            initialise(&loaded.settings, &seal, &site.clock).await.unwrap();
        }
        loaded
    }

    /// How this broker is reached, by whoever has `identity`.
    pub(crate) fn target(&self, identity: Option<(PathBuf, PathBuf)>) -> Target {
        Target {
            name: self.name.clone(),
            url: Url::parse(&format!("https://{}", self.address)).unwrap(),
            trust_domain: Some(self.trust_domain.clone()),
            pin: Pin::from_file(&self.ca).unwrap(),
            identity,
        }
    }

    /// An operator with a new certificate.
    pub(crate) async fn operator(&self, name: &str) -> Operator {
        Operator::new(self, name).await
    }

    /// An acceptor with a new certificate.
    pub(crate) async fn acceptor(&self, name: &str) -> Acceptor {
        Acceptor::new(self, name).await
    }

    /// A CI job with a key of its own, connected to this broker.
    pub(crate) async fn job(&self, site: &Site, spec: &Spec) -> Job {
        Job::new(site, &self.target(None), spec).await
    }

    /// The audit file's text.
    pub(crate) fn audit(&self) -> String {
        std::fs::read_to_string(self.dir.join("audit.jsonl")).unwrap()
    }

    /// What its metrics listener tells.
    pub(crate) async fn metrics(&self) -> String {
        metrics(&self.metrics.to_string()).await
    }

    /// Drains and ends it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// The metrics at an address.
pub(crate) async fn metrics(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
