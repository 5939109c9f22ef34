use super::*;
use crate::feed::FollowerPing;

const STORE: u64 = 1_800_000_000_000;

fn boot(ms: u64) -> BootTime {
    BootTime(1).plus_ms(ms)
}

/// A follower that pinged when the store's clock stood `ago` ms before [`STORE`].
fn follower(id: u8, applied: u64, bound_ms: u32, ago: u64) -> FollowerSeen {
    FollowerSeen {
        ping: FollowerPing {
            id: FollowerId([id; 16]),
            kind: FollowerKind::Acceptor,
            name: format!("acceptor-{id}"),
            broker: "one".to_owned(),
            bound_ms,
            reuse_ms: 0,
            applied,
            epoch: mayfly_domain::feed::Epoch::default(),
        },
        at: UnixMillis(STORE - ago),
    }
}

fn broker(id: u8, applied: u64, reuse_ms: u32) -> FollowerSeen {
    let mut seen = follower(id, applied, 5_000, 0);
    seen.ping.kind = FollowerKind::Broker;
    seen.ping.reuse_ms = reuse_ms;
    seen
}

fn followers(all: &[FollowerSeen]) -> Followers {
    Followers { all: all.to_vec(), now: UnixMillis(STORE) }
}

/// The store's clock `ms` after the first look, even for so long.
fn store(ms: u64, even_ms: u64) -> Option<StoreTime> {
    Some(StoreTime { now: UnixMillis(STORE + ms), even_for: Duration::from_millis(even_ms) })
}

const LONG_EVEN: u64 = 60_000;

/// (confirmed, passed, waiting, complete)
fn told(progress: &Progress) -> (usize, usize, usize, bool) {
    assert_eq!(progress.followers, progress.confirmed + progress.passed + progress.waiting.len());
    (progress.confirmed, progress.passed, progress.waiting.len(), progress.complete)
}

#[test]
fn who_is_waited_for_and_until_when() {
    // (applied, bound, silent at the first look, ms since then, the store's clock even for; what it is)
    for (applied, bound, silent, at, even, want) in [
        (7, 5_000, 0, 0, LONG_EVEN, "confirmed"),
        (9, 5_000, 60_000, 0, LONG_EVEN, "confirmed"),
        (6, 5_000, 0, 0, LONG_EVEN, "waiting"),
        (6, 5_000, 4_900, 0, LONG_EVEN, "waiting"),
        (6, 5_000, 5_000, 0, LONG_EVEN, "waiting"),
        (6, 5_000, 5_270, 0, LONG_EVEN, "waiting"),
        (6, 5_000, 5_271, 0, LONG_EVEN, "passed"),
        (6, 5_000, 4_000, 1_271, LONG_EVEN, "passed"),
        (6, 5_000, 0, 5_000, LONG_EVEN, "waiting"),
        (6, 5_000, 0, 5_020, LONG_EVEN, "waiting"),
        (6, 5_000, 0, 5_021, LONG_EVEN, "passed"),
        // Another bound, another end.
        (6, 1_000, 0, 1_021, LONG_EVEN, "passed"),
        (6, 10_000, 0, 9_999, LONG_EVEN, "waiting"),
        // A clock that was set a moment ago says nothing; the own one does.
        (6, 5_000, 60_000, 0, 0, "waiting"),
        (6, 5_000, 60_000, 4_000, 5_019, "waiting"),
        (6, 5_000, 60_000, 4_000, 5_020, "passed"),
        (6, 5_000, 60_000, 5_021, 0, "passed"),
        // One that has no snapshot yet is behind like any other.
        (0, 5_000, 0, 0, LONG_EVEN, "waiting"),
        (0, 5_000, 5_271, 0, LONG_EVEN, "passed"),
    ] {
        let mut barrier = Barrier::new(7, &followers(&[follower(1, applied, bound, silent)]), boot(0));
        let progress = barrier.progress(boot(at), store(at, even));
        let is = match told(&progress) {
            (1, 0, 0, true) => "confirmed",
            (0, 1, 0, true) => "passed",
            (0, 0, 1, false) => "waiting",
            other => panic!("{other:?}"),
        };
        assert_eq!(is, want, "applied {applied}, bound {bound}, silent {silent}, at {at}, even {even}");
    }
}

#[test]
fn without_the_store_the_own_clock_ends_it() {
    let mut barrier = Barrier::new(7, &followers(&[follower(1, 6, 5_000, 60_000)]), boot(0));
    assert_eq!(told(&barrier.progress(boot(5_020), None)), (0, 0, 1, false));
    assert_eq!(barrier.longest_left(boot(5_000)), Duration::from_millis(20));
    assert_eq!(told(&barrier.progress(boot(5_021), None)), (0, 1, 0, true));
}

#[test]
fn a_store_whose_clock_went_back_does_not_make_it_longer() {
    let all = followers(&[follower(1, 6, 5_000, 0)]);
    let mut barrier = Barrier::new(7, &all, boot(0));
    let back = Some(StoreTime { now: UnixMillis(STORE - 3_600_000), even_for: Duration::MAX });
    assert_eq!(told(&barrier.progress(boot(5_020), back)), (0, 0, 1, false));
    assert_eq!(told(&barrier.progress(boot(5_021), back)), (0, 1, 0, true));
}

#[test]
fn a_later_ping_without_the_change_moves_no_end() {
    let mut barrier = Barrier::new(7, &followers(&[follower(1, 6, 5_000, 4_000)]), boot(0));
    for at in [500_u64, 1_000] {
        let mut again = follower(1, 6, 5_000, 0);
        again.at = UnixMillis(STORE + at);
        barrier.look(&followers(&[again]));
        assert_eq!(told(&barrier.progress(boot(at), store(at, LONG_EVEN))), (0, 0, 1, false), "{at}");
    }
    assert_eq!(told(&barrier.progress(boot(1_271), store(1_271, LONG_EVEN))), (0, 1, 0, true));
}

#[test]
fn a_follower_confirms_or_says_good_bye() {
    let three = [follower(1, 6, 5_000, 0), follower(2, 3, 5_000, 0), follower(3, 8, 5_000, 0)];
    let mut barrier = Barrier::new(7, &followers(&three), boot(0));
    assert_eq!(told(&barrier.progress(boot(1), store(1, 0))), (1, 0, 2, false));
    // A store that tells everybody, not only those behind, is understood too.
    barrier.look(&followers(&[follower(1, 7, 5_000, 0), follower(2, 3, 5_000, 0)]));
    let progress = barrier.progress(boot(2), store(2, 0));
    assert_eq!(told(&progress), (2, 0, 1, false));
    assert_eq!(progress.waiting[0].ping.name, "acceptor-2");
    barrier.look(&followers(&[]));
    assert_eq!(told(&barrier.progress(boot(3), store(3, 0))), (3, 0, 0, true));
}

#[test]
fn who_registers_later_is_not_waited_for() {
    let mut barrier = Barrier::new(7, &followers(&[follower(1, 7, 5_000, 0)]), boot(0));
    for n in 2..9 {
        barrier.look(&followers(&[follower(n, 0, 10_000, 0)]));
        assert_eq!(told(&barrier.progress(boot(1), store(1, 0))), (1, 0, 0, true));
    }
}

#[test]
fn the_longest_reuse_of_any_broker_is_waited_for_even_where_all_have_confirmed() {
    let all = followers(&[broker(1, 7, 0), broker(2, 9, 2_000), broker(3, 7, 300)]);
    let mut barrier = Barrier::new(7, &all, boot(0));
    let progress = barrier.progress(boot(500), store(500, 0));
    assert_eq!((told(&progress), progress.reuse_left), ((3, 0, 0, false), Duration::from_millis(1_500)));
    assert!(barrier.progress(boot(2_000), store(2_000, 0)).complete);
    // What an acceptor says of reuse is nobody's answer.
    let mut odd = follower(4, 7, 5_000, 0);
    odd.ping.reuse_ms = u32::MAX;
    assert!(Barrier::new(7, &followers(&[odd]), boot(0)).progress(boot(0), None).complete);
}

#[test]
fn nobody_to_wait_for_is_complete() {
    assert!(Barrier::new(7, &followers(&[]), boot(0)).progress(boot(0), None).complete);
}

#[test]
fn an_ended_generation_takes_the_longest_bound() {
    let mut barrier = Barrier::of_ended_generation(10_000, boot(0));
    let store = store(0, LONG_EVEN);
    assert!(!barrier.progress(boot(10_019), store).complete);
    assert!(barrier.progress(boot(10_020), store).complete);
}

#[test]
fn a_clock_that_jumps_is_noticed() {
    let mut clock = StoreClock::default();
    let mut saw = |store: i64, at: u64| {
        clock.saw(UnixMillis((STORE as i64 + store) as u64), boot(at)).even_for.as_millis() as u64
    };
    assert_eq!(saw(0, 0), 0);
    assert_eq!(saw(1_000, 1_000), 1_000);
    // Slow answers, and a clock that falls behind.
    assert_eq!(saw(1_900, 2_000), 2_000);
    assert_eq!(saw(3_000, 3_000), 3_000);
    // Forward by more than anybody would overlook.
    assert_eq!(saw(4_300, 4_000), 0);
    assert_eq!(saw(5_300, 5_000), 1_000);
    // Backward makes nobody silent; what comes back after it would.
    assert_eq!(saw(-3_000, 6_000), 2_000);
    assert_eq!(saw(7_300, 7_000), 0);
}

#[test]
fn small_jumps_do_not_add_up() {
    let mut clock = StoreClock::default();
    let mut even = Duration::ZERO;
    for n in 0..10_u64 {
        even = clock.saw(UnixMillis(STORE + n * 1_100), boot(n * 1_000)).even_for;
    }
    assert!(even < Duration::from_secs(4), "a second gained in ten is a jump: {even:?}");
}

#[test]
fn a_store_that_may_have_forgotten_followers_takes_the_longest_bound() {
    let mut barrier = Barrier::new(7, &followers(&[]), boot(0));
    barrier.doubt();
    assert!(!barrier.progress(boot(10_019), store(0, LONG_EVEN)).complete);
    assert_eq!(barrier.longest_left(boot(0)), Duration::from_millis(10_020));
    assert!(barrier.progress(boot(10_020), None).complete);
}

#[test]
fn a_store_knows_all_followers_unless_its_server_is_another_or_its_clock_was_ahead() {
    // (server, the clock's lead in ms, after so many ms more; whether it knows all)
    let first = (1, 0, 0, true);
    for (then, what) in [
        ([(1, 0, 1_000, true), (1, 0, 1_000, true)], "nothing happens"),
        ([(2, 0, 1_000, false), (2, 0, 10_019, false)], "another server"),
        ([(2, 0, 1_000, false), (2, 0, 10_020, true)], "the longest bound after another server"),
        ([(1, 120_000, 1_000, false), (1, 0, 1_000, false)], "a clock ahead, and back"),
        ([(1, 120_000, 1_000, false), (1, 0, 10_020, true)], "the longest bound after a clock was ahead"),
        ([(1, -120_000, 1_000, true), (1, 0, 1_000, false)], "a clock that was behind"),
    ] {
        let (mut watch, mut at) = (StoreWatch::default(), 0);
        for (server, lead, later, whole) in [first].into_iter().chain(then) {
            at += later;
            let wall = UnixMillis((STORE as i64 + at as i64 + lead) as u64);
            let (_, is_whole) = watch.saw([server; 16], wall, boot(at));
            assert_eq!(is_whole, whole, "{what}, {later} ms later");
        }
    }
}

/// Plays followers that obey the rules against barriers: nobody decides after completion without the change.
#[test]
fn nobody_decides_without_the_change_after_completion() {
    use proptest::prelude::*;
    // Each follower: when it sent its last ping before the change (ms before the change), how long the write took, its
    // bound, and when, after the change, it hears of it (none: never).
    let one = (0_u64..12_000, 0_u64..500, 1_000_u32..=10_000, prop::option::of(0_u64..15_000));
    let scene = (prop::collection::vec(one, 1..6), 0_u64..300, -5_000_i64..5_000, 0_u64..20_000);
    proptest!(|((all, look_after, jump, jump_before) in scene)| {
        // Real time in ms; the change happens at 100_000. The store's clock jumps once, at some moment before that or at
        // it, and the broker has watched it since long before.
        let change = 100_000_u64;
        let jump_at = change - jump_before;
        let wall = |real: u64| {
            let base = i64::try_from(STORE + real).unwrap();
            UnixMillis(u64::try_from(if real >= jump_at { base + jump } else { base }).unwrap())
        };
        let mut clock = StoreClock::default();
        let begun = change + look_after;
        for real in (0..begun).step_by(1_000) {
            clock.saw(wall(real), boot(real));
        }
        let seen: Vec<FollowerSeen> = all.iter().enumerate().map(|(n, (sent, took, bound, _))| {
            let mut seen = follower(u8::try_from(n).unwrap(), 6, *bound, 0);
            seen.at = wall((change - sent + took).min(change));
            seen
        }).collect();
        let applied = |n: usize, real: u64| all[n].3.is_some_and(|at| change + at <= real);
        let behind = |real: u64| Followers {
            all: seen.iter().enumerate().filter(|(n, _)| !applied(*n, real)).map(|(_, s)| s.clone()).collect(),
            now: wall(real),
        };
        let mut barrier = Barrier::new(7, &behind(begun), boot(begun));
        let mut real = begun;
        loop {
            barrier.look(&behind(real));
            let store = clock.saw(wall(real), boot(real));
            if barrier.progress(boot(real), Some(store)).complete {
                break;
            }
            real += 25;
            prop_assert!(real < begun + 10_100, "it ends within the largest bound");
        }
        for (n, (sent, _, bound, _)) in all.iter().enumerate() {
            let decides = real < change - sent + u64::from(*bound);
            prop_assert!(!decides || applied(n, real), "follower {n} decides at {real}");
        }
    });
}

#[test]
fn a_generation_that_just_began_is_waited_out() {
    let begun = boot(0);
    let new = || Barrier::new(7, &followers(&[]), begun);
    assert!(new().progress(begun, None).complete, "nobody follows");
    let mut barrier = new().after_another_generation(UnixMillis(STORE - 1_000), 10_000);
    assert!(!barrier.progress(begun, store(0, 60_000)).complete, "somebody may have, before it");
    assert!(!barrier.progress(boot(9_000), store(9_000, 1_000)).complete);
    assert_eq!(barrier.longest_left(begun), Duration::from_millis(10_020));
    assert!(barrier.progress(boot(9_300), store(9_300, 60_000)).complete, "by the store's clock");
    let mut barrier = new().after_another_generation(UnixMillis(STORE), 10_000);
    assert!(!barrier.progress(boot(10_020), None).complete);
    assert!(barrier.progress(boot(10_021), None).complete, "by this machine's");
    let mut old = new().after_another_generation(UnixMillis(STORE - 60_000), 10_000);
    assert!(old.progress(begun, store(0, 60_000)).complete, "long ago");
}
