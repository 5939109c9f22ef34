//! Revocations.

use mayfly_domain::{AcceptorMode, CredentialKind, Dimension, EndReason, Fence, LeaseState};
use mayfly_lease::RevokeWhat;
use mayfly_lease::job::{ExposureCount, JobTarget};
use mayfly_lease::transition::No;

use super::World;
use crate::words::{self, Wish};

/// The fence moves, the job is there, what observed another fence is dead; the rest lives.
pub async fn each_dimension_ends_its_leases_and_no_others(w: World) {
    for dimension in
        [Dimension::Workload, Dimension::Owner, Dimension::Task, Dimension::Profile, Dimension::Integration]
    {
        let n = 10 + u8::try_from(w.number() % 100).unwrap();
        let covered = w.minted(&w.other(n)).await;
        let shared = w.minted(&Wish { owners: vec![n, 1], ..w.other(n + 100) }).await;
        let other = w.minted(&w.other(2)).await;
        let before = w.store.survey().await.unwrap().changes;
        let revoked = w.revoke(dimension, n).await;
        let fence = revoked.gate.unwrap().fence;
        assert!(fence.value() >= w.now().0, "{dimension}");
        assert_eq!(w.check(covered.id).await, Err(No::FenceMoved), "{dimension}");
        assert_eq!(w.check(shared.id).await.is_err(), dimension == Dimension::Owner, "any one owner");
        assert!(w.check(other.id).await.is_ok(), "{dimension}");
        let job = revoked.job.unwrap();
        assert_eq!(job.target, JobTarget::Subject(words::subject(dimension, n), fence));
        assert_eq!((job.since, job.done, job.ended), (w.now(), false, 0));
        assert_eq!(w.store.job(job.id).await.unwrap().unwrap(), job);
        assert_eq!(w.store.survey().await.unwrap().changes, before + 1);
        assert_eq!(revoked.changes, before + 1);
        let gates = w.store.gates(&[words::subject(dimension, n).key()]).await.unwrap();
        assert_eq!(gates[0].as_ref().map(|g| g.fence), Some(fence));
    }
}

/// "Everything" is every workload's: an operator can't lock the operators out.
pub async fn everything_spares_operators(w: World) {
    let operator = w.store.mint(&w.wish().staff()).await.unwrap().record;
    let first = w.minted(&w.other(2)).await;
    let second = w.minted(&w.other(3)).await;
    w.revoke(Dimension::Everything, 0).await;
    assert_eq!(w.check(first.id).await, Err(No::FenceMoved));
    assert_eq!(w.check(second.id).await, Err(No::FenceMoved));
    assert_eq!(w.check(operator.id).await.unwrap(), operator);
    w.block(Dimension::Everything, 0, None).await;
    assert!(w.store.mint(&w.wish().staff()).await.is_ok());
    w.sweep().await;
    assert_eq!(w.check(operator.id).await.unwrap(), operator);
}

/// Before any sweep.
pub async fn a_revoked_lease_is_dead_at_once_and_shown_so(w: World) {
    let wish = w.wish();
    let record = w.minted(&wish).await;
    let job = w.revoke_lease(record.id).await.job.unwrap();
    assert_eq!(job.target, JobTarget::Lease(record.id));
    assert_eq!(w.check(record.id).await, Err(No::Marked(job.id)));
    let shown = w.store.get(record.id).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.revocation), (LeaseState::Ended(EndReason::Revoked), Some(job.id)));
    assert_eq!(w.sweep().await, [record.id]);
    assert_eq!(w.check(record.id).await, Err(No::Marked(job.id)));
    let sibling = w.minted(&w.wish()).await;
    assert!(w.check(sibling.id).await.is_ok(), "the evidence is good for another lease");
}

/// Its record may have been lost, or not be here yet.
pub async fn an_unknown_lease_is_marked_all_the_same(w: World) {
    let wish = w.wish();
    let id = words::lease(wish.lease);
    let job = w.revoke_lease(id).await.job.unwrap();
    assert_eq!(w.check(id).await, Err(No::Marked(job.id)));
    w.minted(&wish).await;
    assert_eq!(w.check(id).await, Err(No::Marked(job.id)), "dead on arrival");
    w.sweep().await;
    assert!(w.store.job(job.id).await.unwrap().unwrap().done);
}

/// Revoked again when its record is known: the mark is kept as long as it was to be.
pub async fn a_mark_keeps_its_later_end(w: World) {
    let wish = Wish { ttl_s: 60, lineage_s: 60, ..w.wish() };
    let id = words::lease(wish.lease);
    w.revoke_lease(id).await;
    w.minted(&wish).await;
    let at = w.store.feed_position().await.unwrap();
    w.revoke_lease(id).await;
    let until = w.now().plus(words::LONGEST_LIFE_MS);
    let told = crate::feed::rest(&*w.store, at, 10).await[0].event.change;
    assert_eq!(told, mayfly_domain::feed::Change::Mark { lease: id, until });
}

/// `max(fence + 1, now)`: each revocation ends what was minted since the one before.
pub async fn fences_only_grow_within_a_millisecond(w: World) {
    let mut last = Fence::NONE;
    for n in 0..5 {
        let fresh = Wish { token: Some(n.into()), key: n, ..w.wish() };
        let record = w.minted(&fresh).await;
        assert_eq!(record.observation.fence(words::subject(Dimension::Owner, 1).key()), Some(last));
        let fence = w.revoke(Dimension::Owner, 1).await.gate.unwrap().fence;
        assert!(fence > last);
        last = fence;
        assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    }
    assert_eq!(last.value(), w.now().0 + 4);
}

/// Without a block a workload comes back with what it is asked for.
pub async fn a_revocation_can_be_followed_by_a_new_lease(w: World) {
    let dead = w.minted(&w.wish()).await;
    w.revoke(Dimension::Workload, 1).await;
    let fresh = w.minted(&Wish { token: Some(2), ..w.wish() }).await;
    assert!(w.check(fresh.id).await.is_ok());
    assert_eq!(w.sweep().await, [dead.id], "the sweep spares what was minted after the fence");
    assert!(w.check(fresh.id).await.is_ok());
}

/// The gate is kept for the longest life and twice the skew.
pub async fn a_fence_outlives_every_lease_that_it_ended(w: World) {
    let wish = Wish { ttl_s: 86_400, lineage_s: 86_400, window_s: 86_400, ..w.wish() };
    let record = w.minted(&wish).await;
    let gate = w.revoke(Dimension::Owner, 1).await.gate.unwrap();
    assert_eq!(gate.fence_until, w.now().plus(words::LONGEST_LIFE_MS + 60_000));
    w.clock.set(record.expires.minus(1));
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    let later = w.revoke(Dimension::Owner, 1).await.gate.unwrap();
    assert!(later.fence > gate.fence && later.fence_until > gate.fence_until);
}

/// The answer says how what it covers is checked, and when the last of it ends: what is not past its hard expiry.
pub async fn a_revocation_says_how_leases_are_checked(w: World) {
    let wish = |acceptors, ttl_s| Wish { acceptors, ttl_s, ..w.wish() };
    let mut last = w.start;
    for (mode, ttl_s) in [
        (AcceptorMode::Online, 60),
        (AcceptorMode::Online, 900),
        (AcceptorMode::Feed, 120),
        (AcceptorMode::Offline, 300),
        (AcceptorMode::Offline, 30),
        (AcceptorMode::Offline, 310),
    ] {
        last = last.max(w.minted(&wish(mode, ttl_s)).await.expires);
    }
    let account = wish(AcceptorMode::Feed, 200).kind(CredentialKind::Account);
    w.confirmed(&account).await;
    w.minted(&Wish { acceptors: AcceptorMode::Offline, ..w.other(2) }).await;
    let all = ExposureCount { online: 2, feed: 2, offline: 3, last_ends: last };
    for dimension in [Dimension::Workload, Dimension::Owner] {
        assert_eq!(w.revoke(dimension, 1).await.exposure, Some(all), "{dimension}");
    }
    assert_eq!(w.revoke(Dimension::Profile, 1).await.exposure, None);
    assert_eq!(w.revoke(Dimension::Everything, 1).await.exposure, None);
    assert_eq!(w.revoke(Dimension::Owner, 9).await.exposure, Some(ExposureCount::default()));
    assert_eq!(w.revoke_lease(words::lease(1)).await.exposure, None);

    w.clock.advance(200_000);
    let task = w.wish().complete(w.number(), w.number(), w.now());
    let left = ExposureCount { online: 1, feed: 0, offline: 2, last_ends: last };
    let complete = mayfly_lease::RevokeCommand { what: operators(&task.what), ..task };
    assert_eq!(w.store.revoke(&complete).await.unwrap().exposure, Some(left));
    w.clock.advance(800_000);
    assert_eq!(w.revoke(Dimension::Owner, 1).await.exposure, Some(ExposureCount::default()));
}

/// The same end of a task, asked for by an operator.
fn operators(what: &RevokeWhat) -> RevokeWhat {
    let RevokeWhat::Task { id, keep_ms, .. } = what else { panic!("no task") };
    RevokeWhat::Task { id: id.clone(), by: None, spend: None, evidence: None, keep_ms: *keep_ms }
}

/// A renewal moves the entry and stays one; what was given back counts until its hard expiry.
pub async fn an_exposure_follows_renewals(w: World) {
    let wish = Wish { acceptors: AcceptorMode::Feed, ttl_s: 60, ..w.wish() };
    w.minted(&wish).await;
    w.clock.advance(30_000);
    let renewed = w.renew(&Wish { ttl_s: 300, ..wish.clone() }).await.unwrap();
    let given_back = Wish { acceptors: AcceptorMode::Offline, ttl_s: 60, ..w.wish() };
    w.minted(&given_back).await;
    w.store.end(&given_back.release()).await.unwrap();
    let exposure = w.revoke(Dimension::Owner, 1).await.exposure;
    let expected = ExposureCount { online: 0, feed: 1, offline: 1, last_ends: renewed.expires };
    assert_eq!(exposure, Some(expected));
}
