//! `Follow`: one follower's stream, from its first message to its end.
//!
//! Whoever reads sets the pace: nothing is made before there is room for it. One that reads nothing for a while is let
//! go with its connection, since nothing else can end a stream that nobody reads.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::{self, Stream};
use mayfly_broker::{Broker, Follows, RequestId, Seat};
use mayfly_domain::{Invalid, Reason, Refusal};
use mayfly_proto::v1;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, Streaming};

use crate::convert::{self, Said};
use crate::listen::ConnectionHandle;
use crate::status::status;

/// How long the first message is waited for.
const START: Duration = Duration::from_secs(10);
/// How long a follower may leave what it was sent unread: as long as its bound can be at most.
const UNREAD: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(2);

type Messages = Streaming<v1::FollowRequest>;

/// The stream.
pub struct Following {
    told: Pin<Box<dyn Stream<Item = Result<v1::FollowResponse, Status>> + Send>>,
    unread: Arc<Unread>,
}

/// Since when a message waits to be read.
#[derive(Debug, Default)]
struct Unread(Mutex<Option<Instant>>);

impl Unread {
    /// Closes the connection of a follower that does not read; ends with the stream.
    async fn watch(self: Arc<Self>, connection: ConnectionHandle) {
        while Arc::strong_count(&self) > 1 {
            sleep(LOOK).await;
            if self.0.lock().is_some_and(|since| since.elapsed() > UNREAD) {
                tracing::warn!("a follower reads nothing and is let go with its connection");
                connection.close();
                return;
            }
        }
    }
}

impl Following {
    pub(super) fn new(
        broker: Arc<Broker>,
        request: RequestId,
        seat: Seat,
        messages: Messages,
        connection: Option<ConnectionHandle>,
    ) -> Self {
        let unread = Arc::new(Unread::default());
        if let Some(connection) = connection {
            tokio::spawn(unread.clone().watch(connection));
        }
        let talk = Talk { broker, messages, phase: Phase::Begins(Box::new(seat)) };
        let told = stream::unfold(talk, move |mut talk| async move {
            let next = talk.next().await?;
            Some((next.map_err(|refusal| status(&refusal, request)), talk))
        });
        Self { told: Box::pin(told), unread }
    }
}

impl Stream for Following {
    type Item = Result<v1::FollowResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Asked for more: there is room for it.
        *self.unread.0.lock() = None;
        let next = self.told.as_mut().poll_next(cx);
        if next.is_ready() {
            *self.unread.0.lock() = Some(Instant::now());
        }
        next
    }
}

enum Phase {
    Begins(Box<Seat>),
    Follows(Box<Follows>),
    Over,
}

struct Talk {
    broker: Arc<Broker>,
    messages: Messages,
    phase: Phase,
}

impl Talk {
    /// The next message; none at the end, and nothing after a refusal.
    async fn next(&mut self) -> Option<Result<v1::FollowResponse, Refusal>> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => None,
            Phase::Begins(seat) => match self.begin(*seat).await {
                Ok(follows) => self.go_on(follows).await,
                Err(refusal) => Some(Err(refusal)),
            },
            Phase::Follows(follows) => self.go_on(*follows).await,
        }
    }

    async fn begin(&mut self, seat: Seat) -> Result<Follows, Refusal> {
        let first = timeout(START, self.messages.message()).await.map_err(|_| Reason::Deadline)?;
        let first = first.map_err(|e| broken(&e))?;
        let first = first.ok_or_else(|| Invalid::new("message", "", "the first must be a start"))?;
        self.broker.follows(seat, &convert::start(first)?).await
    }

    async fn go_on(&mut self, mut follows: Follows) -> Option<Result<v1::FollowResponse, Refusal>> {
        loop {
            let told = tokio::select! {
                said = self.messages.message() => match said {
                    Ok(Some(said)) => match heard(&mut follows, said) {
                        Ok(false) => continue,
                        Ok(true) => {
                            follows.good_bye().await;
                            return None;
                        }
                        Err(refusal) => return Some(Err(refusal)),
                    },
                    // Without a good-bye: it may go on until its bound is over, and stays registered for so long.
                    Ok(None) => return None,
                    Err(e) => {
                        tracing::debug!(error = %e, "a follower's messages broke off");
                        return None;
                    }
                },
                told = follows.next() => told,
            };
            return match told {
                Ok(told) => {
                    let accepted = || self.accepted(&follows);
                    let wire = convert::told(told, accepted);
                    self.phase = Phase::Follows(Box::new(follows));
                    Some(Ok(wire))
                }
                Err(refusal) => Some(Err(refusal)),
            };
        }
    }

    fn accepted(&self, follows: &Follows) -> v1::FollowAccepted {
        let (settings, entry) = (self.broker.settings(), follows.entry());
        v1::FollowAccepted {
            broker: settings.broker_id.clone(),
            issuer: settings.issuer.clone(),
            audiences: entry.audiences.iter().map(ToString::to_string).collect(),
            certificates: entry.certificates,
            ..v1::FollowAccepted::default()
        }
    }
}

/// Takes what a follower said; whether it was its good-bye.
fn heard(follows: &mut Follows, wire: v1::FollowRequest) -> Result<bool, Refusal> {
    match convert::said(wire)? {
        Said::Bye => Ok(true),
        Said::Ping(ping, uses) => {
            follows.ping(&ping)?;
            for used in uses {
                follows.used(used.lease, used.item, used.uses);
            }
            Ok(false)
        }
    }
}

fn broken(e: &Status) -> Refusal {
    Refusal::new(Reason::InputInvalid, format!("the messages broke off: {}", e.message()))
}
