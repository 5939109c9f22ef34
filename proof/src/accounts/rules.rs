//! Who may take which step when, and what must hold.

use mayfly_domain::LeaseState;
use stateright::{Model, Property};

use super::effects::{beginning, is_accepted, is_reserved, part};
use super::{Accounts, Act, Flight, MOMENTS, Mint, Reaper, Revocation, Scan, State, Sweep, account};
use crate::order::Order;

impl Accounts {
    fn of_the_mint(&self, s: &State, acts: &mut Vec<Act>) {
        let in_time = s.moment < 2;
        let confirm_first = self.broken == Some(Order::ConfirmAfterEffect);
        match &s.mint {
            Mint::Idle if s.moment == 0 => acts.push(Act::Decide),
            Mint::Writing(groups) => acts.extend(groups.last().map(|group| Act::Write(part(group)))),
            Mint::Written if confirm_first => acts.push(Act::Confirm),
            // Its own deadline is never after the store's.
            Mint::Written if in_time => acts.push(Act::Call),
            Mint::Called if s.flight == Flight::Landed => acts.push(Act::Confirm),
            Mint::Confirmed if confirm_first && s.flight == Flight::None && in_time => acts.push(Act::Call),
            Mint::Confirmed if !confirm_first => acts.push(Act::Send),
            Mint::Made => acts.push(Act::Send),
            _ => {}
        }
        if !matches!(s.mint, Mint::Idle | Mint::Sent | Mint::Over) {
            acts.push(Act::Crash);
        }
        // A call lands within the grace after the deadline, or never.
        if s.flight == Flight::Flying && s.moment < 3 {
            acts.push(Act::Land);
        }
        if !s.late.is_empty() && matches!(s.mint, Mint::Written | Mint::Called | Mint::Confirmed | Mint::Sent)
        {
            acts.push(Act::Late);
        }
    }

    fn of_helpers(&self, s: &State, acts: &mut Vec<Act>) {
        match &s.sweep {
            Sweep::Idle if !s.store.jobs.is_empty() => acts.push(Act::SweepReads),
            Sweep::Idle => {}
            Sweep::Read(..) => {
                acts.push(Act::SweepEnds);
                if self.faults {
                    acts.push(Act::SweepCrashes);
                }
            }
        }
        for (n, reaper) in s.reapers.iter().enumerate() {
            match reaper {
                Reaper::Idle => acts.push(Act::Pick(n)),
                Reaper::Picked(_) => acts.push(Act::Undo(n)),
                Reaper::Undone(_) => acts.push(Act::Tell(n)),
            }
            if self.faults && *reaper != Reaper::Idle {
                acts.push(Act::ReaperCrashes(n));
            }
        }
        match s.scan {
            Scan::Idle if s.account || self.broken == Some(Order::ScanListsFirst) => {
                acts.extend([Act::ScanStarts(false), Act::ScanStarts(true)]);
            }
            Scan::Idle => {}
            Scan::Listed(_) | Scan::ReadFirst(_) => acts.push(Act::ScanReads),
            Scan::Unreserved => acts.push(Act::ScanChecks),
            Scan::Condemned => acts.push(Act::ScanUndoes),
        }
    }
}

impl State {
    /// Nobody has anything left to do but scans.
    fn is_at_rest(&self) -> bool {
        self.moment + 1 == MOMENTS.len()
            && matches!(self.mint, Mint::Idle | Mint::Sent | Mint::Over)
            && self.store.jobs.is_empty()
            && self.sweep == Sweep::Idle
            && self.reapers.iter().all(|r| *r == Reaper::Idle)
            && !self.store.undo.contains_key(&account())
            && self.scan == Scan::Idle
            && matches!(
                self.revocation,
                Revocation::None | Revocation::Acknowledged(..) | Revocation::Forgotten(_)
            )
    }

    /// Whether a lease in somebody's hands is dead by an acknowledged revocation and nothing is at work on it.
    fn is_swept_over(&self) -> bool {
        let waits = match self.record().map(|r| (r.state, r.expires)) {
            Some((LeaseState::Ended(_), _)) => self.store.undo.contains_key(&account()),
            Some((_, expires)) => self.store.now >= expires,
            None => self.lost,
        };
        self.is_covered()
            && self.store.jobs.is_empty()
            && self.sweep == Sweep::Idle
            && !matches!(&self.revocation, Revocation::Acknowledged(_, rest) if !rest.is_empty())
            && !waits
    }
}

impl Model for Accounts {
    type State = State;
    type Action = Act;

    fn init_states(&self) -> Vec<State> {
        vec![beginning(self.reapers)]
    }

    fn actions(&self, s: &State, acts: &mut Vec<Act>) {
        self.of_the_mint(s, acts);
        match &s.revocation {
            Revocation::None => acts.extend(self.revocations.iter().copied().map(Act::Revoke)),
            Revocation::Half(..) => acts.push(Act::Rest),
            Revocation::Acknowledged(_, rest) if !rest.is_empty() => acts.extend([Act::Rest, Act::Forget]),
            _ => {}
        }
        self.of_helpers(s, acts);
        acts.push(Act::Clean);
        if self.faults && !s.lost && !matches!(s.mint, Mint::Writing(_)) {
            acts.push(Act::Lose);
        }
        if s.moment + 1 < MOMENTS.len() {
            acts.push(Act::Tick);
        }
    }

    fn next_state(&self, last: &State, act: Act) -> Option<State> {
        let mut s = last.clone();
        match act {
            Act::Decide => self.decide(&mut s)?,
            Act::Write(_) => self.write(&mut s)?,
            Act::Late => std::mem::take(&mut s.late).into_iter().for_each(|write| s.store.apply(write)),
            Act::Call => {
                s.flight = Flight::Flying;
                s.mint = Mint::Called;
            }
            Act::Land => {
                s.flight = Flight::Landed;
                s.account = true;
                if self.broken == Some(Order::ConfirmAfterEffect) && s.mint == Mint::Called {
                    s.mint = Mint::Made;
                }
            }
            Act::Confirm => self.confirm(&mut s)?,
            Act::Send => self.send(&mut s)?,
            Act::Crash => s.mint = Mint::Over,
            Act::Revoke(what) => self.revoke(&mut s, what)?,
            Act::Rest => self.rest(&mut s)?,
            Act::Forget => {
                let Revocation::Acknowledged(what, _) = s.revocation else { return None };
                s.revocation = Revocation::Forgotten(what);
            }
            Act::SweepReads => self.sweep_reads(&mut s)?,
            Act::SweepEnds => self.sweep_ends(&mut s)?,
            Act::SweepCrashes => s.sweep = Sweep::Idle,
            Act::Pick(n) => self.pick(&mut s, n)?,
            Act::Undo(n) => self.undo(&mut s, n)?,
            Act::Tell(n) => self.tell(&mut s, n)?,
            Act::ReaperCrashes(n) => s.reapers[n] = Reaper::Idle,
            Act::ScanStarts(ahead) => self.scan_starts(&mut s, ahead)?,
            Act::ScanReads => self.scan_reads(&mut s)?,
            Act::ScanChecks => self.scan_checks(&mut s)?,
            Act::ScanUndoes => {
                s.account = false;
                s.scan = Scan::Idle;
            }
            Act::Clean => self.clean(&mut s)?,
            Act::Lose => self.lose(&mut s)?,
            Act::Tick => {
                s.moment += 1;
                s.store.now = State::at(s.moment);
            }
        }
        Some(s)
    }

    fn format_action(&self, act: &Act) -> String {
        super::told::told(self, act)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no check accepts what an acknowledged revocation covers", |_, s: &State| {
                !s.is_covered() || !is_accepted(s)
            }),
            Property::always(
                "when the sweep has reported, no account that it covers is in anybody's hands",
                |_, s: &State| !(s.mint == Mint::Sent && s.account && s.is_swept_over()),
            ),
            Property::always("no account drops out of the undo queue", |_, s: &State| {
                !s.account || s.lost || s.store.undo.contains_key(&account())
            }),
            Property::always("at rest no account is left that a scan would spare", |_, s: &State| {
                !(s.is_at_rest() && s.account) || (s.lost && !is_reserved(s, s.store.now) && !is_accepted(s))
            }),
            Property::always("no credential without a lease", |_, s: &State| !s.sent_without_lease),
            Property::always("nobody loses an account wrongly", |_, s: &State| {
                s.mint != Mint::Sent || s.account || s.lost || s.revocation_began() || !is_accepted(s)
            }),
            Property::always("a sent account's lease is accepted until it ends", |_, s: &State| {
                s.mint != Mint::Sent
                    || s.lost
                    || s.revocation_began()
                    || s.store.lease(account()).is_none_or(|r| s.store.now >= r.expires)
                    || is_accepted(s)
            }),
            Property::sometimes("an account is used", |_, s: &State| {
                s.mint == Mint::Sent && s.account && is_accepted(s)
            }),
            Property::sometimes("a race is lost and its account undone", |_, s: &State| {
                s.mint == Mint::Over && s.flight == Flight::Landed && !s.account && s.store.undo.is_empty()
            }),
            Property::sometimes("a revoked account is undone", |_, s: &State| {
                s.mint == Mint::Sent && s.is_covered() && !s.account && s.store.undo.is_empty()
            }),
        ]
    }
}
