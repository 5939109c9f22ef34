//! Renewals: the same lease, its first observation, as long as nothing stands against it.

use mayfly_domain::{CredentialKind, Dimension, EndReason, Subject};
use mayfly_lease::transition::No;
use mayfly_lease::{CheckCommand, LeaseBody, RenewCommand};

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

/// For ever, whatever fences were moved and forgotten since.
pub async fn a_renewal_keeps_the_first_observation(w: World) {
    let wish = Wish { ttl_s: 60, ..w.wish() };
    let record = w.minted(&wish).await;
    w.clock.advance(30_000);
    let renewed = w.renew(&wish).await.unwrap();
    assert_eq!(renewed.observation, record.observation);
    assert_eq!((renewed.counter, renewed.id, renewed.issued), (1, record.id, record.issued));
    assert_eq!(renewed.expires, w.now().plus(60_000));
    assert_eq!(w.check(record.id).await.unwrap(), renewed);
    // A profile's revocation asks for no new evidence, but what was made before it is not renewed into life.
    w.revoke(Dimension::Profile, 1).await;
    let dead = w.renew(&wish).await;
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
    assert_eq!(w.renew_by(&shorter).await.unwrap().expires, w.start.plus(109_000));
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
    assert_eq!(w.renew_by(&other).await, Err(No::OfAnother));
    let mut other = renewal();
    other.task = words::task(2);
    assert_eq!(w.renew_by(&other).await, Err(No::OfAnother));
    let mut other = renewal();
    other.key = words::key(2);
    assert_eq!(w.renew_by(&other).await, Err(No::OfAnother));
    let mut other = renewal();
    other.id = words::lease(9_999);
    assert_eq!(w.renew_by(&other).await, Err(No::NotFound));
    assert!(w.store.renew(&renewal()).await.is_ok());
}

/// Not past the lineage, not past the task's window.
pub async fn a_renewal_ends_with_lineage_and_window(w: World) {
    for (n, lineage_s, window_s) in [(2, 100, 1_000), (3, 1_000, 100)] {
        let wish = Wish { ttl_s: 60, lineage_s, window_s, ..w.other(n) };
        let begun = w.now();
        w.minted(&wish).await;
        w.clock.advance(59_000);
        let renewed = w.renew(&wish).await.unwrap();
        assert_eq!(renewed.expires, begun.plus(100_000));
        w.clock.advance(40_500);
        assert_eq!(
            w.renew(&wish).await.map(|r| r.expires),
            Ok(begun.plus(100_000)),
            "what is left is renewed"
        );
        w.clock.advance(500);
        let over = w.renew(&wish).await;
        assert_eq!(over, Err(No::Expired));
    }
}

/// Each for its own reason.
pub async fn blocks_fences_and_ends_refuse_a_renewal(w: World) {
    let wish = w.other(2);
    w.minted(&wish).await;
    w.block(Dimension::Integration, 2, Some(1_000)).await;
    let renew = || wish.renewal(w.number(), w.now());
    assert_eq!(w.renew_by(&renew()).await, Err(No::Blocked(4)));
    w.clock.advance(1_000);
    assert!(w.store.renew(&renew()).await.is_ok(), "a block alone ends nothing");
    w.revoke(Dimension::Owner, 2).await;
    assert_eq!(w.renew_by(&renew()).await, Err(No::EvidencePredatesRevocation(1)));
    assert_eq!(w.renew_afresh(&wish, 99).await, Err(No::FenceMoved));

    let wish = w.other(3);
    w.minted(&wish).await;
    w.store.end(&wish.release()).await.unwrap();
    let renew = wish.renewal(w.number(), w.now());
    assert_eq!(w.renew_by(&renew).await, Err(No::Ended(EndReason::Released, None)));

    let wish = w.other(4);
    let record = w.minted(&wish).await;
    let job = w.revoke_lease(record.id).await.job.unwrap();
    let renew = wish.renewal(w.number(), w.now());
    assert_eq!(w.renew_by(&renew).await, Err(No::Marked(job.id)));
}

/// Once, as for a mint; a refusal spends nothing.
pub async fn a_renewal_spends_its_nonce(w: World) {
    let wish = w.wish();
    w.minted(&wish).await;
    let renewal = wish.renewal(w.number(), w.now());
    let mut refused = renewal.clone();
    refused.key = words::key(2);
    assert!(w.store.renew(&refused).await.is_err());
    assert_eq!(w.renew_by(&renewal).await.unwrap().counter, 1);
    assert_eq!(w.renew_by(&renewal).await, Err(No::NonceUsed));
}

/// Its target has an end of its own, which this step does not move.
pub async fn a_lease_with_a_side_effect_is_not_renewed(w: World) {
    let wish = w.wish().kind(CredentialKind::Account);
    let record = w.confirmed(&wish).await;
    assert_eq!(w.renew(&wish).await, Err(No::LineageOver));
    assert_eq!(w.check(record.id).await.unwrap(), record);
}

/// The holder of the old key asks for it, and from then on the old key is nobody's.
pub async fn a_renewal_may_change_the_key(w: World) {
    let wish = w.wish();
    let record = w.minted(&wish).await;
    let renewal = RenewCommand { next: Some(words::key(7)), ..wish.renewal(w.number(), w.now()) };
    let thief =
        RenewCommand { key: words::key(7), spend: words::spend(w.number(), w.now()), ..renewal.clone() };
    assert_eq!(w.renew_by(&thief).await, Err(No::OfAnother), "the next key alone proves nothing");
    let renewed = w.renew_by(&renewal).await.unwrap();
    assert_eq!(renewed.body, LeaseBody { key: words::key(7), ..record.body.clone() });
    assert_eq!((renewed.observation.clone(), renewed.counter), (record.observation, 1));
    assert_eq!(w.check(record.id).await.unwrap(), renewed);

    assert_eq!(w.renew(&wish).await, Err(No::RaceLost), "decided about the lease as it was");
    let old = RenewCommand { body: renewed.body.clone(), ..wish.renewal(w.number(), w.now()) };
    assert_eq!(w.renew_by(&old).await, Err(No::OfAnother));
    assert_eq!(refusal(w.store.end(&wish.release()).await), Err(No::OfAnother));
    let new = RenewCommand { key: words::key(7), next: Some(words::key(7)), evidence: None, ..old };
    assert_eq!(w.renew_by(&new).await.unwrap().body, renewed.body, "the same key is no change");
}

/// Whoever signed the newest credential is told; a refused renewal moves nothing.
pub async fn a_lease_names_what_signed_it(w: World) {
    let wish = w.wish();
    let minted = w.minted(&wish).await;
    assert_eq!(minted.signer, wish.mint(w.now()).signer);
    let refused = RenewCommand { key: words::key(2), ..wish.renewal(w.number(), w.now()) };
    assert!(w.renew_by(&refused).await.is_err());
    assert_eq!(w.check(minted.id).await.unwrap().signer, minted.signer);
    let renewal = RenewCommand { signer: words::signer(9), ..wish.renewal(w.number(), w.now()) };
    assert_eq!(w.renew_by(&renewal).await.unwrap().signer, words::signer(9));
    assert_eq!(w.check(minted.id).await.unwrap().signer, words::signer(9));
    w.store.end(&wish.release()).await.unwrap();
    assert_eq!(w.store.get(minted.id).await.unwrap().unwrap().signer, words::signer(9));
}

/// In the same step, so that a broker with older keys knows before anything leaves.
pub async fn the_version_of_the_keys_comes_along(w: World) {
    let mut version = 0;
    for next in [1, 2, 7] {
        for wish in [w.wish(), w.wish().kind(CredentialKind::Account)] {
            assert_eq!(w.mint(&wish).await.unwrap().keys_version, version);
        }
        let wish = w.wish();
        let minted = w.mint(&wish).await.unwrap();
        let check = CheckCommand { id: minted.record.id, observation: None };
        assert!(w.store.put_keys(version, next, &[5; 40]).await.unwrap());
        assert_eq!(w.store.renew(&wish.renewal(w.number(), w.now())).await.unwrap().keys_version, next);
        assert_eq!(w.store.check(&check).await.unwrap().keys_version, next);
        version = next;
    }
}
