//! What every case starts from: an empty store in its first generation, and short words for calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mayfly_domain::{Block, Clock as _, Dimension, LeaseId, LeaseState, Subject, UnixMillis};
use mayfly_lease::transition::No;
use mayfly_lease::{
    Carry, CheckCommand, GenerationRecord, LeaseRecord, LeaseStore, ListQuery, Minted, RenewCommand, Revoked,
    StoreError, sweep,
};

use super::Fixture;
use crate::clock::TestClock;
use crate::memory::MemoryStore;
use crate::words::{self, Wish};

/// A store in its first generation, and its clock.
pub struct World {
    /// How the store was set up.
    pub fixture: Box<dyn Fixture>,
    /// The store.
    pub store: Arc<dyn LeaseStore>,
    /// Its clock, which stands at the start of a second.
    pub clock: TestClock,
    /// When the world began.
    pub start: UnixMillis,
    numbers: AtomicU32,
}

impl World {
    /// An empty store in its first generation.
    pub async fn new(mut fixture: Box<dyn Fixture>) -> Self {
        let clock = fixture.clock();
        let store = fixture.store().await;
        let start = clock.now();
        let first = words::generation(1, start);
        assert_eq!(store.begin_generation(&first, &Carry::default()).await.unwrap(), first);
        store.adopt(first);
        Self { fixture, store, clock, start, numbers: AtomicU32::new(1) }
    }

    /// Now, by the store's clock.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// A number that was not used yet.
    pub fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    /// A wish for a new lease, with the defaults.
    pub fn wish(&self) -> Wish {
        Wish::new(self.number(), self.start)
    }

    /// A wish for a new lease of another workload, owner, task, profile, key and token.
    pub fn other(&self, n: u8) -> Wish {
        Wish {
            workload: n,
            owners: vec![n],
            task: Some(n),
            profile: n,
            key: n,
            token: Some(n.into()),
            ..self.wish()
        }
    }

    /// Mints.
    pub async fn mint(&self, wish: &Wish) -> Result<Minted, No> {
        refusal(self.store.mint(&wish.mint(self.now())).await)
    }

    /// Mints and returns the record.
    pub async fn minted(&self, wish: &Wish) -> LeaseRecord {
        self.mint(wish).await.unwrap().record
    }

    /// Mints and confirms.
    pub async fn confirmed(&self, wish: &Wish) -> LeaseRecord {
        let record = self.minted(wish).await;
        self.store.confirm(record.id).await.unwrap()
    }

    /// Renews by the wish that it was minted with.
    pub async fn renew(&self, wish: &Wish) -> Result<LeaseRecord, No> {
        self.renew_by(&wish.renewal(self.number(), self.now())).await
    }

    /// Renews with a token that was not shown yet.
    pub async fn renew_afresh(&self, wish: &Wish, token: u32) -> Result<LeaseRecord, No> {
        let afresh = Wish { token: Some(token), ..wish.clone() }.renewal(self.number(), self.now());
        self.renew_by(&RenewCommand { body: wish.body(), ..afresh }).await
    }

    /// Renews.
    pub async fn renew_by(&self, command: &RenewCommand) -> Result<LeaseRecord, No> {
        refusal(self.store.renew(command).await).map(|renewed| renewed.record)
    }

    /// Checks by the lease's id.
    pub async fn check(&self, id: LeaseId) -> Result<LeaseRecord, No> {
        refusal(self.store.check(&CheckCommand { id, observation: None }).await).map(|checked| checked.record)
    }

    /// Revokes a subject.
    pub async fn revoke(&self, dimension: Dimension, n: u8) -> Revoked {
        self.revoke_subject(words::subject(dimension, n), None).await
    }

    /// Revokes a subject, with a block where one is given.
    pub async fn revoke_subject(&self, subject: Subject, block: Option<Block>) -> Revoked {
        self.store.revoke(&words::revoke_subject(self.number(), subject, block)).await.unwrap()
    }

    /// Revokes one lease.
    pub async fn revoke_lease(&self, id: LeaseId) -> Revoked {
        let until = self.now().plus(words::LONGEST_LIFE_MS);
        self.store.revoke(&words::revoke_lease(self.number(), id, until)).await.unwrap()
    }

    /// Sets a block.
    pub async fn block(&self, dimension: Dimension, n: u8, for_ms: Option<u64>) {
        let block = words::block(self.now(), for_ms);
        self.store.set_block(&words::subject(dimension, n), Some(block)).await.unwrap();
    }

    /// Works on jobs until none is open; returns what was ended.
    pub async fn sweep(&self) -> Vec<LeaseId> {
        let mut ended = Vec::new();
        while let Some(mut job) = self.store.claim_job(sweep::CLAIM_MS).await.unwrap() {
            while !job.done {
                let step = sweep::step(&*self.store, job).await.unwrap();
                ended.extend(step.ended);
                job = step.job;
            }
        }
        ended.sort_unstable();
        ended
    }

    /// A lease's state, as it is shown.
    pub async fn state(&self, id: LeaseId) -> Option<LeaseState> {
        self.store.get(id).await.unwrap().map(|record| record.state)
    }

    /// Every lease along a subject, or of all, by pages of `limit`.
    pub async fn list(&self, along: Option<&Subject>, limit: u32) -> Vec<LeaseId> {
        let mut query = ListQuery { along: along.map(Subject::key), after: None, limit };
        let mut ids = Vec::new();
        loop {
            let page = self.store.list(&query).await.unwrap();
            assert!(page.records.len() <= usize::try_from(limit).unwrap());
            ids.extend(page.records.iter().map(|r| r.id));
            match page.next {
                Some(next) => {
                    assert!(query.after.is_none_or(|after| after < next), "the cursor moves on");
                    query.after = Some(next);
                }
                None => return ids,
            }
        }
    }

    /// Starts the server or opens the file anew; the broker adopts the generation that it finds.
    pub async fn restart(&mut self) {
        self.let_go();
        self.fixture.restart().await;
        self.store = self.fixture.store().await;
        self.adopt().await;
    }

    /// Loses a lease's record. `false` where the fixture can't.
    pub async fn lose_record(&mut self, id: LeaseId) -> bool {
        self.let_go();
        let lost = self.fixture.lose_record(id).await;
        self.store = self.fixture.store().await;
        self.adopt().await;
        lost
    }

    /// Holds the store no longer, so that its file can be opened by another.
    fn let_go(&mut self) {
        self.store = Arc::new(MemoryStore::new(Arc::new(self.clock.clone())));
    }

    /// Adopts the generation that the store has.
    pub async fn adopt(&self) -> GenerationRecord {
        let found = self.store.survey().await.unwrap().generation.unwrap();
        self.store.adopt(found);
        found
    }

    /// Another broker on the same store, in the same generation, where the store allows one.
    pub async fn another(&mut self) -> Arc<dyn LeaseStore> {
        if !self.fixture.shared() {
            return Arc::clone(&self.store);
        }
        let other = self.fixture.store().await;
        other.adopt(self.store.generation().unwrap());
        other
    }
}

/// The refusal in an outcome; any other error fails the test.
pub(super) fn refusal<T>(outcome: Result<T, StoreError>) -> Result<T, No> {
    outcome.map_err(|error| match error {
        StoreError::Refused(no) => no,
        other => panic!("not a refusal: {other}"),
    })
}
