//! What a session's messages do: the rules of `domain::follow` over the table that checks read.
//!
//! An event is in the table before it counts, and counts before a ping says so. Must never let anything count that
//! is out of order.

use std::time::Duration;

use mayfly_domain::feed::{Change, Epoch, Event, Position};
use mayfly_domain::follow::{Follower, Resync};
use mayfly_domain::{BootTime, Fence, Generation, GenerationId, LeaseId, Observation, UnixMillis};
use mayfly_proto::v1 as pb;

use crate::guards::Concerned;
use crate::known::{Keys, Terms};
use crate::table::{State, Table};
use crate::verifier::Shared;

/// The longest event, in octets; an encoded one has at most 75.
const EVENT_OCTETS_MAX: usize = 256;
/// The most canaries that are watched at a time; the oldest make room.
const CANARIES_MAX: usize = 64;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// There was no connection, or it broke.
    #[error("{0}")]
    Broken(#[from] mayfly_client::Failure),
    /// The broker closed the stream.
    #[error("the broker closed the stream")]
    Closed,
    /// The broker did not say what it had to say in time.
    #[error("the broker says nothing")]
    Silent,
    /// What it said is no feed.
    #[error("what the broker says is malformed: {0}")]
    Malformed(&'static str),
    /// A new snapshot is needed.
    #[error("a new snapshot is needed: {0}")]
    Resync(#[from] Resync),
    /// It was left, with a good-bye.
    #[error("it was left")]
    Left,
    /// The wall clock was set back to before what was forgotten already.
    #[error("the wall clock was set back")]
    ClockBack,
}

impl Lost {
    /// How long the broker wants to be left alone, where it told.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Broken(failure) => failure.retry_after,
            _ => None,
        }
    }
}

/// Something that the broker wants to see refused.
#[derive(Debug)]
struct Canary {
    lease: LeaseId,
    observation: Observation,
    refused: Option<BootTime>,
}

/// The follower: its state machine, the table that is being loaded, and what the next ping tells.
#[derive(Debug)]
pub(crate) struct Following<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) follower: Follower,
    id: [u8; 16],
    loading: Option<Table>,
    canaries: Vec<Canary>,
    /// Whether something is to be told to the broker as soon as no ping is under way.
    pub(crate) wants_ping: bool,
    told: Vec<pb::Usage>,
    pongs: u64,
    /// Whether the session has told the policies, where they were asked for.
    has_policies: bool,
}

impl<'a> Following<'a> {
    pub(crate) fn new(shared: &'a Shared, id: [u8; 16]) -> Self {
        Self {
            shared,
            follower: Follower::new(u64::from(shared.wishes.bound_ms)),
            id,
            loading: None,
            canaries: Vec::new(),
            wants_ping: false,
            told: Vec::new(),
            pongs: 0,
            has_policies: false,
        }
    }

    /// How many pings were answered.
    pub(crate) fn pongs(&self) -> u64 {
        self.pongs
    }

    /// What a session begins with.
    pub(crate) fn start(&self) -> pb::FollowRequest {
        let start = pb::FollowStart {
            follower: self.id.to_vec(),
            bound_ms: self.shared.wishes.bound_ms,
            resume: self.follower.position().map(to_wire),
            policies: self.shared.wishes.policies,
        };
        pb::FollowRequest { what: Some(pb::follow_request::What::Start(start)) }
    }

    /// The connection is lost. What is fresh stays so until its bound is over.
    pub(crate) fn disconnected(&mut self) {
        self.follower.disconnected();
        self.loading = None;
        self.wants_ping = false;
        self.has_policies = false;
        self.canaries.clear();
        self.shared.usage.give_back(std::mem::take(&mut self.told));
    }

    /// The broker takes the follower.
    ///
    /// # Errors
    /// [`Lost::Malformed`].
    pub(crate) fn accepted(&mut self, said: &pb::FollowAccepted) -> Result<(), Lost> {
        let terms = Terms::read(said, &self.shared.wishes.audiences)
            .map_err(|_| Lost::Malformed("what may be accepted"))?;
        if said.bound_ms == 0 {
            return Err(Lost::Malformed("a bound of nothing"));
        }
        self.follower.allow(u64::from(said.bound_ms));
        let known = self.shared.known.load();
        self.shared.known.store(known.with_terms(terms).into());
        self.wants_ping = self.follower.position().is_some();
        self.shared.metrics.session();
        Ok(())
    }

    /// Takes one message.
    ///
    /// # Errors
    /// The session can't go on.
    pub(crate) fn take(&mut self, message: pb::FollowResponse) -> Result<(), Lost> {
        use pb::follow_response::What;
        match message.what.ok_or(Lost::Malformed("an empty message"))? {
            What::Accepted(_) => return Err(Lost::Malformed("accepted twice")),
            What::Keys(bundle) => self.keys(bundle)?,
            What::SnapshotBegin(begin) => {
                let position = from_wire(begin.position.as_ref())?;
                self.follower.snapshot_begins(position);
                self.shared.publish(self.follower.fresh_until());
                self.loading = Some(Table::without(self.shared.wishes.capacity, UnixMillis(begin.over_ms)));
            }
            What::SnapshotPart(part) => {
                let table = self.loading.as_ref().ok_or(Lost::Malformed("a part of no snapshot"))?;
                for event in &part.events {
                    table.apply(&decode(event)?.change)?;
                }
            }
            What::SnapshotEnd(end) => self.snapshot_ends(from_wire(end.position.as_ref())?)?,
            What::Events(events) => self.events(&events)?,
            What::Pong(pong) => {
                self.needs_policies()?;
                let answered = self.follower.pong(pong.id, from_wire(pong.position.as_ref())?);
                self.settle(answered)?;
                self.pongs += 1;
                self.told.clear();
                self.shared.publish(self.follower.fresh_until());
            }
            What::Canary(canary) => self.canary(&canary)?,
            What::Policies(policies) => self.policies(&policies),
        }
        Ok(())
    }

    /// Policies that a session has not told may have changed since the one before.
    fn needs_policies(&mut self) -> Result<(), Lost> {
        match self.shared.wishes.policies && !self.has_policies {
            true => self.settle(Err(Resync::OutOfPlace)),
            false => Ok(()),
        }
    }

    fn policies(&mut self, sent: &pb::RequestPolicies) {
        self.has_policies = true;
        #[cfg(feature = "policy")]
        if let Some(read) = crate::policy::Policies::read(sent, self.shared.policies.load().as_deref()) {
            self.shared.policies.store(Some(std::sync::Arc::new(read)));
        }
        #[cfg(not(feature = "policy"))]
        let _ = sent;
    }

    fn keys(&mut self, bundle: pb::TrustBundle) -> Result<(), Lost> {
        let shared = self.shared;
        let keys = Keys::read(bundle).map_err(|_| Lost::Malformed("the keys"))?;
        let known = shared.known.load().with_keys(keys);
        let bundle = known.keys.as_ref().map(|keys| keys.bundle.clone());
        let known = std::sync::Arc::new(known);
        shared.known.store(known.clone());
        for cache in std::iter::once(&shared.tokens).chain(&shared.certificates) {
            cache.forget(|signer| known.knows(signer));
        }
        shared.bundle.send_replace(bundle);
        shared.end_guards(Concerned::All, |judged| shared.dead(judged));
        Ok(())
    }

    fn snapshot_ends(&mut self, position: Position) -> Result<(), Lost> {
        let ended = self.follower.snapshot_ends(position);
        self.settle(ended)?;
        self.needs_policies()?;
        let table = self.loading.take().ok_or(Lost::Malformed("the end of no snapshot"))?;
        let shared = self.shared;
        if shared.known.load().keys.is_none() {
            self.settle(Err(Resync::OutOfPlace))?;
        }
        shared.state.store(State::new(position, table).into());
        shared.metrics.snapshot();
        shared.end_guards(Concerned::All, |judged| shared.dead(judged));
        self.judge_canaries();
        self.wants_ping = true;
        Ok(())
    }

    fn events(&mut self, events: &pb::FeedEvents) -> Result<(), Lost> {
        let first = from_wire(events.first.as_ref())?;
        let state = self.shared.state.load_full();
        for (number, event) in (first.number..).zip(&events.events) {
            let event = decode(event)?;
            let counted = self.follower.event(Position { number, ..first });
            self.settle(counted)?;
            let applied = state.table.apply(&event.change);
            self.settle(applied)?;
            self.count(&state, number, &event.change)?;
        }
        self.shared.metrics.applied(u64::try_from(events.events.len()).unwrap_or_default());
        self.judge_canaries();
        self.wants_ping = true;
        Ok(())
    }

    fn count(&mut self, state: &State, number: u64, change: &Change) -> Result<(), Lost> {
        let shared = self.shared;
        let concerned = match change {
            Change::Gate(gate) if gate.fence == Fence::NONE => None,
            Change::Gate(gate) => Some(Concerned::Dimension(gate.key)),
            Change::Mark { lease, .. } => Some(Concerned::Lease(*lease)),
            Change::Keys { version } => {
                // They had to be sent before: what a withdrawn key signed must not be accepted after this counts.
                if shared.known.load().keys_version() < *version {
                    self.settle(Err(Resync::OutOfPlace))?;
                }
                None
            }
        };
        state.count(number);
        if let Some(concerned) = concerned {
            shared.end_guards(concerned, |judged| shared.dead(judged));
        }
        Ok(())
    }

    /// Makes it known at once where nothing may be believed any more.
    fn settle(&mut self, outcome: Result<(), Resync>) -> Result<(), Lost> {
        outcome.map_err(|why| {
            self.follower.resync(why);
            self.shared.publish(self.follower.fresh_until());
            Lost::Resync(why)
        })
    }

    fn canary(&mut self, sent: &pb::Canary) -> Result<(), Lost> {
        let no = |_| Lost::Malformed("a canary");
        let lease = LeaseId::parse(&sent.lease).map_err(|_| Lost::Malformed("a canary"))?;
        let observation = Observation::decode(&sent.observation).map_err(no)?;
        if self.canaries.len() >= CANARIES_MAX {
            self.canaries.remove(0);
        }
        self.canaries.push(Canary { lease, observation, refused: None });
        self.judge_canaries();
        Ok(())
    }

    fn judge_canaries(&mut self) {
        let state = self.shared.state.load();
        for canary in self.canaries.iter_mut().filter(|canary| canary.refused.is_none()) {
            if state.dead(canary.lease, &canary.observation).is_some() {
                canary.refused = Some(self.shared.boot.now());
                self.wants_ping = true;
            }
        }
    }

    /// Asks for a new snapshot where the wall clock stepped back to before what the table has forgotten.
    ///
    /// # Errors
    /// [`Lost::ClockBack`].
    pub(crate) fn look_at_clock(&mut self) -> Result<(), Lost> {
        if self.shared.clock.now() >= self.shared.state.load().table.cleaned() {
            return Ok(());
        }
        self.follower.resync(Resync::NoSnapshot);
        self.shared.publish(self.follower.fresh_until());
        Err(Lost::ClockBack)
    }

    /// The ping to send now; none while one is under way, nothing is to be told, or the table is not complete.
    /// `with_usage`: it tells what was used, too.
    pub(crate) fn ping(&mut self, with_usage: bool) -> Option<pb::FollowRequest> {
        if !self.wants_ping {
            return None;
        }
        let now = self.shared.boot.now();
        let id = self.follower.ping(now)?;
        self.wants_ping = false;
        if with_usage {
            self.shared.tokens.each(|entry| self.shared.usage.collect(entry));
            self.told = self.shared.usage.take();
        }
        let seen = |canary: &Canary| {
            let ago = now.since(canary.refused?).as_micros();
            let refused_us_ago = u32::try_from(ago).unwrap_or(u32::MAX);
            Some(pb::CanarySeen { lease: canary.lease.to_string(), refused_us_ago })
        };
        let canaries = self.canaries.iter().filter_map(seen).collect();
        self.canaries.retain(|canary| canary.refused.is_none());
        let applied = self.follower.position().map_or(0, |at| at.number);
        let ping = pb::FollowPing { id, applied, usage: self.told.clone(), canaries };
        Some(pb::FollowRequest { what: Some(pb::follow_request::What::Ping(ping)) })
    }
}

fn decode(event: &[u8]) -> Result<Event, Lost> {
    if event.len() > EVENT_OCTETS_MAX {
        return Err(Lost::Malformed("an event"));
    }
    Event::decode(event).map_err(|e| Lost::Malformed(e.why))
}

pub(crate) fn to_wire(at: Position) -> pb::FeedPosition {
    pb::FeedPosition {
        generation: at.generation.number,
        generation_id: at.generation.id.0.to_vec(),
        epoch: at.epoch.0.to_vec(),
        number: at.number,
    }
}

fn from_wire(at: Option<&pb::FeedPosition>) -> Result<Position, Lost> {
    let no = Lost::Malformed("a position");
    let Some(at) = at else { return Err(no) };
    let (Ok(id), Ok(epoch)) = (at.generation_id.as_slice().try_into(), at.epoch.as_slice().try_into()) else {
        return Err(no);
    };
    let generation = Generation { number: at.generation, id: GenerationId(id) };
    Ok(Position { generation, epoch: Epoch(epoch), number: at.number })
}
