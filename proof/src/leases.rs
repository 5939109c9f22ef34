//! Leases without side effects: every command is one atomic step, as on one Redis node and in the embedded store.
//!
//! Every order of a few mints, renewals, mints of children, revocations, blocks, completions, expiries and replays is
//! explored; after each step every credential is checked online and in-process. What is dead is known apart from
//! fences: a revocation names what was there when it was acknowledged.

mod rules;

use mayfly_domain::{CredentialKind, Dimension, EndReason, Subject, UnixMillis};
use mayfly_lease::command::EndCommand;
use mayfly_lease::transition::{self, No, Write};
use mayfly_lease::{CheckCommand, JobTarget, LeaseRecord, MintCommand, RenewCommand, RevokeCommand};
use mayfly_testkit::words::{self, Wish};

use crate::order::Order;
use crate::store::{START, Store};

/// The leases of this world.
const LEASES: u32 = 4;
/// The one that descends from the first.
const CHILD: u32 = 4;
/// Moments, in ms after the start.
const MOMENTS: [u64; 4] = [0, 200_000, 300_000, 700_000];

/// The model.
#[derive(Debug, Clone, Default)]
pub struct Leases {
    /// The order that is broken, if any.
    pub broken: Option<Order>,
    /// How many revocations and blocks there may be.
    pub revocations: u8,
    /// How many renewals.
    pub renewals: u8,
}

/// A credential that left.
#[derive(Debug, Clone, PartialEq)]
struct Credential {
    record: LeaseRecord,
    /// An acknowledged revocation covers it.
    dead: bool,
    /// Its holder gave it back.
    released: bool,
}

/// A state.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    store: Store,
    moment: usize,
    credentials: [Option<Credential>; LEASES as usize],
    /// Per token: whether it was shown, whether it was before a revocation that it observes.
    shown: [(bool, bool); 2],
    /// Leases that were revoked by their id, some before they were minted.
    marked: [bool; LEASES as usize],
    revocations: u8,
    renewals: u8,
    /// The second half of a revocation with a block, where the two are apart.
    half: bool,
    /// Since when mints are refused.
    blocked: bool,
    completed: bool,
    lost: bool,
    seen: Seen,
}

/// What was seen to happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Seen {
    /// What must not.
    wrong: Option<&'static str>,
    /// A new credential after a revocation.
    back: bool,
    renewed: bool,
    predates: bool,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "told by `format_action`")]
pub enum Act {
    Mint(u32),
    Replay(u32),
    Renew(u32),
    Release(u32),
    Revoke(What),
    Block,
    Lift,
    Lose,
    Sweep,
    Tick,
}

/// What a revocation names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "told by `format_action`")]
pub enum What {
    Owner,
    OwnerAndBlock,
    Profile(u8),
    Lease(u32),
    Task,
}

/// What a step asks of a store.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A mint.
    Mint(Box<MintCommand>),
    /// A renewal.
    Renew(Box<RenewCommand>),
    /// An end.
    End(EndCommand),
    /// A revocation.
    Revoke(RevokeCommand),
    /// A block is lifted.
    Lift(Subject),
    /// A sweep.
    Sweep,
    /// The clock moves to here.
    Tick(UnixMillis),
}

/// The wish of a lease: 1 and 2 with the first token, 3 with the second, 4 as a child of 1.
fn wish(n: u32) -> Wish {
    let wish = Wish::new(n, START).kind(CredentialKind::X509);
    match n {
        3 => Wish { token: Some(2), ..wish },
        CHILD => Wish { profile: 2, task: None, ..wish },
        _ => wish,
    }
}

const fn token_of(n: u32) -> Option<usize> {
    match n {
        1 | 2 => Some(0),
        3 => Some(1),
        _ => None,
    }
}

impl Leases {
    /// What a step asks of a store; nothing where no store is asked.
    pub fn asked(&self, state: &State, act: &Act) -> Option<Asked> {
        Some(match act {
            Act::Mint(n) | Act::Replay(n) => Asked::Mint(Box::new(self.command(state, *n)?)),
            Act::Renew(n) => Asked::Renew(Box::new(self.renewal(state, *n)?)),
            Act::Release(n) => Asked::End(wish(*n).release()),
            Act::Revoke(what) => Asked::Revoke(self.revocation(state, *what)),
            Act::Lift => Asked::Lift(words::subject(Dimension::Owner, 1)),
            Act::Sweep => Asked::Sweep,
            Act::Tick => Asked::Tick(START.plus(*MOMENTS.get(state.moment + 1)?)),
            Act::Block | Act::Lose => return None,
        })
    }

    fn command(&self, state: &State, n: u32) -> Option<MintCommand> {
        let mut wish = wish(n);
        if n == CHILD {
            wish = wish.child_of(&state.credential(1)?.record);
        }
        let mut command = wish.mint(state.store.now);
        command.quotas.clear();
        if self.broken == Some(Order::EvidenceObservation)
            && let Some(evidence) = &mut command.evidence
        {
            evidence.observes.clear();
        }
        Some(command)
    }

    fn mint(&self, state: &mut State, n: u32, again: bool) -> Option<()> {
        let command = self.command(state, n)?;
        let parent_dead = n == CHILD && state.credential(1).is_none_or(|c| c.dead);
        let outcome = state.store.step(|view, now| {
            let (minted, mut writes) = transition::mint(view, &command, now)?;
            if self.broken == Some(Order::UsedOutlives) {
                for write in &mut writes {
                    if let Write::Used(_, until) = write {
                        *until = now.plus(1);
                    }
                }
            }
            Ok((minted, writes))
        });
        let minted = match outcome {
            Ok(minted) => minted,
            Err(No::EvidencePredatesRevocation(_)) => {
                state.seen.predates = true;
                return Some(());
            }
            Err(_) => return None,
        };
        let tainted = token_of(n).is_some_and(|t| state.shown[t].1);
        if again {
            state.seen.wrong = Some("a nonce minted twice");
        }
        if state.blocked {
            state.seen.wrong = Some("minted while blocked");
        }
        if state.completed && n != CHILD {
            state.seen.wrong = Some("minted in a task that had ended");
        }
        if let Some(t) = token_of(n) {
            state.shown[t].0 = true;
        }
        let dead = tainted || parent_dead || state.marked[n as usize - 1];
        state.seen.back |= !dead && state.credentials.iter().flatten().any(|c| c.dead);
        state.credentials[usize::try_from(n).ok()? - 1] =
            Some(Credential { record: minted.record, dead, released: false });
        Some(())
    }

    fn renewal(&self, state: &State, n: u32) -> Option<RenewCommand> {
        let credential = state.credential(n)?;
        let mut command = wish(n).renewal(100 + u32::from(state.renewals), state.store.now);
        command.body = credential.record.body.clone();
        command.task = credential.record.body.task.clone()?;
        command.evidence = None;
        Some(command)
    }

    fn renew(&self, state: &mut State, n: u32) -> Option<()> {
        let command = self.renewal(state, n)?;
        if self.broken == Some(Order::FirstObservation) {
            state.store.observe_anew(command.id)?;
        }
        let renewed = state.store.step(|view, now| transition::renew(view, &command, now)).ok()?;
        let kept = state.credentials[usize::try_from(n).ok()? - 1].as_mut()?;
        kept.record = renewed.record;
        state.renewals += 1;
        state.seen.renewed = true;
        Some(())
    }

    fn revocation(&self, state: &State, what: What) -> RevokeCommand {
        let n = 500 + u32::from(state.revocations);
        let now = state.store.now;
        let owner = || words::subject(Dimension::Owner, 1);
        let apart = self.broken == Some(Order::BlockWithFence);
        match what {
            What::Owner => words::revoke_subject(n, owner(), None),
            What::OwnerAndBlock => {
                words::revoke_subject(n, owner(), (!apart).then(|| words::block(now, Some(600_000))))
            }
            What::Profile(p) => words::revoke_subject(n, words::subject(Dimension::Profile, p), None),
            What::Lease(id) => words::revoke_lease(n, words::lease(id), now.plus(words::LONGEST_LIFE_MS)),
            What::Task => {
                let mut command = wish(1).complete(n, 300, now);
                if let mayfly_lease::RevokeWhat::Task { evidence, .. } = &mut command.what {
                    *evidence = None;
                }
                command
            }
        }
    }

    fn revoke(&self, state: &mut State, what: What) -> Option<()> {
        let command = self.revocation(state, what);
        let apart = self.broken == Some(Order::BlockWithFence);
        let revoked = state.store.step(|view, now| transition::revoke(view, &command, now)).ok()?;
        revoked.job?;
        state.revocations += 1;
        if apart && what == What::OwnerAndBlock {
            state.half = true;
        } else {
            state.acknowledged(what);
        }
        Some(())
    }
}

impl Leases {
    /// The oldest job's sweep, as one step.
    fn sweep(&self, state: &mut State) -> Option<()> {
        let job = state.store.jobs.values().next()?.clone();
        let ids: Vec<_> = state.store.records.keys().copied().collect();
        for id in ids {
            let unequal = |subject: &mayfly_domain::Subject, fence| {
                let seen = state.store.lease(id)?.observation.fence(subject.key())?;
                (seen != fence).then_some(())
            };
            match &job.target {
                JobTarget::Lease(lease) if *lease != id => {}
                JobTarget::Subject(subject, fence) if self.broken == Some(Order::OneRule) => {
                    if unequal(subject, *fence).is_some() {
                        let end = EndCommand {
                            id,
                            holder: None,
                            reason: EndReason::Revoked,
                            revocation: Some(job.id),
                        };
                        state.store.step(|view, now| transition::end(view, &end, now)).ok()?;
                    }
                }
                _ => drop(state.store.step(|view, now| transition::end_swept(view, &job, id, now)).ok()?),
            }
        }
        state.store.jobs.remove(&job.id);
        Some(())
    }
}

impl State {
    fn credential(&self, n: u32) -> Option<&Credential> {
        self.credentials.get(usize::try_from(n).ok()?.checked_sub(1)?)?.as_ref()
    }

    /// What an acknowledged revocation covers, said without fences.
    fn acknowledged(&mut self, what: What) {
        for n in 1..=LEASES {
            let covered = match what {
                What::Owner | What::OwnerAndBlock => true,
                // The child carries its parent's profile and task.
                What::Profile(1) | What::Task => true,
                What::Profile(_) => n == CHILD,
                What::Lease(id) => n == id || (n == CHILD && id == 1),
            };
            if covered && let Some(c) = &mut self.credentials[n as usize - 1] {
                c.dead = true;
            }
        }
        match what {
            What::Owner | What::OwnerAndBlock => self.shown.iter_mut().for_each(|t| t.1 |= t.0),
            What::Task => self.completed = true,
            What::Lease(id) => self.marked[id as usize - 1] = true,
            What::Profile(_) => {}
        }
        self.blocked |= what == What::OwnerAndBlock;
    }

    /// Every credential that left: its check, and whether the model accepts it.
    pub fn checks(&self) -> Vec<(CheckCommand, bool)> {
        let all = self.credentials.iter().flatten();
        all.map(|c| {
            let command = CheckCommand { id: c.record.id, observation: Some(c.record.observation.clone()) };
            (command, self.accepted_online(c))
        })
        .collect()
    }

    fn accepted_online(&self, c: &Credential) -> bool {
        let command = CheckCommand { id: c.record.id, observation: Some(c.record.observation.clone()) };
        transition::check(&self.store, &command, self.store.now).is_ok()
    }

    fn accepted_in_process(&self, c: &Credential) -> bool {
        self.store.now < c.record.expires && self.store.in_process(c.record.id, &c.record.observation)
    }

    fn in_time(&self, c: &Credential) -> bool {
        self.store.now < c.record.expires
    }
}

impl std::hash::Hash for State {
    fn hash<H: std::hash::Hasher>(&self, to: &mut H) {
        (&self.store, self.moment, self.shown, self.marked, self.revocations, self.renewals).hash(to);
        (self.half, self.blocked, self.completed, self.lost, self.seen).hash(to);
        for c in &self.credentials {
            let c = c.as_ref().map(|c| {
                (c.record.observation.pairs(), c.record.expires, c.record.counter, c.dead, c.released)
            });
            c.hash(to);
        }
    }
}
