//! The orders that matter and live in one step: each of these was broken once and gave a counterexample.

use mayfly_domain::{CredentialKind, Dimension, EndReason, Fence, LeaseState};
use mayfly_lease::command::{ancestor_key, is_indexed};
use mayfly_lease::job::JobTarget;
use mayfly_lease::transition::{self, No, Write};
use mayfly_testkit::words::{self, Wish};

use crate::bench::{Bench, DIMENSIONS, wish};

fn position(writes: &[Write], what: impl Fn(&Write) -> bool) -> Vec<usize> {
    writes.iter().enumerate().filter(|(_, w)| what(w)).map(|(n, _)| n).collect()
}

/// Index entry before record; the undo is queued before the record too.
fn index_comes_first(writes: &[Write], entries: usize) {
    let record = position(writes, |w| matches!(w, Write::Record(..)));
    assert_eq!(record.len(), 1);
    let before = position(writes, |w| {
        matches!(w, Write::Index(..) | Write::Partition(..) | Write::Undo(..) | Write::Used(..))
    });
    assert_eq!(before.len(), entries);
    assert!(before.iter().all(|n| *n < record[0]), "{writes:#?}");
}

#[test]
fn index_entry_before_record() {
    let mut b = Bench::new();
    let (_, writes) = b.mint(&wish(1)).unwrap();
    // Nonce, workload, owner, task, partition.
    index_comes_first(&writes, 5);
    let (_, writes) = b.renew(&wish(1), 2).unwrap();
    index_comes_first(&writes, 5);
    // A lease with a side effect: also profile, integration, everything, evidence, and its undo.
    let parent = b.minted(&wish(3));
    let (minted, writes) = b.mint(&wish(4).kind(CredentialKind::Account).child_of(&parent)).unwrap();
    index_comes_first(&writes, 11);
    for pair in minted.record.observation.pairs() {
        assert!(b.view.index[&pair.key].contains_key(&minted.record.id), "every carried pair leads to it");
    }
    assert!(b.view.index[&ancestor_key(parent.id)].contains_key(&minted.record.id));
    let profile = words::subject(Dimension::Profile, 1);
    assert!(!is_indexed(&profile) && !b.view.index[&profile.key()].contains_key(&parent.id));
}

#[test]
fn an_index_entry_lives_exactly_as_long_as_the_credential() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1));
    b.advance(100_000);
    let renewed = b.renew(&wish(1), 2).unwrap().0;
    assert!(renewed.expires > record.expires);
    for entries in b.view.index.values() {
        assert_eq!(entries.get(&record.id), Some(&(renewed.body.acceptors, renewed.expires)));
    }
    assert_eq!(b.view.partitions[&record.id], renewed.expires);
}

#[test]
fn block_with_its_fence_in_one_write() {
    let mut b = Bench::new();
    let block = words::block(b.now(), None);
    let command = words::revoke_subject(1, words::subject(Dimension::Owner, 1), Some(block.clone()));
    let (_, writes) = b.writes(|view, now| transition::revoke(view, &command, now)).unwrap();
    let gates: Vec<_> = writes
        .iter()
        .filter_map(|w| match w {
            Write::Gate(_, gate) => Some(gate),
            _ => None,
        })
        .collect();
    assert_eq!(gates.len(), 1);
    assert_eq!(gates[0].block, Some(block));
    assert!(gates[0].fence > Fence::NONE);
}

#[test]
fn job_and_change_stand_with_what_is_acknowledged() {
    let mut b = Bench::new();
    b.minted(&wish(1));
    let complete = wish(1).complete(3, 90, b.now());
    let (_, task) = b.writes(|view, now| transition::revoke(view, &complete, now)).unwrap();
    let (revoked, subject) = b.revoke(1, Dimension::Owner, 1);
    let (_, one) = b.revoke_lease(2, words::lease(1));
    for writes in [&subject, &one, &task] {
        assert_eq!(position(writes, |w| matches!(w, Write::Job(_))).len(), 1);
        assert_eq!(position(writes, |w| matches!(w, Write::Change(_))).len(), 1);
    }
    assert_eq!(position(&one, |w| matches!(w, Write::Mark(..))).len(), 1);
    // The job names the fence that was set: a sweep that reads later knows what it may end.
    let fence = revoked.gate.unwrap().fence;
    assert_eq!(revoked.job.unwrap().target, JobTarget::Subject(words::subject(Dimension::Owner, 1), fence));
}

#[test]
fn the_fence_is_there_before_the_sweep_reads() {
    let mut b = Bench::new();
    let old = b.minted(&wish(1));
    let (revoked, _) = b.revoke(1, Dimension::Owner, 1);
    let new = b.minted(&Wish { token: Some(2), ..wish(2) });
    let fence = revoked.gate.unwrap().fence;
    let subject = words::subject(Dimension::Owner, 1);
    assert!(transition::would_be_refused(&old, &subject, fence));
    assert!(!transition::would_be_refused(&new, &subject, fence));
    let (later, _) = b.revoke(2, Dimension::Owner, 1);
    assert!(transition::would_be_refused(&new, &subject, later.gate.unwrap().fence));
    let other = words::subject(Dimension::Owner, 2);
    assert!(!transition::would_be_refused(&old, &other, fence), "it does not carry that owner");
    // A batch that is ended twice, or after its holder gave the lease back, changes nothing.
    let job = revoked.job.unwrap();
    let end = |b: &mut Bench| b.writes(|view, now| transition::end_swept(view, &job, old.id, now)).unwrap();
    let (first, _) = end(&mut b);
    let (ended, now) = first.unwrap();
    assert!(now);
    assert_eq!(end(&mut b), (Some((ended, false)), Vec::new()), "its own, and nothing is written");
    assert!(b.writes(|view, now| transition::end_swept(view, &job, new.id, now)).unwrap().1.is_empty());
}

/// Each of what may come between the side effect and its confirmation.
#[test]
fn the_confirmation_reads_everything_again() {
    let account = |n: u32| wish(n).kind(CredentialKind::Account);
    type Between = Box<dyn Fn(&mut Bench)>;
    let mut cases: Vec<(String, Between)> = Vec::new();
    for (dimension, _) in DIMENSIONS {
        cases.push((format!("fence {dimension}"), Box::new(move |b| drop(b.revoke(1, dimension, 1)))));
        cases.push((format!("block {dimension}"), Box::new(move |b| b.block(dimension, 1))));
    }
    cases.push(("mark".into(), Box::new(|b| drop(b.revoke_lease(1, words::lease(2))))));
    cases.push(("ancestor's mark".into(), Box::new(|b| drop(b.revoke_lease(1, words::lease(1))))));
    cases.push(("deadline".into(), Box::new(|b| b.advance(30_000))));
    cases.push((
        "ended".into(),
        Box::new(|b| drop(b.writes(|view, now| transition::end(view, &wish(2).release(), now)).unwrap())),
    ));
    cases.push((
        "generation".into(),
        Box::new(|b| b.view.generation = Some(words::generation(2, b.view.now))),
    ));
    cases.push(("record lost".into(), Box::new(|b| b.view.lose_record(words::lease(2)))));
    for (what, between) in cases {
        let mut b = Bench::new();
        let parent = b.minted(&wish(1));
        let record = b.minted(&account(2).child_of(&parent));
        between(&mut b);
        assert_eq!(b.confirm(record.id), Err(No::RaceLost), "{what}");
        assert!(b.check(record.id).is_err(), "{what}");
    }
    let mut b = Bench::new();
    let record = b.minted(&account(1));
    b.advance(29_999);
    assert_eq!(b.confirm(record.id).unwrap().state, LeaseState::Active);
}

#[test]
fn the_evidences_observation_not_the_current_one() {
    for (dimension, position) in DIMENSIONS {
        let mut b = Bench::new();
        let first = b.minted(&wish(1));
        b.revoke(1, dimension, 1);
        let next = b.mint(&wish(2)).map(|(minted, _)| minted.record);
        if matches!(dimension, Dimension::Workload | Dimension::Owner | Dimension::Everything) {
            assert_eq!(next, Err(No::EvidencePredatesRevocation(position)), "{dimension}");
        } else {
            let next = next.unwrap();
            assert!(b.check(next.id).is_ok());
            let key = words::subject(dimension, 1).key();
            assert!(next.observation.fence(key) > first.observation.fence(key));
        }
        // With a new token everything is observed now.
        let fresh = b.minted(&Wish { token: Some(2), ..wish(3) });
        assert!(b.check(fresh.id).is_ok(), "{dimension}");
    }
}

#[test]
fn superseding_keeps_what_the_evidence_observed() {
    let mut b = Bench::new();
    b.minted(&Wish { supersede: true, ..wish(1) });
    b.revoke(1, Dimension::Owner, 1);
    let second = Wish { supersede: true, key: 2, ..wish(2) };
    assert_eq!(b.mint(&second).map(drop), Err(No::EvidencePredatesRevocation(1)));
    let task = b.view.bindings[&words::token(1)].clone();
    assert_eq!((task.key, task.superseded), (Some(words::key(1)), 0), "and a refusal takes nothing over");
}

#[test]
fn a_renewal_keeps_the_first_observation() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1));
    // A fence of a subject that the lease does not carry moves; nothing of the lease's own.
    b.revoke(1, Dimension::Owner, 2);
    for n in 0..5 {
        b.advance(60_000);
        let renewed = b.renew(&wish(1), 10 + n).unwrap().0;
        assert_eq!(renewed.observation, record.observation);
        assert_eq!(renewed.counter, n + 1);
    }
    // One that observed a moved fence stays dead, with evidence however fresh.
    b.revoke(2, Dimension::Profile, 1);
    let fresh = Wish { token: Some(7), ..wish(1) };
    assert_eq!(b.renew(&fresh, 20).map(drop), Err(No::FenceMoved));
}

#[test]
fn the_used_mark_outlives_the_lease() {
    let mut b = Bench::new();
    b.minted(&Wish { ttl_s: 1, ..wish(1) });
    b.view.lose_record(words::lease(1));
    b.advance(100_000);
    assert_eq!(b.mint(&wish(1)).map(drop), Err(No::NonceUsed));
}

#[test]
fn the_reaper_ends_before_it_undoes() {
    let mut b = Bench::new();
    let reserved = b.minted(&wish(1).kind(CredentialKind::Account));
    let active = b.minted(&wish(2).kind(CredentialKind::Account));
    b.confirm(active.id).unwrap();
    let overdue = |b: &mut Bench, id| b.writes(|view, now| transition::overdue(view, id, now)).unwrap();
    for id in [reserved.id, active.id] {
        let (due, writes) = overdue(&mut b, id);
        assert_eq!(due, None, "not due");
        assert!(matches!(writes[..], [Write::Undo(..)]), "asked for too early: it is put back");
    }
    b.view.now = reserved.confirm_by;
    let (due, _) = overdue(&mut b, reserved.id);
    assert_eq!(due.unwrap().state, LeaseState::Ended(EndReason::Abandoned));
    assert_eq!(b.confirm(reserved.id), Err(No::RaceLost), "the confirmation comes too late");
    b.view.now = active.expires;
    let (due, writes) = overdue(&mut b, active.id);
    assert_eq!(due.unwrap().state, LeaseState::Ended(EndReason::Expired));
    assert!(
        matches!(&writes[0], Write::Record(record, None) if matches!(record.state, LeaseState::Ended(_)))
    );
    assert!(b.check(active.id).is_err());
    let (due, writes) = overdue(&mut b, words::lease(99));
    assert_eq!((due, writes), (None, vec![Write::UndoDone(words::lease(99))]), "the scan's");
}

#[test]
fn blocks_are_carried_by_version() {
    let older = mayfly_domain::Gate { block_version: 5, ..Default::default() };
    let newer = mayfly_domain::Gate {
        fence: Fence::new(7).unwrap(),
        fence_until: mayfly_domain::UnixMillis(9),
        block_version: 6,
        block: Some(words::block(mayfly_domain::UnixMillis(1), None)),
    };
    assert_eq!(mayfly_lease::gate::carried(Some(&newer), &older), None, "a lifted block stays lifted");
    assert_eq!(mayfly_lease::gate::carried(Some(&older), &older), None);
    assert_eq!(mayfly_lease::gate::carried(Some(&older), &newer), Some(newer.clone()));
    assert_eq!(mayfly_lease::gate::carried(None, &newer), Some(newer.clone()));
    let further = mayfly_domain::Gate { fence: Fence::new(99).unwrap(), block_version: 5, ..newer.clone() };
    let stands = mayfly_lease::gate::carried(Some(&further), &newer).unwrap();
    assert_eq!((stands.fence, stands.block_version), (further.fence, 6), "fences by max");
}
