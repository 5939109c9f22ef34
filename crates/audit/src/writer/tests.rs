use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use futures::future::join_all;
use mayfly_domain::{Clock, Reason, UnixMillis};

use super::*;
use crate::disk::Disk;
use crate::handle::{Audit, AuditConfig};
use crate::query::tail;
use crate::verify::{Summary, verify};

#[derive(Debug)]
struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> UnixMillis {
        UnixMillis(1_800_000_000_000)
    }
}

/// What a test does to a disk.
#[derive(Default)]
struct Faults {
    /// Writes get half through and then find no room.
    full: AtomicBool,
    /// The file can't be cut to what was good.
    no_cut: AtomicBool,
    /// Writes to the file's beginning fail: a reserve can't be emptied.
    no_header: AtomicBool,
    /// A write waits until the test drops the other end.
    gate: Mutex<Option<Receiver<()>>>,
}

struct Faulty(File, Arc<Faults>);

impl Disk for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_at(buf, at)
    }
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        if let Some(gate) = self.1.gate.lock().unwrap().take() {
            let _ = gate.recv();
        }
        if self.1.full.load(Relaxed) || (at == 0 && self.1.no_header.load(Relaxed)) {
            self.0.write_at(&buf[..buf.len() / 2], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write_at(buf, at)
    }
    fn cut(&self, len: u64) -> io::Result<()> {
        if self.1.no_cut.load(Relaxed) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.0.cut(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn identity(&self) -> io::Result<(u64, u64)> {
        self.0.identity()
    }
}

struct Fixture {
    config: AuditConfig,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = AuditConfig {
            path: dir.path().join("audit.jsonl"),
            reserve: dir.path().join("audit.reserve"),
            reserve_octets: 128 * 1024,
            sync: SyncMode::Batch,
            queue: 1024,
        };
        Self { config, dir }
    }

    fn open(&self) -> Audit {
        Audit::open(&self.config, Arc::new(Fixed)).unwrap()
    }

    /// Opened on faulty disks: the log's and the reserve's.
    fn faulty(&self) -> (Audit, Arc<Faults>, Arc<Faults>) {
        let (log, reserve) = (Arc::new(Faults::default()), Arc::new(Faults::default()));
        let file =
            |path: &Path| File::options().read(true).write(true).create(true).truncate(false).open(path);
        let log_file = Faulty(file(&self.config.path).unwrap(), Arc::clone(&log));
        let reserve_file = file(&self.config.reserve).unwrap();
        reserve_file.set_len(self.config.reserve_octets).unwrap();
        let opened = Log::recover(Box::new(log_file)).unwrap().unwrap();
        let kept = Reserve::on(Box::new(Faulty(reserve_file, Arc::clone(&reserve)))).unwrap().unwrap();
        let shared = Arc::new(Shared::default());
        let (path, clock) = (self.config.path.clone(), Arc::new(Fixed));
        let writer =
            Writer::new(path, opened, kept, self.config.sync, clock.clone(), Arc::clone(&shared)).unwrap();
        (Audit::start(writer, self.config.queue, clock, shared).unwrap(), log, reserve)
    }

    fn verified(&self) -> Summary {
        verify([std::fs::read(&self.config.path).unwrap().as_slice()]).unwrap()
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let found = tail(&self.config.path, usize::MAX, u64::MAX, |_| true).unwrap();
        found.lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// The details of the records that tests wrote, in order.
    fn details(&self) -> Vec<String> {
        let ours = |l: &&serde_json::Value| l["kind"] == "mint" || l["kind"] == "revoke";
        self.lines().iter().filter(ours).map(|l| l["detail"].as_str().unwrap().to_owned()).collect()
    }
}

fn mint(detail: &str) -> Record {
    let mut record = Record::new(Kind::Mint, Outcome::Allowed);
    detail.clone_into(&mut record.detail);
    record
}

fn revoke(detail: &str) -> Record {
    Record { kind: Kind::Revoke, ..mint(detail) }
}

async fn refused(audit: &Audit, detail: &str) -> bool {
    matches!(audit.record(mint(detail)).await, Err(r) if r.reason == Reason::AuditUnavailable)
}

async fn until(audit: &Audit, done: impl Fn(&crate::Counters) -> bool) {
    let wait = async {
        while !done(&audit.counters()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

#[tokio::test]
async fn what_waits_together_is_made_durable_together() {
    for sync in [SyncMode::Batch, SyncMode::Each] {
        let mut fixture = Fixture::new();
        fixture.config.sync = sync;
        let audit = fixture.open();
        let texts: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        let all = join_all(texts.iter().map(|t| audit.record(mint(t)))).await;
        assert!(all.iter().all(Result::is_ok));
        let counters = audit.counters();
        assert_eq!((counters.written, counters.failed), (501, 0));
        assert_eq!(counters.batches < 501, sync == SyncMode::Batch, "{counters:?}");
        // Answered means on the disk: nothing was closed or flushed by the test.
        assert_eq!(fixture.verified().records, 501);
        assert_eq!(fixture.details(), texts);
        assert_eq!(fixture.verified().head, audit.head().await.unwrap());
        assert_eq!(fixture.lines()[1]["time_ms"], 1_800_000_000_000_u64);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_mints_and_defers_revocations() {
    let fixture = Fixture::new();
    let (audit, log, _) = fixture.faulty();
    audit.record(mint("before")).await.unwrap();
    log.full.store(true, Relaxed);
    assert!(refused(&audit, "refused").await);
    let mut early = revoke("first");
    early.time_ms = Some(UnixMillis(7));
    assert_eq!(audit.record_or_defer(early).await, Stored::Deferred);
    assert_eq!(audit.record_or_defer(revoke("second")).await, Stored::Deferred);
    assert!(refused(&audit, "refused too").await);
    let counters = audit.counters();
    assert!(counters.deferring);
    assert_eq!((counters.deferred, counters.pending, counters.failed, counters.lost), (2, 2, 2, 0));
    let left = fixture.verified();
    assert_eq!((left.records, left.unfinished), (2, 0), "a half-written line stayed");

    log.full.store(false, Relaxed);
    until(&audit, |c| c.pending == 0).await;
    audit.record(mint("after")).await.unwrap();
    assert_eq!(audit.record_or_defer(revoke("last")).await, Stored::Written);
    assert!(!audit.counters().deferring);
    assert_eq!(fixture.details(), ["before", "first", "second", "after", "last"]);
    assert_eq!((fixture.verified().records, fixture.verified().deferred), (6, 2));
    let first = &fixture.lines()[2];
    assert_eq!((&first["time_ms"], &first["deferred"]), (&7.into(), &true.into()));
}

#[tokio::test]
async fn half_a_line_that_could_not_be_cut_off_goes_before_the_next_write() {
    let fixture = Fixture::new();
    let (audit, log, _) = fixture.faulty();
    log.full.store(true, Relaxed);
    log.no_cut.store(true, Relaxed);
    assert!(refused(&audit, &"long".repeat(500)).await);
    assert!(fixture.verified().unfinished > 0);
    assert_eq!(audit.record_or_defer(revoke("a")).await, Stored::Deferred);
    log.full.store(false, Relaxed);
    log.no_cut.store(false, Relaxed);
    until(&audit, |c| c.pending == 0).await;
    assert_eq!(fixture.details(), ["a"]);
    assert_eq!(fixture.verified().unfinished, 0);
}

#[tokio::test]
async fn deferred_records_survive_a_restart_once_each() {
    let fixture = Fixture::new();
    let (audit, log, _) = fixture.faulty();
    log.full.store(true, Relaxed);
    for text in ["a", "b", "c"] {
        assert_eq!(audit.record_or_defer(revoke(text)).await, Stored::Deferred);
    }
    audit.close().await;
    assert!(fixture.details().is_empty());

    // Their way into the chain is interrupted after the write and before the reserve is emptied.
    let (audit, _, reserve) = fixture.faulty();
    assert_eq!(fixture.details(), ["a", "b", "c"]);
    assert_eq!(audit.record_or_defer(revoke("d")).await, Stored::Written);
    audit.close().await;
    drop(reserve);
    let audit = fixture.open();
    audit.record(mint("e")).await.unwrap();
    assert_eq!(fixture.details(), ["a", "b", "c", "d", "e"]);
    fixture.verified();
}

#[tokio::test]
async fn a_crash_between_chain_and_reserve_writes_nothing_twice() {
    let fixture = Fixture::new();
    let (audit, log, reserve) = fixture.faulty();
    log.full.store(true, Relaxed);
    for text in ["a", "b"] {
        audit.record_or_defer(revoke(text)).await;
    }
    reserve.no_header.store(true, Relaxed);
    log.full.store(false, Relaxed);
    until(&audit, |c| c.pending == 0).await;
    assert_eq!(fixture.details(), ["a", "b"]);
    // The reserve can't be emptied: nothing else may be written, or the mark of how far it went would be lost.
    assert!(refused(&audit, "x").await);
    assert_eq!(audit.record_or_defer(revoke("c")).await, Stored::Deferred);
    audit.close().await;

    let audit = fixture.open();
    audit.record(mint("d")).await.unwrap();
    assert_eq!(fixture.details(), ["a", "b", "c", "d"]);
    fixture.verified();
}

#[tokio::test]
async fn a_full_reserve_overflows_into_memory_in_order() {
    let fixture = Fixture::new();
    let (audit, log, _) = fixture.faulty();
    log.full.store(true, Relaxed);
    // The short ones would still fit the reserve when a long one does not, and must not overtake it.
    let length = |n: usize| if n.is_multiple_of(2) { 8_000 } else { 10 };
    let texts: Vec<String> = (0..40).map(|n| format!("{n} {}", "x".repeat(length(n)))).collect();
    for text in &texts {
        assert_eq!(audit.record_or_defer(revoke(text)).await, Stored::Deferred);
    }
    assert_eq!(audit.counters().lost, 0);
    log.full.store(false, Relaxed);
    until(&audit, |c| c.pending == 0).await;
    assert_eq!(fixture.details(), texts);
    fixture.verified();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_mints_and_a_hanging_disk_holds_up_no_revocation() {
    let mut fixture = Fixture::new();
    fixture.config.queue = 1;
    let (audit, log, _) = fixture.faulty();
    let (hanging, gate) = std::sync::mpsc::channel();
    *log.gate.lock().unwrap() = Some(gate);
    let waiting = tokio::spawn({
        let audit = audit.clone();
        async move { audit.record(mint("waits")).await }
    });
    tokio::task::yield_now().await;
    assert!(refused(&audit, "no room").await);
    assert_eq!(audit.record_or_defer(revoke("goes on")).await, Stored::Deferred);
    drop(hanging);
    waiting.await.unwrap().unwrap();
    audit.close().await;
    assert_eq!(fixture.details(), ["waits", "goes on"]);
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_said() {
    let fixture = Fixture::new();
    for torn in [b"{\"v\":1,\"seq\":3,\"prev\":\"00".to_vec(), vec![0; 5000], b"half\nanother half".to_vec()]
    {
        let audit = fixture.open();
        audit.record(mint("kept")).await.unwrap();
        audit.close().await;
        let before = fixture.verified();
        let mut content = std::fs::read(&fixture.config.path).unwrap();
        content.extend_from_slice(&torn);
        std::fs::write(&fixture.config.path, content).unwrap();

        fixture.open().close().await;
        let after = fixture.verified();
        assert_eq!(after.records, before.records + 1);
        assert_eq!(fixture.lines().last().unwrap()["kind"], "audit_repair");
        let aside = format!("audit.jsonl.torn-{}", before.head.seq);
        assert_eq!(std::fs::read(fixture.dir.path().join(aside)).unwrap(), torn);
    }
}

#[tokio::test]
async fn the_chain_goes_on_over_a_rotation() {
    let fixture = Fixture::new();
    let audit = fixture.open();
    audit.record(mint("old")).await.unwrap();
    let old = fixture.dir.path().join("audit.jsonl.1");
    std::fs::rename(&fixture.config.path, &old).unwrap();
    audit.record(mint("still old")).await.unwrap();
    audit.reopen().await.unwrap();
    audit.record(mint("new")).await.unwrap();
    let files = [std::fs::read(&old).unwrap(), std::fs::read(&fixture.config.path).unwrap()];
    let summary = verify(files.iter().map(Vec::as_slice)).unwrap();
    assert_eq!((summary.records, summary.first), (5, 1));
    assert_eq!(fixture.details(), ["new"]);
    assert_eq!(fixture.lines()[0]["seq"], 4);
    audit.reopen().await.unwrap();
    audit.record(mint("same file")).await.unwrap();
    assert_eq!(fixture.details(), ["new", "same file"]);
}

#[tokio::test]
async fn a_file_that_another_hand_shortens_stops_the_record_until_reopened() {
    let fixture = Fixture::new();
    let audit = fixture.open();
    audit.record(mint("one")).await.unwrap();
    let len = std::fs::metadata(&fixture.config.path).unwrap().len();
    File::options().write(true).open(&fixture.config.path).unwrap().set_len(len - 5).unwrap();
    assert!(refused(&audit, "two").await);
    audit.reopen().await.unwrap();
    audit.record(mint("three")).await.unwrap();
    let content = std::fs::read(&fixture.config.path).unwrap();
    assert_eq!(verify([content.as_slice()]).unwrap_err().line, 2);
}

#[tokio::test]
async fn what_is_no_audit_file_is_not_touched() {
    let fixture = Fixture::new();
    let audit = fixture.open();
    let again = Audit::open(&fixture.config, Arc::new(Fixed));
    assert!(matches!(again, Err(AuditError::InUse { .. })), "{again:?}");
    audit.close().await;
    assert!(refused(&audit, "closed").await);

    let with = |path: &Path| {
        let other = Fixture::new();
        Audit::open(&AuditConfig { path: path.to_owned(), ..other.config }, Arc::new(Fixed)).unwrap_err()
    };
    assert!(matches!(with(Path::new("/dev/full")), AuditError::NotRegular { .. }));
    assert!(matches!(with(Path::new("/nonexistent/audit.jsonl")), AuditError::File { .. }));
    let letter = fixture.dir.path().join("letter.txt");
    std::fs::write(&letter, "dear reader,\nthis is no audit file\n").unwrap();
    assert!(matches!(with(&letter), AuditError::NoValidEnd { .. }));
    assert!(std::fs::read(&letter).unwrap().starts_with(b"dear"));

    let mut broken = Fixture::new();
    broken.config.reserve = letter;
    let refused = Audit::open(&broken.config, Arc::new(Fixed)).unwrap_err();
    assert!(matches!(refused, AuditError::Reserve { .. }), "{refused}");
}

#[tokio::test]
async fn an_observer_sees_what_is_kept_and_nothing_else() {
    #[derive(Default)]
    struct Seen {
        wants: AtomicBool,
        details: Mutex<Vec<String>>,
    }
    impl crate::Observer for Seen {
        fn wants(&self) -> bool {
            self.wants.load(Relaxed)
        }
        fn recorded(&self, record: Record) {
            assert_eq!(record.time_ms, Some(Fixed.now()));
            self.details.lock().unwrap().push(record.detail);
        }
    }
    let fixture = Fixture::new();
    let (audit, log, _) = fixture.faulty();
    let seen = Arc::new(Seen::default());
    let audit = audit.observed(seen.clone());
    audit.record(mint("nobody looks")).await.unwrap();
    seen.wants.store(true, Relaxed);
    audit.record(mint("kept")).await.unwrap();
    log.full.store(true, Relaxed);
    assert!(refused(&audit, "refused").await);
    audit.record_or_defer(revoke("deferred")).await;
    assert_eq!(*seen.details.lock().unwrap(), ["kept", "deferred"]);
}
