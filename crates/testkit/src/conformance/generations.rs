//! Generations: nothing is done in another one, and what must survive is carried over first.

use mayfly_domain::{Dimension, LeaseId, UnixMillis, defaults};
use mayfly_lease::transition::{self, No};
use mayfly_lease::{Carry, CheckCommand, GenerationRecord, StoreError};

use super::World;
use crate::memory::MemoryView;
use crate::words::{self, Wish};

/// Every call that reads or changes leases, and that it found another generation.
async fn everything_finds(w: &World, found: Option<GenerationRecord>) {
    let (s, now) = (&w.store, w.now());
    let wish = w.wish();
    let other = StoreError::OtherGeneration(found);
    let mut elsewhere = MemoryView::in_generation(words::generation(1, now));
    let due = elsewhere.step(|view, now| transition::mint(view, &wish.mint(now), now)).unwrap().record;
    let job = mayfly_lease::Job {
        id: words::revocation(9_999),
        target: mayfly_lease::JobTarget::Lease(words::lease(1)),
        end: mayfly_domain::EndReason::Revoked,
        reason: None,
        author: String::new(),
        ticket: None,
        since: now,
        cursor: None,
        ended: 0,
        with_side_effects: 0,
        exposure: mayfly_lease::job::ExposureCount::default(),
        done: false,
    };
    let id: LeaseId = words::lease(1);
    let subject = words::subject(Dimension::Owner, 1);
    let outcomes: Vec<(&str, Option<StoreError>)> = vec![
        ("mint", s.mint(&wish.mint(now)).await.err()),
        ("confirm", s.confirm(id).await.err()),
        ("renew", s.renew(&wish.renewal(w.number(), now)).await.err()),
        ("check", s.check(&CheckCommand { id, observation: None }).await.err()),
        ("end", s.end(&wish.release()).await.err()),
        ("start_task", s.start_task(&wish.start(w.number(), now)).await.err()),
        ("revoke", s.revoke(&words::revoke_subject(w.number(), subject.clone(), None)).await.err()),
        ("revoke one", s.revoke(&words::revoke_lease(w.number(), id, now.plus(1_000))).await.err()),
        ("complete", s.revoke(&wish.complete(w.number(), w.number(), now)).await.err()),
        ("put_join", s.put_join(&wish.join_token(1, now)).await.err()),
        ("withdraw_join", s.withdraw_join(mayfly_lease::JoinId([1; 8])).await.err()),
        ("set_block", s.set_block(&subject, Some(words::block(now, None))).await.err()),
        ("claim_job", s.claim_job(1).await.err()),
        ("sweep", s.sweep(&job, 10, 1_000).await.err()),
        ("save_job", s.save_job(&job, 1).await.err()),
        ("due_undos", s.due_undos(1).await.err()),
        ("undone", s.undone(&due).await.err()),
        ("put_keys", s.put_keys(0, 1, b"sealed").await.err()),
    ];
    for (call, error) in outcomes {
        assert_eq!(error.as_ref(), Some(&other), "{call}");
    }
}

/// A store without a generation serves nobody.
pub async fn nothing_works_before_one_is_adopted(mut w: World) {
    if w.fixture.shared() {
        w.store = w.fixture.store().await;
        everything_finds(&w, Some(words::generation(1, w.start))).await;
    }
    w.store.adopt(words::generation(2, w.start));
    everything_finds(&w, Some(words::generation(1, w.start))).await;
}

/// A broker that lags behind changes nothing.
pub async fn another_generation_changes_nothing(w: World) {
    let record = w.minted(&w.wish()).await;
    w.clock.advance(1_000);
    let second = words::generation(2, w.now());
    assert_eq!(w.store.begin_generation(&second, &Carry::default()).await.unwrap(), second);
    let survey = w.store.survey().await.unwrap();
    everything_finds(&w, Some(second)).await;
    assert_eq!(w.store.survey().await.unwrap(), survey, "nothing was changed");
    w.store.adopt(second);
    assert_eq!(w.store.counts().await.unwrap().open_jobs, 0);
    assert!(w.store.blocks().await.unwrap().is_empty());
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
}

/// Nor does the same number with another id.
pub async fn an_older_number_starts_nothing(w: World) {
    let second = words::generation(2, w.now());
    let carry = Carry { keys: Some((9, b"sealed".to_vec())), blocks: Vec::new(), changes: 99 };
    assert_eq!(w.store.begin_generation(&second, &Carry::default()).await.unwrap(), second);
    let mut same = words::generation(2, w.now().plus(5));
    same.generation.id = mayfly_domain::GenerationId([0xaa; 8]);
    for late in [words::generation(1, w.now()), same] {
        assert_eq!(w.store.begin_generation(&late, &carry).await.unwrap(), second);
    }
    w.adopt().await;
    assert_eq!(w.store.keys().await.unwrap(), None, "and nothing is carried");
    assert_eq!(w.store.survey().await.unwrap().changes, 0);
}

/// Of two the higher version stays; a lifted block does not come back.
pub async fn blocks_and_keys_are_carried_by_version(w: World) {
    let subjects: Vec<_> = (1..=4).map(|n| words::subject(Dimension::Owner, n)).collect();
    let lifted = words::subject(Dimension::Owner, 5);
    let mut gates = Vec::new();
    for subject in subjects[..3].iter().chain([&lifted]) {
        gates.push(w.store.set_block(subject, Some(words::block(w.now(), None))).await.unwrap());
    }
    let older = gates[1].clone();
    w.store.set_block(&subjects[1], None).await.unwrap();
    let mut newer = gates[2].clone();
    newer.block_version += 5;
    newer.block.as_mut().unwrap().author = "bob".to_owned();
    let mut over = gates[3].clone();
    over.block_version += 5;
    over.block = None;
    assert!(w.store.put_keys(0, 3, b"stored").await.unwrap());
    let changes = w.store.survey().await.unwrap().changes;
    let carry = Carry {
        keys: Some((2, b"older".to_vec())),
        blocks: vec![
            (subjects[1].clone(), older),
            (subjects[2].clone(), newer.clone()),
            (subjects[3].clone(), gates[0].clone()),
            (lifted.clone(), over.clone()),
        ],
        changes: changes + 10,
    };
    w.store.begin_generation(&words::generation(2, w.now()), &carry).await.unwrap();
    w.adopt().await;
    let mut blocks = w.store.blocks().await.unwrap();
    blocks.sort_by_key(|(subject, _)| subject.to_string());
    let names: Vec<_> = blocks.iter().map(|(subject, _)| subject.clone()).collect();
    assert_eq!(names, [subjects[0].clone(), subjects[2].clone(), subjects[3].clone()]);
    assert_eq!(
        w.store.gates(&[lifted.key()]).await.unwrap(),
        [Some(over)],
        "nor does one lifted elsewhere stand"
    );
    assert_eq!(blocks[1].1.block, newer.block);
    assert_eq!(blocks[1].1.block_version, newer.block_version);
    assert_eq!(w.store.keys().await.unwrap(), Some((3, b"stored".to_vec())));
    assert!(w.store.survey().await.unwrap().changes >= changes + 10);
    let refused = w.mint(&Wish { issued_at: w.now(), ..w.other(4) }).await;
    assert_eq!(refused, Err(No::Blocked(1)), "it refuses in the new generation");

    let carry = Carry { keys: Some((4, b"newer".to_vec())), ..Carry::default() };
    w.store.begin_generation(&words::generation(3, w.now()), &carry).await.unwrap();
    w.adopt().await;
    assert_eq!(w.store.keys().await.unwrap(), Some((4, b"newer".to_vec())));
    assert_eq!(w.store.survey().await.unwrap().keys_version, Some(4));
}

/// An observation of another generation never matches.
pub async fn what_was_minted_before_is_dead(w: World) {
    let wish = Wish { token: None, ..w.wish() };
    let record = w.minted(&wish).await;
    let account = w.minted(&w.wish().kind(mayfly_domain::CredentialKind::Account)).await;
    w.store.begin_generation(&words::generation(2, w.now()), &Carry::default()).await.unwrap();
    w.adopt().await;
    let check = w.check(record.id).await;
    assert!(matches!(check, Err(No::FenceMoved | No::NotFound)), "{check:?}");
    assert!(w.store.confirm(account.id).await.is_err());
    assert!(w.store.renew(&wish.renewal(w.number(), w.now())).await.is_err());
    let child = w.mint(&w.wish().child_of(&record)).await;
    assert_eq!(child, Err(No::AncestorDead));
}

/// Its binding may have been lost, with a revocation after it: only what was issued since is taken, less the skew where
/// the deployment began.
pub async fn evidence_from_before_is_refused(w: World) {
    let issued = |at: UnixMillis, n: u32| Wish { token: Some(n), issued_at: at, ..w.wish() };
    let first = w.store.generation().unwrap().started;
    let early = issued(first.minus(defaults::SKEW_MS + 1), 5);
    assert_eq!(w.mint(&early).await, Err(No::EvidencePredatesGeneration));
    assert!(w.mint(&issued(first.minus(defaults::SKEW_MS), 4)).await.is_ok());
    w.clock.advance(120_000);
    let started = w.now();
    w.store.begin_generation(&words::generation(2, started), &Carry::default()).await.unwrap();
    w.adopt().await;
    assert_eq!(w.mint(&issued(started.minus(1), 2)).await, Err(No::EvidencePredatesGeneration));
    assert!(w.mint(&issued(started, 3)).await.is_ok());
}

/// What was acknowledged is there: leases, marks, fences, blocks, bindings, tasks, jobs, keys.
pub async fn everything_is_there_after_a_restart(mut w: World) {
    let live = w.minted(&w.other(2)).await;
    let ended = w.minted(&w.wish()).await;
    let marked = w.minted(&w.other(3)).await;
    w.revoke_lease(marked.id).await;
    let gate = w.revoke(Dimension::Owner, 1).await.gate.unwrap();
    w.block(Dimension::Profile, 7, None).await;
    assert!(w.store.put_keys(0, 1, b"sealed").await.unwrap());
    let survey = w.store.survey().await.unwrap();
    w.restart().await;
    let after = w.store.survey().await.unwrap();
    assert_eq!((after.generation, after.changes), (survey.generation, survey.changes));
    assert_eq!(w.check(live.id).await.unwrap(), live);
    assert_eq!(w.check(ended.id).await, Err(No::FenceMoved));
    assert!(matches!(w.check(marked.id).await, Err(No::Marked(_))));
    assert_eq!(w.mint(&Wish { key: 9, ..w.other(2) }).await, Err(No::EvidenceOfOtherKey));
    assert_eq!(w.mint(&Wish { profile: 7, ..w.other(2) }).await, Err(No::Blocked(3)));
    assert_eq!(w.mint(&w.wish()).await, Err(No::EvidencePredatesRevocation(1)));
    let owner = words::subject(Dimension::Owner, 1).key();
    assert_eq!(w.store.gates(&[owner]).await.unwrap(), [Some(gate)]);
    assert_eq!(w.store.counts().await.unwrap().open_jobs, 2);
    assert_eq!(w.store.keys().await.unwrap(), Some((1, b"sealed".to_vec())));
    let replay = Wish { lease: 1, ..w.other(2) };
    assert_eq!(w.mint(&replay).await, Err(No::NonceUsed));
}
