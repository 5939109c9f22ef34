//! The steps in words.

use super::{Act, Feed};
use crate::order::Order;

pub(super) fn told(model: &Feed, act: &Act) -> String {
    let broker = |n: &usize| if *n == 0 { "broker A" } else { "broker B" };
    match act {
        Act::Connect(n) => format!("the follower connects to {} and is registered", broker(n)),
        Act::Cut => "the connection breaks".into(),
        Act::Deliver => "the follower takes the next message".into(),
        Act::Ping => "the follower pings".into(),
        Act::WritePing => "its broker writes the ping".into(),
        Act::Pong => "its broker answers the ping".into(),
        Act::Read(n) => format!("{} reads an event", broker(n)),
        Act::Notice(n) => format!("{} finds another server", broker(n)),
        Act::Replicate => "the replica has everything".into(),
        Act::FailOver if model.durable => "the store fails over to its replica".into(),
        Act::FailOver => "the store is lost, and a new generation begins".into(),
        Act::Other => "another revocation is written".into(),
        Act::Revoke if model.broken == Some(Order::EventBeforeAck) => {
            "the fence moves, and the revocation is acknowledged without an event".into()
        }
        Act::Revoke => "the revocation is written".into(),
        Act::Acknowledge => "the revocation is acknowledged".into(),
        Act::Late => "the event is written".into(),
        Act::Barrier => "a barrier begins at broker B".into(),
        Act::Look => "the barrier looks at the followers".into(),
        Act::Ask => "somebody asks a broker, and may reuse its answer".into(),
        Act::Tick => "time passes".into(),
    }
}
