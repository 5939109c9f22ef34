use mayfly_domain::feed::{Change, Epoch, Event, GateState, Numbered, Position};
use mayfly_domain::follow::Resync;
use mayfly_domain::{
    BootTime, DimKey, Fence, Generation, GenerationId, LeaseId, Observation, Pair, UnixMillis,
};
use mayfly_lease::feed::{FeedPage, Pinged};

use super::state::{Era, RECENT};
use super::*;

const GENERATION: Generation = Generation { number: 1, id: GenerationId([7; 8]) };

fn place(number: u64) -> Position {
    Position { generation: GENERATION, epoch: Epoch([9; 16]), number }
}

fn fence(key: u8, value: u64) -> Change {
    Change::Gate(GateState {
        key: DimKey([key; 16]),
        fence: Fence::new(value).unwrap(),
        fence_until: UnixMillis(u64::MAX),
        block_version: 0,
        blocked: false,
        block_until: None,
    })
}

fn event(number: u64, change: Change) -> Numbered {
    Numbered { number, event: Event { at: UnixMillis(1), revocation: None, change } }
}

/// A state whose table is complete to `number`.
fn complete(number: u64) -> State {
    let mut state = State::new(5_000);
    state.begin(place(number));
    let Change::Gate(gate) = fence(1, 10) else { panic!("a gate") };
    let page = FeedPage {
        gates: vec![gate],
        marks: vec![(LeaseId::from_bytes([3; 16]), UnixMillis(9))],
        next: None,
    };
    state.load(&page).unwrap();
    state.end(place(number)).unwrap();
    state
}

fn pinged(number: u64) -> Pinged {
    Pinged { position: place(number), at: UnixMillis(5) }
}

#[test]
fn a_ping_counts_from_when_it_was_sent_and_only_when_all_before_it_was_applied() {
    let mut state = complete(4);
    let id = state.ping(BootTime(0).plus_ms(100)).unwrap();
    assert_eq!(state.ping(BootTime(0).plus_ms(150)), None, "one at a time");
    state.answered(id, &pinged(6));
    assert!(!state.settle(), "two events are missing");
    assert_eq!(state.fresh_until(), BootTime(0));
    state.apply(&place(4), &event(5, fence(2, 1))).unwrap();
    assert!(!state.settle());
    state.apply(&place(4), &event(6, fence(2, 2))).unwrap();
    assert!(state.settle());
    assert_eq!(state.fresh_until(), BootTime(0).plus_ms(5_100), "counted from when it was sent");
}

#[test]
fn an_answer_of_another_feed_counts_for_nothing_and_holds_no_later_ping_up() {
    let mut state = complete(4);
    let id = state.ping(BootTime(1)).unwrap();
    let elsewhere = Position { epoch: Epoch([1; 16]), ..place(3) };
    state.answered(id, &Pinged { position: elsewhere, at: UnixMillis(5) });
    assert!(!state.settle());
    assert_eq!(state.fresh_until(), BootTime(0));
    assert!(state.ping(BootTime(2)).is_some());
}

/// The store's clock was heard ahead, and goes back.
#[test]
fn what_is_over_by_one_clock_alone_is_kept() {
    let lease = LeaseId::from_bytes([3; 16]);
    let dead = |state: &State| {
        state.snapshot().unwrap().marks.iter().any(|(marked, until)| *marked == lease && until.0 == 9)
    };
    let mut state = complete(4);
    state.heard(UnixMillis(1_000));
    state.clean(UnixMillis(8));
    assert!(dead(&state), "not over by ours");
    // What was heard of another feed says nothing of this one.
    state.begin(place(4));
    state.load(&FeedPage { marks: vec![(lease, UnixMillis(9))], ..FeedPage::default() }).unwrap();
    state.end(place(4)).unwrap();
    state.heard(UnixMillis(8));
    state.clean(UnixMillis(1_000));
    assert!(dead(&state), "not over by the store's");
    state.heard(UnixMillis(9));
    state.clean(UnixMillis(1_000));
    assert!(!dead(&state));
}

#[test]
fn a_number_that_is_not_the_next_forgets_everything() {
    for (number, why) in [(4, Resync::Repeated), (6, Resync::Skipped)] {
        let mut state = complete(4);
        let era = state.mark().era;
        assert_eq!(state.apply(&place(4), &event(number, fence(2, 1))), Err(why));
        assert_eq!(state.position(), None);
        assert_ne!(state.mark().era, era, "no follower's place counts any more");
        assert_eq!(state.after(era, 4, 9), Recent::Lost);
        assert!(state.snapshot().is_none());
    }
}

#[test]
fn recent_events_are_found_from_any_place_that_is_still_at_hand() {
    let mut state = complete(4);
    let era = state.mark().era;
    for number in 5..=7 {
        state.apply(&place(4), &event(number, fence(2, number))).unwrap();
    }
    let numbers = |recent: Recent| match recent {
        Recent::Events(events) => Some(events.iter().map(|e| e.number).collect::<Vec<_>>()),
        Recent::Lost => None,
    };
    assert_eq!(numbers(state.after(era, 4, 9)), Some(vec![5, 6, 7]));
    assert_eq!(numbers(state.after(era, 5, 1)), Some(vec![6]));
    assert_eq!(numbers(state.after(era, 7, 9)), Some(vec![]));
    assert_eq!(numbers(state.after(era, 3, 9)), None, "before the snapshot");
    assert_eq!(numbers(state.after(era, 8, 9)), None, "ahead of the feed");
    assert_eq!(numbers(state.after(Era(99), 7, 9)), None);
    assert_eq!(numbers(state.after_position(&place(6), 9)), Some(vec![7]));
    let foreign = Position { generation: Generation { number: 2, ..GENERATION }, ..place(6) };
    assert_eq!(numbers(state.after_position(&foreign, 9)), None);
    let recent = u64::try_from(RECENT).unwrap();
    for number in 8..=recent + 5 {
        state.apply(&place(4), &event(number, fence(2, number))).unwrap();
    }
    assert_eq!(numbers(state.after(era, 4, 1)), None, "too far behind");
    assert_eq!(numbers(state.after(era, 5, 1)), Some(vec![6]));
}

#[test]
fn a_snapshot_holds_all_in_parts() {
    let mut state = complete(4);
    for key in 2..=5 {
        state.apply(&place(4), &event(u64::from(key) + 3, fence(key, 1))).unwrap();
    }
    let snapshot = state.snapshot().unwrap();
    assert_eq!((snapshot.position, snapshot.entries()), (place(8), 6));
    let mut sizes = Vec::new();
    let mut from = 0;
    while from < snapshot.entries() {
        let part = snapshot.part(from, 3);
        sizes.push(part.len());
        from += part.len();
    }
    assert_eq!(sizes, [3, 2, 1], "gates first, then marks");
}

#[test]
fn a_lease_is_judged_by_what_was_heard_of_and_by_nothing_less() {
    let lease = LeaseId::from_bytes([8; 16]);
    let pair = Pair { key: DimKey([1; 16]), fence: Fence::new(10).unwrap() };
    let observed = Observation::new(GENERATION, vec![pair], vec![]).unwrap();
    let mut state = complete(4);
    assert_eq!(state.judge(lease, &observed), Some(Ok(())));
    state.apply(&place(4), &event(5, fence(1, 11))).unwrap();
    assert!(matches!(state.judge(lease, &observed), Some(Err(_))));
    state.resync(Resync::Skipped);
    assert_eq!(state.judge(lease, &observed), None);
}
