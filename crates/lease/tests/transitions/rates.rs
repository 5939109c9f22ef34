//! The rate limit.

use mayfly_lease::transition::No;
use mayfly_testkit::words::Wish;
use proptest::prelude::*;

use crate::bench::{Bench, wish};

proptest! {
    /// Over any stretch of time: at most the burst and what the rate gives; and the wait that a refusal names
    /// is the shortest that helps.
    #[test]
    fn a_bucket_gives_no_more_and_no_less(
        per_min in 1_u32..6_000,
        burst in 1_u32..20,
        waits in prop::collection::vec(0_u64..3_000, 1..60),
    ) {
        let mut b = Bench::new();
        let mut n = 0;
        let mut mint = |b: &mut Bench| {
            n += 1;
            b.mint(&Wish { per_min, burst, ..wish(n) }).map(drop)
        };
        let mut taken = 0_u64;
        let start = b.now();
        for wait in waits {
            b.advance(wait);
            match mint(&mut b) {
                Ok(()) => taken += 1,
                Err(No::QuotaRate(0, ms)) => {
                    prop_assert!(ms > 0);
                    b.advance(ms - 1);
                    prop_assert!(mint(&mut b).is_err(), "not a millisecond sooner");
                    b.advance(1);
                    prop_assert_eq!(mint(&mut b), Ok(()));
                    taken += 1;
                }
                Err(no) => prop_assert!(false, "{no}"),
            }
            let passed = b.now().0 - start.0;
            // The interval is a whole number of microseconds: it may be shorter by less than one.
            let interval_us = 60_000_000 / u64::from(per_min);
            prop_assert!(taken <= u64::from(burst) + passed * 1_000 / interval_us, "{taken} in {passed} ms");
        }
    }
}
