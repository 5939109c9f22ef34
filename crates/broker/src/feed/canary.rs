//! Canaries: leases of the broker's own, revoked as soon as everybody has heard of them, to measure all the time how
//! long after its acknowledgement a revocation is refused, here and at the acceptors that follow.
//!
//! No credential is ever made for one, and its key is nobody's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::{
    AcceptorMode, AcceptorName, Binding, BootTime, CredentialKind, LeaseId, Owner, Owners, Refusal, Scopes,
    SignerId, SpiffeId, Thumbprint, Ttl, UnixMillis,
};
use mayfly_lease::{CheckCommand, JobId, LeaseBody, MintCommand, RevokeCommand, RevokeWhat, StoreError};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::told::CanarySeen;
use crate::broker::Broker;
use crate::call::random;

/// Below this path are the workloads of canaries.
const PATH: &str = "/mayfly/canary/";
/// How long a canary could live.
const LIFE: Ttl = Ttl::constant(5);
/// How long followers have to hear of it before it is revoked.
const SETTLE: Duration = Duration::from_millis(250);
/// How often it is asked about after its revocation, and how many times at most.
const AGAIN: Duration = Duration::from_millis(5);
const QUESTIONS: usize = 200;
/// How many measurements are kept for percentiles, and how many canaries are known after their revocation.
const KEPT: usize = 1_024;
pub(super) const CANARIES_KNOWN: usize = 8;

/// Where a canary is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// By a check at this broker.
    Online,
    /// By a follower.
    Feed,
}

impl Place {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Feed => "feed",
        }
    }
}

/// A canary, as followers hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Its lease.
    pub lease: LeaseId,
    /// What it observed, encoded.
    pub observation: Vec<u8>,
}

/// What canaries have shown: µs from a revocation's acknowledgement to the first refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CanaryCounts {
    /// How many were let go and refused.
    pub measured: u64,
    /// At this broker, of the last thousand.
    pub online_p50_us: u32,
    /// The same.
    pub online_p99_us: u32,
    /// At followers, of the last thousand.
    pub feed_p50_us: u32,
    /// The same.
    pub feed_p99_us: u32,
    /// How many were accepted after the acknowledgement here, or later than its bound at a follower. Must be 0.
    pub accepted_after: u64,
}

#[derive(Debug)]
struct Known {
    lease: LeaseId,
    acknowledged: Option<BootTime>,
    /// Followers that refused it before its revocation was acknowledged.
    early: u32,
}

#[derive(Debug, Default)]
struct Measured {
    known: VecDeque<Known>,
    online: VecDeque<u32>,
    feed: VecDeque<u32>,
    measured: u64,
    accepted_after: u64,
}

/// The canaries of this broker.
#[derive(Debug)]
pub(crate) struct Canaries {
    present: watch::Sender<Option<Arc<Canary>>>,
    measured: Mutex<Measured>,
}

impl Default for Canaries {
    fn default() -> Self {
        Self { present: watch::Sender::new(None), measured: Mutex::default() }
    }
}

impl Canaries {
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Canary>>> {
        self.present.subscribe()
    }

    pub(super) fn counts(&self) -> CanaryCounts {
        let measured = self.measured.lock();
        CanaryCounts {
            measured: measured.measured,
            online_p50_us: percentile(&measured.online, 50),
            online_p99_us: percentile(&measured.online, 99),
            feed_p50_us: percentile(&measured.feed, 50),
            feed_p99_us: percentile(&measured.feed, 99),
            accepted_after: measured.accepted_after,
        }
    }

    fn known(&self, lease: LeaseId) {
        let known = &mut self.measured.lock().known;
        if known.len() >= CANARIES_KNOWN {
            known.pop_front();
        }
        known.push_back(Known { lease, acknowledged: None, early: 0 });
    }

    /// It was acknowledged; how many followers had refused it by then.
    fn acknowledged(&self, lease: LeaseId, at: BootTime) -> u32 {
        let mut measured = self.measured.lock();
        let Some(known) = measured.known.iter_mut().find(|known| known.lease == lease) else { return 0 };
        known.acknowledged = Some(at);
        let early = known.early;
        (0..early.min(1_000)).for_each(|_| push(&mut measured.feed, Duration::ZERO));
        early
    }

    /// A follower refused it at `refused`; how long after the acknowledgement, where that is known.
    fn refused(&self, lease: LeaseId, refused: BootTime) -> Option<Duration> {
        let mut measured = self.measured.lock();
        let known = measured.known.iter_mut().find(|known| known.lease == lease)?;
        let Some(at) = known.acknowledged else {
            known.early = known.early.saturating_add(1);
            return None;
        };
        let took = refused.since(at);
        push(&mut measured.feed, took);
        Some(took)
    }
}

fn push(into: &mut VecDeque<u32>, took: Duration) {
    if into.len() >= KEPT {
        into.pop_front();
    }
    into.push_back(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
}

fn percentile(of: &VecDeque<u32>, percent: usize) -> u32 {
    let mut sorted: Vec<u32> = of.iter().copied().collect();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// Whether a workload is a canary: people are not shown its leases.
pub(crate) fn is_canary(workload: &SpiffeId) -> bool {
    workload.path().starts_with(PATH)
}

/// Whether a revocation is of a canary: its sweep is not recorded.
pub(crate) fn is_canarys(author: &str) -> bool {
    // No operator's name is a SPIFFE ID.
    SpiffeId::parse(author).is_ok_and(|id| is_canary(&id))
}

impl Broker {
    /// Lets canaries go for as long as the broker runs.
    pub(crate) async fn canary_keeper(&self) {
        let every = Duration::from_millis(u64::from(self.feed().settings.canary_ms));
        if every.is_zero() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(every).await;
            if self.serving().is_ok()
                && let Err(refusal) = self.let_a_canary_go().await
            {
                tracing::debug!(error = %refusal, "a canary was not measured");
            }
        }
    }

    /// Mints a lease, tells followers of it, revokes it, and asks until it is refused.
    pub(crate) async fn let_a_canary_go(&self) -> Result<(), Refusal> {
        let (store, canaries) = (self.leases().store(), &self.feed().canaries);
        let command = self.canary_command()?;
        let (id, author) = (command.id, command.body.workload.to_string());
        let minted = store.mint(&command).await.map_err(|e| self.refused(e))?;
        let observation = minted.record.observation;
        canaries.known(id);
        canaries
            .present
            .send_replace(Some(Arc::new(Canary { lease: id, observation: observation.encode() })));
        tokio::time::sleep(SETTLE).await;
        let question = CheckCommand { id, observation: Some(observation) };
        // One that has ended by itself, or with its owner, measures nothing.
        store.check(&question).await.map_err(|e| self.refused(e))?;
        let revoke = RevokeCommand {
            id: JobId::new(self.clock().now(), &random()),
            what: RevokeWhat::Lease { id, unknown_until: self.clock().now().plus(LIFE.as_millis()) },
            reason: None,
            author,
            ticket: None,
        };
        self.bus().making(revoke.id);
        store.revoke(&revoke).await.map_err(|e| self.refused(e))?;
        let acknowledged = self.boot().now();
        let early = canaries.acknowledged(id, acknowledged);
        (0..early).for_each(|_| self.meter().canary_refused(Place::Feed, Duration::ZERO));
        self.wake_sweeper();
        for _ in 0..QUESTIONS {
            match store.check(&question).await {
                Err(StoreError::Refused(_)) => {
                    let took = self.boot().now().since(acknowledged);
                    let mut measured = canaries.measured.lock();
                    measured.measured += 1;
                    push(&mut measured.online, took);
                    drop(measured);
                    self.meter().canary_refused(Place::Online, took);
                    return Ok(());
                }
                Err(e) => return Err(self.refused(e)),
                Ok(_) => self.accepted_after(Place::Online, id, &self.settings().broker_id),
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Whether it is one of the last canaries.
    pub(super) fn knows_canary(&self, lease: LeaseId) -> bool {
        self.feed().canaries.measured.lock().known.iter().any(|known| known.lease == lease)
    }

    /// A follower of this acceptor says, for the first time, that it refused a canary.
    pub(super) fn canary_refused(&self, seen: &CanarySeen, bound_ms: u32, by: &AcceptorName) {
        let refused = BootTime(self.boot().now().0.saturating_sub(u64::from(seen.refused_us_ago) * 1_000));
        if let Some(took) = self.feed().canaries.refused(seen.lease, refused) {
            self.meter().canary_refused(Place::Feed, took);
            if took > Duration::from_millis(u64::from(bound_ms)) {
                self.accepted_after(Place::Feed, seen.lease, by.as_str());
            }
        }
    }

    fn accepted_after(&self, place: Place, lease: LeaseId, by: &str) {
        self.feed().canaries.measured.lock().accepted_after += 1;
        self.meter().canary_accepted(place);
        tracing::error!(%lease, place = place.as_str(), by, "a canary was accepted after its revocation");
    }

    fn canary_command(&self) -> Result<MintCommand, Refusal> {
        let (domain, broker) = (&self.settings().trust_domain, &self.settings().broker_id);
        let body = LeaseBody {
            kind: CredentialKind::Acceptor,
            workload: SpiffeId::new(domain, &format!("{PATH}{broker}"))?,
            owners: Owners::new([Owner::parse(&format!("broker:{broker}"))?])?,
            task: None,
            intent: None,
            profile: None,
            integration: None,
            audience: None,
            scopes: Scopes::default(),
            key: Thumbprint::from_bytes([0; 32]),
            binding: Binding::Mtls,
            acceptors: AcceptorMode::Feed,
            rule: None,
            evidence: None,
            x509: None,
        };
        Ok(MintCommand {
            id: LeaseId::from_parts(self.clock().now(), &random()),
            spend: None,
            subjects: body.subjects(domain),
            body,
            signer: SignerId::from_bytes([0; 16]),
            ttl: LIFE,
            lineage: LIFE,
            not_after: UnixMillis(u64::MAX),
            task: None,
            evidence: None,
            parent: None,
            quotas: Vec::new(),
        })
    }
}
