//! Races: what is acknowledged holds, whoever else was at work.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mayfly_domain::{CredentialKind, Dimension, LeaseId};
use mayfly_lease::transition::No;
use mayfly_lease::{CheckCommand, LeaseRecord, LeaseStore, RenewCommand, StoreError, sweep};
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

/// Leases of one owner that were handed out, the roots and their descendants, as they are known last.
type Family = Mutex<Vec<(Wish, LeaseRecord)>>;

struct Kin {
    store: Arc<dyn LeaseStore>,
    families: Vec<Family>,
    epochs: Vec<AtomicU32>,
    /// Leases that an acknowledged revocation covers: they and their descendants are dead.
    dead: Mutex<BTreeSet<LeaseId>>,
    numbers: AtomicU32,
    done: AtomicU32,
    start: mayfly_domain::UnixMillis,
}

impl Kin {
    fn number(&self) -> u32 {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    fn is_dead(&self, record: &LeaseRecord) -> bool {
        let dead = self.dead.lock();
        dead.contains(&record.id) || record.observation.ancestors().iter().any(|a| dead.contains(a))
    }

    fn any_of(&self, owner: u8, n: u32) -> Option<(Wish, LeaseRecord)> {
        let family = self.families[usize::from(owner)].lock();
        let at = usize::try_from(n.wrapping_mul(2_654_435_761) >> 8).unwrap();
        at.checked_rem(family.len()).map(|at| family[at].clone())
    }

    /// A mint, a renewal or a child's mint: whichever is the `n`th.
    async fn act(&self, n: u32) {
        let owner = u8::try_from(n % u32::from(OWNERS)).unwrap();
        let kin = self.any_of(owner, n);
        match (kin, n / u32::from(OWNERS) % 3) {
            (Some((wish, record)), 1) => self.renew(owner, n, wish, record).await,
            (Some((_, parent)), 2) if parent.observation.ancestors().len() < 8 => {
                let wish = Wish { profile: owner + 100, ..self.root(owner) }.child_of(&parent);
                self.mint(owner, wish, Some(&parent)).await;
            }
            _ => self.mint(owner, self.root(owner).kind(CredentialKind::X509), None).await,
        }
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    fn root(&self, owner: u8) -> Wish {
        Wish {
            workload: owner,
            owners: vec![owner],
            task: Some(owner),
            profile: owner,
            token: Some(u32::from(owner) * 1_000 + self.epochs[usize::from(owner)].load(Ordering::SeqCst)),
            ..Wish::new(self.number(), self.start)
        }
    }

    async fn mint(&self, owner: u8, wish: Wish, parent: Option<&LeaseRecord>) {
        let was_dead = parent.is_some_and(|parent| self.is_dead(parent));
        match refusal(self.store.mint(&wish.mint(self.start)).await) {
            Ok(minted) => {
                assert!(!was_dead, "a child of the dead");
                self.families[usize::from(owner)].lock().push((wish, minted.record));
            }
            Err(no) => assert!(matches!(no, No::EvidencePredatesRevocation(_) | No::AncestorDead), "{no}"),
        }
    }

    /// As a certificate renews itself: half of them with another key.
    async fn renew(&self, owner: u8, n: u32, mut wish: Wish, record: LeaseRecord) {
        let was_dead = self.is_dead(&record);
        let (changes, next) = (n.is_multiple_of(2), u8::try_from(n % 250 + 1).unwrap());
        let command = RenewCommand {
            key: record.body.key,
            next: changes.then(|| words::key(next)),
            body: record.body.clone(),
            evidence: None,
            ..wish.renewal(self.number(), self.start)
        };
        match refusal(self.store.renew(&command).await) {
            Ok(renewed) => {
                assert!(!was_dead, "the dead renewed");
                assert_eq!(renewed.record.observation, record.observation);
                wish.key = if changes { next } else { wish.key };
                let mut family = self.families[usize::from(owner)].lock();
                let known = family.iter_mut().find(|(_, r)| r.id == record.id).unwrap();
                if known.1.counter < renewed.record.counter {
                    *known = (wish, renewed.record);
                }
            }
            Err(no) => {
                assert!(matches!(no, No::FenceMoved | No::Marked(_) | No::RaceLost | No::Ended(..)), "{no}")
            }
        }
    }

    /// Revokes an owner, its profile, or one of its leases; when that is acknowledged, all that it covers is dead.
    async fn revoke(&self, step: u32) {
        let owner = u8::try_from(step % u32::from(OWNERS)).unwrap();
        let family: Vec<LeaseRecord> =
            self.families[usize::from(owner)].lock().iter().map(|(_, r)| r.clone()).collect();
        let Some(some) = family.get(usize::try_from(step).unwrap() % family.len().max(1)) else { return };
        let (command, covered) = match step / u32::from(OWNERS) % 3 {
            0 => (words::revoke_lease(step, some.id, self.start.plus(1)), vec![some.id]),
            kind => {
                let dimension = if kind == 1 { Dimension::Owner } else { Dimension::Profile };
                let command = words::revoke_subject(step, words::subject(dimension, owner), None);
                (command, family.iter().map(|r| r.id).collect())
            }
        };
        self.store.revoke(&command).await.unwrap();
        self.dead.lock().extend(covered);
        self.epochs[usize::from(owner)].fetch_add(1, Ordering::SeqCst);
        for record in family.iter().filter(|r| self.is_dead(r)).take(32) {
            let check = self.store.check(&CheckCommand { id: record.id, observation: None }).await;
            assert!(check.is_err(), "accepted after it was revoked");
        }
    }
}

/// 10,000 mints, renewals and mints of children, with revocations by id, owner and profile racing them, and sweeps:
/// what an acknowledged revocation covers is dead, with all that descends from it, and nothing of it is renewed or
/// has children.
pub async fn revocations_race_renewals_and_children(w: World) {
    let kin = Arc::new(Kin {
        store: Arc::clone(&w.store),
        families: (0..OWNERS).map(|_| Family::default()).collect(),
        epochs: (0..OWNERS).map(|_| AtomicU32::new(0)).collect(),
        dead: Mutex::default(),
        numbers: AtomicU32::new(1),
        done: AtomicU32::new(0),
        start: w.start,
    });
    let mut tasks = Vec::new();
    for worker in 0..MINTERS {
        let kin = Arc::clone(&kin);
        tasks.push(tokio::spawn(async move {
            let mut n = worker;
            while n < MINTS {
                kin.act(n).await;
                n += MINTERS;
            }
        }));
    }
    let revocations = u32::from(OWNERS) * 3;
    for step in 0..revocations {
        let kin = Arc::clone(&kin);
        tasks.push(tokio::spawn(async move {
            while kin.done.load(Ordering::SeqCst) < (step + 1) * (MINTS * 4 / 5 / revocations) {
                tokio::task::yield_now().await;
            }
            kin.revoke(step).await;
        }));
    }
    while kin.done.load(Ordering::SeqCst) < MINTS {
        if let Some(job) = w.store.claim_job(sweep::CLAIM_MS).await.unwrap() {
            sweep::step(&*w.store, job).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let (mut alive, mut dead_children) = (0, 0);
    for family in &kin.families {
        let members = std::mem::take(&mut *family.lock());
        for (_, record) in members {
            let check = w.check(record.id).await;
            if kin.is_dead(&record) {
                assert!(check.is_err(), "{} of {:?}", record.id, record.observation.ancestors());
                dead_children += u32::from(!record.observation.ancestors().is_empty());
            } else if let Ok(now) = check {
                assert_eq!((now.observation, now.counter), (record.observation, record.counter));
                alive += 1;
            }
        }
    }
    assert!(alive > 0 && dead_children > 0, "{alive} live, {dead_children} children dead");
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
