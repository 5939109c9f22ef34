//! Quotas on live leases and on the rate of mints.

use mayfly_domain::Dimension;
use mayfly_lease::transition::No;

use super::World;
use crate::words::Wish;

/// Whatever becomes of a lease, it counts until its hard expiry; a renewal counts once.
pub async fn live_leases_count_until_their_hard_expiry(w: World) {
    let wish = |ttl_s| Wish { live_max: 3, ttl_s, ..w.wish() };
    let first = wish(100);
    w.minted(&first).await;
    w.minted(&wish(20)).await;
    assert_eq!(w.mint(&wish(20)).await.unwrap().live, [3, 3]);
    assert_eq!(w.mint(&wish(20)).await, Err(No::QuotaLeases(0)));
    let other_workload = Wish { workload: 2, task: Some(2), token: Some(2), ..wish(20) };
    assert_eq!(w.mint(&other_workload).await, Err(No::QuotaLeases(1)), "the owner's");
    w.store.end(&first.release()).await.unwrap();
    assert_eq!(w.mint(&wish(20)).await, Err(No::QuotaLeases(0)));
    w.clock.advance(19_999);
    assert_eq!(w.mint(&wish(20)).await, Err(No::QuotaLeases(0)));
    w.clock.advance(1);
    let renewed = wish(200);
    assert_eq!(w.mint(&renewed).await.unwrap().live, [2, 2]);
    w.store.renew(&renewed.renewal(w.number(), w.now())).await.unwrap();
    assert_eq!(w.mint(&wish(20)).await.unwrap().live, [3, 3], "a renewal takes no second place");
    w.revoke(Dimension::Owner, 1).await;
    w.sweep().await;
    assert_eq!(w.store.counts().await.unwrap().live_leases, 3, "an ended lease counts all the same");
    w.clock.advance(200_000);
    assert_eq!(w.store.counts().await.unwrap().live_leases, 0);
}

/// A burst at once, then one each interval.
pub async fn a_rate_is_limited_and_says_how_long_to_wait(w: World) {
    let wish = || Wish { per_min: 60, burst: 3, ..w.wish() };
    for _ in 0..3 {
        w.minted(&wish()).await;
    }
    assert_eq!(w.mint(&wish()).await, Err(No::QuotaRate(0, 1_000)));
    w.clock.advance(400);
    assert_eq!(w.mint(&wish()).await, Err(No::QuotaRate(0, 600)));
    w.clock.advance(600);
    w.minted(&wish()).await;
    assert_eq!(w.mint(&wish()).await, Err(No::QuotaRate(0, 1_000)));
    w.clock.advance(60_000);
    for _ in 0..3 {
        w.minted(&wish()).await;
    }
    assert_eq!(w.mint(&wish()).await, Err(No::QuotaRate(0, 1_000)), "no more than the burst is saved up");
}

/// One holder's full bucket does not drain another's.
pub async fn a_refused_mint_takes_nothing_from_the_rate(w: World) {
    let wish = |workload: u8| Wish {
        workload,
        task: Some(workload),
        token: Some(workload.into()),
        per_min: 60,
        burst: 2,
        ..w.wish()
    };
    w.minted(&wish(1)).await;
    w.minted(&wish(1)).await;
    // The owner's bucket is empty: workload 2 is refused by it, and keeps its own.
    for _ in 0..5 {
        assert_eq!(w.mint(&wish(2)).await, Err(No::QuotaRate(1, 1_000)));
    }
    w.clock.advance(2_000);
    w.minted(&wish(2)).await;
    w.minted(&wish(2)).await;
}
