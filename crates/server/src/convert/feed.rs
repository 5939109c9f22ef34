//! The feed's messages: what followers say and are told.

use mayfly_broker::{CanaryCounts, CanarySeen, FollowStart, Ping, Told};
use mayfly_domain::feed::{Epoch, Event, Position};
use mayfly_domain::{Generation, GenerationId, Intent, Invalid, LeaseId, Refusal, Scope};
use mayfly_lease::feed::UsedItem;
use mayfly_proto::v1;
use mayfly_proto::v1::follow_request::What as Wire;
use mayfly_proto::v1::follow_response::What;

use crate::bundle;

/// The most uses, and canaries, that one ping reports.
const USES_MAX: usize = 256;
const CANARIES_MAX: usize = 16;

/// Something that was used, as a follower reports it.
#[derive(Debug, Clone)]
pub struct Used {
    /// The lease whose credential was shown.
    pub lease: LeaseId,
    /// What.
    pub item: UsedItem,
    /// How often.
    pub uses: u64,
}

/// What a follower says after its first message.
#[derive(Debug)]
pub enum Said {
    /// It lives.
    Ping(Ping, Vec<Used>),
    /// It accepts nothing any more.
    Bye,
}

fn wrong(what: &'static str, problem: &'static str) -> Refusal {
    Invalid::new(what, "", problem).into()
}

/// Reads the first message.
///
/// # Errors
/// `INPUT_INVALID`.
pub fn start(wire: v1::FollowRequest) -> Result<FollowStart, Refusal> {
    let Some(Wire::Start(start)) = wire.what else {
        return Err(wrong("message", "the first must be a start"));
    };
    let follower = start.follower.try_into().map_err(|_| wrong("follower", "must be 16 random octets"))?;
    Ok(FollowStart {
        follower,
        bound_ms: (start.bound_ms != 0).then_some(start.bound_ms),
        resume: start.resume.map(position).transpose()?,
        policies: start.policies,
    })
}

/// Reads a later message.
///
/// # Errors
/// `INPUT_INVALID`.
pub fn said(wire: v1::FollowRequest) -> Result<Said, Refusal> {
    let ping = match wire.what {
        Some(Wire::Ping(ping)) => ping,
        Some(Wire::Bye(v1::FollowBye {})) => return Ok(Said::Bye),
        Some(Wire::Start(_)) | None => return Err(wrong("message", "must be a ping, or a good-bye")),
    };
    if ping.usage.len() > USES_MAX || ping.canaries.len() > CANARIES_MAX {
        return Err(wrong("ping", "must report at most 256 uses and 16 canaries"));
    }
    let uses = ping.usage.into_iter().map(used).collect::<Result<_, _>>()?;
    let seen = |seen: v1::CanarySeen| {
        Ok(CanarySeen { lease: LeaseId::parse(&seen.lease)?, refused_us_ago: seen.refused_us_ago })
    };
    let canaries = ping.canaries.into_iter().map(seen).collect::<Result<_, Refusal>>()?;
    Ok(Said::Ping(Ping { id: ping.id, applied: ping.applied, canaries }, uses))
}

/// Reads a use.
///
/// # Errors
/// `INPUT_INVALID`.
pub fn used(wire: v1::Usage) -> Result<Used, Refusal> {
    let item = match (wire.scope.as_str(), wire.intent.as_str()) {
        (scope, "") => UsedItem::Scope(Scope::parse(scope)?),
        ("", intent) => UsedItem::Intent(Intent::parse(intent)?),
        _ => return Err(wrong("usage", "must be of a scope or of an intent")),
    };
    Ok(Used { lease: LeaseId::parse(&wire.lease)?, item, uses: wire.uses })
}

fn position(wire: v1::FeedPosition) -> Result<Position, Refusal> {
    let id = wire.generation_id.try_into().map_err(|_| wrong("generation id", "must be 8 octets"))?;
    let epoch = wire.epoch.try_into().map_err(|_| wrong("epoch", "must be 16 octets"))?;
    Ok(Position {
        generation: Generation { number: wire.generation, id: GenerationId(id) },
        epoch: Epoch(epoch),
        number: wire.number,
    })
}

fn place(position: &Position) -> v1::FeedPosition {
    v1::FeedPosition {
        generation: position.generation.number,
        generation_id: position.generation.id.0.to_vec(),
        epoch: position.epoch.0.to_vec(),
        number: position.number,
    }
}

/// What a follower is told, but for what only the broker's settings know of its acceptance.
pub fn told(told: Told, accepted: impl FnOnce() -> v1::FollowAccepted) -> v1::FollowResponse {
    let encoded = |events: &[Event]| events.iter().map(Event::encode).collect();
    let what = match told {
        Told::Accepted { bound_ms, ping_ms, resumed } => {
            What::Accepted(v1::FollowAccepted { bound_ms, ping_ms, resumed, ..accepted() })
        }
        Told::Keys(keys) => What::Keys(bundle::wire(&keys)),
        Told::Policies(policies) => What::Policies(v1::RequestPolicies {
            revision: policies.revision,
            schema: policies.schema,
            policies: policies.policies,
        }),
        Told::SnapshotBegin { at, entries, over } => {
            let position = Some(place(&at));
            What::SnapshotBegin(v1::SnapshotBegin { position, entries, over_ms: over.0 })
        }
        Told::SnapshotPart(events) => What::SnapshotPart(v1::SnapshotPart { events: encoded(&events) }),
        Told::SnapshotEnd(at) => What::SnapshotEnd(v1::SnapshotEnd { position: Some(place(&at)) }),
        Told::Events(first, events) => {
            What::Events(v1::FeedEvents { first: Some(place(&first)), events: encoded(&events) })
        }
        Told::Pong(id, at) => What::Pong(v1::FollowPong { id, position: Some(place(&at)) }),
        Told::Canary(canary) => What::Canary(v1::Canary {
            lease: canary.lease.to_string(),
            observation: canary.observation.clone(),
        }),
    };
    v1::FollowResponse { what: Some(what) }
}

/// What canaries have shown.
pub fn canaries(counts: &CanaryCounts) -> v1::Canaries {
    v1::Canaries {
        measured: counts.measured,
        online_p50_us: counts.online_p50_us,
        online_p99_us: counts.online_p99_us,
        feed_p50_us: counts.feed_p50_us,
        feed_p99_us: counts.feed_p99_us,
        accepted_after: counts.accepted_after,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(change: impl FnOnce(&mut v1::FollowStart)) -> Result<FollowStart, Refusal> {
        let at = Position { number: 7, ..Position::default() };
        let mut it =
            v1::FollowStart { follower: vec![1; 16], bound_ms: 0, resume: Some(place(&at)), policies: false };
        change(&mut it);
        start(v1::FollowRequest { what: Some(Wire::Start(it)) })
    }

    #[test]
    fn a_start_is_read_whole_or_refused() {
        let read = begin(|_| ()).unwrap();
        assert_eq!((read.bound_ms, read.resume.map(|at| at.number)), (None, Some(7)));
        assert!(begin(|s| s.follower.truncate(15)).is_err());
        assert!(begin(|s| s.resume.as_mut().unwrap().epoch.push(0)).is_err());
        assert!(begin(|s| s.resume.as_mut().unwrap().generation_id.clear()).is_err());
        assert!(start(v1::FollowRequest { what: Some(Wire::Bye(v1::FollowBye {})) }).is_err());
    }

    #[test]
    fn a_ping_reports_a_bounded_number_of_well_formed_uses() {
        let usage = v1::Usage {
            lease: "01a2124e-6b1b-7470-a138-3522c00036f8".into(),
            scope: "deploy:write".into(),
            intent: String::new(),
            uses: 3,
        };
        let ping = |usage: Vec<v1::Usage>, seen: Vec<v1::CanarySeen>| {
            let ping = v1::FollowPing { id: 1, applied: 2, usage, canaries: seen };
            said(v1::FollowRequest { what: Some(Wire::Ping(ping)) })
        };
        assert!(
            matches!(ping(vec![usage.clone(); USES_MAX], vec![]), Ok(Said::Ping(_, uses)) if uses.len() == 256)
        );
        assert!(ping(vec![usage.clone(); USES_MAX + 1], vec![]).is_err());
        for bad in [
            v1::Usage { intent: "deploy:payments".into(), ..usage.clone() },
            v1::Usage { scope: String::new(), ..usage.clone() },
            v1::Usage { lease: String::new(), ..usage.clone() },
            v1::Usage { lease: "no lease".into(), ..usage },
        ] {
            assert!(ping(vec![bad], vec![]).is_err());
        }
        let seen = v1::CanarySeen { lease: "nothing".into(), refused_us_ago: 0 };
        assert!(ping(vec![], vec![seen]).is_err());
    }
}
