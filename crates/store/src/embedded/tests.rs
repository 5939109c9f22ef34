//! Tests of what only this store has: its file, its writer, its cleaning. The rules are the conformance suite's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mayfly_domain::{Clock as _, Dimension, UnixMillis};
use mayfly_lease::transition::No;
use mayfly_lease::{Carry, CheckCommand, LeaseStore as _, ListQuery, sweep};
use mayfly_testkit::clock::TestClock;
use mayfly_testkit::words::{self, Wish};
use parking_lot::{Condvar, Mutex};
use redb::backends::FileBackend;
use redb::{ReadableTable as _, ReadableTableMetadata as _, StorageBackend};
use tempfile::TempDir;

use super::*;

/// A disk that a test fills, slows down and counts the syncs of.
#[derive(Debug, Default)]
struct Disk {
    full: AtomicBool,
    syncs: AtomicU32,
    held: Mutex<bool>,
    released: Condvar,
    waiting: AtomicBool,
}

impl Disk {
    fn hold(&self) {
        *self.held.lock() = true;
    }

    fn release(&self) {
        *self.held.lock() = false;
        self.released.notify_all();
    }

    async fn somebody_waits(&self) {
        while !self.waiting.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }

    fn room(&self) -> std::io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl StorageBackend for Faulty {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.disk.room()?;
        self.file.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.disk.room()?;
        self.file.write(offset, data)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        let mut held = self.disk.held.lock();
        while *held {
            self.disk.waiting.store(true, Ordering::SeqCst);
            self.disk.released.wait(&mut held);
        }
        self.disk.waiting.store(false, Ordering::SeqCst);
        drop(held);
        self.disk.room()?;
        self.disk.syncs.fetch_add(1, Ordering::SeqCst);
        self.file.sync_data()
    }
}

/// A store in its first generation.
struct Bench {
    dir: TempDir,
    disk: Arc<Disk>,
    clock: TestClock,
    store: Arc<EmbeddedStore>,
    start: UnixMillis,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (disk, clock) = (Arc::new(Disk::default()), TestClock::at(UnixMillis::from_secs(1_800_000_000)));
        let path = dir.path().join("mayfly.redb");
        let (file, faults) = (path.clone(), Arc::clone(&disk));
        let opener: Opener = Arc::new(move || {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&file)
                .unwrap();
            let backend = Faulty { file: FileBackend::new(file).unwrap(), disk: Arc::clone(&faults) };
            redb::Database::builder()
                .create_with_backend(backend)
                .map_err(|e| OpenError::Unusable { path: PathBuf::new(), why: e.to_string() })
        });
        let store = Arc::new(EmbeddedStore::open_with(&path, opener, Arc::new(clock.clone())).unwrap());
        let start = clock.now();
        let first = words::generation(1, start);
        store.begin_generation(&first, &Carry::default()).await.unwrap();
        store.adopt(first);
        Self { dir, disk, clock, store, start }
    }

    fn wish(&self, n: u32) -> Wish {
        Wish { token: Some(n), ..Wish::new(n, self.start) }
    }

    fn minting(&self, n: u32) -> tokio::task::JoinHandle<Result<mayfly_lease::Minted, StoreError>> {
        let (store, command) = (Arc::clone(&self.store), self.wish(n).mint(self.clock.now()));
        tokio::spawn(async move { store.mint(&command).await })
    }

    async fn check(&self, n: u32) -> Result<(), StoreError> {
        let check = CheckCommand { id: words::lease(n), observation: None };
        self.store.check(&check).await.map(drop)
    }

    /// How many entries the file holds, without the single ones and the feed's.
    fn entries(&self) -> usize {
        let count = |state: &State<ReadOnlyTable<&'static [u8], &'static [u8]>>| {
            let keys = state.table.iter().unwrap().map(|e| e.unwrap().0.value().to_vec());
            Ok(keys.filter(|key| key.len() > 1 && key[0] != layout::EVENT).count())
        };
        self.store.store.read(self.clock.now(), count).unwrap()
    }
}

#[tokio::test]
async fn only_one_process_has_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mayfly.redb");
    let clock: SharedClock = Arc::new(TestClock::at(UnixMillis(1)));
    let store = EmbeddedStore::open(&path, Arc::clone(&clock)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = EmbeddedStore::open(&path, Arc::clone(&clock)).unwrap_err();
    assert!(matches!(&refused, OpenError::Locked(locked) if *locked == path), "{refused}");
    assert!(refused.to_string().contains("mayfly.redb") && refused.to_string().contains("locked"));
    let identity = mayfly_lease::LeaseStore::identity(&store);
    drop(store);
    let again = EmbeddedStore::open(&path, Arc::clone(&clock)).unwrap();
    assert_eq!(mayfly_lease::LeaseStore::identity(&again), identity, "the file is still the same");
    drop(again);
    std::fs::remove_file(&path).unwrap();
    let replaced = EmbeddedStore::open(&path, clock).unwrap();
    assert_ne!(mayfly_lease::LeaseStore::identity(&replaced), identity, "another file is another store");
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(TestClock::at(UnixMillis(1)));
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "not a store\n".repeat(1_000)).unwrap();
    let refused = EmbeddedStore::open(&text, Arc::clone(&clock)).unwrap_err();
    assert!(matches!(refused, OpenError::Unusable { .. }), "{refused}");
    let nowhere = EmbeddedStore::open(dir.path().join("no/such/dir.redb"), Arc::clone(&clock)).unwrap_err();
    assert!(nowhere.to_string().contains("no/such/dir.redb"));

    let newer = dir.path().join("newer.redb");
    drop(EmbeddedStore::open(&newer, Arc::clone(&clock)).unwrap());
    let database = redb::Database::open(&newer).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(layout::TABLE).unwrap().insert(layout::LAYOUT, [9].as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(EmbeddedStore::open(&newer, clock).unwrap_err(), OpenError::OtherLayout(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_or_seen_before_it_is_durable() {
    let bench = Bench::new().await;
    bench.disk.hold();
    let mint = bench.minting(1);
    bench.disk.somebody_waits().await;
    assert!(!mint.is_finished());
    assert_eq!(bench.check(1).await, Err(StoreError::Refused(No::NotFound)));
    bench.disk.release();
    mint.await.unwrap().unwrap();
    assert_eq!(bench.check(1).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_shares_a_commit_and_revocations_go_first() {
    let bench = Bench::new().await;
    bench.disk.hold();
    let first = bench.minting(1);
    bench.disk.somebody_waits().await;
    let before = bench.disk.syncs.load(Ordering::SeqCst);
    let waiting: Vec<_> = (2..102).map(|n| bench.minting(n)).collect();
    while bench.store.writer.waiting() < 100 {
        tokio::task::yield_now().await;
    }
    let block = words::block(bench.start, None);
    let revoke = words::revoke_subject(1, words::subject(Dimension::Owner, 1), Some(block));
    let store = Arc::clone(&bench.store);
    let revoke = tokio::spawn(async move { store.revoke(&revoke).await });
    while bench.store.writer.waiting() < 101 {
        tokio::task::yield_now().await;
    }
    bench.disk.release();
    first.await.unwrap().unwrap();
    revoke.await.unwrap().unwrap();
    for mint in waiting {
        assert_eq!(mint.await.unwrap(), Err(StoreError::Refused(No::Blocked(1))), "the block was first");
    }
    let syncs = bench.disk.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs <= 6, "{syncs} syncs for two batches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_to_all_and_the_store_goes_on_afterwards() {
    let bench = Bench::new().await;
    bench.minting(1).await.unwrap().unwrap();
    bench.disk.full.store(true, Ordering::SeqCst);
    let waiting: Vec<_> = (2..12).map(|n| bench.minting(n)).collect();
    for mint in waiting {
        let outcome = mint.await.unwrap();
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    }
    let revoke = words::revoke_subject(1, words::subject(Dimension::Owner, 1), None);
    assert!(matches!(bench.store.revoke(&revoke).await, Err(StoreError::Unavailable(_))));
    bench.disk.full.store(false, Ordering::SeqCst);
    // The writer opens the file again when it next has something to do.
    let mut attempts = 0;
    while bench.minting(100 + attempts).await.unwrap().is_err() {
        attempts += 1;
        assert!(attempts < 100, "the store does not come back");
    }
    assert_eq!(bench.check(1).await, Ok(()), "what was acknowledged is there");
    for n in 2..12 {
        assert_eq!(bench.check(n).await, Err(StoreError::Refused(No::NotFound)), "lease {n}");
    }
    bench.store.revoke(&revoke).await.unwrap();
    assert_eq!(bench.check(1).await, Err(StoreError::Refused(No::FenceMoved)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_cleaned_and_nothing_else() {
    let bench = Bench::new().await;
    for n in 1..=20 {
        bench.minting(n).await.unwrap().unwrap();
    }
    let lasting = words::subject(Dimension::Profile, 9);
    bench.store.set_block(&lasting, Some(words::block(bench.start, None))).await.unwrap();
    bench.store.revoke(&words::revoke_lease(1, words::lease(3), UnixMillis(0))).await.unwrap();
    let mut job = bench.store.claim_job(1_000).await.unwrap().unwrap();
    job.done = true;
    bench.store.save_job(&job, 1_000).await.unwrap();
    assert!(bench.entries() > 200);
    bench.clock.advance(3 * words::LONGEST_LIFE_MS);
    // Each change cleans a part; so many go around more than once.
    for n in 0..100 {
        bench.store.put_keys(n, n + 1, b"sealed").await.unwrap();
    }
    assert_eq!(bench.entries(), 1, "the block stays");
    assert!(bench.store.gates(&[lasting.key()]).await.unwrap()[0].is_some());
    assert_eq!(bench.store.counts().await.unwrap(), mayfly_lease::store::StoreCounts::default());

    let account = bench.wish(50).kind(mayfly_domain::CredentialKind::Account);
    let account = Wish { issued_at: bench.clock.now(), ..account };
    bench.store.mint(&account.mint(bench.clock.now())).await.unwrap();
    bench.clock.advance(3 * words::LONGEST_LIFE_MS);
    for n in 100..200 {
        bench.store.put_keys(n, n + 1, b"sealed").await.unwrap();
    }
    assert!(bench.store.get(words::lease(50)).await.unwrap().is_some(), "it waits for its undo");
    assert_eq!(bench.store.due_undos(10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_took_too_much_away_is_remembered() {
    let bench = Bench::new().await;
    bench.minting(1).await.unwrap().unwrap();
    bench.store.revoke(&words::revoke_subject(1, words::subject(Dimension::Owner, 1), None)).await.unwrap();
    bench.clock.advance(3 * words::LONGEST_LIFE_MS);
    for n in 0..100 {
        bench.store.put_keys(n, n + 1, b"sealed").await.unwrap();
    }
    assert_eq!(bench.check(1).await, Err(StoreError::Refused(No::NotFound)), "what ended has ended");
    bench.clock.set(bench.start);
    assert_eq!(bench.check(1).await, Err(StoreError::Forgot));
    let Bench { dir, store, clock, start, .. } = bench;
    drop(Arc::into_inner(store).unwrap());
    let store = EmbeddedStore::open(dir.path().join("mayfly.redb"), Arc::new(clock.clone())).unwrap();
    store.adopt(words::generation(1, start));
    assert!(store.survey().await.unwrap().forgot);
    assert_eq!(store.counts().await, Err(StoreError::Forgot));
    // That clock may have been right after all: nothing that went counts by it.
    clock.advance(3 * words::LONGEST_LIFE_MS);
    assert!(!store.survey().await.unwrap().forgot);
    let late = words::generation(2, clock.now());
    clock.set(start);
    let wrong = store.begin_generation(&late, &Carry::default()).await;
    assert!(matches!(wrong, Err(StoreError::ClockSkew(_))), "{wrong:?}");
    store.begin_generation(&words::generation(2, start), &Carry::default()).await.unwrap();
    store.adopt(words::generation(2, start));
    assert!(store.counts().await.is_ok());
}

#[tokio::test]
async fn the_log_keeps_its_last_events() {
    let bench = Bench::new().await;
    let (all, start) = (mayfly_lease::feed::FEED_KEPT + 3, bench.store.feed_position().await.unwrap());
    let published = bench.store.write(writer::Lane::Normal, move |work| {
        let change = mayfly_domain::feed::Change::Keys { version: 1 };
        let event = mayfly_domain::feed::Event { at: work.now(), revocation: None, change };
        (0..all).try_for_each(|_| work.write(|ledger| ledger.publish(&event)))
    });
    published.await.unwrap();
    let read = async |number| {
        let after = mayfly_domain::feed::Position { number, ..start };
        bench.store.feed_read(&after, 1, std::time::Duration::ZERO).await.unwrap()
    };
    assert_eq!(read(2).await, mayfly_lease::feed::FeedRead::Lost);
    let mayfly_lease::feed::FeedRead::Events(oldest) = read(3).await else { panic!("lost") };
    assert_eq!(oldest[0].number, 4);
    assert_eq!(bench.store.feed_position().await.unwrap().number, all);
}

#[tokio::test]
async fn a_value_that_cannot_be_read_spoils_only_itself() {
    let bench = Bench::new().await;
    bench.minting(1).await.unwrap().unwrap();
    bench.minting(2).await.unwrap().unwrap();
    let key = layout::key(layout::RECORD, &[words::lease(1).as_bytes()]);
    let Bench { dir, store, clock, .. } = bench;
    let store = Arc::into_inner(store).unwrap();
    drop(store);
    let path = dir.path().join("mayfly.redb");
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(layout::TABLE).unwrap().insert(key.as_slice(), [255; 12].as_slice()).unwrap();
    transaction.commit().unwrap();
    assert!(transaction_entries(&database) > 10);
    drop(database);
    let store = EmbeddedStore::open(&path, Arc::new(clock.clone())).unwrap();
    store.adopt(words::generation(1, UnixMillis::from_secs(1_800_000_000)));
    let check = |n| CheckCommand { id: words::lease(n), observation: None };
    assert!(matches!(store.check(&check(1)).await, Err(StoreError::Corrupt(_))));
    assert!(store.check(&check(2)).await.is_ok());
    let wish = Wish::new(3, clock.now());
    assert!(store.mint(&wish.mint(clock.now())).await.is_ok(), "writing goes on");
    let owner = words::subject(Dimension::Owner, 1);
    for along in [None, Some(owner.key())] {
        let page = store.list(&ListQuery { along, after: None, limit: 10 }).await.unwrap();
        let ids: Vec<_> = page.records.iter().map(|r| r.id).collect();
        assert_eq!(ids, [2, 3].map(words::lease), "a list passes it over");
    }
    assert_eq!(store.counts().await.unwrap().unreadable, 1);
    store.revoke(&words::revoke_subject(1, owner, None)).await.unwrap();
    let job = store.claim_job(1_000).await.unwrap().unwrap();
    let step = sweep::step(&store, job).await.unwrap();
    assert!(step.job.done && step.job.ended == 2, "a sweep too");
    assert_eq!(store.counts().await.unwrap().unreadable, 1, "it is counted once");
}

fn transaction_entries(database: &redb::Database) -> u64 {
    use redb::ReadableDatabase as _;
    database.begin_read().unwrap().open_table(layout::TABLE).unwrap().len().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_finishes_what_waits_though_its_caller_is_gone() {
    let bench = Bench::new().await;
    bench.disk.hold();
    let first = bench.minting(1);
    bench.disk.somebody_waits().await;
    let second = bench.minting(2);
    while bench.store.writer.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    let Bench { dir, disk, clock, store, start } = bench;
    disk.release();
    first.await.unwrap().unwrap();
    drop(Arc::into_inner(store).unwrap());
    let store = EmbeddedStore::open(dir.path().join("mayfly.redb"), Arc::new(clock)).unwrap();
    store.adopt(words::generation(1, start));
    let check = CheckCommand { id: words::lease(2), observation: None };
    assert!(store.check(&check).await.is_ok());
}
