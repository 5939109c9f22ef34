use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mayfly_domain::feed::{Epoch, GateState};
use mayfly_domain::follow::FenceTable;
use mayfly_domain::{Generation, GenerationId, Pair};
use proptest::prelude::*;

use super::*;

const GENERATION: Generation = Generation { number: 1, id: GenerationId([1; 8]) };

fn at(number: u64) -> Position {
    Position { generation: GENERATION, epoch: Epoch([1; 16]), number }
}

fn key(n: u8) -> DimKey {
    DimKey([n; 16])
}

fn lease(n: u8) -> LeaseId {
    LeaseId::from_bytes([n; 16])
}

fn gate(n: u8, fence: u64, until: u64) -> Change {
    Change::Gate(GateState {
        key: key(n),
        fence: Fence::new(fence).unwrap(),
        fence_until: UnixMillis(until),
        block_version: fence,
        blocked: fence.is_multiple_of(2),
        block_until: None,
    })
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..6_u8, 0..5_u64, any::<u32>()).prop_map(|(n, fence, until)| gate(n, fence, until.into())),
        (0..6_u8, any::<u32>())
            .prop_map(|(n, until)| Change::Mark { lease: lease(n), until: UnixMillis(until.into()) }),
        any::<u64>().prop_map(|version| Change::Keys { version }),
    ]
}

fn observations() -> impl Strategy<Value = Observation> {
    let pairs = prop::collection::btree_map(0..6_u8, 0..5_u64, 0..4);
    let ancestors = prop::collection::btree_set(0..6_u8, 0..3);
    (1..3_u32, pairs, ancestors).prop_map(|(number, pairs, ancestors)| {
        let pairs = pairs.into_iter().map(|(n, f)| Pair { key: key(n), fence: Fence::new(f).unwrap() });
        let generation = Generation { number, ..GENERATION };
        Observation::new(generation, pairs, ancestors.into_iter().map(lease)).unwrap()
    })
}

proptest! {
    #[test]
    fn it_judges_as_the_table_of_the_rules_does(
        changes in prop::collection::vec(changes(), 0..60),
        asked in prop::collection::vec((0..6_u8, observations()), 1..8),
    ) {
        let state = State::new(at(0), Table::new(100));
        let mut rules = FenceTable::new(100);
        for change in &changes {
            state.table.apply(change).unwrap();
            rules.apply(change).unwrap();
            for (id, observation) in &asked {
                let expected = rules.judge(GENERATION, lease(*id), observation).err();
                prop_assert_eq!(state.dead(lease(*id), observation), expected);
            }
        }
    }

    /// Whatever is forgotten, and whichever way the clock goes: a credential that an entry concerns, and that ends no
    /// later than the entry is kept, is never accepted again.
    #[test]
    fn what_is_forgotten_stays_refused(
        changes in prop::collection::vec(changes(), 1..40),
        cleanings in prop::collection::vec(any::<u32>(), 1..6),
        wall in any::<u32>(),
    ) {
        let state = State::new(at(0), Table::new(100));
        state.set_fresh_until(BootTime(10));
        let mut rules = FenceTable::new(100);
        for (n, change) in changes.iter().enumerate() {
            state.table.apply(change).unwrap();
            rules.apply(change).unwrap();
            if let Some(now) = cleanings.get(n) {
                state.table.clean(UnixMillis(u64::from(*now)));
            }
        }
        let none = Observation::new(GENERATION, [], []).unwrap();
        for (marked, until) in rules.marks() {
            let judge = |expires| {
                state.judge(marked, &none, expires, || true, || UnixMillis(wall.into()), || BootTime(1)).0
            };
            for expires in [until, until.minus(1_000_000), UnixMillis(0)] {
                prop_assert_ne!(judge(expires), Verdict::Lives);
            }
        }
        prop_assert!(state.table.len() <= rules.len());
    }
}

#[test]
fn what_is_over_makes_room_and_what_is_not_stays() {
    let table = Table::new(2);
    let mark = |n, until| Change::Mark { lease: lease(n), until: UnixMillis(until) };
    table.apply(&mark(1, 1_000_000)).unwrap();
    table.apply(&gate(2, 3, 9_000_000)).unwrap();
    assert_eq!(table.apply(&mark(3, 9_000_000)), Err(Resync::Full));
    assert!(!table.is_marked(lease(3)) && table.is_marked(lease(1)));
    // A later end counts, whichever came first.
    table.apply(&mark(1, 5_000_000)).unwrap();
    table.apply(&mark(1, 2_000_000)).unwrap();
    table.clean(UnixMillis(4_000_000));
    assert!(table.is_marked(lease(1)));
    table.clean(UnixMillis(5_000_000 + SKEW_MAX_MS + SPAN_MS));
    assert!(!table.is_marked(lease(1)) && table.fence(key(2)).is_some());
    table.apply(&mark(3, 9_000_000)).unwrap();
    assert_eq!(table.len(), 2);
}

#[test]
fn freshness_is_judged_last_and_a_passed_bound_beats_everything() {
    let state = State::new(at(0), Table::new(10));
    let observation = Observation::new(GENERATION, [], []).unwrap();
    let judge = |expires: u64, boot: u64| {
        let order = std::cell::RefCell::new(Vec::new());
        let verdict = state.judge(
            lease(1),
            &observation,
            UnixMillis(expires),
            || {
                order.borrow_mut().push("keys");
                true
            },
            || {
                order.borrow_mut().push("wall");
                UnixMillis(100)
            },
            || {
                order.borrow_mut().push("boot");
                BootTime(boot)
            },
        );
        assert_eq!(order.into_inner(), ["keys", "wall", "boot"]);
        verdict.0
    };
    assert_eq!(judge(200, 0), Verdict::NotFresh);
    state.set_fresh_until(BootTime(50));
    assert_eq!(
        (judge(200, 49), judge(200, 50), judge(100, 49)),
        (Verdict::Lives, Verdict::NotFresh, Verdict::Expired)
    );
    state.table.apply(&Change::Mark { lease: lease(1), until: UnixMillis(1_000) }).unwrap();
    assert_eq!(judge(200, 49), Verdict::Dead(Dead::Marked(lease(1))));
    assert_eq!(judge(200, 50), Verdict::NotFresh);
}

/// An event that comes while a reading is under way is found by it: the reading begins again.
#[test]
fn a_reading_that_an_event_overtakes_begins_again() {
    let state = State::new(at(0), Table::new(10));
    state.set_fresh_until(BootTime(50));
    let observation = Observation::new(GENERATION, [], []).unwrap();
    let first = std::cell::Cell::new(true);
    let overtaken = || {
        // After the table was looked at, and before the clocks are.
        if first.replace(false) {
            state.table.apply(&Change::Mark { lease: lease(1), until: UnixMillis(1_000) }).unwrap();
            state.count(1);
        }
        true
    };
    let verdict =
        state.judge(lease(1), &observation, UnixMillis(200), overtaken, || UnixMillis(0), || BootTime(0));
    assert_eq!(verdict.0, Verdict::Dead(Dead::Marked(lease(1))));
    // Nor does it go on for ever.
    let number = std::cell::Cell::new(1);
    let always = || {
        number.set(number.get() + 1);
        state.count(number.get());
        true
    };
    let verdict =
        state.judge(lease(2), &observation, UnixMillis(200), always, || UnixMillis(0), || BootTime(0));
    assert_eq!(verdict.0, Verdict::NotFresh);
}

/// One thread revokes, or swaps in a snapshot in which it is revoked, and says so; whoever has heard it accepts no more.
#[test]
fn nobody_accepts_after_it_was_said_that_an_event_is_applied() {
    let observation =
        Arc::new(Observation::new(GENERATION, [Pair { key: key(1), fence: Fence::NONE }], []).unwrap());
    for round in 0..200_u64 {
        let state = State::new(at(0), Table::new(10));
        state.set_fresh_until(BootTime(u64::MAX));
        let shared = Arc::new(arc_swap::ArcSwap::from_pointee(state));
        let said = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (shared, said, observation) =
                    (Arc::clone(&shared), Arc::clone(&said), Arc::clone(&observation));
                std::thread::spawn(move || {
                    for _ in 0..100_000 {
                        let over = said.load(Ordering::SeqCst);
                        let verdict = shared.load().judge(
                            lease(2),
                            &observation,
                            UnixMillis(200),
                            || true,
                            || UnixMillis(0),
                            || BootTime(0),
                        );
                        if over {
                            return verdict.0;
                        }
                    }
                    Verdict::NotFresh
                })
            })
            .collect();
        let change = gate(1, 9, 1_000);
        if round % 2 == 0 {
            let state = shared.load_full();
            state.table.apply(&change).unwrap();
            state.count(1);
        } else {
            shared.load().set_fresh_until(BootTime(0));
            let table = Table::new(10);
            table.apply(&change).unwrap();
            let state = State::new(at(5), table);
            state.set_fresh_until(BootTime(u64::MAX));
            shared.store(Arc::new(state));
        }
        said.store(true, Ordering::SeqCst);
        for reader in readers {
            assert_ne!(reader.join().unwrap(), Verdict::Lives);
        }
    }
}

/// What the documentation says of a full table, at the sizes where its maps have just grown and where they are full.
#[test]
fn a_revocation_takes_at_most_200_octets() {
    for count in [10_000_u64, 58_000, 100_000, 115_000] {
        let table = Table::new(usize::MAX);
        let used = allocation_counter::measure(|| {
            for n in 0..count {
                let mut id = [7; 16];
                id[..8].copy_from_slice(&n.to_be_bytes());
                let change = if n % 2 == 0 {
                    Change::Mark { lease: LeaseId::from_bytes(id), until: UnixMillis(1 + n) }
                } else {
                    Change::Gate(GateState {
                        key: DimKey(id),
                        fence: Fence::new(5).unwrap(),
                        fence_until: UnixMillis(1 + n),
                        block_version: 0,
                        blocked: false,
                        block_until: None,
                    })
                };
                table.apply(&change).unwrap();
            }
        });
        let each = used.bytes_current / i64::try_from(count).unwrap();
        assert!((40..=200).contains(&each), "{each} octets at {count}");
    }
}
