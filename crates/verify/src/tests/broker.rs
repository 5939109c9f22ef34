//! A broker that says what a test wants, over a real gRPC stream, and clocks that stand until they are moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mayfly_client::{Failure, Pin, Target};
use mayfly_credential::TokenKeys;
use mayfly_domain::feed::{Change, Epoch, Event, GateState, Position};
use mayfly_domain::{BootClock, BootTime, Clock, DimKey, Fence, LeaseId, PublicKey, Reason, UnixMillis};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::acceptor_service_server::{AcceptorService, AcceptorServiceServer};
use mayfly_proto::v1::follow_request::What as Asked;
use mayfly_proto::v1::follow_response::What;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::tokens::{AUDIENCE, ISSUER};
use super::{GENERATION, NOW};
use crate::builder::Builder;
use crate::follower::dial::{Dial, Dialling};
use crate::verifier::Verifier;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const BOUND_MS: u64 = 4_000;

/// Wall time and boot time, each moved by hand.
#[derive(Debug)]
pub(crate) struct Hands {
    wall: AtomicU64,
    boot: AtomicU64,
}

impl Hands {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { wall: AtomicU64::new(NOW.0), boot: AtomicU64::new(1 << 40) })
    }

    pub(crate) fn set_wall(&self, to: UnixMillis) {
        self.wall.store(to.0, Ordering::SeqCst);
    }

    pub(crate) fn wall_now(&self) -> UnixMillis {
        Clock::now(self)
    }

    pub(crate) fn boot_passes(&self, ms: u64) {
        self.boot.fetch_add(ms * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::SeqCst))
    }
}

impl BootClock for Hands {
    fn now(&self) -> BootTime {
        BootTime(self.boot.load(Ordering::SeqCst))
    }
}

type Answer = Result<pb::FollowResponse, Status>;

/// What a broker does with the followers that come.
pub(crate) struct Site {
    pub(crate) hands: Arc<Hands>,
    sessions: mpsc::Receiver<Session>,
    pub(crate) checks: Arc<Mutex<Vec<pb::CheckRequest>>>,
    /// Whether every check is refused.
    pub(crate) revoked: Arc<AtomicBool>,
    address: String,
}

struct Service {
    sessions: mpsc::Sender<Session>,
    checks: Arc<Mutex<Vec<pb::CheckRequest>>>,
    revoked: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl AcceptorService for Service {
    type FollowStream = ReceiverStream<Answer>;

    async fn check(
        &self,
        asked: tonic::Request<pb::CheckRequest>,
    ) -> Result<Response<pb::CheckResponse>, Status> {
        let asked = asked.into_inner();
        let revoked = self.revoked.load(Ordering::SeqCst);
        let accepted = asked.url != "https://deploy.acme.internal/refused" && !revoked;
        self.checks.lock().await.push(asked);
        Ok(Response::new(pb::CheckResponse {
            accepted,
            reason: if accepted { String::new() } else { Reason::LeaseRevoked.as_str().into() },
            lease: LeaseId::from_parts(NOW, &[9; 10]).to_string(),
            workload: super::WORKLOAD.into(),
            owners: vec!["team:payments".into()],
            scopes: vec!["a:read".into()],
            expires_ms: NOW.0 + 60_000,
            ..Default::default()
        }))
    }

    async fn follow(
        &self,
        asked: tonic::Request<Streaming<pb::FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let (out, stream) = mpsc::channel(1_024);
        let mut requests = asked.into_inner();
        let Some(pb::FollowRequest { what: Some(Asked::Start(start)) }) = requests.message().await? else {
            return Err(Status::invalid_argument("no start"));
        };
        let session = Session { start, requests, out, over: UnixMillis(0) };
        self.sessions.send(session).await.map_err(|_| Status::unavailable("gone"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[derive(Debug)]
struct Plain(String);

impl Dial for Plain {
    fn dial(&self, _: usize) -> Dialling<'_> {
        Box::pin(async {
            let endpoint = Endpoint::from_shared(self.0.clone()).unwrap();
            let channel: Result<Channel, _> = endpoint.connect().await;
            channel.map_err(|_| Failure::of(Reason::BrokerUnreachable))
        })
    }

    fn brokers(&self) -> usize {
        1
    }
}

impl Site {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, sessions) = mpsc::channel(16);
        let (checks, revoked) = (Arc::<Mutex<_>>::default(), Arc::<AtomicBool>::default());
        let service =
            Service { sessions: sender, checks: Arc::clone(&checks), revoked: Arc::clone(&revoked) };
        let server = Server::builder().add_service(AcceptorServiceServer::new(service));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { hands: Hands::new(), sessions, checks, revoked, address }
    }

    pub(crate) fn builder(&self) -> Builder {
        let target = Target {
            name: "test".into(),
            url: "https://localhost".parse().unwrap(),
            trust_domain: None,
            pin: Pin::Sha256([0; 32]),
            identity: None,
        };
        Verifier::builder(target)
            .bound(Duration::from_millis(BOUND_MS))
            .clocks(self.hands.clone(), self.hands.clone())
            .dial(Arc::new(Plain(self.address.clone())))
    }

    /// The next session that a follower begins.
    pub(crate) async fn session(&mut self) -> Session {
        soon(self.sessions.recv()).await.unwrap()
    }

    /// A verifier that is fresh, and the session that made it so.
    pub(crate) async fn fresh(&mut self, keys: &[&PublicKey]) -> (Verifier, Session) {
        self.fresh_with(|builder| builder, keys).await
    }

    pub(crate) async fn fresh_with(
        &mut self,
        with: impl FnOnce(Builder) -> Builder,
        keys: &[&PublicKey],
    ) -> (Verifier, Session) {
        let verifier = with(self.builder()).start().unwrap();
        let mut session = self.session().await;
        session.begin(keys, at(7), &[]).await;
        soon(verifier.ready()).await;
        (verifier, session)
    }
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it never came")
}

/// Waits for something that no event tells.
pub(crate) async fn until(what: impl Fn() -> bool) {
    soon(async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A place in the feed.
pub(crate) fn at(number: u64) -> Position {
    Position { generation: GENERATION, epoch: Epoch([1; 16]), number }
}

pub(crate) fn fence(key: DimKey, value: u64) -> Change {
    Change::Gate(GateState {
        key,
        fence: Fence::new(value).unwrap(),
        fence_until: NOW.plus(86_400_000),
        block_version: 0,
        blocked: false,
        block_until: None,
    })
}

pub(crate) fn mark(lease: LeaseId) -> Change {
    Change::Mark { lease, until: NOW.plus(86_400_000) }
}

fn encoded(changes: &[Change]) -> Vec<Vec<u8>> {
    let event = |change: &Change| Event { at: NOW, revocation: None, change: *change }.encode();
    changes.iter().map(event).collect()
}

/// One follower's stream, from the broker's side.
pub(crate) struct Session {
    pub(crate) start: pb::FollowStart,
    requests: Streaming<pb::FollowRequest>,
    out: mpsc::Sender<Answer>,
    /// What its snapshots may lack.
    pub(crate) over: UnixMillis,
}

impl Session {
    pub(crate) async fn say(&self, what: What) {
        // A follower that has gone does not hear it.
        let _ = self.out.send(Ok(pb::FollowResponse { what: Some(what) })).await;
    }

    pub(crate) async fn accept(&self) {
        self.accept_as(ISSUER, &[AUDIENCE, "https://other.acme.internal"]).await;
    }

    pub(crate) async fn accept_as(&self, issuer: &str, audiences: &[&str]) {
        self.say(What::Accepted(pb::FollowAccepted {
            bound_ms: u32::try_from(BOUND_MS).unwrap(),
            ping_ms: 20,
            broker: "b-1".into(),
            resumed: self.start.resume.is_some(),
            issuer: issuer.into(),
            audiences: audiences.iter().map(|&audience| audience.into()).collect(),
            certificates: true,
        }))
        .await;
    }

    pub(crate) async fn keys(&self, version: u64, keys: &[&PublicKey], anchors: &[Vec<u8>]) {
        let keys = TokenKeys::new(keys.iter().map(|key| (*key).clone()));
        self.say(What::Keys(pb::TrustBundle {
            version,
            trust_domain: "acme.internal".into(),
            workload_anchors: anchors.to_vec(),
            jwks: keys.jwks(),
            ..Default::default()
        }))
        .await;
    }

    pub(crate) async fn snapshot(&self, position: Position, changes: &[Change]) {
        let position = Some(crate::follower::apply::to_wire(position));
        let entries = changes.len() as u64;
        self.say(What::SnapshotBegin(pb::SnapshotBegin {
            position: position.clone(),
            entries,
            over_ms: self.over.0,
        }))
        .await;
        for part in encoded(changes).chunks(100) {
            self.say(What::SnapshotPart(pb::SnapshotPart { events: part.to_vec() })).await;
        }
        self.say(What::SnapshotEnd(pb::SnapshotEnd { position })).await;
    }

    pub(crate) async fn events(&self, first: Position, changes: &[Change]) {
        let first = Some(crate::follower::apply::to_wire(first));
        self.say(What::Events(pb::FeedEvents { first, events: encoded(changes) })).await;
    }

    /// The next ping; none where the follower has gone.
    pub(crate) async fn ping(&mut self) -> Option<pb::FollowPing> {
        match soon(self.requests.message()).await.ok()??.what? {
            Asked::Ping(ping) => Some(ping),
            Asked::Bye(_) => None,
            Asked::Start(_) => panic!("started twice"),
        }
    }

    pub(crate) async fn pong(&self, id: u64, position: Position) {
        let position = Some(crate::follower::apply::to_wire(position));
        self.say(What::Pong(pb::FollowPong { id, position })).await;
    }

    /// Answers pings until one says that so much was applied, and gives that one.
    pub(crate) async fn pinged(&mut self, position: Position) -> pb::FollowPing {
        loop {
            let ping = self.ping().await.expect("the follower has gone");
            self.pong(ping.id, Position { number: ping.applied, ..position }).await;
            if ping.applied >= position.number {
                return ping;
            }
        }
    }

    /// Everything up to the first answer.
    pub(crate) async fn begin(&mut self, keys: &[&PublicKey], position: Position, changes: &[Change]) {
        self.accept().await;
        self.keys(1, keys, &[]).await;
        self.snapshot(position, changes).await;
        self.pinged(position).await;
    }

    /// Refuses it, for so long.
    pub(crate) async fn refuse(&self, after: Duration) {
        let mut details = ErrorDetails::with_error_info(Reason::Overloaded.as_str(), "mayfly", []);
        details.set_retry_info(Some(after));
        let status = Status::with_error_details(Code::Unavailable, "full", details);
        let _ = self.out.send(Err(status)).await;
    }

    /// Waits until the follower says good-bye.
    pub(crate) async fn said_bye(&mut self) {
        loop {
            match soon(self.requests.message()).await.unwrap().unwrap().what.unwrap() {
                Asked::Ping(_) => {}
                Asked::Bye(_) => return,
                Asked::Start(_) => panic!("started twice"),
            }
        }
    }

    /// Waits until the follower has gone.
    pub(crate) async fn lost(&mut self) {
        while self.ping().await.is_some() {}
    }
}
