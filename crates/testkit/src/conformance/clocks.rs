//! A wall clock that is ahead and goes back: what went meanwhile because it was over may still count.

use mayfly_domain::{Dimension, defaults};
use mayfly_lease::transition::No;
use mayfly_lease::{Carry, CheckCommand, StoreError};

use super::World;
use crate::words::{self, Wish};

/// Enough changes for a store that takes away what is over with them to go around once.
async fn work(w: &World) {
    for _ in 0..64 {
        let version = w.store.keys().await.unwrap().map_or(0, |(version, _)| version);
        assert!(w.store.put_keys(version, version + 1, b"sealed").await.unwrap());
    }
}

/// It has all of it still, or says that it may not and begins anew. Nothing that was revoked comes back.
pub async fn a_clock_that_was_far_ahead_revives_nothing(w: World) {
    w.clock.advance(120_000);
    let wish = w.wish();
    let (fenced, marked) = (w.minted(&wish).await, w.minted(&w.other(3)).await);
    w.revoke(Dimension::Owner, 1).await;
    w.revoke_lease(marked.id).await;
    let now = w.now();
    w.clock.advance(40 * 86_400_000);
    work(&w).await;
    w.clock.set(now);
    if w.store.survey().await.unwrap().forgot {
        let check = CheckCommand { id: fenced.id, observation: None };
        assert_eq!(w.store.check(&check).await.err(), Some(StoreError::Forgot));
        assert_eq!(w.store.mint(&wish.mint(now)).await.err(), Some(StoreError::Forgot));
        let revoke = words::revoke_subject(w.number(), words::subject(Dimension::Owner, 2), None);
        assert_eq!(w.store.revoke(&revoke).await.err(), Some(StoreError::Forgot));
        w.store.begin_generation(&words::generation(2, now), &Carry::default()).await.unwrap();
        w.adopt().await;
    }
    assert!(!w.store.survey().await.unwrap().forgot, "a new generation has nothing to remember");
    for dead in [&fenced, &marked] {
        assert!(w.check(dead.id).await.is_err());
    }
    for again in [wish.clone(), Wish { lease: w.number(), ..wish }] {
        let refused = w.mint(&again).await;
        let dead = [No::NonceUsed, No::EvidencePredatesRevocation(1), No::EvidencePredatesGeneration];
        assert!(refused.as_ref().is_err_and(|no| dead.contains(no)), "{refused:?}");
    }
    let fresh = Wish { issued_at: now, token: Some(77), ..w.wish() };
    let minted = w.minted(&fresh).await;
    assert_eq!(w.check(minted.id).await.unwrap(), minted);
}

/// What counts is kept for longer than it counts.
pub async fn a_clock_that_was_a_little_ahead_loses_nothing(w: World) {
    let (wish, live) = (w.wish(), w.minted(&w.other(2)).await);
    let fenced = w.minted(&wish).await;
    w.revoke(Dimension::Owner, 1).await;
    let now = w.now();
    w.clock.advance(defaults::CLOCK_BACK_MS);
    work(&w).await;
    w.clock.set(now);
    assert!(!w.store.survey().await.unwrap().forgot);
    assert_eq!(w.check(live.id).await.unwrap(), live);
    assert_eq!(w.check(fenced.id).await, Err(No::FenceMoved));
    assert_eq!(w.mint(&wish).await, Err(No::NonceUsed));
}

/// Nor does one that stood still for as long as it likes, and then goes on.
pub async fn a_clock_that_goes_on_after_a_pause_loses_nothing(w: World) {
    work(&w).await;
    w.clock.advance(words::LONGEST_LIFE_MS / 2);
    work(&w).await;
    assert!(!w.store.survey().await.unwrap().forgot);
    let minted = w.minted(&Wish { issued_at: w.now(), ..w.wish() }).await;
    assert_eq!(w.check(minted.id).await.unwrap(), minted);
}
