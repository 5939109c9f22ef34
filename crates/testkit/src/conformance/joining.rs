//! Join tokens: known before anybody shows them, bound and used up by one mint.

use std::sync::Arc;

use mayfly_domain::{Dimension, LeaseState, UnixMillis};
use mayfly_lease::join::KEEP_MS;
use mayfly_lease::transition::No;
use mayfly_lease::{Carry, JoinRecord, JoinState};

use super::World;
use super::world::refusal;
use crate::words::{self, JOIN_LIFE_MS, Wish};

/// A wish that shows join token `n`, which was made just now for its workload and owners.
async fn joining(w: &World, n: u8) -> Wish {
    let wish = Wish { join: Some(n), token: None, issued_at: w.now(), ..w.other(n) };
    w.store.put_join(&wish.join_token(n, w.now())).await.unwrap();
    wish
}

async fn stored(w: &World, n: u8) -> Option<JoinRecord> {
    w.store.join(words::join_token(n)).await.unwrap()
}

/// The mint that uses it binds it, and is named by it.
pub async fn a_join_token_is_used_by_one_mint(w: World) {
    let wish = joining(&w, 2).await;
    let open = wish.join_token(2, w.now());
    assert_eq!(stored(&w, 2).await, Some(open.clone()));
    w.clock.advance(1_000);
    let minted = w.mint(&wish).await.unwrap();
    assert!(minted.first_binding, "it is made durable before anything leaves");
    assert_eq!(w.check(minted.record.id).await.unwrap(), minted.record);
    let used = JoinRecord { state: JoinState::Used(minted.record.id), ..open };
    assert_eq!(stored(&w, 2).await, Some(used.clone()));
    assert_eq!(w.store.joins().await.unwrap(), [used]);

    let again = Wish { lease: w.number(), ..wish.clone() };
    assert_eq!(w.mint(&again).await, Err(No::EvidenceUsed), "by its own key");
    let thief = Wish { lease: w.number(), key: 9, ..wish.clone() };
    assert_eq!(w.mint(&thief).await, Err(No::EvidenceOfOtherKey), "by another");
    let taking = Wish { supersede: true, ..thief };
    assert_eq!(w.mint(&taking).await, Err(No::EvidenceOfOtherKey), "whatever its rule says");
    // An account of its own, in case: it is used up by the reservation.
    let wish = joining(&w, 3).await.kind(mayfly_domain::CredentialKind::Account);
    let reserved = w.minted(&wish).await;
    assert_eq!(reserved.state, LeaseState::Reserved);
    assert_eq!(stored(&w, 3).await.unwrap().state, JoinState::Used(reserved.id));
}

/// It is first evidence: its lease is renewed by other evidence, its task is opened by its mint alone.
pub async fn only_a_mint_uses_a_join_token(w: World) {
    let wish = joining(&w, 2).await;
    let start = refusal(w.store.start_task(&wish.start(w.number(), w.now())).await);
    assert_eq!(start, Err(No::EvidenceUnknown));
    let complete = wish.complete(w.number(), w.number(), w.now());
    assert_eq!(refusal(w.store.revoke(&complete).await), Err(No::EvidenceUnknown));
    w.minted(&wish).await;
    assert_eq!(w.renew(&wish).await, Err(No::EvidenceUsed));
    let itself = Wish { join: None, ..wish.clone() }.renewal(w.number(), w.now());
    let renewal = mayfly_lease::RenewCommand { body: wish.body(), ..itself };
    assert_eq!(w.renew_by(&renewal).await.unwrap().counter, 1, "its certificate renews itself");
}

/// What it vouches for is observed when it is made, not when it is used.
pub async fn a_revocation_after_its_making_refuses_a_join_token(w: World) {
    for (n, dimension, position) in
        [(2, Dimension::Workload, 0), (3, Dimension::Owner, 1), (4, Dimension::Everything, 5)]
    {
        let wish = joining(&w, n).await;
        w.clock.advance(5);
        w.revoke(dimension, n).await;
        w.clock.advance(5);
        assert_eq!(w.mint(&wish).await, Err(No::EvidencePredatesRevocation(position)), "{dimension}");
        assert_eq!(stored(&w, n).await.unwrap().state, JoinState::Open, "a refusal uses nothing up");
        let after = joining(&w, n + 10).await;
        let after = Wish { lease: w.number(), workload: n, owners: vec![n], task: Some(n), ..after };
        assert!(w.mint(&after).await.is_ok(), "one that is made after it mints");
    }
    for (n, dimension) in [(5, Dimension::Task), (6, Dimension::Profile), (7, Dimension::Integration)] {
        let wish = joining(&w, n).await;
        w.revoke(dimension, n).await;
        assert!(w.mint(&wish).await.is_ok(), "{dimension}");
    }
}

/// And says so; one that was used stays used.
pub async fn a_withdrawn_join_token_mints_nothing(w: World) {
    let wish = joining(&w, 2).await;
    let open = stored(&w, 2).await.unwrap();
    let withdrawn = JoinRecord { state: JoinState::Withdrawn, ..open.clone() };
    assert_eq!(w.store.withdraw_join(open.id).await.unwrap(), Some(withdrawn.clone()));
    assert_eq!(w.mint(&wish).await, Err(No::EvidenceUnknown));
    assert_eq!(w.store.withdraw_join(open.id).await.unwrap(), Some(withdrawn.clone()), "twice");
    assert_eq!(stored(&w, 2).await, Some(withdrawn));
    let used = joining(&w, 3).await;
    let minted = w.minted(&used).await;
    let record = w.store.withdraw_join(used.join_token(3, w.now()).id).await.unwrap().unwrap();
    assert_eq!(record.state, JoinState::Used(minted.id));
    assert!(w.check(minted.id).await.is_ok(), "what it was used for is revoked by other words");
    assert_eq!(w.store.withdraw_join(mayfly_lease::JoinId([99; 8])).await.unwrap(), None);
}

/// Nobody arms a token that is there.
pub async fn a_join_token_is_made_once(w: World) {
    let wish = joining(&w, 2).await;
    let again = w.store.put_join(&wish.join_token(2, w.now())).await;
    assert_eq!(refusal(again), Err(No::RaceLost));
    w.minted(&wish).await;
    let again = w.store.put_join(&wish.join_token(2, w.now())).await;
    assert_eq!(refusal(again), Err(No::RaceLost));
    assert!(matches!(stored(&w, 2).await.unwrap().state, JoinState::Used(_)));
}

/// Its end is its own; it is listed for a while, then gone.
pub async fn a_join_token_ends_by_itself(w: World) {
    let wish = joining(&w, 2).await;
    w.clock.advance(1);
    let other = joining(&w, 3).await;
    let ids = async || w.store.joins().await.unwrap().iter().map(|j| j.id.0[0]).collect::<Vec<_>>();
    assert_eq!(ids().await, [2, 3], "oldest first");
    w.clock.advance(JOIN_LIFE_MS - 2);
    assert!(w.mint(&wish).await.is_ok(), "to the last millisecond");
    w.clock.advance(2);
    assert_eq!(w.mint(&other).await, Err(No::EvidenceUnknown));
    w.clock.advance(KEEP_MS - 1);
    assert_eq!(ids().await, [3]);
    assert_eq!(stored(&w, 2).await, None);
    w.clock.advance(1);
    assert!(ids().await.is_empty());
    assert_eq!(stored(&w, 3).await, None);
    let unheard = Wish { join: Some(88), token: None, issued_at: w.now(), ..w.other(88) };
    assert_eq!(w.mint(&unheard).await, Err(No::EvidenceUnknown));
}

/// Blocks, quotas and nonces refuse as ever, and use nothing up.
pub async fn a_refused_mint_uses_no_join_token_up(w: World) {
    let wish = joining(&w, 2).await;
    w.block(Dimension::Profile, 2, None).await;
    assert_eq!(w.mint(&wish).await, Err(No::Blocked(3)));
    w.store.set_block(&words::subject(Dimension::Profile, 2), None).await.unwrap();
    let none = Wish { live_max: 0, ..wish.clone() };
    assert_eq!(w.mint(&none).await, Err(No::QuotaLeases(0)));
    assert_eq!(stored(&w, 2).await.unwrap().state, JoinState::Open);
    let other_key = Wish { key: 7, ..wish };
    assert!(w.mint(&other_key).await.is_ok(), "it still belongs to nobody");
}

/// A token from before a generation mints nothing in it, were it made a moment before.
pub async fn a_new_generation_takes_no_older_join_token(w: World) {
    let wish = joining(&w, 2).await;
    w.clock.advance(1);
    w.store.begin_generation(&words::generation(2, w.now()), &Carry::default()).await.unwrap();
    w.adopt().await;
    let no = w.mint(&Wish { issued_at: UnixMillis(u64::MAX / 4), ..wish }).await.map(drop);
    assert!(matches!(no, Err(No::EvidencePredatesGeneration | No::EvidenceUnknown)), "{no:?}");
    let fresh = joining(&w, 3).await;
    assert!(w.mint(&fresh).await.is_ok());
}

/// One token at once with sixteen keys, and an operator who takes it back: whoever is first has it.
pub async fn uses_and_withdrawals_race(w: World) {
    for n in 1..=20 {
        let wish = joining(&w, n).await;
        let id = wish.join_token(n, w.now()).id;
        let mints: Vec<_> = (1..=16)
            .map(|key| {
                let (store, wish) = (Arc::clone(&w.store), Wish { key, lease: w.number(), ..wish.clone() });
                let command = wish.mint(w.now());
                tokio::spawn(async move { refusal(store.mint(&command).await).map(|m| m.record.id) })
            })
            .collect();
        let withdrawal = {
            let store = Arc::clone(&w.store);
            tokio::spawn(async move { store.withdraw_join(id).await.unwrap().unwrap().state })
        };
        let mut minted = Vec::new();
        for mint in mints {
            match mint.await.unwrap() {
                Ok(lease) => minted.push(lease),
                Err(no) => assert!(matches!(no, No::EvidenceOfOtherKey | No::EvidenceUnknown), "{no}"),
            }
        }
        let told = withdrawal.await.unwrap();
        assert_eq!(stored(&w, n).await.unwrap().state, told, "what was told is so");
        match told {
            JoinState::Used(lease) => assert_eq!(minted, [lease]),
            JoinState::Withdrawn => assert!(minted.is_empty(), "nothing left after the withdrawal was told"),
            JoinState::Open => panic!("neither used nor withdrawn"),
        }
    }
}
