//! A state in its first generation, and short words for transitions on it.

use mayfly_domain::{Dimension, LeaseId, UnixMillis};
use mayfly_lease::transition::{self, No, Step, Write};
use mayfly_lease::{CheckCommand, LeaseRecord, Minted, Revoked, StoreError};
use mayfly_testkit::memory::MemoryView;
use mayfly_testkit::words::{self, Wish};

pub(crate) const START: UnixMillis = UnixMillis::from_secs(1_800_000_000);

pub(crate) struct Bench {
    pub(crate) view: MemoryView,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { view: MemoryView::in_generation(words::generation(1, START)) }
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.view.now
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.view.now = self.view.now.plus(ms);
    }

    /// The writes that a transition asks for, applied.
    pub(crate) fn writes<R>(
        &mut self,
        decide: impl FnOnce(&MemoryView, UnixMillis) -> Result<Step<R>, StoreError>,
    ) -> Result<(R, Vec<Write>), No> {
        let (outcome, writes) = decide(&self.view, self.view.now).map_err(MemoryView::no)?;
        writes.iter().cloned().for_each(|write| self.view.apply(write));
        Ok((outcome, writes))
    }

    pub(crate) fn mint(&mut self, wish: &Wish) -> Result<(Minted, Vec<Write>), No> {
        self.writes(|view, now| transition::mint(view, &wish.mint(now), now))
    }

    pub(crate) fn minted(&mut self, wish: &Wish) -> LeaseRecord {
        self.mint(wish).unwrap().0.record
    }

    pub(crate) fn confirm(&mut self, id: LeaseId) -> Result<LeaseRecord, No> {
        self.writes(|view, now| transition::confirm(view, id, now)).map(|(record, _)| record)
    }

    pub(crate) fn renew(&mut self, wish: &Wish, nonce: u32) -> Result<(LeaseRecord, Vec<Write>), No> {
        let mut command = wish.renewal(nonce, self.now());
        if let Some((record, _)) = self.view.records.get(&command.id) {
            command.body = record.body.clone();
        }
        let renewed = self.writes(|view, now| transition::renew(view, &command, now));
        renewed.map(|(renewed, writes)| (renewed.record, writes))
    }

    pub(crate) fn check(&self, id: LeaseId) -> Result<LeaseRecord, No> {
        let command = CheckCommand { id, observation: None };
        transition::check(&self.view, &command, self.view.now).map(|c| c.record).map_err(MemoryView::no)
    }

    pub(crate) fn revoke(&mut self, n: u32, dimension: Dimension, value: u8) -> (Revoked, Vec<Write>) {
        let command = words::revoke_subject(n, words::subject(dimension, value), None);
        self.writes(|view, now| transition::revoke(view, &command, now)).unwrap()
    }

    pub(crate) fn revoke_lease(&mut self, n: u32, id: LeaseId) -> (Revoked, Vec<Write>) {
        let command = words::revoke_lease(n, id, self.now().plus(words::LONGEST_LIFE_MS));
        self.writes(|view, now| transition::revoke(view, &command, now)).unwrap()
    }

    pub(crate) fn block(&mut self, dimension: Dimension, value: u8) {
        let block = words::block(self.now(), None);
        let subject = words::subject(dimension, value);
        self.writes(|view, now| transition::set_block(view, &subject, Some(block), now)).unwrap();
    }
}

/// A wish with the defaults.
pub(crate) fn wish(n: u32) -> Wish {
    Wish::new(n, START)
}

/// Every dimension with the position of its first subject in a wish.
pub(crate) const DIMENSIONS: [(Dimension, usize); 6] = [
    (Dimension::Workload, 0),
    (Dimension::Owner, 1),
    (Dimension::Task, 2),
    (Dimension::Profile, 3),
    (Dimension::Integration, 4),
    (Dimension::Everything, 5),
];
