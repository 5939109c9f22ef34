//! One matching rule everywhere: mint, confirmation, renewal, check and sweep agree about every fence.

use mayfly_domain::{CredentialKind, Dimension, Fence, Gate, UnixMillis};
use mayfly_lease::transition::{self, No};
use mayfly_testkit::words::{self, Wish};
use proptest::prelude::*;

use crate::bench::{Bench, DIMENSIONS, START, wish};

/// The fence that stands when something is observed, and the one that stands later.
fn fence() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(1_u64..4)
}

fn stand(b: &mut Bench, dimension: Dimension, fence: Option<u64>) {
    let subject = words::subject(dimension, 1);
    match fence {
        None => {
            b.view.gates.remove(&subject.key());
        }
        Some(value) => {
            let fence = Fence::new(value).unwrap();
            let gate = Gate { fence, fence_until: UnixMillis(u64::MAX), ..Gate::default() };
            b.view.gates.insert(subject.key(), (subject, gate));
        }
    }
}

proptest! {
    #[test]
    fn everybody_judges_alike(at in 0..DIMENSIONS.len(), observed in fence(), later in fence()) {
        let dimension = DIMENSIONS[at].0;
        let mut b = Bench::new();
        stand(&mut b, dimension, observed);
        let token = b.minted(&wish(1));
        let account = b.minted(&wish(2).kind(CredentialKind::Account));
        stand(&mut b, dimension, later);
        let holds = later.is_none() || later == Some(observed.unwrap_or(0));

        prop_assert_eq!(b.check(token.id).is_ok(), holds, "check");
        prop_assert_eq!(b.confirm(account.id).is_ok(), holds, "confirmation");
        let fresh = Wish { token: None, ..wish(1) };
        prop_assert_eq!(b.renew(&fresh, 10).is_ok(), holds, "renewal");
        prop_assert_eq!(b.mint(&wish(3).child_of(&token)).is_ok(), holds, "a child's mint");
        if let Some(fence) = later.filter(|fence| *fence > observed.unwrap_or(0)) {
            let subject = words::subject(dimension, 1);
            prop_assert!(transition::would_be_refused(&token, &subject, Fence::new(fence).unwrap()), "sweep");
        }
    }

    /// A sweep ends nothing that a check accepts: whatever was revoked in whatever order.
    #[test]
    fn a_sweep_ends_only_what_a_check_refuses(
        steps in prop::collection::vec((0..DIMENSIONS.len(), 0_u64..3), 1..12),
    ) {
        let mut b = Bench::new();
        let (mut records, mut jobs) = (Vec::new(), Vec::new());
        for (n, (at, ms)) in steps.into_iter().enumerate() {
            let n = u32::try_from(n).unwrap();
            b.advance(ms);
            records.push(b.minted(&Wish { token: Some(n), key: u8::try_from(n).unwrap(), ..wish(n + 1) }));
            let dimension = DIMENSIONS[at].0;
            let fence = b.revoke(n, dimension, 1).0.gate.unwrap().fence;
            jobs.push((words::subject(dimension, 1), fence));
            records.push(b.minted(&Wish { token: Some(100 + n), key: u8::try_from(n).unwrap(), ..wish(n + 101) }));
            for record in &records {
                let swept = jobs.iter().any(|(s, f)| transition::would_be_refused(record, s, *f));
                prop_assert_eq!(swept, b.check(record.id).is_err());
            }
        }
    }
}

#[test]
fn another_generation_never_matches() {
    let mut b = Bench::new();
    let record = b.minted(&wish(1));
    let same_number = {
        let mut other = words::generation(1, START);
        other.generation.id = mayfly_domain::GenerationId([0xee; 8]);
        other
    };
    for other in [words::generation(2, START), same_number] {
        b.view.generation = Some(other);
        assert_eq!(b.check(record.id), Err(No::FenceMoved));
        assert_eq!(b.renew(&wish(1), 9).map(drop), Err(No::FenceMoved));
        assert_eq!(b.mint(&wish(2).child_of(&record)).map(drop), Err(No::AncestorDead));
    }
}

#[test]
fn a_fence_that_is_over_matches_everything() {
    let mut b = Bench::new();
    let gate = b.revoke(1, Dimension::Owner, 1).0.gate.unwrap();
    let record = b.minted(&wish(1));
    assert_eq!(record.observation.fence(words::subject(Dimension::Owner, 1).key()), Some(gate.fence));
    b.view.now = gate.fence_until.minus(1);
    let late = Wish { issued_at: b.now(), token: Some(2), task: Some(2), ..wish(2) };
    let late = b.minted(&late);
    b.view.now = gate.fence_until;
    assert!(b.check(late.id).is_ok(), "it observed a fence that is forgotten now");
}
