//! The feed as a follower gets it: an event that decodes is written again as it was; whatever comes, in whatever order, the
//! follower goes on by the next number alone, its table holds no more than it may, no fence of it goes back, and an event
//! that comes again changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_domain::feed::{Change, Event, Position};
use mayfly_domain::follow::{FenceTable, Follower, Resync};
use mayfly_domain::time::BootTime;
use mayfly_domain::{DimKey, Fence, LeaseId, UnixMillis};

const CAPACITY: usize = 6;

type Told = (Vec<(DimKey, Fence, UnixMillis, u64, bool)>, Vec<(LeaseId, UnixMillis)>, u64);

fn told(table: &FenceTable) -> Told {
    let mut gates: Vec<_> =
        table.gates().map(|g| (g.key, g.fence, g.fence_until, g.block_version, g.blocked)).collect();
    gates.sort_unstable();
    let mut marks: Vec<_> = table.marks().collect();
    marks.sort_unstable();
    (gates, marks, table.keys_version())
}

/// How far the next event's number is ahead (1), the time at which what is over goes (2), the event's length (1), the event.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, u16, &'a [u8])> {
    let ([ahead, high, low, length], tail) = rest.split_first_chunk()?;
    let (bytes, tail) = tail.split_at_checked(usize::from(*length))?;
    *rest = tail;
    Some((*ahead, u16::from_be_bytes([*high, *low]), bytes))
}

fuzz_target!(|input: &[u8]| {
    let mut rest = input;
    let mut follower = Follower::new(5_000);
    let mut table = FenceTable::new(CAPACITY);
    let mut at = Position::default();
    follower.snapshot_begins(at);
    follower.snapshot_ends(at).unwrap();
    while let Some((ahead, clean, bytes)) = next(&mut rest) {
        let Ok(event) = Event::decode(bytes) else { continue };
        assert_eq!(event.encode(), bytes);
        let position = Position { number: at.number + u64::from(ahead % 3), ..at };
        let before = told(&table);
        let fence = |table: &FenceTable| match event.change {
            Change::Gate(gate) => table.fence(gate.key),
            _ => None,
        };
        let stood = fence(&table);
        match table.apply(&event.change) {
            Ok(()) => {
                assert!(fence(&table) >= stood);
                let once = told(&table);
                table.apply(&event.change).unwrap();
                assert_eq!(told(&table), once);
            }
            Err(why) => {
                assert_eq!((why, told(&table)), (Resync::Full, before));
                assert_eq!(table.len(), CAPACITY);
            }
        }
        if let Change::Mark { lease, .. } = event.change {
            assert!(table.is_marked(lease) || table.len() == CAPACITY);
        }
        assert!(table.len() <= CAPACITY);
        match follower.event(position) {
            Ok(()) => {
                assert_eq!(position.number, at.number + 1);
                at = position;
            }
            Err(_) => {
                assert_ne!(position.number, at.number + 1);
                assert!(follower.position().is_none() && !follower.is_fresh(BootTime(0)));
                follower.snapshot_begins(at);
                follower.snapshot_ends(at).unwrap();
            }
        }
        let held = table.len();
        table.clean(UnixMillis(u64::from(clean)));
        assert!(table.len() <= held);
    }
});
