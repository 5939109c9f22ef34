//! Sweeps: stored, claimed for a while, resumed; and the lists that they and people walk.

use std::collections::BTreeSet;

use mayfly_domain::{AcceptorMode, CredentialKind, Dimension, EndReason, LeaseState};
use mayfly_lease::transition::No;
use mayfly_lease::{ListQuery, RevokeCommand, sweep};

use super::World;
use crate::words::{self, Wish};

/// Leases that a check refuses already are marked as ended, by whom, and counted.
pub async fn a_sweep_ends_what_the_fence_made_dead(w: World) {
    let mut dead = Vec::new();
    for _ in 0..5 {
        dead.push(w.minted(&w.wish()).await);
    }
    let account = w.confirmed(&Wish { ttl_s: 600, ..w.wish().kind(CredentialKind::Account) }).await;
    let other = w.minted(&w.other(2)).await;
    let job = w.revoke(Dimension::Owner, 1).await.job.unwrap();
    let fresh = w.minted(&Wish { token: Some(9), ..w.wish() }).await;
    let mut expected: Vec<_> = dead.iter().map(|r| r.id).chain([account.id]).collect();
    expected.sort_unstable();
    assert_eq!(w.sweep().await, expected);
    for id in expected {
        let record = w.store.get(id).await.unwrap().unwrap();
        assert_eq!(record.state, LeaseState::Ended(EndReason::Revoked));
        assert_eq!(record.revocation, Some(job.id));
    }
    assert!(w.check(fresh.id).await.is_ok() && w.check(other.id).await.is_ok());
    let done = w.store.job(job.id).await.unwrap().unwrap();
    assert!(done.done);
    assert_eq!((done.ended, done.with_side_effects), (6, 1));
    assert_eq!((done.exposure.online, done.exposure.last_ends), (6, account.expires));
    assert!(w.sweep().await.is_empty(), "nothing is left to do");
}

/// Where no index leads along the dimension.
pub async fn a_sweep_by_profile_walks_everything(w: World) {
    let mut covered = Vec::new();
    for n in 0..300_u32 {
        let record = w.minted(&Wish { profile: if n % 3 == 0 { 2 } else { 1 }, ..w.wish() }).await;
        if n % 3 == 0 {
            covered.push(record.id);
        }
    }
    covered.sort_unstable();
    w.revoke(Dimension::Profile, 2).await;
    assert_eq!(w.sweep().await, covered);
}

/// A broker dies between the steps, and between ending a batch and storing the cursor: another goes on,
/// nothing is left out and nothing ended twice.
pub async fn a_sweep_goes_on_where_it_stopped(mut w: World) {
    let mut all = BTreeSet::new();
    for _ in 0..450 {
        all.insert(w.minted(&w.wish()).await.id);
    }
    w.revoke(Dimension::Owner, 1).await;
    let job = w.store.claim_job(sweep::CLAIM_MS).await.unwrap().unwrap();
    let first = sweep::step(&*w.store, job).await.unwrap();
    assert!(!first.job.done && first.job.cursor.is_some());
    // The second step ends its batch, and its broker dies before anything of it is stored.
    let second = w.store.sweep(&first.job, 100, sweep::CLAIM_MS).await.unwrap();
    assert_eq!(second.ended.len(), 100);
    assert_eq!(second.found.iter().map(|r| r.id).collect::<Vec<_>>(), second.ended);

    w.restart().await;
    let other = w.another().await;
    assert_eq!(other.claim_job(sweep::CLAIM_MS).await.unwrap(), None, "claimed by the dead one for a while");
    w.clock.advance(sweep::CLAIM_MS);
    let resumed = other.claim_job(sweep::CLAIM_MS).await.unwrap().unwrap();
    assert_eq!(resumed, first.job, "from the stored cursor");
    let mut job = resumed;
    let mut ended: Vec<_> = first.ended.into_iter().chain(second.ended).collect();
    while !job.done {
        let step = sweep::step(&*other, job).await.unwrap();
        ended.extend(step.ended);
        job = step.job;
    }
    assert_eq!(job.ended, 450, "what the dead one had ended is counted");
    assert_eq!(ended.len(), all.len(), "none twice");
    assert_eq!(ended.into_iter().collect::<BTreeSet<_>>(), all, "none left out");
}

/// A takeover of evidence is a revocation: what the other key got at a target is undone by a sweep of its own.
pub async fn a_takeover_is_swept(w: World) {
    let of = |key: u8| Wish { supersede: true, key, ..w.wish() };
    let account = w.confirmed(&of(1).kind(CredentialKind::Account)).await;
    let token = w.minted(&of(1)).await;
    let changes = w.store.survey().await.unwrap().changes;
    let taken = w.mint(&of(2)).await.unwrap();
    assert_eq!(taken.superseded, Some(1));
    assert_eq!(w.store.survey().await.unwrap().changes, changes + 1);
    let job = w.store.claim_job(0).await.unwrap().unwrap();
    assert_eq!((job.since, job.end), (w.now(), EndReason::Revoked));
    assert_eq!(w.sweep().await, [account.id], "a token needs none");
    assert_eq!(w.check(token.id).await, Err(No::FenceMoved));
    let ended = w.store.get(account.id).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.revocation), (LeaseState::Ended(EndReason::Revoked), Some(job.id)));
    assert_eq!(w.store.due_undos(10).await.unwrap(), [ended]);
    assert!(w.check(taken.record.id).await.is_ok());
    assert_eq!(w.mint(&of(2)).await.unwrap().superseded, None);
    assert_eq!(w.store.claim_job(0).await.unwrap(), None, "its own key takes nothing over");
}

/// One broker a job; the oldest that is free first.
pub async fn a_claim_keeps_others_away_for_a_while(mut w: World) {
    let first = w.revoke(Dimension::Owner, 1).await.job.unwrap();
    let second = w.revoke(Dimension::Owner, 2).await.job.unwrap();
    let other = w.another().await;
    let mine = w.store.claim_job(1_000).await.unwrap().unwrap();
    let theirs = other.claim_job(1_000).await.unwrap().unwrap();
    assert_eq!(BTreeSet::from([mine.id, theirs.id]), BTreeSet::from([first.id, second.id]));
    assert_eq!(w.store.claim_job(1_000).await.unwrap(), None);
    w.clock.advance(999);
    assert_eq!(w.store.claim_job(1_000).await.unwrap(), None);
    // Progress renews the claim.
    w.store.save_job(&mine, 1_000).await.unwrap();
    w.clock.advance(1);
    assert_eq!(w.store.claim_job(1_000).await.unwrap().map(|j| j.id), Some(theirs.id));
    assert_eq!(w.store.claim_job(1_000).await.unwrap(), None);
}

/// A slow broker's old progress does not open it again.
pub async fn a_done_job_stays_done(w: World) {
    w.revoke(Dimension::Owner, 1).await;
    let old = w.store.claim_job(1_000).await.unwrap().unwrap();
    w.clock.advance(1_000);
    w.sweep().await;
    let done = w.store.job(old.id).await.unwrap().unwrap();
    assert!(done.done);
    w.store.save_job(&old, 1_000).await.unwrap();
    assert_eq!(w.store.job(old.id).await.unwrap().unwrap(), done);
    w.clock.advance(5_000);
    assert_eq!(w.store.claim_job(1_000).await.unwrap(), None);
    assert_eq!(w.store.counts().await.unwrap().open_jobs, 0);
    w.clock.advance(words::LONGEST_LIFE_MS - 10_000);
    assert_eq!(w.store.job(old.id).await.unwrap().unwrap(), done, "kept as long as fences");
}

/// Brokers revoke leases of their own all the time: nobody gave a reason for them, and nobody asks about them later.
pub async fn a_revocation_that_nobody_explained_is_kept_briefly(w: World) {
    let (one, other) = (w.minted(&w.wish()).await, w.minted(&w.wish()).await);
    let unknown_until = w.now().plus(1_000);
    let brief = RevokeCommand { reason: None, ..words::revoke_lease(901, one.id, unknown_until) };
    let explained = words::revoke_lease(902, other.id, unknown_until);
    assert!(explained.reason.is_some());
    for command in [&brief, &explained] {
        w.store.revoke(command).await.unwrap();
    }
    w.sweep().await;
    assert!(w.store.job(brief.id).await.unwrap().unwrap().done);
    w.clock.advance(3_600_000);
    assert_eq!(w.store.job(brief.id).await.unwrap(), None);
    assert!(w.store.job(explained.id).await.unwrap().is_some());
}

/// By the index of ancestors, which leases with side effects have.
pub async fn a_sweep_ends_descendants_with_side_effects(w: World) {
    let parent = w.minted(&w.wish()).await;
    let middle = w.minted(&w.wish().child_of(&parent)).await;
    let leaf = w.confirmed(&w.wish().kind(CredentialKind::Account).child_of(&middle)).await;
    let reserved = w.minted(&w.wish().kind(CredentialKind::Account).child_of(&parent)).await;
    let other = w.confirmed(&w.other(2).kind(CredentialKind::Account)).await;
    let job = w.revoke_lease(parent.id).await.job.unwrap();
    let mut expected = vec![parent.id, leaf.id, reserved.id];
    expected.sort_unstable();
    assert_eq!(w.sweep().await, expected);
    assert_eq!(w.store.get(leaf.id).await.unwrap().unwrap().revocation, Some(job.id));
    assert!(w.check(middle.id).await.is_err(), "dead from what it carries alone");
    assert!(w.check(other.id).await.is_ok());
    let due: Vec<_> = w.store.due_undos(10).await.unwrap().iter().map(|r| r.id).collect();
    assert_eq!(due, [leaf.id], "the reserved one waits for its deadline");
}

/// What is there from the beginning to the end is on exactly one page, whatever comes and goes meanwhile.
pub async fn a_list_is_complete_and_stable_while_leases_come(w: World) {
    let mut before = BTreeSet::new();
    for n in 0..200_u32 {
        let ttl_s = 100 + n % 7;
        before.insert(w.minted(&Wish { ttl_s, ..w.wish() }).await.id);
    }
    for along in [None, Some(words::subject(Dimension::Owner, 1))] {
        let store = std::sync::Arc::clone(&w.store);
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let halt = std::sync::Arc::clone(&stop);
        let wishes: Vec<_> =
            (0..400).map(|n| Wish { ttl_s: 50 + n % 100, ..w.wish() }.mint(w.now())).collect();
        let minting = tokio::spawn(async move {
            for wish in wishes {
                store.mint(&wish).await.unwrap();
                if halt.load(std::sync::atomic::Ordering::SeqCst) {
                    break;
                }
            }
        });
        let listed = w.list(along.as_ref(), 17).await;
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        minting.await.unwrap();
        let distinct: BTreeSet<_> = listed.iter().copied().collect();
        assert_eq!(distinct.len(), listed.len(), "none twice");
        assert!(before.is_subset(&distinct), "none left out");
    }
}

/// Every index leads to its leases; an unknown subject to none.
pub async fn lists_along_a_subject(w: World) {
    let two = w.minted(&Wish { owners: vec![1, 2], ..w.wish() }).await;
    let one = w.minted(&Wish { task: Some(2), ..w.wish() }).await;
    let along = async |dimension, n| {
        let mut ids = w.list(Some(&words::subject(dimension, n)), 10).await;
        ids.sort_unstable();
        ids
    };
    assert_eq!(along(Dimension::Owner, 1).await, [two.id, one.id]);
    assert_eq!(along(Dimension::Owner, 2).await, [two.id]);
    assert_eq!(along(Dimension::Workload, 1).await, [two.id, one.id]);
    assert_eq!(along(Dimension::Task, 2).await, [one.id]);
    assert!(along(Dimension::Owner, 3).await.is_empty());
    let page = w.store.list(&ListQuery { along: None, after: None, limit: 1 }).await.unwrap();
    assert_eq!(page.records.len(), 1);
    let job = w.revoke_lease(two.id).await.job.unwrap();
    let listed = w.store.list(&ListQuery { along: None, after: None, limit: 10 }).await.unwrap().records;
    let shown = listed.iter().find(|r| r.id == two.id).unwrap();
    assert_eq!((shown.state, shown.revocation), (LeaseState::Ended(EndReason::Revoked), Some(job.id)));
}

/// Along a subject leases come by how they are checked, then by expiry: pages of any size have each once, what is over in
/// between is passed over, and a sweep ends all.
pub async fn a_page_may_end_between_modes(w: World) {
    let mut live = BTreeSet::new();
    for n in 0..18_u32 {
        let acceptors = AcceptorMode::ALL[usize::try_from(n % 3).unwrap()];
        let ttl_s = if n % 4 == 0 { 30 } else { 300 + n };
        let record = w.minted(&Wish { acceptors, ttl_s, ..w.wish() }).await;
        live.extend((ttl_s > 30).then_some(record.id));
    }
    w.clock.advance(30_000);
    let owner = words::subject(Dimension::Owner, 1);
    for limit in [1, 2, 3, 4, 5, 9, 50] {
        let listed = w.list(Some(&owner), limit).await;
        assert_eq!(listed.len(), live.len(), "by {limit}");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), live, "by {limit}");
    }
    w.revoke(Dimension::Owner, 1).await;
    assert_eq!(w.sweep().await, live.into_iter().collect::<Vec<_>>());
}
