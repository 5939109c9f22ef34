//! The parts: a real Redis, real brokers as processes, a proxy on each way between them, and people.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::RwLock;
use std::time::Duration;

use mayfly_client::{AcceptorClient, OperatorClient, Target, channel};
use mayfly_testkit::proxy::Proxy;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use tokio::sync::Mutex;
use tonic::transport::Channel;
use url::Url;

use crate::harness::{Server, Site};

/// How long an operator's call is tried at one broker.
const PATIENCE: Duration = Duration::from_secs(2);

/// A profile whose tokens are bound to no key, beside those of the end-to-end tests.
const FILES: [(&str, &str); 2] = [
    (
        "profiles/chaos.toml",
        r#"
name        = "chaos"
summary     = "tokens that are checked in numbers"
kind        = "token"
integration = "chaos"
owner       = "team:load"
intents     = ["use:load"]
review_by   = 2027-05-01
[token]
audience      = "https://load.acme.internal"
scopes        = ["load:use"]
ttl           = { default = "5m", max = "15m" }
binding       = "bearer"
bearer_reason = "a test asks about them without a proof"
acceptors     = "feed"
"#,
    ),
    (
        "policies/chaos.cedar",
        r#"
@id("chaos")
@max_ttl("15m")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:load",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource == Mayfly::Profile::"chaos"
) when { context.claimed.intent == "use:load" };
"#,
    ),
];

/// A broker with the ways to and from it.
pub(crate) struct Broker {
    pub(crate) name: &'static str,
    pub(crate) server: Mutex<Server>,
    /// From everybody but followers to it.
    pub(crate) front: Proxy,
    /// From it to Redis.
    pub(crate) store: Proxy,
}

/// The clients of one broker.
#[derive(Clone)]
struct Clients {
    operator: OperatorClient,
    acceptor: AcceptorClient,
    anyone: Channel,
}

/// A deployment whose parts can be hurt.
pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) redis: Mutex<RedisServer>,
    pub(crate) brokers: Vec<Broker>,
    clients: RwLock<Vec<Clients>>,
    files: RwLock<(PathBuf, PathBuf)>,
}

/// The address that a server told.
pub(crate) fn address(server: &Server) -> SocketAddr {
    server.address.parse().unwrap()
}

impl World {
    pub(crate) async fn start(names: &[&'static str]) -> Self {
        let redis = RedisServer::start(RedisOptions { own_clock: true, ..RedisOptions::default() });
        let mut site = Site::on(&redis);
        site.log = "warn";
        site.serve_ci().await;
        let mut brokers = Vec::new();
        for name in names.iter().copied() {
            let store = Proxy::start(SocketAddr::from(([127, 0, 0, 1], redis.port()))).await;
            let file = site.configure(name);
            for (path, text) in FILES {
                fs::write(file.with_file_name(path), text).unwrap();
            }
            let own = format!("redis://{}", store.address());
            fs::write(&file, fs::read_to_string(&file).unwrap().replace(&redis.url(), &own)).unwrap();
            let server = site.spawn(name).await;
            let front = Proxy::start(address(&server)).await;
            brokers.push(Broker { name, server: Mutex::new(server), front, store });
        }
        let world = Self {
            site,
            redis: Mutex::new(redis),
            brokers,
            clients: RwLock::default(),
            files: RwLock::default(),
        };
        world.issue().await.unwrap();
        world
    }

    /// Starts a broker that was killed; its clients find it at the same address.
    pub(crate) async fn spawn_again(&self, at: usize) {
        let broker = &self.brokers[at];
        let server = self.site.spawn(broker.name).await;
        broker.front.to(address(&server));
        *broker.server.lock().await = server;
    }

    /// Issues certificates to people and acceptors: at the beginning, and when a new generation has ended all others.
    pub(crate) async fn issue(&self) -> Result<(), String> {
        let server = self.brokers[0].server.lock().await;
        let issue = |kind: &str, name: &str| server.try_certify(kind, name);
        let (operator, acceptor) = tokio::task::block_in_place(|| {
            Ok::<_, String>((issue("operator", "alice")?, issue("acceptor", "load-api")?))
        })?;
        drop(server);
        let mut clients = Vec::new();
        for broker in 0..self.brokers.len() {
            let no = |e: mayfly_client::Failure| e.code.into_owned();
            let with = |files: &(PathBuf, PathBuf)| self.target(broker, Some(files.clone()));
            let client = OperatorClient::connect(&with(&operator.files).await).await.map_err(no)?;
            clients.push(Clients {
                operator: client.patience(PATIENCE),
                acceptor: AcceptorClient::connect(&with(&acceptor.files).await).await.map_err(no)?,
                anyone: channel::connect(&self.target(broker, None).await).await.map_err(no)?,
            });
        }
        *self.clients.write().unwrap() = clients;
        *self.files.write().unwrap() = acceptor.files;
        Ok(())
    }

    /// How a broker is reached through its proxy.
    pub(crate) async fn target(&self, broker: usize, identity: Option<(PathBuf, PathBuf)>) -> Target {
        // The pinned CA is the same everywhere; the first broker's directory has it.
        let mut target = self.brokers[0].server.lock().await.target(identity);
        target.url = Url::parse(&format!("https://{}", self.brokers[broker].front.address())).unwrap();
        target
    }

    pub(crate) fn operator(&self, broker: usize) -> OperatorClient {
        self.clients.read().unwrap()[broker].operator.clone()
    }

    /// The files of the acceptor's certificate and key; they are written again when it gets another one.
    pub(crate) fn acceptor_files(&self) -> (PathBuf, PathBuf) {
        self.files.read().unwrap().clone()
    }

    /// The file of the pinned CA.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.site.path(self.brokers[0].name).join("ca.pem")
    }

    pub(crate) fn acceptor(&self, broker: usize) -> AcceptorClient {
        self.clients.read().unwrap()[broker].acceptor.clone()
    }

    pub(crate) fn anyone(&self, broker: usize) -> Channel {
        self.clients.read().unwrap()[broker].anyone.clone()
    }
}
