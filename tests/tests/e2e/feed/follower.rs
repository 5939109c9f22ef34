//! A follower written against the contract alone: the stream as it is, and one that keeps what it is told.

use std::time::Duration;

use mayfly_client::{Failure, channel};
use mayfly_domain::feed::{Epoch, Event, Position};
use mayfly_domain::follow::{FenceTable, Follower};
use mayfly_domain::time::{BootClock as _, SystemBootClock};
use mayfly_domain::{Dimension, Generation, GenerationId, LeaseId, Observation, Subject};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::acceptor_service_client::AcceptorServiceClient;
use mayfly_proto::v1::follow_request::What as Say;
use mayfly_proto::v1::follow_response::What;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::harness::{Acceptor, Node};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn begin(id: u8) -> pb::FollowStart {
    pb::FollowStart { follower: vec![id.wrapping_add(1); 16], bound_ms: 0, resume: None, policies: false }
}

pub(crate) fn place(at: &Position) -> pb::FeedPosition {
    pb::FeedPosition {
        generation: at.generation.number,
        generation_id: at.generation.id.0.to_vec(),
        epoch: at.epoch.0.to_vec(),
        number: at.number,
    }
}

fn position(wire: Option<pb::FeedPosition>) -> Position {
    let wire = wire.unwrap();
    Position {
        generation: Generation {
            number: wire.generation,
            id: GenerationId(wire.generation_id.try_into().unwrap()),
        },
        epoch: Epoch(wire.epoch.try_into().unwrap()),
        number: wire.number,
    }
}

/// Why somebody may not follow.
pub(crate) fn reason<T>(outcome: Result<T, Failure>) -> String {
    outcome.err().expect("it is refused").code.into_owned()
}

/// The stream as it is.
pub(crate) struct Raw {
    say: mpsc::Sender<pb::FollowRequest>,
    hear: Streaming<pb::FollowResponse>,
    /// What was heard while it was found out whether it is refused.
    first: Option<What>,
}

impl Raw {
    pub(crate) async fn follow(
        node: &Node,
        acceptor: &Acceptor,
        start: pb::FollowStart,
    ) -> Result<Self, Failure> {
        let target = node.target(Some(acceptor.certified.files.clone()));
        Self::over(channel::connect(&target).await.unwrap(), start).await
    }

    pub(crate) async fn anonymous(node: &Node, start: pb::FollowStart) -> Result<Self, Failure> {
        let channel = channel::connect(&node.target(None)).await.unwrap();
        Self::over(channel, start).await
    }

    async fn over(channel: Channel, start: pb::FollowStart) -> Result<Self, Failure> {
        let mut client = AcceptorServiceClient::new(channel);
        let (say, said) = mpsc::channel(16);
        say.send(pb::FollowRequest { what: Some(Say::Start(start)) }).await.unwrap();
        let mut hear = client.follow(ReceiverStream::new(said)).await?.into_inner();
        let first = hear.message().await?.and_then(|told| told.what);
        Ok(Self { say, hear, first })
    }

    /// What is told next.
    pub(crate) async fn next(&mut self) -> Result<What, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let next = tokio::time::timeout(PATIENCE, self.hear.message()).await.expect("something is told");
        Ok(next?.expect("it goes on").what.unwrap())
    }

    pub(crate) async fn until_told(&mut self, wanted: impl Fn(&What) -> bool) {
        while !wanted(&self.next().await.unwrap()) {}
    }

    /// The reason with which it ends.
    pub(crate) async fn end(&mut self) -> String {
        loop {
            if let Err(failure) = self.next().await {
                return failure.code.into_owned();
            }
        }
    }

    /// Says so, where the stream has not ended.
    pub(crate) async fn say(&self, ping: pb::FollowPing) {
        let _ = self.say.send(pb::FollowRequest { what: Some(Say::Ping(ping)) }).await;
    }

    pub(crate) async fn say_start(&self, start: pb::FollowStart) {
        self.say.send(pb::FollowRequest { what: Some(Say::Start(start)) }).await.unwrap();
    }
}

/// A follower that keeps what it is told, and pings.
pub(crate) struct Bare {
    pub(crate) raw: Raw,
    pub(crate) accepted: pb::FollowAccepted,
    pub(crate) follower: Follower,
    pub(crate) table: FenceTable,
    pub(crate) keys: Option<pb::TrustBundle>,
    /// How many canaries it has refused.
    pub(crate) canaries: usize,
    canary: Option<(LeaseId, Observation)>,
    refused: Vec<pb::CanarySeen>,
    answered: bool,
}

impl Bare {
    pub(crate) async fn follow(
        node: &Node,
        acceptor: &Acceptor,
        start: pb::FollowStart,
    ) -> Result<Self, Failure> {
        Self::of(Raw::follow(node, acceptor, start).await?).await
    }

    /// On a connection that others share.
    pub(crate) async fn over(channel: Channel, start: pb::FollowStart) -> Result<Self, Failure> {
        Self::of(Raw::over(channel, start).await?).await
    }

    async fn of(mut raw: Raw) -> Result<Self, Failure> {
        let What::Accepted(accepted) = raw.next().await? else { panic!("the first is the acceptance") };
        Ok(Self {
            raw,
            follower: Follower::new(u64::from(accepted.bound_ms)),
            accepted,
            table: FenceTable::new(100_000),
            keys: None,
            canaries: 0,
            canary: None,
            refused: Vec::new(),
            answered: false,
        })
    }

    pub(crate) fn number(&self) -> u64 {
        self.follower.position().map_or(0, |at| at.number)
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.follower.is_fresh(SystemBootClock.now())
    }

    pub(crate) fn fenced(&self, dimension: &str, value: &str) -> bool {
        let dimension: Dimension = dimension.parse().unwrap();
        self.table.fence(Subject::parse(dimension, value).unwrap().key()).is_some()
    }

    /// Takes what is told until this holds.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            let told = self.raw.next().await.unwrap();
            self.take(told);
            self.ping().await;
        }
    }

    pub(crate) async fn until_answered(&mut self) {
        self.answered = false;
        self.until(|bare| bare.answered).await;
    }

    /// Takes what is told, and pings, until it may decide.
    pub(crate) async fn fresh(&mut self) {
        let fresh = async {
            while !self.is_fresh() {
                self.ping().await;
                let told = self.raw.next().await.unwrap();
                self.take(told);
            }
        };
        tokio::time::timeout(PATIENCE, fresh).await.unwrap();
    }

    /// Pings, where no ping is under way and the table is complete.
    pub(crate) async fn ping(&mut self) {
        let Some(id) = self.follower.ping(SystemBootClock.now()) else { return };
        let canaries = std::mem::take(&mut self.refused);
        let ping = pb::FollowPing { id, applied: self.number(), usage: Vec::new(), canaries };
        self.raw.say(ping).await;
    }

    /// Says that it accepts nothing any more.
    pub(crate) async fn bye(mut self) {
        let bye = pb::FollowRequest { what: Some(Say::Bye(pb::FollowBye {})) };
        self.raw.say.send(bye).await.unwrap();
        while let Some(told) = self.raw.hear.message().await.unwrap() {
            self.take(told.what.unwrap());
        }
    }

    fn take(&mut self, told: What) {
        match told {
            What::Accepted(_) => panic!("it was accepted already"),
            What::Keys(keys) => self.keys = Some(keys),
            What::Policies(_) => {}
            What::SnapshotBegin(begin) => {
                self.table.clear();
                self.follower.snapshot_begins(position(begin.position));
            }
            What::SnapshotPart(part) => {
                for event in part.events {
                    self.table.apply(&Event::decode(&event).unwrap().change).unwrap();
                }
            }
            What::SnapshotEnd(end) => {
                assert!(self.keys.is_some(), "the keys come before a snapshot ends");
                self.follower.snapshot_ends(position(end.position)).unwrap();
            }
            What::Events(events) => {
                let first = position(events.first);
                for (event, number) in events.events.iter().zip(first.number..) {
                    self.table.apply(&Event::decode(event).unwrap().change).unwrap();
                    self.follower.event(Position { number, ..first }).unwrap();
                }
                self.judge();
            }
            What::Pong(pong) => {
                self.follower.pong(pong.id, position(pong.position)).unwrap();
                self.answered = true;
            }
            What::Canary(canary) => {
                let observation = Observation::decode(&canary.observation).unwrap();
                let lease = LeaseId::parse(&canary.lease).unwrap();
                let generation = self.follower.position().unwrap().generation;
                assert_eq!(self.table.judge(generation, lease, &observation), Ok(()), "it lives");
                self.canary = Some((lease, observation));
            }
        }
    }

    fn judge(&mut self) {
        let generation = self.follower.position().unwrap().generation;
        let dead = self
            .canary
            .take_if(|(lease, observation)| self.table.judge(generation, *lease, observation).is_err());
        if let Some((lease, _)) = dead {
            self.canaries += 1;
            self.refused.push(pb::CanarySeen { lease: lease.to_string(), refused_us_ago: 0 });
        }
    }
}
