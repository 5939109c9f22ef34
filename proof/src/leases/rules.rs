//! Who may take which step when, and what must hold.

use mayfly_domain::follow::FenceTable;
use mayfly_domain::{Dimension, LeaseState, UnixMillis};
use mayfly_lease::transition;
use mayfly_testkit::words;
use stateright::{Model, Property};

use super::{Act, CHILD, LEASES, Leases, MOMENTS, Seen, State, What, wish};
use crate::order::Order;
use crate::store::{START, Store};

impl Model for Leases {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            store: Store::new(),
            moment: 0,
            credentials: [const { None }; LEASES as usize],
            shown: [(false, false); 2],
            marked: [false; LEASES as usize],
            revocations: 0,
            renewals: 0,
            half: false,
            blocked: false,
            completed: false,
            lost: false,
            seen: Seen::default(),
        }]
    }

    fn actions(&self, state: &State, acts: &mut Vec<Act>) {
        if state.seen.wrong.is_some() {
            return;
        }
        for n in 1..=LEASES {
            match state.credential(n) {
                None => acts.push(Act::Mint(n)),
                Some(c) => {
                    // Nobody takes a nonce that is older.
                    if state.store.now.distance(START) < 60_000 && n == 1 {
                        acts.push(Act::Replay(n));
                    }
                    if n != CHILD && n != 2 && state.renewals < self.renewals {
                        acts.push(Act::Renew(n));
                    }
                    if n == 1 && !c.released {
                        acts.push(Act::Release(n));
                    }
                }
            }
        }
        if state.half {
            acts.push(Act::Block);
        } else if state.revocations < self.revocations {
            let all = [
                What::Owner,
                What::OwnerAndBlock,
                What::Profile(1),
                What::Profile(2),
                What::Lease(1),
                What::Lease(CHILD),
                What::Task,
            ];
            acts.extend(all.into_iter().map(Act::Revoke));
        }
        if state.blocked {
            acts.push(Act::Lift);
        }
        if !state.store.jobs.is_empty() {
            acts.push(Act::Sweep);
        }
        if !state.lost && state.credential(2).is_some() {
            acts.push(Act::Lose);
        }
        if state.moment + 1 < MOMENTS.len() {
            acts.push(Act::Tick);
        }
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut state = last.clone();
        match act {
            Act::Mint(n) => self.mint(&mut state, n, false)?,
            Act::Replay(n) => self.mint(&mut state, n, true)?,
            Act::Renew(n) => self.renew(&mut state, n)?,
            Act::Release(n) => {
                let command = wish(n).release();
                let (_, now) = state.store.step(|view, now| transition::end(view, &command, now)).ok()?;
                now.then_some(())?;
                if self.broken == Some(Order::UsedOutlives) {
                    state.store.used.remove(&words::lease(n));
                }
                if let Some(c) = &mut state.credentials[n as usize - 1] {
                    c.released = true;
                }
            }
            Act::Revoke(what) => self.revoke(&mut state, what)?,
            Act::Block => {
                let block = words::block(state.store.now, Some(600_000));
                let owner = words::subject(Dimension::Owner, 1);
                state
                    .store
                    .step(|view, now| transition::set_block(view, &owner, Some(block.clone()), now))
                    .ok()?;
                state.half = false;
                state.acknowledged(What::OwnerAndBlock);
            }
            Act::Lift => {
                let owner = words::subject(Dimension::Owner, 1);
                state.blocked = false;
                let _ = state.store.step(|view, now| transition::set_block(view, &owner, None, now));
            }
            Act::Lose => {
                state.store.records.remove(&words::lease(2));
                state.lost = true;
            }
            Act::Sweep => self.sweep(&mut state)?,
            Act::Tick => {
                state.moment += 1;
                state.store.now = UnixMillis(START.0 + MOMENTS[state.moment]);
                state.store.clean();
                let stands =
                    |s: &State| s.store.gates.values().any(|g| g.standing_block(s.store.now).is_some());
                state.blocked &= stands(&state);
            }
        }
        Some(state)
    }

    fn format_action(&self, act: &Act) -> String {
        let of = |n: &u32| match *n {
            1 => "lease 1 (first token)",
            2 => "lease 2 (first token again)",
            3 => "lease 3 (a new token)",
            _ => "lease 4 (child of lease 1)",
        };
        match act {
            Act::Mint(n) => format!("mint {}", of(n)),
            Act::Replay(n) => format!("replay the call that minted {}", of(n)),
            Act::Renew(n) => format!("renew {}", of(n)),
            Act::Release(n) => format!("release {}", of(n)),
            Act::Revoke(What::Owner) => "revoke the owner".into(),
            Act::Revoke(What::OwnerAndBlock) if self.broken == Some(Order::BlockWithFence) => {
                "revoke the owner with a block: the fence moves".into()
            }
            Act::Revoke(What::OwnerAndBlock) => "revoke the owner, with a block".into(),
            Act::Revoke(What::Profile(p)) => format!("revoke profile {p}"),
            Act::Revoke(What::Lease(n)) => format!("revoke {}", of(n)),
            Act::Revoke(What::Task) => "complete the task".into(),
            Act::Block => "the block is set, and the revocation acknowledged".into(),
            Act::Lift => "lift the block".into(),
            Act::Lose => "a fail-over loses the record of lease 2".into(),
            Act::Sweep => "a sweep works on its job".into(),
            Act::Tick => "time passes".into(),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no check accepts what an acknowledged revocation covers", |_, s: &State| {
                s.credentials.iter().flatten().all(|c| !c.dead || !s.accepted_online(c))
            }),
            Property::always("no acceptor that has heard of it accepts in-process", |_, s: &State| {
                s.credentials.iter().flatten().all(|c| !c.dead || !s.accepted_in_process(c))
            }),
            Property::always("a snapshot judges as its events do", |_, s: &State| {
                let (told, snapshot) = (s.store.told(), s.store.snapshot());
                let generation = s.store.generation.generation;
                s.credentials.iter().flatten().all(|c| {
                    let by = |table: &FenceTable| table.judge(generation, c.record.id, &c.record.observation);
                    by(&told).is_ok() == by(&snapshot).is_ok()
                })
            }),
            Property::always(
                "no nonce mints twice, nothing is minted under a block or in an ended task",
                |_, s: &State| s.seen.wrong.is_none(),
            ),
            Property::always("no credential without a lease that its index leads to", |_, s: &State| {
                s.credentials.iter().flatten().all(|c| {
                    let Some(record) = s.store.lease(c.record.id) else { return !s.accepted_online(c) };
                    !matches!(record.state, LeaseState::Active)
                        || !s.in_time(c)
                        || mayfly_lease::command::index_keys(&record.body.subjects(&words::trust_domain()))
                            .into_iter()
                            .all(|key| s.store.index.get(&(key, record.id)) >= Some(&record.expires))
                })
            }),
            Property::always("nobody is refused wrongly", |_, s: &State| {
                s.credentials.iter().flatten().filter(|c| !c.dead && s.in_time(c)).all(|c| {
                    let lost = s.lost && c.record.id == words::lease(2);
                    s.accepted_in_process(c) && (lost || c.released || s.accepted_online(c))
                })
            }),
            Property::sometimes("a child is accepted", |_, s: &State| {
                s.credential(CHILD).is_some_and(|c| s.accepted_online(c) && s.accepted_in_process(c))
            }),
            Property::sometimes("new evidence is accepted after a revocation", |_, s: &State| {
                s.seen.back && s.credential(3).is_some_and(|c| s.accepted_online(c))
            }),
            Property::sometimes("old evidence is refused after a revocation", |_, s: &State| s.seen.predates),
            Property::sometimes("a renewed lease is accepted after its first expiry", |_, s: &State| {
                s.seen.renewed && s.moment >= 2 && s.credential(1).is_some_and(|c| s.accepted_online(c))
            }),
        ]
    }
}
