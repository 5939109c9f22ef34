//! Races: what is acknowledged holds, whoever else was at work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mayfly_domain::{Dimension, LeaseId};
use mayfly_lease::transition::No;
use mayfly_lease::{CheckCommand, LeaseStore, StoreError};
use parking_lot::Mutex;

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

const MINTS: u32 = 10_000;
const OWNERS: u8 = 50;
const MINTERS: u32 = 64;
const REVOCATIONS_PER_OWNER: u32 = 2;

/// Everything handed out, by owner and by the round of its evidence.
type HandedOut = Mutex<BTreeMap<(u8, u32), Vec<LeaseId>>>;

struct Race {
    store: Arc<dyn LeaseStore>,
    handed_out: HandedOut,
    rounds: Vec<AtomicU32>,
    lease: AtomicU32,
    done: AtomicU32,
    start: mayfly_domain::UnixMillis,
}

impl Race {
    fn wish(&self, n: u32, owner: u8, round: u32) -> Wish {
        Wish {
            workload: owner,
            owners: vec![owner],
            task: None,
            token: Some(u32::from(owner) * 1_000 + round),
            ..Wish::new(n, self.start)
        }
    }

    async fn mint(&self, n: u32) {
        let owner = u8::try_from(n % u32::from(OWNERS)).unwrap();
        let round = self.rounds[usize::from(owner)].load(Ordering::SeqCst);
        let wish = self.wish(self.lease.fetch_add(1, Ordering::SeqCst), owner, round);
        match refusal(self.store.mint(&wish.mint(self.start)).await) {
            Ok(minted) => {
                self.handed_out.lock().entry((owner, round)).or_default().push(minted.record.id);
            }
            Err(no) => assert!(matches!(no, No::EvidencePredatesRevocation(_)), "{no}"),
        }
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the evidence of an owner's round was shown, or will not be: only what was shown before a
    /// revocation is ended by it.
    fn is_shown(&self, owner: u8, round: u32) -> bool {
        let present = self.rounds[usize::from(owner)].load(Ordering::SeqCst) == round;
        let shown = self.handed_out.lock().contains_key(&(owner, round));
        (present && shown) || self.done.load(Ordering::SeqCst) >= MINTS
    }

    /// Revokes an owner; when that is acknowledged, everything of its round is dead.
    async fn revoke(&self, owner: u8) {
        let round = self.rounds[usize::from(owner)].load(Ordering::SeqCst);
        let n = u32::from(owner) * 100 + round;
        let command = words::revoke_subject(n, words::subject(Dimension::Owner, owner), None);
        self.store.revoke(&command).await.unwrap();
        let before = self.handed_out.lock().get(&(owner, round)).cloned().unwrap_or_default();
        for id in before {
            let check = self.store.check(&CheckCommand { id, observation: None }).await;
            assert_eq!(check.map(|c| c.record.id), Err(StoreError::Refused(No::FenceMoved)));
        }
        self.rounds[usize::from(owner)].fetch_add(1, Ordering::SeqCst);
    }
}

/// 10,000 mints over 50 owners with revocations racing them: nothing that was handed out with evidence shown
/// before an acknowledged revocation passes a check after it, and nothing is handed out without a lease.
pub async fn revocations_race_mints(w: World) {
    let race = Arc::new(Race {
        store: Arc::clone(&w.store),
        handed_out: HandedOut::default(),
        rounds: (0..OWNERS).map(|_| AtomicU32::new(0)).collect(),
        lease: AtomicU32::new(1),
        done: AtomicU32::new(0),
        start: w.start,
    });
    // Every owner's first evidence is bound before anything is revoked.
    for owner in 0..OWNERS {
        race.mint(u32::from(owner)).await;
    }
    let mut tasks = Vec::new();
    for minter in 0..MINTERS {
        let race = Arc::clone(&race);
        tasks.push(tokio::spawn(async move {
            let mut n = minter;
            while n < MINTS - u32::from(OWNERS) {
                race.mint(n).await;
                n += MINTERS;
            }
        }));
    }
    for step in 0..u32::from(OWNERS) * REVOCATIONS_PER_OWNER {
        let race = Arc::clone(&race);
        tasks.push(tokio::spawn(async move {
            // Spread over the mints: each waits for its share of them.
            let share = MINTS / (u32::from(OWNERS) * REVOCATIONS_PER_OWNER + 1);
            let (owner, round) = (u8::try_from(step % u32::from(OWNERS)).unwrap(), step / u32::from(OWNERS));
            while race.done.load(Ordering::SeqCst) < step * share || !race.is_shown(owner, round) {
                tokio::task::yield_now().await;
            }
            race.revoke(owner).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut alive = 0;
    let handed_out = std::mem::take(&mut *race.handed_out.lock());
    for ((owner, round), ids) in &handed_out {
        let revoked = *round < REVOCATIONS_PER_OWNER;
        for id in ids {
            let check = w.store.check(&CheckCommand { id: *id, observation: None }).await;
            assert_eq!(check.is_err(), revoked, "owner {owner}, round {round}");
            assert!(w.store.get(*id).await.unwrap().is_some(), "nothing without a lease");
            alive += u64::from(!revoked);
        }
    }
    assert!(alive > 0, "some were minted after the last revocation");
}

/// The same nonce and key at once, sixteen times.
pub async fn one_nonce_mints_once(w: World) {
    let command = w.wish().mint(w.now());
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (store, command) = (Arc::clone(&w.store), command.clone());
            tokio::spawn(async move { refusal(store.mint(&command).await).map(|m| m.record.id) })
        })
        .collect();
    let mut minted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(id) => {
                assert_eq!(id, command.id);
                minted += 1;
            }
            Err(no) => assert_eq!(no, No::NonceUsed),
        }
    }
    assert_eq!(minted, 1);
}

/// The same token with sixteen keys at once.
pub async fn one_token_binds_one_key(w: World) {
    let tasks: Vec<_> = (1..=16)
        .map(|key| {
            let (store, command) = (Arc::clone(&w.store), Wish { key, ..w.wish() }.mint(w.now()));
            tokio::spawn(async move { refusal(store.mint(&command).await).map(|m| m.first_binding) })
        })
        .collect();
    let mut minted = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(first) => {
                assert!(first);
                minted += 1;
            }
            Err(no) => assert_eq!(no, No::EvidenceOfOtherKey),
        }
    }
    assert_eq!(minted, 1);
}
