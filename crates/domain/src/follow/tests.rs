use super::*;
use crate::feed::Epoch;
use crate::fence::GenerationId;
use crate::observation::Pair;

const BOUND: u64 = 5_000;

fn place(number: u64) -> Position {
    Position { generation: generation(1), epoch: Epoch([7; 16]), number }
}

fn generation(number: u32) -> Generation {
    Generation { number, id: GenerationId([1; 8]) }
}

fn at(ms: u64) -> BootTime {
    BootTime(0).plus_ms(ms)
}

fn following(number: u64) -> Follower {
    let mut follower = Follower::new(BOUND);
    follower.snapshot_begins(place(number));
    follower.snapshot_ends(place(number)).unwrap();
    follower
}

#[test]
fn freshness_begins_with_an_answer_and_counts_from_the_question() {
    let mut f = following(4);
    assert!(!f.is_fresh(at(0)), "complete, and nobody said that nothing is missing");
    let id = f.ping(at(100)).unwrap();
    assert_eq!(f.ping(at(101)), None, "one at a time");
    f.pong(id, place(4)).unwrap();
    assert!(f.is_fresh(at(100 + BOUND - 1)));
    assert!(!f.is_fresh(at(100 + BOUND)));
}

#[test]
fn an_answer_counts_once_and_only_for_its_own_question() {
    let mut f = following(4);
    let id = f.ping(at(0)).unwrap();
    f.disconnected();
    f.pong(id, place(4)).unwrap();
    assert!(!f.is_fresh(at(1)), "the connection that carried the question is gone");
    let next = f.ping(at(1_000)).unwrap();
    f.pong(id, place(4)).unwrap();
    assert!(!f.is_fresh(at(1_001)));
    f.pong(next, place(4)).unwrap();
    assert!(f.is_fresh(at(1_001)));
}

#[test]
fn numbers_are_dense_within_generation_and_epoch() {
    let other = |change: fn(&mut Position)| {
        let mut position = place(5);
        change(&mut position);
        position
    };
    for (position, want) in [
        (place(5), Ok(())),
        (place(4), Err(Resync::Repeated)),
        (place(3), Err(Resync::Repeated)),
        (place(6), Err(Resync::Skipped)),
        (other(|p| p.generation.number = 2), Err(Resync::OtherGeneration)),
        (other(|p| p.epoch.0[3] = 1), Err(Resync::OtherEpoch)),
    ] {
        let mut f = following(4);
        let id = f.ping(at(0)).unwrap();
        f.pong(id, place(4)).unwrap();
        assert_eq!(f.event(position), want, "{position:?}");
        assert_eq!(f.is_fresh(at(1)), want.is_ok(), "{position:?}");
        assert_eq!(f.position(), want.is_ok().then_some(place(5)), "{position:?}");
    }
    assert_eq!(Follower::new(BOUND).event(place(1)), Err(Resync::NoSnapshot));
}

#[test]
fn an_answer_ahead_of_what_was_sent_is_no_freshness() {
    let mut f = following(4);
    let id = f.ping(at(0)).unwrap();
    assert_eq!(f.pong(id, place(5)), Err(Resync::Unsent));
    assert!(!f.is_fresh(at(1)));
    assert_eq!(f.position(), None);
}

#[test]
fn half_a_snapshot_is_none() {
    let mut f = following(4);
    let id = f.ping(at(0)).unwrap();
    f.pong(id, place(4)).unwrap();
    f.snapshot_begins(place(9));
    assert!(!f.is_fresh(at(1)), "not until it is complete");
    assert_eq!(f.ping(at(1)), None);
    assert_eq!(f.event(place(10)), Err(Resync::NoSnapshot));
    assert_eq!(f.snapshot_ends(place(9)), Err(Resync::OutOfPlace));
    f.snapshot_begins(place(9));
    assert_eq!(f.snapshot_ends(place(8)), Err(Resync::OutOfPlace));
    f.snapshot_begins(place(9));
    f.snapshot_ends(place(9)).unwrap();
    f.event(place(10)).unwrap();
}

#[test]
fn only_a_shorter_bound_is_taken() {
    let mut f = following(4);
    f.allow(60_000);
    assert_eq!(f.bound_ms(), BOUND);
    f.allow(1_000);
    let id = f.ping(at(0)).unwrap();
    f.pong(id, place(4)).unwrap();
    assert!(f.is_fresh(at(999)) && !f.is_fresh(at(1_000)));
}

fn gate(key: u8, fence: u64, version: u64, blocked: bool) -> GateState {
    GateState {
        key: DimKey([key; 16]),
        fence: Fence::new(fence).unwrap(),
        fence_until: UnixMillis(1_000),
        block_version: version,
        blocked,
        block_until: None,
    }
}

#[test]
fn fences_apply_by_max_and_blocks_by_version() {
    let mut table = FenceTable::new(8);
    let states = [gate(1, 5, 1, true), gate(1, 7, 0, false), gate(1, 6, 3, false), gate(1, 2, 2, true)];
    for state in &states {
        table.apply(&Change::Gate(*state)).unwrap();
    }
    let merged = *table.gates().next().unwrap();
    assert_eq!((merged.fence.value(), merged.block_version, merged.blocked), (7, 3, false));
    let mut reversed = FenceTable::new(8);
    for state in states.iter().rev() {
        reversed.apply(&Change::Gate(*state)).unwrap();
    }
    assert_eq!(*reversed.gates().next().unwrap(), merged, "in any order");
}

#[test]
fn a_full_table_refuses_and_forgets_only_what_is_over() {
    let mut table = FenceTable::new(2);
    table.apply(&Change::Gate(gate(1, 5, 0, false))).unwrap();
    table.apply(&Change::Mark { lease: LeaseId::from_bytes([1; 16]), until: UnixMillis(500) }).unwrap();
    assert_eq!(table.apply(&Change::Gate(gate(2, 5, 0, false))), Err(Resync::Full));
    table.apply(&Change::Gate(gate(1, 6, 0, false))).unwrap();
    table.clean(UnixMillis(500));
    assert_eq!((table.len(), table.is_marked(LeaseId::from_bytes([1; 16]))), (1, false));
    table.apply(&Change::Gate(gate(2, 5, 9, true))).unwrap();
    table.clean(UnixMillis(1_000));
    assert_eq!(table.gates().map(|g| g.key).collect::<Vec<_>>(), [DimKey([2; 16])], "a block has no end");
}

#[test]
fn a_block_brings_no_fence_back_that_is_over() {
    let later = |fence, version, blocked| GateState {
        fence_until: UnixMillis(2_000),
        ..gate(1, fence, version, blocked)
    };
    let mut table = FenceTable::new(8);
    table.apply(&Change::Gate(gate(1, 5, 1, true))).unwrap();
    table.clean(UnixMillis(1_000));
    assert_eq!((table.len(), table.fence(DimKey([1; 16]))), (1, None), "the block stays, the fence does not");
    table.apply(&Change::Gate(gate(1, 5, 0, false))).unwrap();
    table.apply(&Change::Gate(later(0, 2, false))).unwrap();
    table.clean(UnixMillis(1_000));
    assert_eq!(table.fence(DimKey([1; 16])), None, "lifted after the fence was over");
    table.apply(&Change::Gate(gate(1, 5, 0, false))).unwrap();
    table.apply(&Change::Gate(later(6, 2, false))).unwrap();
    table.clean(UnixMillis(1_999));
    assert_eq!(table.fence(DimKey([1; 16])), Fence::new(6).ok());
}

#[test]
fn one_rule_judges() {
    let pair = |key: u8, fence| Pair { key: DimKey([key; 16]), fence: Fence::new(fence).unwrap() };
    let (lease, parent) = (LeaseId::from_bytes([8; 16]), LeaseId::from_bytes([9; 16]));
    let observation = Observation::new(generation(1), [pair(1, 5), pair(2, 0)], [parent]).unwrap();
    let judge = |changes: &[Change], number| {
        let mut table = FenceTable::new(8);
        changes.iter().for_each(|change| table.apply(change).unwrap());
        table.judge(generation(number), lease, &observation)
    };
    let mark = |lease| Change::Mark { lease, until: UnixMillis(9) };
    let fence = |key, value| Change::Gate(gate(key, value, 0, false));
    assert_eq!(judge(&[], 1), Ok(()));
    assert_eq!(judge(&[], 2), Err(Dead::OtherGeneration));
    assert_eq!(judge(&[fence(1, 5), fence(3, 9)], 1), Ok(()));
    assert_eq!(judge(&[fence(1, 6)], 1), Err(Dead::Fenced(DimKey([1; 16]))));
    assert_eq!(judge(&[fence(1, 4)], 1), Err(Dead::Fenced(DimKey([1; 16]))), "it must be equal");
    assert_eq!(judge(&[fence(2, 1)], 1), Err(Dead::Fenced(DimKey([2; 16]))));
    assert_eq!(judge(&[Change::Gate(gate(2, 0, 4, true))], 1), Ok(()), "a block ends nothing");
    assert_eq!(judge(&[mark(lease)], 1), Err(Dead::Marked(lease)));
    assert_eq!(judge(&[mark(parent)], 1), Err(Dead::Marked(parent)));
}
