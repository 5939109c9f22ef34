//! What was minted, and what is known of its end: the truth that every answer is held against.
//!
//! A moment is taken before a question is sent and after an answer came, so that what the ledger calls dead was dead
//! when the question left, whatever the processes in between were doing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use mayfly_client::WorkloadKey;
use mayfly_domain::UnixMillis;
use mayfly_domain::time::{BootClock as _, BootTime, SystemBootClock};
use mayfly_proto::v1 as pb;
use tokio::sync::watch;

/// How long a dead credential is asked about in any case, and how many live and dead ones are kept.
const DEAD_FOR_MS: u64 = 20_000;
const KEPT: usize = 600;
/// How long after nobody answered an attempt a broker may still carry it out.
const LATE_MS: u64 = 20_000;
/// How many of the last revoked ones are asked about before all others.
const HOT: usize = 48;

/// Now.
pub(crate) fn now() -> BootTime {
    SystemBootClock.now()
}

/// The values of a lease's dimensions.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) workload: String,
    pub(crate) owners: [String; 2],
    pub(crate) task: String,
    pub(crate) profile: &'static str,
    pub(crate) integration: &'static str,
}

/// What a revocation names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Lease(String),
    Subject(pb::Dimension, String),
}

impl What {
    fn covers(&self, lease: &Lease) -> bool {
        let names = &lease.names;
        match self {
            Self::Lease(id) => *id == lease.id,
            Self::Subject(dimension, value) => match dimension {
                pb::Dimension::Workload => *value == names.workload,
                pb::Dimension::Owner => names.owners.contains(value),
                pb::Dimension::Task => *value == names.task,
                pb::Dimension::Profile => value == names.profile,
                pb::Dimension::Integration => value == names.integration,
                pb::Dimension::Everything => true,
                pb::Dimension::Unspecified => false,
            },
        }
    }

    /// Whether it ends what evidence of before is minted with later.
    fn reaches_evidence(&self) -> bool {
        use pb::Dimension::{Everything, Owner, Workload};
        matches!(self, Self::Subject(Workload | Owner | Everything, _))
    }

    pub(crate) fn on_the_wire(&self) -> pb::revoke_request::What {
        match self {
            Self::Lease(id) => pb::revoke_request::What::Lease(id.clone()),
            Self::Subject(dimension, value) => pb::revoke_request::What::Subject(pb::Subject {
                dimension: (*dimension).into(),
                value: value.clone(),
            }),
        }
    }
}

/// A lease and what is known of its end. Moments are nanoseconds of the boot clock, 0 for never.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) names: Names,
    /// By when its evidence had been shown, and when the answer of its mint came.
    shown: BootTime,
    minted: BootTime,
    /// From when on it may be dead, when that was acknowledged, when the barrier was complete.
    begun: AtomicU64,
    acknowledged: AtomicU64,
    barrier: AtomicU64,
    /// Its generation has ended.
    lost: AtomicBool,
}

fn set_once(moment: &AtomicU64, at: BootTime) {
    let _ = moment.compare_exchange(0, at.0, Ordering::SeqCst, Ordering::SeqCst);
}

impl Lease {
    pub(crate) fn new(id: String, names: Names, shown: BootTime, minted: BootTime) -> Self {
        Self {
            id,
            names,
            shown,
            minted,
            begun: AtomicU64::default(),
            acknowledged: AtomicU64::default(),
            barrier: AtomicU64::default(),
            lost: AtomicBool::default(),
        }
    }

    fn was_covered(&self, what: &What, begun: BootTime) -> bool {
        what.covers(self) && (self.minted <= begun || what.reaches_evidence() && self.shown <= begun)
    }

    /// Whether nothing that could have ended it has begun.
    pub(crate) fn is_live(&self) -> bool {
        self.begun.load(Ordering::SeqCst) == 0 && !self.lost.load(Ordering::SeqCst)
    }

    /// Whether a question that was sent at `sent` must be refused, by who may go on for `bound_ms` after the
    /// acknowledgement, but not after the barrier.
    pub(crate) fn is_dead(&self, sent: BootTime, bound_ms: u64) -> bool {
        let before = |moment: &AtomicU64, ms: u64| {
            let at = moment.load(Ordering::SeqCst);
            at != 0 && BootTime(at).plus_ms(ms) < sent
        };
        before(&self.acknowledged, bound_ms) || before(&self.barrier, 0)
    }
}

/// How a credential is shown.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    Bearer(String),
    Bound(String, Arc<WorkloadKey>),
    Certificate(Vec<u8>),
}

/// A credential of a lease.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) lease: Arc<Lease>,
    pub(crate) form: Form,
    pub(crate) expires: UnixMillis,
}

#[derive(Debug)]
struct Revoking {
    what: What,
    begun: BootTime,
    acknowledged: Option<BootTime>,
    /// Until when an attempt that nobody answered may still be carried out, after another one was acknowledged.
    late_until: BootTime,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pool: RwLock<Vec<Arc<Credential>>>,
    hot: RwLock<VecDeque<Arc<Credential>>>,
    revocations: Mutex<Vec<Revoking>>,
    acknowledged: watch::Sender<u64>,
}

impl Ledger {
    /// Takes a credential whose mint was sent at `sent`.
    pub(crate) fn add(&self, credential: Credential, sent: BootTime) {
        let lease = &credential.lease;
        let mut revocations = self.revocations.lock().unwrap();
        revocations.retain(|r| r.acknowledged.is_none_or(|at| now() < at.plus_ms(60_000)));
        for r in revocations.iter().filter(|r| r.what.covers(lease)) {
            if r.acknowledged.is_none_or(|at| sent <= at) || sent <= r.late_until {
                set_once(&lease.begun, r.begun);
            }
            if r.acknowledged.is_some() && lease.was_covered(&r.what, r.begun) {
                set_once(&lease.begun, r.begun);
                set_once(&lease.acknowledged, now());
            }
        }
        // Before the next revocation begins: it must find it.
        let mut pool = self.pool.write().unwrap();
        pool.push(Arc::new(credential));
        let live = |c: &Credential| c.lease.is_live();
        while pool.len() > KEPT {
            let Some(at) = pool.iter().position(|c| !live(c)) else { break };
            pool.remove(at);
        }
    }

    /// A revocation will be sent: from now on nobody knows what it covers.
    pub(crate) fn begin(&self, what: &What) -> BootTime {
        let mut revocations = self.revocations.lock().unwrap();
        let begun = now();
        revocations.push(Revoking { what: what.clone(), begun, acknowledged: None, late_until: BootTime(0) });
        for credential in self.pool.read().unwrap().iter().filter(|c| what.covers(&c.lease)) {
            set_once(&credential.lease.begun, begun);
        }
        begun
    }

    /// An attempt was not answered: it may be carried out at any time in the next seconds.
    pub(crate) fn unanswered(&self, what: &What, begun: BootTime) {
        let mut revocations = self.revocations.lock().unwrap();
        if let Some(r) = revocations.iter_mut().find(|r| r.begun == begun && r.what == *what) {
            r.late_until = now().plus_ms(LATE_MS);
        }
    }

    /// It was acknowledged: what it covers is dead.
    pub(crate) fn acknowledge(&self, what: &What, begun: BootTime) {
        let mut revocations = self.revocations.lock().unwrap();
        let at = now();
        if let Some(r) = revocations.iter_mut().find(|r| r.begun == begun && r.what == *what) {
            r.acknowledged = Some(at);
        }
        self.acknowledged.send_modify(|n| *n += 1);
        let mut hot = self.hot.write().unwrap();
        for credential in self.pool.read().unwrap().iter().filter(|c| c.lease.was_covered(what, begun)) {
            set_once(&credential.lease.acknowledged, at);
            hot.push_back(credential.clone());
        }
        while hot.len() > HOT {
            hot.pop_front();
        }
    }

    /// Waits until so many more revocations than now are acknowledged.
    pub(crate) async fn more(&self, revocations: u64) {
        let mut acknowledged = self.acknowledged.subscribe();
        let enough = *acknowledged.borrow() + revocations;
        // The sender lives as long as this ledger.
        let _ = acknowledged.wait_for(|n| *n >= enough).await;
    }

    /// Its barrier is complete: nobody may accept what it covers.
    pub(crate) fn barrier(&self, what: &What, begun: BootTime) {
        let at = now();
        for credential in self.pool.read().unwrap().iter().filter(|c| c.lease.was_covered(what, begun)) {
            set_once(&credential.lease.barrier, at);
        }
    }

    /// The store began a new generation: what is here may be refused from now on.
    pub(crate) fn lose(&self) {
        for credential in self.pool.read().unwrap().iter() {
            credential.lease.lost.store(true, Ordering::SeqCst);
        }
    }

    /// Drops what has nearly expired, and most of what was long dead.
    pub(crate) fn clean(&self, wall: UnixMillis) {
        let boot = now();
        self.pool.write().unwrap().retain(|c| {
            let dead_since = BootTime(c.lease.begun.load(Ordering::SeqCst));
            let long_dead = dead_since.0 != 0 && dead_since.plus_ms(DEAD_FOR_MS) < boot;
            let unlucky = c.lease.id.as_bytes().last().is_some_and(|b| b % 8 != 0);
            wall.plus(10_000) < c.expires && !(long_dead && unlucky)
        });
        self.hot.write().unwrap().retain(|c| wall.plus(10_000) < c.expires);
    }

    /// The credentials of live leases.
    pub(crate) fn live(&self) -> Vec<Arc<Credential>> {
        self.pool.read().unwrap().iter().filter(|c| c.lease.is_live()).cloned().collect()
    }

    /// One to ask about: often one that was just revoked, and often one that lives.
    pub(crate) fn pick(&self, random: &super::random::Random) -> Option<Arc<Credential>> {
        match random.below(100) {
            0..25 => {
                let hot = self.hot.read().unwrap();
                (!hot.is_empty()).then(|| hot[random.below(hot.len())].clone())
            }
            25..70 => {
                let pool = self.pool.read().unwrap();
                // From a place by chance to the next one that lives.
                let from = random.below(pool.len().max(1));
                let (before, after) = pool.split_at_checked(from)?;
                after.iter().chain(before).find(|c| c.lease.is_live()).cloned()
            }
            _ => random.pick(&self.pool.read().unwrap()).cloned(),
        }
    }
}
