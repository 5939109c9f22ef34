//! Evidence: bound to its first key, taken over at most three times, and observing what stood when it was
//! first shown.

use mayfly_domain::{Dimension, Fence, defaults};
use mayfly_lease::transition::No;

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

/// Another key is refused, as long as the token may be shown.
pub async fn a_token_belongs_to_its_first_key(w: World) {
    assert!(w.mint(&w.wish()).await.unwrap().first_binding);
    assert!(!w.mint(&w.wish()).await.unwrap().first_binding, "the same key again");
    let thief = Wish { key: 2, ..w.wish() };
    assert_eq!(w.mint(&thief).await, Err(No::EvidenceOfOtherKey));
    assert_eq!(
        refusal(w.store.start_task(&thief.start(w.number(), w.now())).await),
        Err(No::EvidenceOfOtherKey)
    );
    w.clock.advance(words::TOKEN_LIFE_MS + defaults::SKEW_MS - 1);
    let late = Wish { task: Some(2), ..thief };
    assert_eq!(w.mint(&late).await, Err(No::EvidenceOfOtherKey));
}

/// By the hash of its signing input and by issuer and `jti`.
pub async fn two_forms_of_one_token_belong_to_one_key(w: World) {
    let first = Wish { alias: Some(1), ..w.wish() };
    assert!(w.mint(&first).await.unwrap().first_binding);
    let other_form = Wish { token: Some(2), alias: Some(1), ..w.wish() };
    assert_eq!(w.mint(&Wish { key: 2, ..other_form.clone() }).await, Err(No::EvidenceOfOtherKey));
    assert!(w.mint(&other_form).await.unwrap().first_binding, "the other form is bound to the same key");
    let alone = Wish { token: Some(2), key: 2, ..w.wish() };
    assert_eq!(w.mint(&alone).await, Err(No::EvidenceOfOtherKey));
}

/// `on_other_key = "supersede"`.
pub async fn a_key_may_take_over_three_times_and_ends_what_the_other_got(w: World) {
    let with = |key: u8| Wish { key, supersede: true, ..w.wish() };
    let mut last = w.mint(&with(1)).await.unwrap();
    assert_eq!(last.superseded, None);
    for n in 1..=3 {
        let next = w.mint(&with(n + 1)).await.unwrap();
        assert_eq!(next.superseded, Some(n));
        assert!(next.first_binding, "a new binding is made durable");
        assert_eq!(w.check(last.record.id).await, Err(No::FenceMoved), "what the other key got is over");
        assert_eq!(w.check(next.record.id).await.unwrap(), next.record);
        let again = w.mint(&with(n + 1)).await.unwrap();
        assert_eq!(again.superseded, None);
        assert_eq!(w.check(again.record.id).await.unwrap(), again.record);
        last = next;
    }
    assert_eq!(w.mint(&with(5)).await, Err(No::EvidenceOfOtherKey));
    assert_eq!(w.check(last.record.id).await.unwrap(), last.record, "and nothing was ended");
}

/// Not a renewal, not a task's start, not its completion.
pub async fn only_a_mint_takes_over(w: World) {
    let first = Wish { supersede: true, ..w.wish() };
    w.minted(&first).await;
    let other = Wish { key: 2, ..first.clone() };
    assert_eq!(
        refusal(w.store.renew(&other.renewal(w.number(), w.now())).await),
        Err(No::EvidenceOfOtherKey)
    );
    assert_eq!(
        refusal(w.store.start_task(&other.start(w.number(), w.now())).await),
        Err(No::EvidenceOfOtherKey)
    );
    let complete = other.complete(w.number(), w.number(), w.now());
    assert_eq!(refusal(w.store.revoke(&complete).await), Err(No::EvidenceOfOtherKey));
    assert_eq!(w.check(words::lease(first.lease)).await.unwrap().id, words::lease(first.lease));
}

/// Workload, owner, everything: only evidence first shown after the revocation mints; the others ask for none.
pub async fn evidence_older_than_a_revocation_mints_no_more(w: World) {
    for (dimension, position) in [(Dimension::Workload, 0), (Dimension::Owner, 1), (Dimension::Everything, 5)]
    {
        let n = 20 + u8::try_from(position).unwrap();
        w.minted(&w.other(n)).await;
        w.revoke(dimension, n).await;
        w.clock.advance(1);
        assert_eq!(w.mint(&w.other(n)).await, Err(No::EvidencePredatesRevocation(position)), "{dimension}");
        let fresh = Wish { token: Some(100 + u32::from(n)), ..w.other(n) };
        let record = w.minted(&fresh).await;
        assert_eq!(w.check(record.id).await.unwrap(), record);
    }
    for dimension in [Dimension::Task, Dimension::Profile, Dimension::Integration] {
        let wish = Wish { token: Some(7), key: 7, workload: 7, owners: vec![7], task: Some(7), ..w.wish() };
        w.minted(&wish).await;
        w.revoke(dimension, if dimension == Dimension::Task { 7 } else { 1 }).await;
        let again = w.minted(&Wish { lease: w.number(), ..wish }).await;
        assert_eq!(w.check(again.id).await.unwrap(), again, "{dimension}");
    }
}

/// The order "evidence's observation, not the current one": also where the token was bound by a task's start
/// and the revocation came before the mint.
pub async fn a_lease_takes_what_its_evidence_observed(w: World) {
    let wish = w.wish();
    let started = w.store.start_task(&wish.start(w.number(), w.now())).await.unwrap();
    assert!(started.first_binding);
    w.revoke(Dimension::Owner, 1).await;
    assert_eq!(w.mint(&wish).await, Err(No::EvidencePredatesRevocation(1)));
    assert_eq!(
        refusal(w.store.start_task(&wish.start(w.number(), w.now())).await),
        Err(No::EvidencePredatesRevocation(1))
    );
}

/// Task, profile and integration are observed when the lease is made.
pub async fn other_dimensions_are_observed_at_the_mint(w: World) {
    w.minted(&w.wish()).await;
    let gate = w.revoke(Dimension::Profile, 1).await.gate.unwrap();
    let record = w.minted(&w.wish()).await;
    let key = words::subject(Dimension::Profile, 1).key();
    assert_eq!(record.observation.fence(key), Some(gate.fence));
    assert_eq!(
        record.observation.fence(words::subject(Dimension::Owner, 1).key()),
        Some(Fence::NONE),
        "the evidence saw no fence of the owner"
    );
}

/// An owner that a rule's change has added counts as observed, unless its fence moved since the binding.
pub async fn an_owner_that_the_binding_did_not_know(w: World) {
    w.minted(&w.wish()).await;
    w.revoke(Dimension::Owner, 3).await;
    w.clock.advance(10);
    let grown = Wish { owners: vec![1, 2], ..w.wish() };
    let record = w.minted(&grown).await;
    assert_eq!(w.check(record.id).await.unwrap(), record);
    let grown = Wish { owners: vec![1, 3], ..w.wish() };
    assert_eq!(w.mint(&grown).await, Err(No::EvidencePredatesRevocation(2)));
}

/// After the token's end, plus the skew, nobody can show it; its binding goes.
pub async fn a_binding_is_forgotten_with_its_token(w: World) {
    w.minted(&w.wish()).await;
    w.clock.advance(words::TOKEN_LIFE_MS + defaults::SKEW_MS);
    let other = Wish { key: 2, task: Some(2), ..w.wish() };
    let other = Wish { issued_at: w.now(), ..other };
    assert!(w.mint(&other).await.unwrap().first_binding);
}
