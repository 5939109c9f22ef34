//! Renewals: the same lease, its first observation, as long as nothing stands against it.

use mayfly_domain::{CredentialKind, Dimension, EndReason, Subject};
use mayfly_lease::transition::No;

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

/// For ever, whatever fences were moved and forgotten since.
pub async fn a_renewal_keeps_the_first_observation(w: World) {
    let wish = Wish { ttl_s: 60, ..w.wish() };
    let record = w.minted(&wish).await;
    w.clock.advance(30_000);
    let renewed = w.store.renew(&wish.renewal(w.number(), w.now())).await.unwrap();
    assert_eq!(renewed.observation, record.observation);
    assert_eq!((renewed.counter, renewed.id, renewed.issued), (1, record.id, record.issued));
    assert_eq!(renewed.expires, w.now().plus(60_000));
    assert_eq!(w.check(record.id).await.unwrap(), renewed);
    // A profile's revocation asks for no new evidence, but what was made before it is not renewed into life.
    w.revoke(Dimension::Profile, 1).await;
    let dead = refusal(w.store.renew(&wish.renewal(w.number(), w.now())).await);
    assert_eq!(dead, Err(No::FenceMoved));
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
}

/// A renewed lease is found along every index after its first expiry, and counted once.
pub async fn a_renewal_extends_the_index(w: World) {
    let wish = Wish { ttl_s: 10, ..w.wish() };
    let record = w.minted(&wish).await;
    w.clock.advance(9_000);
    w.store.renew(&Wish { ttl_s: 100, ..wish.clone() }.renewal(w.number(), w.now())).await.unwrap();
    w.clock.advance(5_000);
    for subject in wish.subjects().iter().filter(|s| mayfly_lease::command::is_indexed(s)) {
        assert_eq!(w.list(Some(subject), 10).await, [record.id], "{subject}");
    }
    assert_eq!(w.list(None, 10).await, [record.id]);
    assert_eq!(w.store.counts().await.unwrap().live_leases, 1);
    // A shorter renewal takes nothing away from a credential that is out already.
    let shorter = Wish { ttl_s: 1, ..wish }.renewal(w.number(), w.now());
    assert_eq!(w.store.renew(&shorter).await.unwrap().expires, w.start.plus(109_000));
    w.revoke(Dimension::Owner, 1).await;
    assert_eq!(w.sweep().await, [record.id]);
}

/// Same workload, task and key.
pub async fn only_the_holder_renews(w: World) {
    let wish = w.wish();
    w.minted(&wish).await;
    let renewal = || wish.renewal(w.number(), w.now());
    let mut other = renewal();
    other.workload = Subject::Workload(words::workload(2));
    assert_eq!(refusal(w.store.renew(&other).await), Err(No::OfAnother));
    let mut other = renewal();
    other.task = words::task(2);
    assert_eq!(refusal(w.store.renew(&other).await), Err(No::OfAnother));
    let mut other = renewal();
    other.key = words::key(2);
    assert_eq!(refusal(w.store.renew(&other).await), Err(No::OfAnother));
    let mut other = renewal();
    other.id = words::lease(9_999);
    assert_eq!(refusal(w.store.renew(&other).await), Err(No::NotFound));
    assert!(w.store.renew(&renewal()).await.is_ok());
}

/// Not past the lineage, not past the task's window.
pub async fn a_renewal_ends_with_lineage_and_window(w: World) {
    for (n, lineage_s, window_s) in [(2, 100, 1_000), (3, 1_000, 100)] {
        let wish = Wish { ttl_s: 60, lineage_s, window_s, ..w.other(n) };
        let begun = w.now();
        w.minted(&wish).await;
        w.clock.advance(59_000);
        let renewed = w.store.renew(&wish.renewal(w.number(), w.now())).await.unwrap();
        assert_eq!(renewed.expires, begun.plus(100_000));
        w.clock.advance(40_500);
        assert_eq!(
            refusal(w.store.renew(&wish.renewal(w.number(), w.now())).await).map(|r| r.expires),
            Ok(begun.plus(100_000)),
            "what is left is renewed"
        );
        w.clock.advance(500);
        let over = refusal(w.store.renew(&wish.renewal(w.number(), w.now())).await);
        assert_eq!(over, Err(No::Expired));
    }
}

/// Each for its own reason.
pub async fn blocks_fences_and_ends_refuse_a_renewal(w: World) {
    let wish = w.other(2);
    w.minted(&wish).await;
    w.block(Dimension::Integration, 2, Some(1_000)).await;
    let renew = || wish.renewal(w.number(), w.now());
    assert_eq!(refusal(w.store.renew(&renew()).await), Err(No::Blocked(4)));
    w.clock.advance(1_000);
    assert!(w.store.renew(&renew()).await.is_ok(), "a block alone ends nothing");
    w.revoke(Dimension::Owner, 2).await;
    assert_eq!(refusal(w.store.renew(&renew()).await), Err(No::EvidencePredatesRevocation(1)));
    let fresh = Wish { token: Some(99), ..wish.clone() };
    assert_eq!(refusal(w.store.renew(&fresh.renewal(w.number(), w.now())).await), Err(No::FenceMoved));

    let wish = w.other(3);
    w.minted(&wish).await;
    w.store.end(&wish.release()).await.unwrap();
    let renew = wish.renewal(w.number(), w.now());
    assert_eq!(refusal(w.store.renew(&renew).await), Err(No::Ended(EndReason::Released, None)));

    let wish = w.other(4);
    let record = w.minted(&wish).await;
    let job = w.revoke_lease(record.id).await.job.unwrap();
    let renew = wish.renewal(w.number(), w.now());
    assert_eq!(refusal(w.store.renew(&renew).await), Err(No::Marked(job.id)));
}

/// Once, as for a mint; a refusal spends nothing.
pub async fn a_renewal_spends_its_nonce(w: World) {
    let wish = w.wish();
    w.minted(&wish).await;
    let renewal = wish.renewal(w.number(), w.now());
    let mut refused = renewal.clone();
    refused.key = words::key(2);
    assert!(w.store.renew(&refused).await.is_err());
    assert_eq!(w.store.renew(&renewal).await.unwrap().counter, 1);
    assert_eq!(refusal(w.store.renew(&renewal).await), Err(No::NonceUsed));
}

/// Its target has an end of its own, which this step does not move.
pub async fn a_lease_with_a_side_effect_is_not_renewed(w: World) {
    let wish = w.wish().kind(CredentialKind::Account);
    let record = w.confirmed(&wish).await;
    assert_eq!(refusal(w.store.renew(&wish.renewal(w.number(), w.now())).await), Err(No::LineageOver));
    assert_eq!(w.check(record.id).await.unwrap(), record);
}
