//! What a broker decides and hears of, as it happens, for operators who watch.
//!
//! Fed where audit records are made, so that nothing is shown that was not recorded; without watchers it costs a load
//! of one atomic. A watcher that is too slow loses events and is told how many: nothing here waits for anybody, and
//! nothing that is decided depends on it. No secrets: a record has none.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use mayfly_audit::{Kind, Observer, Outcome, Record};
use mayfly_domain::feed::Numbered;
use mayfly_domain::{Reason, Refusal, UnixMillis};
use mayfly_lease::{Job, JobId, JobTarget, LeaseRecord};
use mayfly_policy::OperatorAction;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::broker::Broker;
use crate::call::Call;
use crate::feed::{CanaryCounts, is_canarys};
use crate::operate::FollowerList;
use crate::staff::{Acceptor, ClientCertificate, Operator};

/// Events that a slow watcher may be behind.
const EVENTS_MAX: usize = 1_024;
/// This broker's own revocations that are known again when the feed tells of them.
const OWN_MAX: usize = 1_024;
/// Accepted checks that are shown in a second.
const SAMPLES: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// How often the followers are told, and the watcher's permission is looked at again.
const TICK: Duration = Duration::from_secs(1);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Watched {
    /// A decision of this broker, as it was recorded; an accepted check is a sample.
    Decision(Box<Record>),
    /// A revocation, with the number of its event in the feed.
    Revocation {
        /// The revocation, as it was stored.
        job: Box<Job>,
        /// Its number.
        number: u64,
        /// Whether it was made here.
        here: bool,
    },
    /// How everything stands, once a second.
    Standing(Box<Standings>),
    /// The watcher was too slow for so many events.
    Missed(u64),
}

/// How everything stands.
#[derive(Debug, Clone)]
pub struct Standings {
    /// The followers; empty while the store is away.
    pub followers: FollowerList,
    /// Live leases.
    pub live_leases: u64,
    /// Mints and renewals since this broker began.
    pub mints: u64,
    /// Refusals of any kind.
    pub refusals: u64,
    /// Checks, accepted or not.
    pub checks: u64,
    /// What this broker's canaries have shown.
    pub canaries: CanaryCounts,
}

#[derive(Debug, Clone)]
enum Said {
    Record(Arc<Record>),
    Made(Arc<Job>, u64),
    Heard(JobId, u64),
}

/// The bus: what is said on it reaches who watches at that moment.
#[derive(Debug)]
pub(crate) struct Bus {
    said: broadcast::Sender<Said>,
    own: Mutex<VecDeque<JobId>>,
    samples: DefaultDirectRateLimiter,
    mints: AtomicU64,
    refusals: AtomicU64,
    checks: AtomicU64,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            said: broadcast::Sender::new(EVENTS_MAX),
            own: Mutex::default(),
            samples: RateLimiter::direct(Quota::per_second(SAMPLES)),
            mints: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            checks: AtomicU64::new(0),
        }
    }
}

impl Observer for Bus {
    fn wants(&self) -> bool {
        self.said.receiver_count() > 0
    }

    fn recorded(&self, record: Record) {
        let is_shown = match record.kind {
            // What is told as a revocation is not told twice.
            Kind::Revoke => record.outcome != Outcome::Allowed,
            Kind::Sweep | Kind::Read | Kind::AuditOpen | Kind::AuditRepair => false,
            _ => true,
        };
        if is_shown {
            self.say(Said::Record(Arc::new(record)));
        }
    }
}

impl Bus {
    fn say(&self, said: Said) {
        // Nobody watches: then nobody misses it.
        let _ = self.said.send(said);
    }

    /// Counts a decision.
    pub(crate) fn count(&self, kind: &'static str, refused: Option<Reason>) {
        if kind == "check" {
            self.checks.fetch_add(1, Ordering::Relaxed);
        }
        match refused {
            Some(_) => self.refusals.fetch_add(1, Ordering::Relaxed),
            None if matches!(kind, "mint" | "renew") => self.mints.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
    }

    /// A check that was accepted: one of many is shown.
    pub(crate) fn accepted(&self, record: impl FnOnce() -> Record) {
        if self.wants() && self.samples.check().is_ok() {
            self.say(Said::Record(Arc::new(record())));
        }
    }

    /// A revocation of this broker is about to be made.
    pub(crate) fn making(&self, id: JobId) {
        let mut own = self.own.lock();
        if own.len() >= OWN_MAX {
            own.pop_front();
        }
        own.push_back(id);
    }

    /// A revocation of this broker was made.
    pub(crate) fn made(&self, job: Option<&Job>, number: u64) {
        if let Some(job) = job.filter(|_| self.wants()) {
            self.say(Said::Made(Arc::new(job.clone()), number));
        }
    }

    /// The feed told of a change.
    pub(crate) fn heard(&self, event: &Numbered) {
        if let Some(id) = event.event.revocation.map(JobId).filter(|_| self.wants())
            && !self.own.lock().contains(&id)
        {
            self.say(Said::Heard(id, event.number));
        }
    }
}

/// A watcher's place on the bus.
#[derive(Debug)]
pub struct Watching {
    broker: Arc<Broker>,
    call: Call,
    certificate: ClientCertificate,
    said: broadcast::Receiver<Said>,
    tick: Interval,
}

impl Broker {
    /// Watches what this broker decides and hears of from now on, as whoever may read the audit.
    ///
    /// # Errors
    /// The certificate's or policy's refusal.
    pub async fn watch(
        self: &Arc<Self>,
        call: &Call,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Watching, Refusal> {
        let certificate = certificate.ok_or(Reason::CertificateRequired)?.clone();
        let said = self.bus().said.subscribe();
        let mut tick = tokio::time::interval_at(Instant::now(), TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = Watching { broker: self.clone(), call: *call, certificate, said, tick };
        watching.permitted().await?;
        Ok(watching)
    }
}

impl Watching {
    /// The next thing that happened. Once a second it is looked whether the watcher still may watch.
    ///
    /// # Errors
    /// Why it may not any more.
    pub async fn next(&mut self) -> Result<(UnixMillis, Watched), Refusal> {
        loop {
            tokio::select! {
                // A flood of events must not keep it from looking at its permission.
                biased;
                _ = self.tick.tick() => {
                    self.permitted().await?;
                    let now = self.broker.clock().now();
                    return Ok((now, Watched::Standing(Box::new(self.broker.standings().await))));
                }
                said = self.said.recv() => {
                    let now = self.broker.clock().now();
                    match said {
                        Ok(said) => if let Some(told) = self.told(said, now).await {
                            return Ok(told);
                        },
                        Err(RecvError::Lagged(missed)) => return Ok((now, Watched::Missed(missed))),
                        Err(RecvError::Closed) => return Err(Reason::NotServing.into()),
                    }
                }
            }
        }
    }

    async fn permitted(&self) -> Result<Operator, Refusal> {
        let operator = self.broker.operator(Some(&self.certificate)).await?;
        self.broker.permit(&self.call, &operator, OperatorAction::Audit, self.broker.anything())?;
        Ok(operator)
    }

    async fn told(&self, said: Said, now: UnixMillis) -> Option<(UnixMillis, Watched)> {
        match said {
            Said::Record(record) => {
                let at = record.time_ms.unwrap_or(now);
                Some((at, Watched::Decision(Box::new(Record::clone(&record)))))
            }
            Said::Made(job, number) => {
                let job = Box::new(Job::clone(&job));
                Some((job.since, Watched::Revocation { job, number, here: true }))
            }
            Said::Heard(id, number) => {
                // What the store does not tell now is in the list of followers by its number alone.
                let job = self.broker.leases().store().job(id).await.ok().flatten()?;
                let shown = !is_canarys(&job.author)
                    && !matches!(&job.target, JobTarget::Subject(mayfly_domain::Subject::Evidence(_), _));
                let told = Watched::Revocation { job: Box::new(job), number, here: false };
                shown.then_some((now, told))
            }
        }
    }
}

/// An accepted check, as watchers see it.
pub(crate) fn sample(mut record: Record, acceptor: &Acceptor, lease: &LeaseRecord) -> Record {
    record.acceptor = Some(acceptor.name.clone());
    record.lease = Some(lease.id);
    record.workload = Some(lease.body.workload.clone());
    record.owners = Some(lease.body.owners.clone());
    record.profile.clone_from(&lease.body.profile);
    record.task.clone_from(&lease.body.task);
    record
}

impl Broker {
    async fn standings(&self) -> Standings {
        let bus = self.bus();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Standings {
            followers: self.follower_list().await.unwrap_or_default(),
            live_leases: self.leases().store().counts().await.unwrap_or_default().live_leases,
            mints: read(&bus.mints),
            refusals: read(&bus.refusals),
            checks: read(&bus.checks),
            canaries: self.feed().canaries(),
        }
    }
}
