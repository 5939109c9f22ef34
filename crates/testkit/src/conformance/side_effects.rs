//! Credentials with a side effect: the whole order with a fault at each step. Whatever happens, no account
//! outlives its lease.

use async_trait::async_trait;
use mayfly_domain::{CredentialKind, Dimension, EndReason, LeaseId, LeaseState, defaults};
use mayfly_lease::transition::No;
use mayfly_lease::undo::{self, Round, Target};
use mayfly_lease::{LeaseRecord, sweep};

use super::World;
use super::world::refusal;
use crate::files::Accounts;
use crate::words::Wish;

fn account(w: &World) -> Wish {
    w.wish().kind(CredentialKind::Account)
}

async fn reap(w: &World, accounts: &Accounts) -> Round {
    undo::reap(&*w.store, accounts, 100).await.unwrap()
}

async fn queued(w: &World) -> u64 {
    w.store.counts().await.unwrap().undo_pending
}

async fn ended(w: &World, id: LeaseId) -> Option<EndReason> {
    match w.state(id).await {
        Some(LeaseState::Ended(reason)) => Some(reason),
        _ => None,
    }
}

/// A record that ended while reserved: undone after its deadline, and once more after the grace.
async fn is_undone_twice(w: &World, accounts: &Accounts, record: &LeaseRecord) {
    w.clock.set(record.confirm_by.minus(1));
    reap(w, accounts).await;
    assert_eq!(accounts.undone(record.id), 0, "not before the deadline: the maker may be at work");
    w.clock.set(record.confirm_by);
    assert_eq!(reap(w, accounts).await, Round { undone: 1, failed: 0 });
    assert!(!accounts.exists(record.id));
    assert_eq!(queued(w).await, 1, "it stays queued");
    w.clock.advance(defaults::UNDO_GRACE_MS - 1);
    assert_eq!(reap(w, accounts).await, Round::default());
    w.clock.advance(1);
    assert_eq!(reap(w, accounts).await, Round { undone: 1, failed: 0 });
    assert_eq!((accounts.undone(record.id), queued(w).await), (2, 0));
    assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost), "nobody confirms it any more");
}

/// Mint, make, confirm, use, revoke, sweep, undo.
pub async fn the_whole_order(w: World) {
    let accounts = Accounts::new();
    let record = w.minted(&account(&w)).await;
    assert_eq!(queued(&w).await, 1, "queued before anything is made");
    accounts.make(record.id);
    let confirmed = w.store.confirm(record.id).await.unwrap();
    assert_eq!(w.check(record.id).await.unwrap(), confirmed);
    assert_eq!(reap(&w, &accounts).await, Round::default());
    w.revoke(Dimension::Owner, 1).await;
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    assert!(accounts.exists(record.id), "until the sweep");
    assert_eq!(w.sweep().await, [record.id]);
    assert_eq!(reap(&w, &accounts).await, Round { undone: 1, failed: 0 });
    assert!(!accounts.exists(record.id));
    assert_eq!(queued(&w).await, 0);
    assert_eq!(reap(&w, &accounts).await, Round::default(), "once is enough");
    // The record stays a while, dead, for those who ask.
    assert_eq!(ended(&w, record.id).await, Some(EndReason::Revoked));
}

/// The broker dies between the reservation and the account.
pub async fn a_crash_before_the_file(w: World) {
    let accounts = Accounts::new();
    let record = w.minted(&account(&w)).await;
    is_undone_twice(&w, &accounts, &record).await;
    assert_eq!(ended(&w, record.id).await, Some(EndReason::Abandoned));
}

/// The broker dies between the account and the confirmation.
pub async fn a_crash_after_the_file(w: World) {
    let accounts = Accounts::new();
    let record = w.minted(&account(&w)).await;
    accounts.make(record.id);
    is_undone_twice(&w, &accounts, &record).await;
    assert_eq!(ended(&w, record.id).await, Some(EndReason::Abandoned));
}

/// The store confirmed and nobody heard it: the credential does not leave, the lease is ended or expires.
pub async fn a_lost_answer_to_the_confirmation(w: World) {
    let accounts = Accounts::new();
    for abandons in [true, false] {
        let wish = Wish { ttl_s: 120, ..account(&w) };
        let record = w.confirmed(&wish).await;
        accounts.make(record.id);
        assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost), "asked again");
        if abandons {
            let mut abandon = wish.release();
            abandon.reason = EndReason::Abandoned;
            assert!(w.store.end(&abandon).await.unwrap().1);
        } else {
            w.clock.set(record.expires);
        }
        assert_eq!(reap(&w, &accounts).await, Round { undone: 1, failed: 0 });
        assert!(!accounts.exists(record.id));
        assert_eq!(queued(&w).await, 0, "an active lease's account is undone once");
    }
}

/// The confirming read comes after the side effect and finds the fence.
pub async fn a_revocation_before_the_confirmation(w: World) {
    let accounts = Accounts::new();
    let record = w.minted(&account(&w)).await;
    accounts.make(record.id);
    w.revoke(Dimension::Integration, 1).await;
    assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost));
    assert_eq!(w.sweep().await, [record.id]);
    assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost));
    is_undone_twice(&w, &accounts, &record).await;
    assert_eq!(ended(&w, record.id).await, Some(EndReason::Revoked), "by whoever ended it first");
}

/// Or a block.
pub async fn a_block_before_the_confirmation(w: World) {
    let accounts = Accounts::new();
    let record = w.minted(&account(&w)).await;
    accounts.make(record.id);
    w.block(Dimension::Workload, 1, None).await;
    assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost));
    is_undone_twice(&w, &accounts, &record).await;
}

/// Or an ancestor's mark.
pub async fn a_revoked_ancestor_before_the_confirmation(w: World) {
    let accounts = Accounts::new();
    let parent = w.minted(&w.wish()).await;
    let record = w.minted(&account(&w).child_of(&parent)).await;
    accounts.make(record.id);
    w.revoke_lease(parent.id).await;
    assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost));
    w.sweep().await;
    is_undone_twice(&w, &accounts, &record).await;
}

/// An account that is made after the first undo is found by the second.
pub async fn a_maker_that_is_late(w: World) {
    let accounts = Accounts::new();
    let record = w.minted(&account(&w)).await;
    w.clock.set(record.confirm_by);
    reap(&w, &accounts).await;
    accounts.make(record.id);
    assert_eq!(refusal(w.store.confirm(record.id).await), Err(No::RaceLost));
    w.clock.advance(defaults::UNDO_GRACE_MS);
    reap(&w, &accounts).await;
    assert!(!accounts.exists(record.id));
    assert_eq!((accounts.undone(record.id), queued(&w).await), (2, 0));
}

/// The undo is done again: only a confirmed one leaves the queue.
pub async fn a_reaper_that_dies_before_it_confirms(w: World) {
    let accounts = Accounts::new();
    let record = w.confirmed(&account(&w)).await;
    accounts.make(record.id);
    w.store.end(&Wish { lease: 1, ..account(&w) }.release()).await.unwrap();
    let due = w.store.due_undos(10).await.unwrap();
    assert_eq!(due.iter().map(|r| r.id).collect::<Vec<_>>(), [record.id]);
    accounts.undo(record.id).await.unwrap();
    assert_eq!(queued(&w).await, 1);
    assert_eq!(reap(&w, &accounts).await, Round { undone: 1, failed: 0 });
    assert_eq!(queued(&w).await, 0);
}

/// Two brokers reap the same record: the second confirmation is not the second undo.
pub async fn two_reapers(w: World) {
    let accounts = Accounts::new();
    let record = w.minted(&account(&w)).await;
    w.clock.set(record.confirm_by);
    let due = w.store.due_undos(10).await.unwrap();
    assert_eq!(w.store.due_undos(10).await.unwrap(), due);
    let [due] = &due[..] else { panic!("{due:?}") };
    for _ in 0..2 {
        accounts.undo(record.id).await.unwrap();
        w.store.undone(due).await.unwrap();
    }
    assert_eq!(queued(&w).await, 1, "still to be undone after the grace");
    accounts.make(record.id);
    w.clock.advance(defaults::UNDO_GRACE_MS);
    // One of the reapers was suspended: what it undid came before what the maker left.
    w.store.undone(due).await.unwrap();
    assert_eq!(queued(&w).await, 1, "a late confirmation of the first undo is not the second");
    reap(&w, &accounts).await;
    assert!(!accounts.exists(record.id));
    assert_eq!(queued(&w).await, 0);
    w.store.undone(due).await.unwrap();
    assert_eq!(queued(&w).await, 0, "nor does a late one bring it back");
}

/// An undo that fails stays queued.
pub async fn a_target_that_fails(w: World) {
    let accounts = Accounts::new();
    let wish = account(&w);
    let record = w.confirmed(&wish).await;
    accounts.make(record.id);
    w.store.end(&wish.release()).await.unwrap();
    accounts.fail_next(2);
    for _ in 0..2 {
        assert_eq!(reap(&w, &accounts).await, Round { undone: 0, failed: 1 });
    }
    // It stays, dead, however long its expiry is past.
    w.clock.advance(86_400_000);
    assert_eq!(ended(&w, record.id).await, Some(EndReason::Released));
    assert_eq!(reap(&w, &accounts).await, Round { undone: 1, failed: 0 });
    assert!(!accounts.exists(record.id));
}

/// The hard expiry needs nobody to ask for it.
pub async fn expiry_without_anybody(w: World) {
    let accounts = Accounts::new();
    let record = w.confirmed(&account(&w)).await;
    accounts.make(record.id);
    w.clock.set(record.expires.minus(1));
    assert_eq!(reap(&w, &accounts).await, Round::default());
    assert!(w.check(record.id).await.is_ok());
    w.clock.advance(1);
    assert_eq!(reap(&w, &accounts).await, Round { undone: 1, failed: 0 });
    assert_eq!(ended(&w, record.id).await, Some(EndReason::Expired));
    assert!(!accounts.exists(record.id));
}

/// A record that a fail-over lost leaves its account to the scan.
pub async fn a_lost_record_is_found_by_the_scan(mut w: World) {
    let accounts = Accounts::new();
    let record = w.confirmed(&account(&w)).await;
    accounts.make(record.id);
    let other = w.confirmed(&account(&w)).await;
    accounts.make(other.id);
    if !w.lose_record(record.id).await {
        return;
    }
    assert_eq!(w.check(record.id).await, Err(No::NotFound), "online it is refused at once");
    let round = undo::scan(&*w.store, &accounts, w.now()).await.unwrap();
    assert_eq!(round, Round { undone: 1, failed: 0 });
    assert!(!accounts.exists(record.id) && accounts.exists(other.id));
}

/// A target on which a lease is confirmed, and another one minted, between its listing and the reading of
/// the records.
struct Meanwhile<'a> {
    w: &'a World,
    accounts: &'a Accounts,
    confirmed: LeaseId,
}

#[async_trait]
impl Target for Meanwhile<'_> {
    async fn undo(&self, id: LeaseId) -> Result<(), String> {
        self.accounts.undo(id).await
    }

    async fn list(&self) -> Result<Vec<LeaseId>, String> {
        let ids = self.accounts.list().await?;
        self.w.store.confirm(self.confirmed).await.unwrap();
        let minted = self.w.confirmed(&account(self.w)).await;
        self.accounts.make(minted.id);
        Ok(ids)
    }
}

/// Reserved within the deadline, active, and confirmed or minted while the scan is under way.
pub async fn the_scan_spares_what_lives(w: World) {
    let accounts = Accounts::new();
    let reserved = w.minted(&account(&w)).await;
    let active = w.confirmed(&account(&w)).await;
    let confirmed_meanwhile = w.minted(&account(&w)).await;
    for record in [&reserved, &active, &confirmed_meanwhile] {
        accounts.make(record.id);
    }
    let target = Meanwhile { w: &w, accounts: &accounts, confirmed: confirmed_meanwhile.id };
    assert_eq!(undo::scan(&*w.store, &target, w.now()).await.unwrap(), Round::default());
    w.clock.set(reserved.confirm_by);
    assert_eq!(undo::scan(&*w.store, &accounts, w.now()).await.unwrap(), Round::default());
    assert!(accounts.exists(reserved.id), "this broker's clock may be ahead of the store's by the skew");
    w.clock.advance(defaults::SKEW_MS);
    let round = undo::scan(&*w.store, &accounts, w.now()).await.unwrap();
    assert_eq!(round, Round { undone: 1, failed: 0 });
    assert!(!accounts.exists(reserved.id), "past its deadline nobody confirms it");
    assert!(accounts.exists(active.id) && accounts.exists(confirmed_meanwhile.id));
}

/// What the first key got has no sweep of its own; the scan ends its account.
pub async fn superseded_evidence_is_found_by_the_scan(w: World) {
    let accounts = Accounts::new();
    let first = w.confirmed(&Wish { supersede: true, ..account(&w) }).await;
    accounts.make(first.id);
    let second = w.confirmed(&Wish { supersede: true, key: 2, ..account(&w) }).await;
    accounts.make(second.id);
    assert_eq!(w.check(first.id).await, Err(No::FenceMoved));
    undo::scan(&*w.store, &accounts, w.now()).await.unwrap();
    assert!(!accounts.exists(first.id) && accounts.exists(second.id));
}

/// Random orders of everything above, with deaths in between: when every deadline and grace is over and the
/// reaper was there once more, no account is left; and at no time does a check accept what has ended.
pub async fn no_account_outlives_its_lease(w: World) {
    let accounts = Accounts::new();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut known: Vec<(Wish, LeaseRecord)> = Vec::new();
    for round in 0..400_u32 {
        let some = (!known.is_empty()).then(|| known[dice.below(known.len())].clone());
        match (dice.below(10), some) {
            (0..=2, _) => {
                let wish = Wish {
                    ttl_s: 40 + u32::try_from(dice.below(60)).unwrap(),
                    owners: vec![u8::try_from(dice.below(4)).unwrap()],
                    token: Some(1_000 + round),
                    task: None,
                    ..account(&w)
                };
                let record = w.minted(&wish).await;
                known.push((wish, record));
            }
            (3, Some((_, record))) if w.now() < record.confirm_by.plus(defaults::UNDO_GRACE_MS) => {
                accounts.make(record.id);
            }
            (4 | 5, Some((_, record))) => drop(refusal(w.store.confirm(record.id).await)),
            (6, Some((wish, _))) => drop(w.store.end(&wish.release()).await),
            (7, Some((_, record))) if dice.below(2) == 0 => drop(w.revoke_lease(record.id).await),
            (7, _) => drop(w.revoke(Dimension::Owner, u8::try_from(dice.below(4)).unwrap()).await),
            (8, _) => {
                // A sweeper that dies in any place, and a reaper that dies between undo and confirmation.
                if let Some(job) = w.store.claim_job(1_000).await.unwrap()
                    && dice.below(2) == 0
                {
                    sweep::step(&*w.store, job).await.unwrap();
                }
                for record in w.store.due_undos(3).await.unwrap() {
                    accounts.undo(record.id).await.unwrap();
                    if dice.below(2) == 0 {
                        w.store.undone(&record).await.unwrap();
                    }
                }
            }
            _ => w.clock.advance(u64::try_from(dice.below(20_000)).unwrap()),
        }
    }
    for _ in 0..4 {
        w.clock.advance(200_000);
        reap(&w, &accounts).await;
        while queued(&w).await > 0 && reap(&w, &accounts).await.undone > 0 {}
    }
    for (_, record) in known {
        assert!(w.check(record.id).await.is_err());
        assert!(!accounts.exists(record.id), "{} outlived its lease", record.id);
    }
    assert_eq!(queued(&w).await, 0);
}

/// A small generator: the same walk on every store.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }
}
