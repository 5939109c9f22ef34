//! A store that is lost, and what must outlive it: two brokers with their sealed copies, one block, mints with evidence
//! that is new enough.
//!
//! A broker that acknowledged a block has it in its copy; the other one's copy may be older. Whoever looks first begins
//! the new generation. Mints, blocks, checks and what is carried over are the code's own; when a generation is doubted
//! is the guard's rule, told again here.

use std::hash::{Hash, Hasher};

use mayfly_domain::{Dimension, Gate, Generation, GenerationId, LeaseId, Observation, Subject};
use mayfly_lease::{CheckCommand, gate, transition};
use mayfly_testkit::words::{self, Wish};
use stateright::{Model, Property};

use crate::order::Order;
use crate::store::{START, Store};

/// The model.
#[derive(Debug, Clone, Default)]
pub struct Generations {
    /// The order that is broken, if any.
    pub broken: Option<Order>,
}

/// A broker's copy, and the generation that it works in.
#[derive(Debug, Clone, Default, PartialEq)]
struct Copied {
    generation: Generation,
    block: Option<Gate>,
}

/// A state.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    store: Option<Store>,
    brokers: [Copied; 2],
    /// Blocks that a new generation lacks until they are carried, where the order is broken.
    to_carry: Option<Gate>,
    /// The broker that acknowledged the block.
    blocked_by: Option<usize>,
    /// Credentials: of which generation, and whether a block stood that had been acknowledged.
    minted: Vec<(LeaseId, Observation, bool)>,
    losses: u8,
    /// How many generations were begun: each has an id of its own, also where two have one number.
    begun: u8,
    refused: bool,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "told by `format_action`")]
pub enum Act {
    Block(usize),
    Mint(usize),
    Lose,
    Look(usize),
    Carry,
}

/// The most credentials.
const MOST: usize = 3;

fn owner() -> Subject {
    words::subject(Dimension::Owner, 1)
}

impl State {
    fn serves(&self, broker: usize) -> bool {
        self.store.as_ref().is_some_and(|s| s.generation.generation == self.brokers[broker].generation)
    }

    fn accepts(&self, id: LeaseId, observation: &Observation) -> bool {
        let command = CheckCommand { id, observation: Some(observation.clone()) };
        self.store.as_ref().is_some_and(|s| transition::check(s, &command, s.now).is_ok())
    }

    fn refresh(&mut self, broker: usize) {
        let Some(store) = &self.store else { return };
        let stored = store.gates.get(&owner().key()).cloned();
        let mine = &mut self.brokers[broker];
        mine.generation = store.generation.generation;
        if stored.as_ref().map(|g| g.block_version) > mine.block.as_ref().map(|g| g.block_version) {
            mine.block = stored;
        }
    }

    /// A new generation with what this broker's copy holds.
    fn begin(&mut self, broker: usize, carries_later: bool) {
        let before = self.store.as_ref().map_or(0, |s| s.generation.generation.number);
        let number = before.max(self.brokers[broker].generation.number) + 1;
        self.begun += 1;
        let mut next = self.store.clone().unwrap_or_default();
        next.generation = words::generation(number, START);
        next.generation.generation.id = GenerationId([self.begun; 8]);
        let stored = next.gates.get(&owner().key()).cloned();
        let carried =
            self.brokers[broker].block.as_ref().and_then(|mine| gate::carried(stored.as_ref(), mine));
        match carried {
            Some(gate) if carries_later => self.to_carry = Some(gate),
            Some(gate) => drop(next.gates.insert(owner().key(), gate)),
            None => {}
        }
        self.store = Some(next);
        self.refresh(broker);
    }

    /// Whether the generation of another broker lacks what this one's copy holds.
    fn lacks(&self, broker: usize) -> bool {
        let Some(store) = &self.store else { return true };
        let stored = store.gates.get(&owner().key());
        self.brokers[broker].block.as_ref().is_some_and(|mine| gate::carried(stored, mine).is_some())
    }
}

impl Model for Generations {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        let first = words::generation(1, START).generation;
        let copied = Copied { generation: first, block: None };
        vec![State {
            store: Some(Store::new()),
            brokers: [copied.clone(), copied],
            to_carry: None,
            blocked_by: None,
            minted: Vec::new(),
            losses: 0,
            begun: 1,
            refused: false,
        }]
    }

    fn actions(&self, s: &State, acts: &mut Vec<Act>) {
        for broker in 0..2 {
            if s.serves(broker) && s.blocked_by.is_none() {
                acts.push(Act::Block(broker));
            }
            if s.serves(broker) && s.minted.len() < MOST {
                acts.push(Act::Mint(broker));
            }
            acts.push(Act::Look(broker));
        }
        if s.losses < 2 && s.store.is_some() {
            acts.push(Act::Lose);
        }
        if s.to_carry.is_some() {
            acts.push(Act::Carry);
        }
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut s = last.clone();
        match act {
            Act::Block(broker) => {
                let block = words::block(START, None);
                let store = s.store.as_mut()?;
                store.step(|view, now| transition::set_block(view, &owner(), Some(block), now)).ok()?;
                s.refresh(broker);
                s.blocked_by = Some(broker);
            }
            Act::Mint(_) => {
                let n = u32::try_from(s.minted.len()).ok()? + 1;
                let wish = Wish { token: Some(n), task: None, ..Wish::new(n, START) };
                let mut command = wish.mint(START);
                command.quotas.clear();
                match s.store.as_mut()?.step(|view, now| transition::mint(view, &command, now)) {
                    Ok(minted) => {
                        let id = minted.record.id;
                        s.minted.push((id, minted.record.observation, last.blocked_by.is_some()));
                    }
                    Err(_) => s.refused = true,
                }
            }
            Act::Lose => {
                s.store = None;
                s.to_carry = None;
                s.losses += 1;
            }
            Act::Look(broker) => {
                let later = self.broken == Some(Order::BlocksCarried);
                if s.store.is_none() || (!s.serves(broker) && !later && s.lacks(broker)) {
                    s.begin(broker, later);
                } else {
                    s.refresh(broker);
                }
            }
            Act::Carry => {
                let gate = s.to_carry.take()?;
                s.store.as_mut()?.gates.insert(owner().key(), gate);
            }
        }
        (s != *last).then_some(s)
    }

    fn format_action(&self, act: &Act) -> String {
        let broker = |n: &usize| if *n == 0 { "broker A" } else { "broker B" };
        match act {
            Act::Block(n) => format!("{} blocks the owner, with its copy, and acknowledges", broker(n)),
            Act::Mint(n) => format!("{} is asked to mint with new evidence", broker(n)),
            Act::Lose => "the store is lost".into(),
            Act::Look(n) => {
                format!("{} looks at the store, and begins or takes over a generation", broker(n))
            }
            Act::Carry => "the blocks are carried over".into(),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no check accepts what is of another generation", |_, s: &State| {
                let now = s.store.as_ref().map(|s| s.generation.generation);
                s.minted.iter().all(|(id, seen, _)| Some(seen.generation()) == now || !s.accepts(*id, seen))
            }),
            Property::always(
                "once whoever acknowledged a block has looked, nothing that was minted past it is accepted",
                |_, s: &State| {
                    let looked = s.blocked_by.is_some_and(|broker| s.serves(broker));
                    !looked || s.minted.iter().all(|(id, seen, past)| !past || !s.accepts(*id, seen))
                },
            ),
            Property::always(
                "in the generation of whoever acknowledged a block it stands",
                |m: &Self, s: &State| {
                    let looked = s.blocked_by.is_some_and(|broker| s.serves(broker));
                    m.broken.is_some()
                        || !looked
                        || s.store.as_ref().is_some_and(|store| {
                            store
                                .gates
                                .get(&owner().key())
                                .is_some_and(|g| g.standing_block(store.now).is_some())
                        })
                },
            ),
            Property::sometimes("a block that was carried over refuses", |_, s: &State| {
                s.refused && s.losses > 0
            }),
            Property::sometimes("a credential of a later generation is accepted", |_, s: &State| {
                s.losses > 0 && s.minted.iter().any(|(id, seen, _)| s.accepts(*id, seen))
            }),
        ]
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (&self.store, self.blocked_by, self.losses, self.begun, self.refused, self.to_carry.is_some())
            .hash(to);
        for copied in &self.brokers {
            (copied.generation, copied.block.is_some()).hash(to);
        }
        for (id, seen, past) in &self.minted {
            (id, seen.generation(), seen.pairs(), past).hash(to);
        }
    }
}
