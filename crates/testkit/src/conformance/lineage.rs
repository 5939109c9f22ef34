//! Children: they carry what their ancestors observed, and die with them.

use mayfly_domain::{CredentialKind, Dimension, LeaseState};
use mayfly_lease::transition::No;
use mayfly_lease::{LeaseRecord, RenewCommand};

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

/// Also a grandchild, and also one that has an account.
pub async fn a_child_dies_with_its_parent_by_id(w: World) {
    let parent = w.minted(&w.wish()).await;
    let child = w.minted(&w.wish().child_of(&parent)).await;
    let grandchild = w.confirmed(&w.wish().kind(CredentialKind::Account).child_of(&child)).await;
    assert_eq!(grandchild.observation.ancestors(), [parent.id, child.id]);
    let other = w.minted(&w.wish()).await;
    let job = w.revoke_lease(parent.id).await.job.unwrap();
    for record in [&parent, &child, &grandchild] {
        assert_eq!(w.check(record.id).await, Err(No::Marked(job.id)));
    }
    assert!(w.check(other.id).await.is_ok());
    let renewal = w.wish().child_of(&parent);
    assert_eq!(w.mint(&renewal).await, Err(No::AncestorDead));
}

/// A fence that only the parent's profile stands under.
pub async fn a_child_dies_with_its_parents_fence(w: World) {
    let parent = w.minted(&w.wish()).await;
    let child = w.minted(&Wish { profile: 2, task: Some(2), ..w.wish() }.child_of(&parent)).await;
    assert!(child.observation.pairs().len() > parent.observation.pairs().len());
    w.revoke(Dimension::Profile, 1).await;
    assert_eq!(w.check(child.id).await, Err(No::FenceMoved));
    assert_eq!(w.mint(&Wish { profile: 2, ..w.wish() }.child_of(&parent)).await, Err(No::AncestorDead));
}

/// Nor does a child get a newer observation than its parent.
pub async fn a_dead_parent_has_no_children(w: World) {
    for dimension in [Dimension::Workload, Dimension::Owner, Dimension::Task, Dimension::Everything] {
        let n = 10 + u8::try_from(w.number()).unwrap();
        let parent = w.minted(&w.other(n)).await;
        w.revoke(dimension, n).await;
        assert_eq!(w.mint(&w.other(n).child_of(&parent)).await, Err(No::AncestorDead), "{dimension}");
    }
    let wish = w.wish();
    let record = w.minted(&wish).await;
    w.revoke_lease(record.id).await;
    assert_eq!(w.mint(&w.wish().child_of(&record)).await, Err(No::AncestorDead));
}

/// Nor is it renewed past its parent.
pub async fn a_child_ends_no_later_than_its_parent(w: World) {
    let parent = w.minted(&Wish { ttl_s: 100, ..w.wish() }).await;
    w.clock.advance(90_000);
    let wish = Wish { ttl_s: 60, ..w.wish() }.child_of(&parent);
    let child = w.minted(&wish).await;
    assert_eq!((child.expires, child.renewable_until), (parent.expires, parent.expires));
    let renewed = w.renew(&wish).await.unwrap();
    assert_eq!(renewed.expires, parent.expires);
    w.clock.advance(10_000);
    assert_eq!(w.mint(&Wish { ttl_s: 60, ..w.wish() }.child_of(&parent)).await, Err(No::Expired));
}

/// What its parent stands under is blocked for the child too.
pub async fn a_child_stands_under_its_parents_blocks(w: World) {
    let parent = w.minted(&w.wish()).await;
    let wish = Wish { profile: 2, ..w.wish() }.child_of(&parent);
    let child = w.minted(&wish).await;
    w.block(Dimension::Profile, 1, Some(1_000)).await;
    let next = Wish { profile: 2, ..w.wish() }.child_of(&parent);
    assert!(matches!(w.mint(&next).await, Err(No::Blocked(_))));
    let renewal = wish.renewal(w.number(), w.now());
    assert!(matches!(refusal(w.store.renew(&renewal).await), Err(No::Blocked(_))));
    assert!(w.check(child.id).await.is_ok());
    w.clock.advance(1_000);
    assert!(w.mint(&next).await.is_ok());
}

/// At most eight ancestors and forty pairs; more is refused.
pub async fn a_lineage_is_bounded(w: World) {
    let mut last = w.minted(&w.wish()).await;
    for _ in 0..8 {
        last = w.minted(&w.wish().child_of(&last)).await;
    }
    assert_eq!(last.observation.ancestors().len(), 8);
    assert_eq!(w.mint(&w.wish().child_of(&last)).await, Err(No::LineageLimit));

    let mut last = w.minted(&w.wish()).await;
    let mut refused = false;
    for n in 2..8 {
        let wish = Wish { profile: n, task: Some(n), owners: vec![n, n + 20, n + 40, n + 60], ..w.wish() };
        match w.mint(&wish.child_of(&last)).await {
            Ok(minted) => last = minted.record,
            Err(no) => {
                assert_eq!(no, No::LineageLimit);
                refused = true;
            }
        }
        assert!(last.observation.pairs().len() <= 40);
    }
    assert!(refused);
    assert_eq!(w.state(last.id).await, Some(LeaseState::Active));
}

/// A certificate, what was minted with it, and what was minted with that.
struct Family {
    parent: Wish,
    child: Wish,
    members: Vec<LeaseRecord>,
}

impl Family {
    /// Of workload, owner, task, key and token `n`; the children have another profile.
    async fn of(w: &World, n: u8) -> Self {
        let parent = w.other(n).kind(CredentialKind::X509);
        let mut members = vec![w.minted(&parent).await];
        let of_its_own = |w: &World| Wish { profile: n + 100, ..w.other(n) };
        let child = of_its_own(w).child_of(&members[0]);
        members.push(w.minted(&child).await);
        let certificate = of_its_own(w).kind(CredentialKind::X509).child_of(&members[0]);
        members.push(w.minted(&certificate).await);
        let account = of_its_own(w).kind(CredentialKind::Account).child_of(&members[2]);
        members.push(w.confirmed(&account).await);
        Self { parent, child, members }
    }

    /// Nothing of it is accepted, renewed, or has children.
    async fn is_dead(&self, w: &World, why: &str) {
        for (n, record) in self.members.iter().enumerate() {
            assert!(w.check(record.id).await.is_err(), "{why}: check {n}");
            let child = w.mint(&w.other(self.parent.workload).child_of(record)).await;
            assert!(child.is_err(), "{why}: child {n}");
        }
        for wish in [&self.parent, &self.child] {
            assert!(w.renew(&Wish { token: None, ..wish.clone() }).await.is_err(), "{why}: renewal");
        }
    }
}

/// By each fence that the parent carries, by its id, by its end: whatever children carry of their own.
pub async fn a_family_shares_its_parents_fate(w: World) {
    let spared = Family::of(&w, 1).await;
    for (n, dimension) in [
        (2, Dimension::Workload),
        (3, Dimension::Owner),
        (4, Dimension::Task),
        (5, Dimension::Profile),
        (6, Dimension::Integration),
        (7, Dimension::Evidence),
    ] {
        let family = Family::of(&w, n).await;
        w.revoke(dimension, n).await;
        family.is_dead(&w, &dimension.to_string()).await;
    }
    let family = Family::of(&w, 8).await;
    w.revoke_lease(family.members[0].id).await;
    family.is_dead(&w, "id").await;
    for (n, record) in spared.members.iter().enumerate() {
        assert_eq!(w.check(record.id).await.as_ref(), Ok(record), "member {n}");
    }
    let swept = w.sweep().await;
    assert!(spared.members.iter().all(|r| !swept.contains(&r.id)));
    w.clock.advance(300_000);
    spared.is_dead(&w, "expiry").await;
    let family = Family::of(&w, 9).await;
    w.revoke(Dimension::Everything, 0).await;
    family.is_dead(&w, "everything").await;
}

/// However often it was renewed, with whatever key: a child gets what the parent observed first.
pub async fn a_renewed_parent_hands_on_its_first_observation(w: World) {
    let wish = Wish { ttl_s: 60, ..w.wish() }.kind(CredentialKind::X509);
    let first = w.minted(&wish).await;
    let early = w.minted(&Wish { ttl_s: 60, ..w.wish() }.child_of(&first)).await;
    w.clock.advance(30_000);
    let itself =
        RenewCommand { evidence: None, next: Some(words::key(5)), ..wish.renewal(w.number(), w.now()) };
    let renewed = w.renew_by(&itself).await.unwrap();
    assert_eq!(renewed.observation, first.observation);
    assert_eq!(renewed.body.x509, first.body.x509);
    let late = w.minted(&Wish { ttl_s: 60, ..w.wish() }.child_of(&renewed)).await;
    assert_eq!(late.observation, early.observation);
    assert_eq!((early.expires, late.expires), (first.expires, renewed.expires));
    w.revoke(Dimension::Profile, 1).await;
    for record in [&renewed, &early, &late] {
        assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    }
    let again = RenewCommand { key: words::key(5), body: renewed.body, ..wish.renewal(w.number(), w.now()) };
    assert_eq!(w.renew_by(&RenewCommand { evidence: None, ..again }).await, Err(No::FenceMoved));
}

/// Its ancestors stay its ancestors, whatever key it has by now.
pub async fn a_renewed_child_stays_a_child(w: World) {
    let parent = w.minted(&w.wish().kind(CredentialKind::X509)).await;
    let wish = Wish { ttl_s: 60, ..w.wish() }.kind(CredentialKind::X509).child_of(&parent);
    let child = w.minted(&wish).await;
    w.clock.advance(30_000);
    let renewal = RenewCommand { next: Some(words::key(5)), ..wish.renewal(w.number(), w.now()) };
    let renewed = w.renew_by(&renewal).await.unwrap();
    assert_eq!(renewed.observation, child.observation);
    assert_eq!(renewed.observation.ancestors(), [parent.id]);
    assert_eq!(renewed.renewable_until, parent.expires);
    let job = w.revoke_lease(parent.id).await.job.unwrap();
    assert_eq!(w.check(child.id).await, Err(No::Marked(job.id)));
    let again = RenewCommand {
        key: words::key(5),
        next: None,
        body: renewed.body,
        spend: words::spend(w.number(), w.now()),
        ..renewal
    };
    assert_eq!(w.renew_by(&again).await, Err(No::Marked(job.id)));
}
