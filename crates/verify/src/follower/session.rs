//! One session with a broker, from the connection to its loss.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use mayfly_client::AcceptorClient;
use mayfly_proto::v1 as pb;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::apply::{Following, Lost};
use crate::verifier::Life;

/// Requests that wait to be sent: a ping is sent after the one before was answered.
const WAITING: usize = 4;
/// The shortest and the longest time between pings that a broker may ask for, in milliseconds.
const PING_MS: (u32, u32) = (20, 5_000);
/// The least that a broker is waited for.
const PATIENCE_MIN: Duration = Duration::from_millis(200);

/// Follows one broker until that is lost; why it was.
pub(crate) async fn follow(following: &mut Following<'_>, turn: usize) -> Lost {
    match run(following, turn).await {
        Ok(never) => match never {},
        Err(lost) => lost,
    }
}

async fn run(following: &mut Following<'_>, turn: usize) -> Result<Infallible, Lost> {
    // Half the bound: then there is time for another broker before it is over.
    let patience = Duration::from_millis(following.follower.bound_ms() / 2).max(PATIENCE_MIN);
    let late = |_| Lost::Silent;
    let channel = timeout(patience, following.shared.dial.dial(turn)).await.map_err(late)??;
    let (requests, waiting) = mpsc::channel(WAITING);
    requests.try_send(following.start()).map_err(|_| Lost::Closed)?;
    let client = AcceptorClient::over(channel);
    let opened = client.follow(ReceiverStream::new(waiting));
    let mut stream = timeout(patience, opened).await.map_err(late)??;
    let first = timeout(patience, next(&mut stream)).await.map_err(late)??;
    let Some(pb::follow_response::What::Accepted(accepted)) = first.what else {
        return Err(Lost::Malformed("not accepted first"));
    };
    following.accepted(&accepted)?;
    tracing::info!(broker = %accepted.broker.escape_debug(), resumed = accepted.resumed, "follows the feed");

    let ping = Duration::from_millis(accepted.ping_ms.clamp(PING_MS.0, PING_MS.1).into());
    let mut ticks = interval(ping);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Until when something must have come: an answer where a ping is under way, anything at all before that.
    let mut due = Instant::now() + patience;
    let mut under_way = false;
    let mut ticked = false;
    let shared = following.shared;
    let mut leaves = pin!(shared.comes_to(Life::Leaves));
    loop {
        tokio::select! {
            () = &mut leaves => return Err(leave(requests, stream).await),
            message = next(&mut stream) => {
                let message = message?;
                let is_pong = matches!(message.what, Some(pb::follow_response::What::Pong(_)));
                following.take(message)?;
                if is_pong || !under_way {
                    under_way &= !is_pong;
                    due = Instant::now() + patience.max(2 * ping);
                }
            }
            _ = ticks.tick() => {
                following.look_at_clock()?;
                following.wants_ping = true;
                ticked = true;
            }
            () = sleep_until(due) => return Err(Lost::Silent),
        }
        if let Some(request) = following.ping(ticked) {
            requests.try_send(request).map_err(|_| Lost::Silent)?;
            (under_way, ticked) = (true, false);
            due = Instant::now() + patience;
        }
    }
}

/// Tells the broker that nothing is accepted any more, and waits until it has heard it: it ends the stream then.
async fn leave(requests: mpsc::Sender<pb::FollowRequest>, mut stream: Streaming<pb::FollowResponse>) -> Lost {
    let bye = pb::FollowRequest { what: Some(pb::follow_request::What::Bye(pb::FollowBye {})) };
    if requests.send(bye).await.is_ok() {
        while next(&mut stream).await.is_ok() {}
    }
    Lost::Left
}

async fn next(stream: &mut Streaming<pb::FollowResponse>) -> Result<pb::FollowResponse, Lost> {
    match stream.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Lost::Closed),
        Err(status) => Err(Lost::Broken(status.into())),
    }
}
