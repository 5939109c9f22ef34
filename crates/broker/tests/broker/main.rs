//! The broker over a store in memory: generations, blocks that outlive the store, and what does not leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bench;

use bench::{RENEW, Site, evidence, seal};
use mayfly_broker::{BlockInput, KeyStep, Named, RevokeInput};
use mayfly_domain::{
    EndReason, Generation, GenerationId, LeaseState, Owner, Reason, Subject, TaskReason, UnixMillis,
};
use mayfly_lease::LeaseRecord;
use mayfly_mint::KeySet;

fn robots() -> Named {
    Named { subject: Subject::Owner(Owner::parse("team:robots").unwrap()), force: true }
}

fn words() -> TaskReason {
    TaskReason::parse("theft").unwrap()
}

fn only_lease(site: &Site) -> LeaseRecord {
    site.store.tamper(|view| {
        let mut leases = view.records.values().filter(|(r, _)| r.body.task.is_some());
        let (record, _) = leases.next().unwrap();
        assert!(leases.next().is_none());
        record.clone()
    })
}

#[tokio::test]
async fn another_server_begins_one_new_generation_and_a_late_word_of_it_none() {
    let site = Site::new().await;
    let node = site.broker("a").await;
    assert_eq!(node.standing(), "serving");
    let generation = || site.store.tamper(|view| view.generation.unwrap().generation.number);
    assert_eq!(generation(), 1);

    site.store.tamper(|view| view.server = [9; 16]);
    // Nobody calls: the broker must find out by itself.
    node.broker.look().await;
    assert_eq!(node.standing(), "settling");
    node.broker.look().await;
    assert_eq!((node.standing(), generation()), ("serving", 2));

    for _ in 0..3 {
        node.broker.look().await;
    }
    assert_eq!(generation(), 2, "one change of the server is one generation");
}

#[tokio::test]
async fn a_block_that_only_one_copy_holds_outlives_a_lost_store() {
    let site = Site::new().await;
    let (a, b) = (site.broker("a").await, site.broker("b").await);
    let alice = a.operator().await;
    let input = BlockInput { named: robots(), reason: words(), length: None };
    a.broker.set_block(&a.call(), &alice, input).await.unwrap();

    // The store is lost before `b` has looked at it again, and `b` is the first to look.
    site.store
        .tamper(|view| *view = mayfly_testkit::memory::MemoryView { now: view.now, ..Default::default() });
    b.broker.look().await;
    assert_eq!(b.standing(), "serving");
    a.broker.look().await;
    assert_eq!(a.standing(), "serving");
    b.broker.look().await;
    assert_eq!(b.mint("t").await.unwrap_err().reason, Reason::Blocked);

    // Lifted once, it stays lifted, also at a broker whose copy is of before.
    let alice = a.operator().await;
    a.broker.lift_block(&a.call(), &alice, robots().subject, None).await.unwrap();
    b.broker.look().await;
    b.mint("t").await.unwrap();
}

#[tokio::test]
async fn a_generation_begins_by_the_clock_of_the_store() {
    let site = Site::new().await;
    let node = site.broker("a").await;
    site.store.tamper(|view| {
        view.clock_difference_ms = -10_000;
        view.generation = None;
    });
    node.broker.look().await;
    let started = site.store.tamper(|view| view.generation.unwrap().started);
    assert_eq!(started, UnixMillis(1_800_000_000_000 - 10_000));
}

#[tokio::test]
async fn what_is_not_audited_does_not_leave_and_ends_nothing_that_did() {
    let site = Site::new().await;
    let node = site.broker("a").await;
    let kept = node.mint("t").await.unwrap();
    node.broker.audit().close().await;

    let again = mayfly_broker::RenewInput { lease: kept.record.id, ttl: None, csr: None };
    let renewed = node.broker.renew(&node.call(), &node.open(RENEW), &evidence("t"), again).await;
    assert_eq!(renewed.unwrap_err().reason, Reason::AuditUnavailable);
    assert_eq!(only_lease(&site).state, LeaseState::Active, "the token that left goes on");

    site.store.tamper(|view| view.records.clear());
    assert_eq!(node.mint("t").await.unwrap_err().reason, Reason::AuditUnavailable);
    assert_eq!(only_lease(&site).state, LeaseState::Ended(EndReason::Abandoned));
}

#[tokio::test]
async fn words_count_only_where_evidence_stands_for_them() {
    let site = Site::new().await;
    let node = site.broker("a").await;
    node.mint("t").await.unwrap();
    assert_eq!(node.mint(bench::NOBODYS).await.unwrap_err().reason, Reason::IssuerUnknown);
    let audit = std::fs::read_to_string(site.path("a").join("audit.jsonl")).unwrap();
    let kept = |outcome: &str| {
        let line = audit.lines().find(|l| l.contains(outcome) && l.contains(r#""kind":"mint""#)).unwrap();
        line.contains("said by its caller")
    };
    assert!(kept(r#""outcome":"allowed""#) && !kept("ISSUER_UNKNOWN"), "{audit}");
}

#[tokio::test]
async fn a_block_is_not_acknowledged_before_the_copy_has_it_and_stands_all_the_same() {
    let site = Site::new().await;
    let node = site.broker("a").await;
    let alice = node.operator().await;
    // A directory where the copy's next file must come: no permission or quota is needed to fail.
    std::fs::create_dir(site.path("a").join("copy.next")).unwrap();
    let input = RevokeInput::Subject { named: robots(), block: Some(None) };
    let refused = node.broker.revoke(&node.call(), &alice, input, words(), None, false).await.unwrap_err();
    assert_eq!(refused.reason, Reason::StoreUnavailable);
    assert_eq!(node.mint("t").await.unwrap_err().reason, Reason::Blocked);
    let audit = std::fs::read_to_string(site.path("a").join("audit.jsonl")).unwrap();
    let revocations: Vec<&str> = audit.lines().filter(|l| l.contains(r#""kind":"revoke""#)).collect();
    assert_eq!(revocations.len(), 2, "{audit}");
    assert!(revocations[0].contains(r#""outcome":"allowed""#) && revocations[0].contains("rev_"), "{audit}");
}

#[tokio::test]
async fn a_key_is_not_activated_before_every_broker_has_it() {
    let site = Site::new().await;
    let (a, b) = (site.broker("a").await, site.broker("b").await);
    let alice = a.operator().await;
    a.broker.rotate_keys(&a.call(), &alice, KeyStep::Prepare(None)).await.unwrap();
    // `b` has not looked since: it does not know of the prepared key, and it is `b` that is asked.
    let early = b.broker.rotate_keys(&b.call(), &alice, KeyStep::Activate).await.unwrap_err();
    assert_eq!(early.reason, Reason::RaceLost);
    a.broker.look().await;
    b.broker.look().await;
    b.broker.rotate_keys(&b.call(), &alice, KeyStep::Activate).await.unwrap();
    let (_, sealed) = site.store.tamper(|view| view.keys.clone()).unwrap();
    assert_eq!(KeySet::open(&seal(), &sealed).unwrap().token_keys().count(), 2);
}

#[tokio::test]
async fn a_lineage_is_never_longer_than_fences_are_kept() {
    let site = Site::new().await;
    let node = site.broker("a").await;
    site.store.tamper(|view| {
        let mut shorter = view.generation.unwrap();
        shorter.generation = Generation { number: 2, id: GenerationId([1; 8]) };
        shorter.longest_life_ms = 3_600_000;
        view.generation = Some(shorter);
    });
    node.broker.look().await;
    let issued = node.mint("t").await.unwrap();
    assert!(issued.record.renewable_until <= UnixMillis(1_800_000_000_000 + 3_600_000));
}

#[tokio::test]
async fn a_lease_whose_record_was_lost_is_revoked_by_force_only_and_stays_so() {
    let site = Site::new().await;
    let node = site.broker("a").await;
    let alice = node.operator().await;
    let kept = node.mint("t").await.unwrap().record;
    site.store.tamper(|view| view.lose_record(kept.id));
    let revoke = async |force| {
        let input = RevokeInput::Lease { id: kept.id, force };
        node.broker.revoke(&node.call(), &alice, input, words(), None, false).await.map_err(|e| e.reason)
    };
    assert_eq!(revoke(false).await.unwrap_err(), Reason::LeaseNotFound);
    revoke(true).await.unwrap();
    // The server that had the record comes back with it.
    site.store.tamper(|view| view.records.insert(kept.id, (kept.clone(), None)));
    let shown = node.broker.show(&node.call(), &alice, kept.id).await.unwrap();
    assert_eq!(shown.record.state, LeaseState::Ended(EndReason::Revoked));
}
