//! Who may take which step when, and what must hold.

use stateright::{Model, Property};

use super::steps::beginning;
use super::{Act, BOUND, Feed, Ping, Revocation, State, UNIT};
use crate::order::Order;

impl Feed {
    fn of_the_follower(&self, s: &State, acts: &mut Vec<Act>) {
        match s.connected {
            None => acts.extend((0..self.brokers).map(Act::Connect)),
            Some(_) => {
                if s.cuts < self.cuts {
                    acts.push(Act::Cut);
                }
                if !s.inbox.is_empty() {
                    acts.push(Act::Deliver);
                }
                let here = s.follower.position().map(|at| (s.now, at.number));
                if s.ping == Ping::None && here.is_some() && here != s.pinged {
                    acts.push(Act::Ping);
                }
            }
        }
        match s.ping {
            Ping::Sent(..) => acts.push(Act::WritePing),
            Ping::Durable(..) => acts.push(Act::Pong),
            Ping::None | Ping::Written(..) => {}
        }
    }
}

impl Model for Feed {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        vec![beginning()]
    }

    fn actions(&self, s: &State, acts: &mut Vec<Act>) {
        self.of_the_follower(s, acts);
        acts.extend((0..self.brokers).flat_map(|n| [Act::Read(n), Act::Notice(n)]));
        if self.durable {
            acts.push(Act::Replicate);
        }
        if s.fail_overs < self.fail_overs {
            acts.push(Act::FailOver);
        }
        if self.other && !s.other {
            acts.push(Act::Other);
        }
        match s.revocation {
            Revocation::None => acts.push(Act::Revoke),
            Revocation::Written(..) => acts.push(Act::Acknowledge),
            Revocation::Acknowledged(..) if s.barrier.is_none() => acts.push(Act::Barrier),
            Revocation::Acknowledged(..) if !s.complete => acts.push(Act::Look),
            Revocation::Acknowledged(..) => {}
        }
        if self.broken == Some(Order::EventBeforeAck)
            && matches!(s.revocation, Revocation::Acknowledged(..))
            && !s.is_revoked()
        {
            acts.push(Act::Late);
        }
        if self.reuse && !s.is_revoked() && s.revocation == Revocation::None && s.reused_until.is_none() {
            acts.push(Act::Ask);
        }
        if s.now < self.time * UNIT {
            acts.push(Act::Tick);
        }
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut s = last.clone();
        match act {
            Act::Connect(hub) => self.connect(&mut s, hub)?,
            Act::Cut => self.cut(&mut s),
            Act::Deliver => self.deliver(&mut s)?,
            Act::Ping => self.ping(&mut s)?,
            Act::WritePing => self.write_ping(&mut s)?,
            Act::Pong => self.answer(&mut s)?,
            Act::Read(hub) => self.read(&mut s, hub)?,
            Act::Notice(hub) => self.notice(&mut s, hub)?,
            Act::Replicate => self.replicate(&mut s)?,
            Act::FailOver => self.fail_over(&mut s),
            Act::Other => {
                s.other = true;
                s.store.feed.push(false);
            }
            Act::Revoke => self.revoke(&mut s),
            Act::Acknowledge => self.acknowledge(&mut s)?,
            Act::Late => s.store.feed.push(true),
            Act::Barrier => self.begin_barrier(&mut s)?,
            Act::Look => self.look(&mut s)?,
            Act::Ask => self.ask(&mut s),
            Act::Tick => s.now += UNIT,
        }
        if !self.durable {
            // There is no replica to wait for.
            let _ = self.replicate(&mut s);
        }
        (s != *last).then_some(s)
    }

    fn format_action(&self, act: &Act) -> String {
        super::told::told(self, act)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always("after the barrier no follower accepts", |_, s: &State| {
                !(s.complete && s.accepts())
            }),
            Property::always("after the barrier no answer is reused", |_, s: &State| {
                !(s.complete && s.reused_until.is_some_and(|until| s.now < until))
            }),
            Property::always(
                "a bound after the acknowledgement no follower accepts",
                |_, s: &State| !matches!(s.revocation, Revocation::Acknowledged(_, at) if s.now >= at + BOUND && s.accepts()),
            ),
            Property::always("every barrier ends a step after the largest bound", |_, s: &State| {
                let Some(mut barrier) = s.barrier.as_deref().cloned() else { return true };
                s.now <= s.begun + BOUND || s.complete || barrier.progress(s.boot(), None).complete
            }),
            Property::sometimes("a follower accepts", |_, s: &State| s.accepts()),
            Property::sometimes("a barrier ends before any bound, with a fresh follower", |_, s: &State| {
                s.complete && s.now < BOUND && s.follower.is_fresh(s.boot())
            }),
        ];
        // Less time is shorter than any bound.
        if self.time > 2 {
            all.push(Property::sometimes("a barrier ends by a follower's silence", |_, s: &State| {
                s.complete
                    && s.barrier
                        .as_deref()
                        .cloned()
                        .is_some_and(|mut b| b.progress(s.boot(), None).passed > 0)
            }));
        }
        all
    }
}
