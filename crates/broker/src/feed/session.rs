//! One follower at this broker: what it is told next, and what it says of itself.
//!
//! A follower costs a place in the recent events and no queue: whoever reads too slowly finds its place gone and is
//! sent a new snapshot. Knows no transport: whoever asks for the next message has room for it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::feed::{Change, Event, Position};
use mayfly_domain::{Invalid, LeaseId, Reason, Refusal, defaults};
use mayfly_lease::feed::{FOLLOWER_KEPT_MS, FollowerId, FollowerKind, FollowerPing, UsedItem};
use tokio::sync::watch;
use tokio::time::Instant;

use super::canary::{CANARIES_KNOWN, Canary};
use super::pings::{Mailbox, Waiting};
use super::registered::Registration;
use super::seat::Seat;
use super::sending::Sending;
use super::state::{Era, Mark, Recent};
use super::told::{FollowStart, Ping, Told};
use crate::broker::Broker;
use crate::staff::AcceptorEntry;
use crate::standing::Standing;

/// How many events one message holds.
const EVENTS: usize = 256;
/// How long a registration, and a table that is not complete, is waited for.
const BEGIN_WAIT: Duration = Duration::from_secs(10);
/// How often a follower's right to follow is looked at where nothing else happens.
const LOOK: Duration = Duration::from_secs(1);
/// How long a follower may be silent: long after that no bound of it can last.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a ping that is being written is waited for when its follower leaves.
const GOOD_BYE: Duration = Duration::from_secs(1);
/// The shortest bound: less is over before an answer can come.
const BOUND_MIN_MS: u32 = 200;

type Preparing = Pin<Box<dyn Future<Output = Option<Sending>> + Send>>;

/// A follower.
pub struct Follows {
    broker: Arc<Broker>,
    seat: Seat,
    id: FollowerId,
    registration: Registration,
    bound_ms: u32,
    mailbox: Arc<Mailbox>,
    marks: watch::Receiver<Mark>,
    standing: watch::Receiver<Standing>,
    canaries: watch::Receiver<Option<Arc<Canary>>>,
    due: VecDeque<Told>,
    /// Up to where it was told everything, in which table.
    sent: Option<(Era, Position)>,
    preparing: Option<Preparing>,
    sending: Option<Sending>,
    /// Whether its next ping may be of an earlier table than the one that it was told last: numbers of one epoch say
    /// nothing in another.
    doubtful: bool,
    last_ping: u64,
    heard: Instant,
    /// The event of changed keys that it was told the keys for.
    keys_for: Option<u64>,
    /// The last canaries that it said it has refused.
    canaries_seen: VecDeque<LeaseId>,
    /// Where it wants policies: the revision that it was told.
    policies: Option<String>,
    /// Why it is told nothing more, and where the feed stood then.
    ends: Option<(Refusal, Mark)>,
}

impl std::fmt::Debug for Follows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follows").field("id", &self.id).field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl Broker {
    /// Lets an acceptor follow: registers it, and finds its place.
    ///
    /// # Errors
    /// `BOUND_TOO_LONG`, `INPUT_INVALID`, `OVERLOADED`, `STORE_UNAVAILABLE`, `BROKER_NOT_FRESH`.
    pub async fn follows(self: &Arc<Self>, seat: Seat, start: &FollowStart) -> Result<Follows, Refusal> {
        let (feed, bound_ms) = (self.feed(), self.allowed_bound(start)?);
        let id = seat.follower_id(&start.follower)?;
        let registration = feed.registered.take(&seat.acceptor().name, id, known_for(bound_ms))?;
        let mut follows = Follows {
            id,
            registration,
            broker: self.clone(),
            seat,
            bound_ms,
            mailbox: Arc::default(),
            marks: feed.changed(),
            standing: self.standing(),
            canaries: feed.canaries.subscribe(),
            due: VecDeque::new(),
            sent: None,
            preparing: None,
            sending: None,
            doubtful: start.resume.is_some(),
            last_ping: 0,
            heard: Instant::now(),
            keys_for: None,
            canaries_seen: VecDeque::new(),
            policies: start.policies.then(String::new),
            ends: None,
        };
        // The snapshot is of a later moment than this: no barrier misses the follower.
        follows.write(0, 0, Position::default());
        let registered = async {
            loop {
                follows.mailbox.told.notified().await;
                if follows.mailbox.take(|_| true).is_some() {
                    return;
                }
            }
        };
        tokio::time::timeout(BEGIN_WAIT, registered)
            .await
            .map_err(|_| Refusal::new(Reason::StoreUnavailable, "the follower could not be registered"))?;
        let complete = follows.marks.wait_for(|mark| mark.position.is_some());
        let mark = match tokio::time::timeout(BEGIN_WAIT, complete).await {
            Ok(Ok(mark)) => *mark,
            Ok(Err(_)) | Err(_) => {
                return Err(Refusal::new(Reason::BrokerNotFresh, "the table is not complete").after(LOOK));
            }
        };
        let resumed = start.resume.filter(|at| feed.after(at, 0) != Recent::Lost);
        follows.sent = resumed.map(|at| (mark.era, at));
        follows.doubtful &= resumed.is_none();
        let ping_ms = feed.settings().ping_ms.min(bound_ms / 4).max(1);
        follows.due.push_back(Told::Accepted { bound_ms, ping_ms, resumed: resumed.is_some() });
        follows.due.push_back(follows.keys());
        Ok(follows)
    }

    fn allowed_bound(&self, start: &FollowStart) -> Result<u32, Refusal> {
        match start.bound_ms {
            None => Ok(self.feed().settings().bound_ms),
            Some(asked) if asked > defaults::FOLLOW_BOUND_MAX_MS => {
                let most = format!("{} ms", defaults::FOLLOW_BOUND_MAX_MS);
                Err(Refusal::new(Reason::BoundTooLong, format!("{asked} ms")).fact("limit", most))
            }
            Some(asked) if asked < BOUND_MIN_MS => {
                let least = format!("must be at least {BOUND_MIN_MS}");
                Err(Invalid::new("bound_ms", &asked.to_string(), least).into())
            }
            Some(asked) => Ok(asked),
        }
    }
}

impl Follows {
    /// What the follower is told next, when there is something. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Why it is told nothing more: it may not follow any longer, it was silent, the broker drains.
    pub async fn next(&mut self) -> Result<Told, Refusal> {
        loop {
            if let Some(told) = self.ready()? {
                return Ok(told);
            }
            self.wait().await?;
        }
    }

    /// Takes a ping: it is answered when a write that begins from now on was acknowledged, and everything before it was
    /// told.
    ///
    /// # Errors
    /// `INPUT_INVALID` where it could not have happened so.
    pub fn ping(&mut self, ping: &Ping) -> Result<(), Refusal> {
        if ping.id <= self.last_ping {
            return Err(Invalid::new("ping", &ping.id.to_string(), "must grow").into());
        }
        self.last_ping = ping.id;
        self.heard = Instant::now();
        let told = self.sent.map(|(_, at)| at).unwrap_or_default();
        let doubtful = self.sent.is_none() || std::mem::take(&mut self.doubtful);
        if !doubtful && ping.applied > told.number {
            let problem = "is more than was told";
            return Err(Invalid::new("applied", &ping.applied.to_string(), problem).into());
        }
        self.write(ping.id, if doubtful { 0 } else { ping.applied }, told);
        for seen in ping.canaries.iter().filter(|seen| self.broker.knows_canary(seen.lease)) {
            if !self.canaries_seen.contains(&seen.lease) {
                self.canaries_seen.truncate(CANARIES_KNOWN - 1);
                self.canaries_seen.push_front(seen.lease);
                self.broker.canary_refused(seen, self.bound_ms, &self.seat.acceptor().name);
            }
        }
        Ok(())
    }

    /// The follower says that it accepts nothing any more: no barrier waits for it.
    pub async fn good_bye(self) {
        // A ping that is written after this would bring it back.
        let pings = &self.broker.feed().pings;
        if !pings.withdraw(self.id) {
            let _ = tokio::time::timeout(GOOD_BYE, self.mailbox.written(self.last_ping)).await;
            pings.withdraw(self.id);
        }
        match self.broker.leases().store().forget_follower(self.id).await {
            Ok(()) => self.registration.forgotten(),
            Err(e) => {
                tracing::debug!(error = %e, "a follower that said good-bye is remembered until its bound is over");
            }
        }
    }

    /// What the configuration says of the acceptor; the stream ends when that changes.
    pub fn entry(&self) -> &AcceptorEntry {
        self.seat.entry()
    }

    /// Counts what the follower says that a lease's credential was used for.
    pub fn used(&self, lease: LeaseId, item: UsedItem, uses: u64) {
        self.broker.used(&self.seat.acceptor().name, lease, item, uses);
    }

    fn write(&self, id: u64, applied: u64, told: Position) {
        let ping = FollowerPing {
            id: self.id,
            kind: FollowerKind::Acceptor,
            name: self.seat.acceptor().name.to_string(),
            broker: self.broker.settings().broker_id.clone(),
            bound_ms: self.bound_ms,
            reuse_ms: 0,
            applied,
            epoch: told.epoch,
        };
        self.broker.feed().pings.put(Waiting { id, ping, mailbox: self.mailbox.clone() });
    }

    fn keys(&self) -> Told {
        Told::Keys(self.broker.keys_now().bundle().clone())
    }

    /// The policies that judge requests, where it was told others: before any answer that makes it fresh.
    fn policies(&mut self) -> Option<Told> {
        let told = self.policies.as_mut()?;
        let running = self.broker.running();
        let requests = running.engine.requests();
        if told == requests.revision() {
            return None;
        }
        requests.revision().clone_into(told);
        Some(Told::Policies(Box::new(requests.policies())))
    }

    /// What can be told now.
    fn ready(&mut self) -> Result<Option<Told>, Refusal> {
        let mark = *self.marks.borrow_and_update();
        if self.ends.is_none() {
            self.ends = self.seat.still(&self.broker).err().map(|refusal| (refusal, mark));
        }
        if let Some((refusal, until)) = self.ends.clone() {
            return self.last(&until).map(Some).ok_or(refusal);
        }
        if let Some(told) = self.due.pop_front() {
            return Ok(Some(told));
        }
        if let Some(told) = self.policies() {
            return Ok(Some(told));
        }
        if self.sent.is_some_and(|(era, _)| era != mark.era) {
            self.begin_anew();
        }
        if let Some(told) = self.part(mark.era)? {
            return Ok(Some(told));
        }
        let Some((era, at)) = self.sent else { return Ok(None) };
        // An answer of another feed is none of this one.
        if let Some((id, position)) =
            self.mailbox.take(|position| !position.is_along(&at) || position.number <= at.number)
            && position.is_along(&at)
        {
            return Ok(Some(Told::Pong(id, position)));
        }
        if let Some(told) = self.events(era, at) {
            return Ok(Some(told));
        }
        if self.sent.is_some() && self.canaries.has_changed().unwrap_or(false) {
            return Ok(self.canaries.borrow_and_update().clone().map(Told::Canary));
        }
        Ok(None)
    }

    /// What one that follows no more is still told: what ended it, which may end what it accepts as well. No ping of it is
    /// answered.
    fn last(&mut self, until: &Mark) -> Option<Told> {
        let (era, at) = self.sent?;
        let left = until.position.filter(|end| until.era == era && at.number < end.number);
        left.and_then(|_| self.events(era, at))
    }

    fn begin_anew(&mut self) {
        self.sent = None;
        self.sending = None;
        self.preparing = None;
        self.doubtful = true;
        self.keys_for = None;
    }

    /// The next part of the snapshot that it is being sent.
    fn part(&mut self, era: Era) -> Result<Option<Told>, Refusal> {
        let Some(sending) = &mut self.sending else { return Ok(None) };
        if sending.is_late(Instant::now()) {
            return Err(Refusal::new(Reason::Deadline, "the follower reads its snapshot too slowly"));
        }
        if !sending.counts(self.broker.feed(), era) {
            self.sending = None;
            return Ok(None);
        }
        let told = sending.told(|| Told::Keys(self.broker.keys_now().bundle().clone()));
        if let Told::SnapshotEnd(position) = &told {
            self.sent = Some((era, *position));
            self.sending = None;
            self.heard = Instant::now();
        }
        Ok(Some(told))
    }

    /// The next events, the keys before an event that says that they changed.
    fn events(&mut self, era: Era, at: Position) -> Option<Told> {
        let recent = self.broker.feed().state.read().after(era, at.number, EVENTS);
        let events = match recent {
            Recent::Events(events) => events,
            Recent::Lost => {
                tracing::debug!(follower = %self.id, "a follower fell behind and is sent a new snapshot");
                self.begin_anew();
                return None;
            }
        };
        let first = events.first()?.number;
        let is_keys = |event: &Event| matches!(event.change, Change::Keys { .. });
        let told = self.keys_for;
        let until = events.iter().position(|e| is_keys(&e.event) && told.is_none_or(|n| n < e.number));
        if until == Some(0) {
            self.keys_for = Some(first);
            return Some(self.keys());
        }
        let events: Vec<Event> = events.iter().take(until.unwrap_or(EVENTS)).map(|e| e.event).collect();
        let count = u64::try_from(events.len()).ok()?;
        self.sent = Some((era, Position { number: at.number + count, ..at }));
        Some(Told::Events(Position { number: first, ..at }, events))
    }

    /// Waits until there may be something to tell.
    async fn wait(&mut self) -> Result<(), Refusal> {
        if *self.standing.borrow_and_update() == Standing::Draining {
            return Err(Refusal::new(Reason::NotServing, "the broker drains"));
        }
        if self.sent.is_some() && self.heard.elapsed() > SILENCE {
            return Err(Refusal::new(Reason::Deadline, "the follower did not ping"));
        }
        let complete = self.marks.borrow().position.is_some();
        let needs = self.sent.is_none() && self.sending.is_none() && complete;
        if needs && self.preparing.is_none() {
            self.preparing = Some(self.prepare());
        }
        let Self { preparing, sending, marks, mailbox, canaries, standing, sent, .. } = self;
        tokio::select! {
            changed = marks.changed() => closed(changed),
            changed = canaries.changed(), if sent.is_some() => {
                // It is looked at again, and told then.
                canaries.mark_changed();
                closed(changed)
            }
            changed = standing.changed() => closed(changed),
            () = mailbox.told.notified() => Ok(()),
            () = tokio::time::sleep(LOOK) => Ok(()),
            prepared = prepared(preparing), if needs => {
                *preparing = None;
                *sending = prepared;
                Ok(())
            }
        }
    }

    /// A place among those who are sent a snapshot, and the snapshot.
    fn prepare(&self) -> Preparing {
        let (broker, each) = (self.broker.clone(), self.seat.sending());
        Box::pin(async move {
            let each = each.acquire_owned().await.ok()?;
            let all = broker.feed().sending.clone().acquire_owned().await.ok()?;
            let snapshot = broker.feed().snapshot().await?;
            Some(Sending::new(snapshot, broker.clock().now(), [each, all]))
        })
    }
}

/// For how long the store knows a follower of this bound after its last sign of life.
fn known_for(bound_ms: u32) -> Duration {
    Duration::from_millis(u64::from(bound_ms) + FOLLOWER_KEPT_MS)
}

async fn prepared(preparing: &mut Option<Preparing>) -> Option<Sending> {
    match preparing {
        Some(preparing) => preparing.await,
        None => std::future::pending().await,
    }
}

fn closed(changed: Result<(), watch::error::RecvError>) -> Result<(), Refusal> {
    changed.map_err(|_| Reason::NotServing.into())
}
