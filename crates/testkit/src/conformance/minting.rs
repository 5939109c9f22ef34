//! Minting: what is written, how long it lives, and that a nonce is used once.

use mayfly_domain::{CredentialKind, Dimension, LeaseState, UnixMillis, defaults};
use mayfly_lease::transition::No;

use super::World;
use super::world::refusal;
use crate::words;

/// A credential without side effect may leave after one step.
pub async fn a_token_is_born_active(w: World) {
    let minted = w.mint(&w.wish()).await.unwrap();
    let record = minted.record;
    assert_eq!(record.state, LeaseState::Active);
    assert_eq!((record.counter, record.revocation), (0, None::<mayfly_lease::JobId>));
    assert!(minted.first_binding);
    assert_eq!(minted.live, [1, 1]);
    assert_eq!(minted.task.unwrap().body.id, words::task(1));
    assert_eq!(w.check(record.id).await.unwrap(), record);
    assert_eq!(w.store.get(record.id).await.unwrap().unwrap(), record);
    // Every subject of the lease is observed, and nothing else.
    let mut keys: Vec<_> = w.wish().subjects().iter().map(mayfly_domain::Subject::key).collect();
    keys.sort_unstable();
    let observed: Vec<_> = record.observation.pairs().iter().map(|p| p.key).collect();
    assert_eq!(observed, keys);
}

/// One with a side effect is accepted nowhere before it is confirmed, and confirmed once.
pub async fn an_account_is_born_reserved(w: World) {
    let record = w.minted(&w.wish().kind(CredentialKind::Account)).await;
    assert_eq!(record.state, LeaseState::Reserved);
    assert_eq!(record.confirm_by, w.now().plus(defaults::MINT_DEADLINE_MS));
    assert_eq!(w.check(record.id).await, Err(No::NotActive));
    let confirmed = w.store.confirm(record.id).await.unwrap();
    assert_eq!(confirmed.state, LeaseState::Active);
    assert_eq!(w.check(record.id).await.unwrap(), confirmed);
    assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost), "only once");
    assert_eq!(refusal(w.store.confirm(words::lease(9_999)).await), Err(No::RaceLost), "and no other");
}

/// TTL, lineage, task window and the caller's own bound: the earliest, in whole seconds, downwards.
pub async fn the_expiry_is_the_earliest_bound_in_whole_seconds(w: World) {
    w.clock.advance(700);
    let at = |secs: u64| w.start.plus(secs * 1_000);
    let wish = |workload: u8| w.other(workload);
    for (n, ttl_s, lineage_s, window_s, bound, expires, renewable) in [
        (11, 300, 3_600, 1_800, u64::MAX, at(300), at(1_800)),
        (12, 300, 600, 1_800, u64::MAX, at(300), at(600)),
        (13, 300, 100, 1_800, u64::MAX, at(100), at(100)),
        (14, 300, 3_600, 60, u64::MAX, at(60), at(60)),
        (15, 300, 3_600, 1_800, at(30).0 + 999, at(30), at(30)),
        (16, 1, 1, 1, u64::MAX, at(1), at(1)),
    ] {
        let wish = words::Wish { ttl_s, lineage_s, window_s, ..wish(n) };
        let mut command = wish.mint(w.now());
        command.not_after = UnixMillis(bound);
        let record = w.store.mint(&command).await.unwrap().record;
        assert_eq!((record.expires, record.renewable_until), (expires, renewable), "case {n}");
        assert_eq!(record.issued, w.now());
    }
    let mut late = wish(17).mint(w.now());
    late.not_after = w.now();
    assert_eq!(refusal(w.store.mint(&late).await), Err(No::WindowOver));
}

/// A replay never mints again, whatever became of the lease.
pub async fn a_nonce_is_used_once_even_after_release_and_expiry(w: World) {
    let wish = words::Wish { ttl_s: 2, ..w.wish() };
    let record = w.minted(&wish).await;
    assert_eq!(w.mint(&wish).await, Err(No::NonceUsed), "while it lives");
    let (_, ended) = w.store.end(&wish.release()).await.unwrap();
    assert!(ended);
    assert_eq!(w.mint(&wish).await, Err(No::NonceUsed), "after its release");
    w.clock.advance(3_000);
    assert_eq!(w.mint(&wish).await, Err(No::NonceUsed), "after its expiry");
    assert_eq!(refusal(w.store.renew(&wish.renewal(wish.lease, w.now())).await), Err(No::NonceUsed));
    assert_eq!(refusal(w.store.start_task(&wish.start(wish.lease, w.now())).await), Err(No::NonceUsed));
    let revoke = wish.complete(w.number(), wish.lease, w.now());
    assert_eq!(refusal(w.store.revoke(&revoke).await), Err(No::NonceUsed));
    w.clock.advance(defaults::NONCE_LIFE_MS + defaults::SKEW_MS);
    assert_eq!(w.mint(&wish).await, Err(No::NonceUsed), "as long as any broker takes the nonce");
    assert_eq!(record.id, words::lease(wish.lease));
}

/// A refusal writes no record, no index entry, no use of the nonce, no task, no binding.
pub async fn a_refused_mint_leaves_nothing(w: World) {
    w.block(Dimension::Profile, 1, None).await;
    let wish = w.wish();
    assert_eq!(w.mint(&wish).await, Err(No::Blocked(3)));
    assert_eq!(w.state(words::lease(wish.lease)).await, None);
    assert_eq!(w.store.task(&words::task(1)).await.unwrap(), None);
    assert!(w.list(None, 10).await.is_empty());
    assert_eq!(w.store.counts().await.unwrap().live_leases, 0);
    w.store.set_block(&words::subject(Dimension::Profile, 1), None).await.unwrap();
    let other_key = words::Wish { key: 2, ..wish };
    assert!(w.mint(&other_key).await.unwrap().first_binding, "nonce and token are as new");
}

/// An operator's certificate: a fresh id, no task, no evidence, no quota.
pub async fn an_operators_lease_needs_no_nonce(w: World) {
    let wish = w.wish();
    let minted = w.store.mint(&wish.staff()).await.unwrap();
    assert_eq!(minted.record.state, LeaseState::Active);
    assert!(minted.task.is_none() && minted.live.is_empty() && !minted.first_binding);
    assert_eq!(w.check(minted.record.id).await.unwrap(), minted.record);
}
