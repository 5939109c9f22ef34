//! Blocks.

use mayfly_domain::{Dimension, Fence};
use mayfly_lease::transition::No;

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

/// In every dimension, named by its place among the subjects; a block alone ends nothing.
pub async fn a_block_refuses_until_it_is_lifted(w: World) {
    let record = w.minted(&w.wish()).await;
    for (n, subject) in w.wish().subjects().into_iter().enumerate() {
        let gate = w.store.set_block(&subject, Some(words::block(w.now(), None))).await.unwrap();
        assert_eq!((gate.fence, gate.block.is_some()), (Fence::NONE, true));
        assert_eq!(w.mint(&w.wish()).await, Err(No::Blocked(n)), "{subject}");
        assert!(w.check(record.id).await.is_ok(), "{subject}");
        w.clock.advance(words::LONGEST_LIFE_MS / 100_000);
        let gate = w.store.set_block(&subject, None).await.unwrap();
        assert_eq!(gate.block, None);
        assert_eq!(refusal(w.store.set_block(&subject, None).await), Err(No::NoBlock));
        w.minted(&w.wish()).await;
    }
    w.block(Dimension::Workload, 1, None).await;
    assert_eq!(refusal(w.store.start_task(&w.wish().start(w.number(), w.now())).await), Err(No::Blocked(0)));
    w.clock.advance(2 * words::LONGEST_LIFE_MS);
    let late = Wish { token: Some(9), task: Some(9), issued_at: w.now(), ..w.wish() };
    assert_eq!(w.mint(&late).await, Err(No::Blocked(0)), "a block without an end has none");
}

/// At its end it stands no more and needs no lifting.
pub async fn a_block_ends_by_itself(w: World) {
    w.block(Dimension::Owner, 1, Some(5_000)).await;
    w.clock.advance(4_999);
    assert_eq!(w.mint(&w.wish()).await, Err(No::Blocked(1)));
    assert_eq!(w.store.blocks().await.unwrap().len(), 1);
    w.clock.advance(1);
    assert!(w.mint(&w.wish()).await.is_ok());
    assert!(w.store.blocks().await.unwrap().is_empty());
    let lifted = w.store.set_block(&words::subject(Dimension::Owner, 1), None).await;
    assert_eq!(refusal(lifted), Err(No::NoBlock));
}

/// One step: there is no moment at which the old is dead and the new still minted.
pub async fn a_block_comes_with_its_fence(w: World) {
    let record = w.minted(&w.wish()).await;
    let subject = words::subject(Dimension::Owner, 1);
    let gate = w.revoke_subject(subject.clone(), Some(words::block(w.now(), None))).await.gate.unwrap();
    assert!(gate.block.is_some() && gate.fence > Fence::NONE);
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    let fresh = Wish { token: Some(2), ..w.wish() };
    assert_eq!(w.mint(&fresh).await, Err(No::Blocked(1)));
    // A later revocation without a block leaves the block.
    let again = w.revoke_subject(subject.clone(), None).await.gate.unwrap();
    assert_eq!((again.block, again.block_version), (gate.block.clone(), gate.block_version));
    let blocks = w.store.blocks().await.unwrap();
    assert_eq!(blocks.len(), 1);
    assert_eq!((&blocks[0].0, &blocks[0].1.block), (&subject, &gate.block));
}

/// A block's end is not a pardon.
pub async fn lifting_revives_nothing(w: World) {
    let record = w.minted(&w.wish()).await;
    let subject = words::subject(Dimension::Owner, 1);
    w.revoke_subject(subject.clone(), Some(words::block(w.now(), None))).await;
    let gate = w.store.set_block(&subject, None).await.unwrap();
    assert!(gate.fence > Fence::NONE, "the fence stays");
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    assert_eq!(w.mint(&w.wish()).await, Err(No::EvidencePredatesRevocation(1)));
    assert!(w.mint(&Wish { token: Some(2), ..w.wish() }).await.is_ok());
}

/// What was minted since the fence was forgotten has observed none: a block must not end it.
pub async fn a_block_does_not_bring_a_lapsed_fence_back(w: World) {
    let subject = words::subject(Dimension::Owner, 1);
    let gate = w.revoke_subject(subject.clone(), None).await.gate.unwrap();
    w.clock.set(gate.fence_until);
    let record = w.minted(&Wish { issued_at: w.now(), ..w.wish() }).await;
    assert_eq!(record.observation.fence(subject.key()), Some(Fence::NONE));
    let gate = w.store.set_block(&subject, Some(words::block(w.now(), Some(1_000)))).await.unwrap();
    assert_eq!(gate.fence, Fence::NONE);
    assert!(w.check(record.id).await.is_ok());
    w.store.set_block(&subject, None).await.unwrap();
    assert!(w.check(record.id).await.is_ok());
}

/// Each setting and each lifting has a version of its own, so that an older copy brings nothing back.
pub async fn versions_only_grow(w: World) {
    let subject = words::subject(Dimension::Profile, 1);
    let mut last = 0;
    for n in 0..6 {
        let block = (n % 2 == 0).then(|| words::block(w.now(), None));
        let gate = w.store.set_block(&subject, block).await.unwrap();
        assert!(gate.block_version > last && gate.block_version >= w.now().0);
        last = gate.block_version;
    }
    let survey = w.store.survey().await.unwrap();
    assert_eq!(survey.changes, 6, "each is a change");
}

/// A name that nothing knows can be told from one that something knows.
pub async fn what_is_known_is_known(w: World) {
    let knows = async |dimension, n| w.store.knows(&words::subject(dimension, n)).await.unwrap();
    for dimension in [Dimension::Workload, Dimension::Owner, Dimension::Task, Dimension::Profile] {
        assert!(!knows(dimension, 1).await, "{dimension}");
    }
    w.minted(&w.wish()).await;
    for dimension in [Dimension::Workload, Dimension::Owner, Dimension::Task] {
        assert!(knows(dimension, 1).await, "{dimension}");
    }
    w.block(Dimension::Profile, 1, None).await;
    assert!(knows(Dimension::Profile, 1).await);
    w.store.start_task(&w.other(2).start(w.number(), w.now())).await.unwrap();
    assert!(knows(Dimension::Task, 2).await);
}
