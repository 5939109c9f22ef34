//! Children: they carry what their ancestors observed, and die with them.

use mayfly_domain::{CredentialKind, Dimension, LeaseState};
use mayfly_lease::transition::No;

use super::World;
use super::world::refusal;
use crate::words::Wish;

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
    assert_eq!(w.mint(&Wish { ttl_s: 60, ..w.wish() }.child_of(&parent)).await, Err(No::WindowOver));
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
