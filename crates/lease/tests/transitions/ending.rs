//! Ends and undos, state by state.

use mayfly_domain::{CredentialKind, EndReason, LeaseState, UnixMillis, defaults};
use mayfly_lease::LeaseRecord;
use mayfly_lease::record::{FLAG_ENDED_RESERVED, FLAG_SIDE_EFFECT, FLAG_UNDONE, FLAG_UNDONE_ONCE};
use mayfly_lease::transition::{self, No, Write};
use mayfly_testkit::words;

use crate::bench::{Bench, wish};

/// What the writes say about a record: until when it is kept, and when its undo is due.
fn told(writes: &[Write]) -> (Option<Option<UnixMillis>>, Option<UnixMillis>) {
    let keep = writes.iter().find_map(|w| match w {
        Write::Record(_, keep) => Some(*keep),
        _ => None,
    });
    let due = writes.iter().find_map(|w| match w {
        Write::Undo(_, due) => Some(*due),
        _ => None,
    });
    (keep, due)
}

#[test]
fn a_record_with_a_side_effect_is_kept_until_its_undo_is_confirmed() {
    let account = wish(1).kind(CredentialKind::Account);
    let mut b = Bench::new();
    let (minted, writes) = b.mint(&account).unwrap();
    let record = minted.record;
    assert_eq!(record.flags, FLAG_SIDE_EFFECT);
    assert_eq!(told(&writes), (Some(None), Some(record.confirm_by)));
    let (_, writes) = b.writes(|view, now| transition::confirm(view, record.id, now)).unwrap();
    assert_eq!(told(&writes), (Some(None), Some(record.expires)));
    b.advance(5_000);
    let (_, writes) = b.writes(|view, now| transition::end(view, &account.release(), now)).unwrap();
    assert_eq!(told(&writes), (Some(None), Some(b.now())), "an active one is undone at once");
    let ((), writes) = b.writes(|view, now| transition::undone(view, &record, now)).unwrap();
    assert_eq!(told(&writes), (Some(Some(record.expires.plus(60_000))), None));
    assert!(writes.contains(&Write::UndoDone(record.id)));
    assert_eq!(b.view.records[&record.id].0.flags, FLAG_SIDE_EFFECT | FLAG_UNDONE);
}

#[test]
fn a_record_without_one_is_kept_a_little_longer_than_its_credential() {
    let mut b = Bench::new();
    let (minted, writes) = b.mint(&wish(1)).unwrap();
    let keep = Some(Some(minted.record.expires.plus(2 * defaults::SKEW_MS)));
    assert_eq!(told(&writes), (keep, None));
    let (_, writes) = b.writes(|view, now| transition::end(view, &wish(1).release(), now)).unwrap();
    assert_eq!(told(&writes), (keep, None));
}

#[test]
fn what_ended_while_reserved_is_undone_twice() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1).kind(CredentialKind::Account));
    let release = wish(1).kind(CredentialKind::Account).release();
    b.advance(1_000);
    let ((ended, _), writes) = b.writes(|view, now| transition::end(view, &release, now)).unwrap();
    assert_eq!(ended.flags, FLAG_SIDE_EFFECT | FLAG_ENDED_RESERVED);
    assert_eq!(told(&writes), (Some(None), Some(record.confirm_by)), "not before the deadline");

    let undone = |b: &mut Bench, due: &LeaseRecord| {
        b.writes(|view, now| transition::undone(view, due, now)).unwrap().1
    };
    let first = ended;
    assert!(undone(&mut b, &first).is_empty(), "a confirmation before it is due counts for nothing");
    b.view.now = record.confirm_by.plus(7);
    let again = b.now().plus(defaults::UNDO_GRACE_MS);
    assert_eq!(told(&undone(&mut b, &first)), (Some(None), Some(again)));
    assert_eq!(b.view.records[&record.id].0.flags & FLAG_UNDONE_ONCE, FLAG_UNDONE_ONCE);
    assert!(undone(&mut b, &first).is_empty(), "the same confirmation again");
    b.view.now = again;
    assert!(undone(&mut b, &first).is_empty(), "nor is it the second when it comes as late");
    let second = b.writes(|view, now| transition::overdue(view, record.id, now)).unwrap().0.unwrap();
    assert!(undone(&mut b, &second).contains(&Write::UndoDone(record.id)));
    assert_eq!(b.view.records[&record.id].0.flags & FLAG_UNDONE, FLAG_UNDONE);
    assert!(undone(&mut b, &second).is_empty(), "and late ones");
}

#[test]
fn only_an_ended_leases_undo_is_confirmed() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1).kind(CredentialKind::Account));
    b.view.now = record.confirm_by;
    let undone = b.writes(|view, now| transition::undone(view, &record, now)).map(drop);
    assert_eq!(undone, Err(No::RaceLost));
    let unknown = LeaseRecord { id: words::lease(9), ..record };
    let ((), writes) = b.writes(|view, now| transition::undone(view, &unknown, now)).unwrap();
    assert_eq!(writes, [Write::UndoDone(words::lease(9))]);
}

#[test]
fn a_mark_is_shown_until_the_record_has_ended() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1));
    let job = b.revoke_lease(1, record.id).0.job.unwrap();
    let shown = |b: &Bench| {
        let record = b.view.records[&record.id].0.clone();
        transition::shown(&b.view, record, b.view.now).unwrap()
    };
    assert_eq!(shown(&b).state, LeaseState::Ended(EndReason::Revoked));
    assert_eq!(shown(&b).revocation, Some(job.id));
    let other = mayfly_lease::Job { id: words::revocation(9), end: EndReason::Completed, ..job };
    b.writes(|view, now| transition::end_swept(view, &other, record.id, now)).unwrap();
    assert_eq!(shown(&b).state, LeaseState::Ended(EndReason::Completed), "whoever ended it first");
    assert_eq!(shown(&b).revocation, Some(other.id));
}

#[test]
fn a_mark_is_kept_as_long_as_the_lineage_could_last() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1));
    b.revoke_lease(1, record.id);
    assert_eq!(b.view.marks[&record.id].until, record.renewable_until.plus(60_000));
    b.revoke_lease(2, words::lease(9));
    assert_eq!(b.view.marks[&words::lease(9)].until, b.now().plus(words::LONGEST_LIFE_MS));
}
