//! What each step does.

use mayfly_domain::{CredentialKind, Dimension, UnixMillis};
use mayfly_lease::command::sweep_key;
use mayfly_lease::job::ExposureCount;
use mayfly_lease::transition::{self, No, View, Write};
use mayfly_lease::{
    CheckCommand, GenerationRecord, JobTarget, LeaseRecord, Mark, MintCommand, RevokeCommand, TaskRecord,
};
use mayfly_testkit::words::{self, Wish};

use super::{
    AHEAD_MS, Accounts, Flight, LIFE_S, Mint, Reaper, Revocation, Scan, State, Sweep, What, account, parent,
};
use crate::order::Order;
use crate::store::{START, Store};

fn parents_wish() -> Wish {
    Wish::new(1, START).kind(CredentialKind::X509)
}

/// The world before anything happens: the parent is there.
pub(super) fn beginning(reapers: usize) -> State {
    let mut store = Store::new();
    let mut command = parents_wish().mint(START);
    command.quotas.clear();
    store.step(|view, now| transition::mint(view, &command, now)).unwrap();
    store.used.clear();
    State {
        store,
        moment: 0,
        mint: Mint::Idle,
        flight: Flight::None,
        account: false,
        late: Vec::new(),
        revocation: Revocation::None,
        sweep: Sweep::Idle,
        reapers: vec![Reaper::Idle; reapers],
        scan: Scan::Idle,
        lost: false,
        sent_without_lease: false,
    }
}

fn command(store: &Store) -> MintCommand {
    let parent = store.lease(parent()).unwrap().clone();
    let wish = Wish { ttl_s: LIFE_S, ..Wish::new(2, START) }.kind(CredentialKind::Account);
    let mut command = wish.child_of(&parent).mint(START);
    command.quotas.clear();
    command
}

/// The writes in the order in which the transition asks for them; what is of one kind goes out together.
fn groups(writes: Vec<Write>) -> Vec<Vec<Write>> {
    let mut groups: Vec<Vec<Write>> = Vec::new();
    for write in writes {
        let kind = |w: &Write| match w {
            Write::Record(..) => 2,
            Write::Undo(..) => 1,
            Write::Index(..) | Write::Partition(..) => 0,
            _ => 3,
        };
        match groups.last_mut() {
            Some(group) if kind(&group[0]) == kind(&write) => group.push(write),
            _ => groups.push(vec![write]),
        }
    }
    groups.reverse();
    groups
}

/// What a part of a mint's writes is.
pub(super) fn part(group: &[Write]) -> &'static str {
    match group.first() {
        Some(Write::Index(..)) => "the index entries",
        Some(Write::Partition(..)) => "the entry of the expiry partition",
        Some(Write::Undo(..)) => "the entry of the undo queue",
        Some(Write::Record(..)) => "the record, reserved",
        _ => "the mark of its nonce, and the task",
    }
}

/// A view in which no ancestor is marked.
struct Unmarked<'s>(&'s Store);

impl View for Unmarked<'_> {
    type Error = No;
    fn generation(&self) -> Result<GenerationRecord, No> {
        self.0.generation()
    }
    fn gate(&self, key: mayfly_domain::DimKey) -> Result<Option<mayfly_domain::Gate>, No> {
        self.0.gate(key)
    }
    fn record(&self, id: mayfly_domain::LeaseId) -> Result<Option<LeaseRecord>, No> {
        self.0.record(id)
    }
    fn mark(&self, id: mayfly_domain::LeaseId) -> Result<Option<Mark>, No> {
        if id == account() { self.0.mark(id) } else { Ok(None) }
    }
    fn used(&self, id: mayfly_domain::LeaseId) -> Result<Option<UnixMillis>, No> {
        self.0.used(id)
    }
    fn binding(&self, hash: mayfly_domain::EvidenceHash) -> Result<Option<transition::Binding>, No> {
        self.0.binding(hash)
    }
    fn join(&self, hash: mayfly_domain::EvidenceHash) -> Result<Option<mayfly_lease::JoinRecord>, No> {
        self.0.join(hash)
    }
    fn task(&self, key: mayfly_domain::DimKey) -> Result<Option<TaskRecord>, No> {
        self.0.task(key)
    }
    fn exposure(&self, key: mayfly_domain::DimKey, now: UnixMillis) -> Result<ExposureCount, No> {
        self.0.exposure(key, now)
    }
    fn live(&self, key: mayfly_domain::DimKey, now: UnixMillis) -> Result<u32, No> {
        self.0.live(key, now)
    }
    fn undo_due(&self, id: mayfly_domain::LeaseId) -> Result<Option<UnixMillis>, No> {
        self.0.undo_due(id)
    }
    fn bucket(&self, key: mayfly_domain::DimKey) -> Result<Option<transition::Bucket>, No> {
        self.0.bucket(key)
    }
    fn changes(&self) -> Result<u64, No> {
        self.0.changes()
    }
    fn keys_version(&self) -> Result<u64, No> {
        self.0.keys_version()
    }
}

impl Accounts {
    pub(super) fn decide(&self, s: &mut State) -> Option<()> {
        let command = command(&s.store);
        let (_, writes) = transition::mint(&s.store, &command, s.store.now).ok()?;
        let mut groups = groups(writes);
        if self.broken == Some(Order::IndexBeforeRecord) {
            s.late = groups.iter().flatten().filter(|w| matches!(w, Write::Index(..))).cloned().collect();
            groups.iter_mut().for_each(|group| group.retain(|w| !matches!(w, Write::Index(..))));
            groups.retain(|group| !group.is_empty());
        }
        s.mint = Mint::Writing(groups);
        Some(())
    }

    pub(super) fn write(&self, s: &mut State) -> Option<()> {
        let Mint::Writing(groups) = &mut s.mint else { return None };
        for write in groups.pop()? {
            s.store.apply(write);
        }
        if groups.is_empty() {
            s.mint = Mint::Written;
        }
        Some(())
    }

    pub(super) fn confirm(&self, s: &mut State) -> Option<()> {
        let now = s.store.now;
        let outcome = if self.broken == Some(Order::ConfirmAncestors) {
            transition::confirm(&Unmarked(&s.store), account(), now)
        } else {
            transition::confirm(&s.store, account(), now)
        };
        match outcome {
            Ok((_, writes)) => {
                writes.into_iter().for_each(|write| s.store.apply(write));
                s.mint = Mint::Confirmed;
            }
            // The reaper undoes.
            Err(_) => s.mint = Mint::Over,
        }
        Some(())
    }

    pub(super) fn send(&self, s: &mut State) -> Option<()> {
        // After its expiry a record may be forgotten.
        let over = s.store.now >= START.plus(u64::from(LIFE_S) * 1_000);
        s.sent_without_lease = !s.lost && !over && s.record().is_none();
        s.mint = Mint::Sent;
        Some(())
    }

    pub(super) fn revoke(&self, s: &mut State, what: What) -> Option<()> {
        let command: RevokeCommand = match what {
            What::Owner => words::revoke_subject(9, words::subject(Dimension::Owner, 1), None),
            What::Parent => words::revoke_lease(9, parent(), s.store.now.plus(words::LONGEST_LIFE_MS)),
            What::Itself => words::revoke_lease(9, account(), s.store.now.plus(words::LONGEST_LIFE_MS)),
        };
        let (_, writes) = transition::revoke(&s.store, &command, s.store.now).ok()?;
        let is_job = |w: &Write| matches!(w, Write::Job(_));
        let (jobs, rest): (Vec<_>, Vec<_>) = writes.into_iter().partition(is_job);
        let (first, then) = match self.broken {
            Some(Order::FenceBeforeSweep) => (jobs, rest),
            Some(Order::JobBeforeAck) => (rest, jobs),
            _ => (rest.into_iter().chain(jobs).collect(), Vec::new()),
        };
        first.into_iter().for_each(|write| s.store.apply(write));
        s.revocation = if self.broken == Some(Order::FenceBeforeSweep) {
            Revocation::Half(what, then, false)
        } else {
            Revocation::Acknowledged(what, then)
        };
        Some(())
    }

    /// The second half of a revocation whose steps are apart.
    pub(super) fn rest(&self, s: &mut State) -> Option<()> {
        let (what, writes) = match &s.revocation {
            Revocation::Half(what, writes, _) | Revocation::Acknowledged(what, writes) => {
                (*what, writes.clone())
            }
            _ => return None,
        };
        writes.into_iter().for_each(|write| s.store.apply(write));
        s.revocation = Revocation::Acknowledged(what, Vec::new());
        Some(())
    }

    pub(super) fn sweep_reads(&self, s: &mut State) -> Option<()> {
        let job = s.store.jobs.values().next()?.as_ref().clone();
        let along = sweep_key(&job.target)?;
        let itself = matches!(job.target, JobTarget::Lease(id) if id == account());
        let indexed = s.store.index.get(&(along, account())).is_some_and(|end| s.store.now < *end);
        s.sweep = Sweep::Read(Box::new(job), itself || indexed);
        Some(())
    }

    pub(super) fn sweep_ends(&self, s: &mut State) -> Option<()> {
        let Sweep::Read(job, found) = std::mem::replace(&mut s.sweep, Sweep::Idle) else { return None };
        if found {
            s.store.step(|view, now| transition::end_swept(view, &job, account(), now)).ok()?;
        }
        s.store.jobs.remove(&job.id);
        Some(())
    }

    pub(super) fn pick(&self, s: &mut State, n: usize) -> Option<()> {
        let due = *s.store.undo.get(&account())?;
        if self.broken == Some(Order::ReaperEndsFirst) {
            let ahead = s.store.now.plus(AHEAD_MS);
            let record = s.record().filter(|_| due <= ahead)?.clone();
            s.reapers[n] = Reaper::Picked(record);
            return Some(());
        }
        if s.store.now < due {
            return None;
        }
        let picked = s.store.step(|view, now| transition::overdue(view, account(), now)).ok()?;
        s.reapers[n] = picked.map_or(Reaper::Idle, Reaper::Picked);
        Some(())
    }

    pub(super) fn undo(&self, s: &mut State, n: usize) -> Option<()> {
        let Reaper::Picked(record) = s.reapers[n].clone() else { return None };
        s.account = false;
        s.reapers[n] = Reaper::Undone(record);
        Some(())
    }

    pub(super) fn tell(&self, s: &mut State, n: usize) -> Option<()> {
        let Reaper::Undone(record) = std::mem::replace(&mut s.reapers[n], Reaper::Idle) else { return None };
        if self.broken == Some(Order::ReaperEndsFirst) {
            let _ = s.store.step(|view, now| transition::overdue(view, account(), now));
        }
        let due = match s.record() {
            Some(now) if self.broken == Some(Order::UndoneBySight) => now.clone(),
            _ => record,
        };
        let _ = s.store.step(|view, now| transition::undone(view, &due, now));
        Some(())
    }

    pub(super) fn scan_starts(&self, s: &mut State, ahead: bool) -> Option<()> {
        let clock = s.store.now.plus(if ahead { AHEAD_MS } else { 0 });
        s.scan = if self.broken == Some(Order::ScanListsFirst) {
            Scan::ReadFirst(self.spares(s, clock))
        } else {
            Scan::Listed(clock)
        };
        Some(())
    }

    fn spares_reserved(&self, s: &State, clock: UnixMillis) -> bool {
        let allowed = self.broken != Some(Order::ScanAllowsSkew)
            || s.record().is_some_and(|record| clock < record.confirm_by);
        allowed && is_reserved(s, clock)
    }

    fn spares(&self, s: &State, clock: UnixMillis) -> bool {
        is_reserved(s, clock) || is_accepted(s)
    }

    pub(super) fn scan_reads(&self, s: &mut State) -> Option<()> {
        s.scan = match s.scan {
            Scan::Listed(clock) if self.spares_reserved(s, clock) => Scan::Idle,
            Scan::Listed(_) => Scan::Unreserved,
            Scan::ReadFirst(true) => Scan::Idle,
            Scan::ReadFirst(false) if s.account => Scan::Condemned,
            Scan::ReadFirst(false) => Scan::Idle,
            _ => return None,
        };
        Some(())
    }

    pub(super) fn scan_checks(&self, s: &mut State) -> Option<()> {
        s.scan = if is_accepted(s) { Scan::Idle } else { Scan::Condemned };
        Some(())
    }

    pub(super) fn clean(&self, s: &mut State) -> Option<()> {
        let (now, before) = (s.store.now, s.store.index.len());
        s.store.index.retain(|_, end| now < *end);
        if self.broken == Some(Order::IndexByExpiry) && s.record().is_none() {
            s.store.index.retain(|(_, id), _| *id != account());
        }
        (s.store.index.len() < before).then_some(())
    }

    /// What a fail-over may lose: everything of a mint that was not acknowledged as durable.
    pub(super) fn lose(&self, s: &mut State) -> Option<()> {
        let id = account();
        s.store.records.remove(&id)?;
        s.store.undo.remove(&id);
        s.store.partitions.remove(&id);
        s.store.used.remove(&id);
        s.store.index.retain(|(_, lease), _| *lease != id);
        s.lost = true;
        Some(())
    }
}

/// As the scan asks: reserved, and still within its deadline by this clock.
pub(super) fn is_reserved(s: &State, clock: UnixMillis) -> bool {
    s.record().is_some_and(|record| mayfly_lease::undo::may_be_confirmed(record, clock))
}

/// Whether an online check accepts the account's lease.
pub(super) fn is_accepted(s: &State) -> bool {
    let command = CheckCommand { id: account(), observation: None };
    transition::check(&s.store, &command, s.store.now).is_ok()
}
