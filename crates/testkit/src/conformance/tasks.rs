//! Tasks: opened once, joined by the workload that opened them, never opened again once they have ended.

use mayfly_domain::{Dimension, EndReason, LeaseState, defaults};
use mayfly_lease::transition::No;
use mayfly_lease::{RevokeWhat, TaskState};

use super::World;
use super::world::refusal;
use crate::words::{self, Wish};

/// Start, mint and another job's start share one window.
pub async fn a_task_is_opened_once_and_joined(w: World) {
    let wish = w.wish();
    let opened = w.store.start_task(&wish.start(w.number(), w.now())).await.unwrap();
    assert!(!opened.joined);
    assert_eq!(opened.task.window_ends, w.now().plus(1_800_000));
    w.clock.advance(5_000);
    let joined =
        w.store.start_task(&Wish { window_s: 9, ..wish.clone() }.start(w.number(), w.now())).await.unwrap();
    assert!(joined.joined && !joined.first_binding);
    assert_eq!(joined.task.window_ends, opened.task.window_ends, "the window stays");
    let minted = w.mint(&wish).await.unwrap();
    assert_eq!(minted.task.unwrap().window_ends, opened.task.window_ends);
    let stored = w.store.task(&words::task(1)).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.window_ends), (TaskState::Open, opened.task.window_ends));
    assert!(stored.keep_until >= w.now().plus(words::TASK_KEEP_MS), "kept while evidence may name it");
}

/// Not by a mint, not by a start, not to complete it.
pub async fn another_workload_may_not_join(w: World) {
    w.minted(&w.wish()).await;
    let other = Wish { task: Some(1), ..w.other(2) };
    assert_eq!(w.mint(&other).await, Err(No::TaskOfAnother));
    assert_eq!(refusal(w.store.start_task(&other.start(w.number(), w.now())).await), Err(No::TaskOfAnother));
    let complete = other.complete(w.number(), w.number(), w.now());
    assert_eq!(refusal(w.store.revoke(&complete).await), Err(No::TaskOfAnother));
}

/// As long as evidence may name it.
pub async fn an_ended_task_is_not_opened_again(w: World) {
    let wish = w.wish();
    w.minted(&wish).await;
    w.store.revoke(&wish.complete(w.number(), w.number(), w.now())).await.unwrap();
    assert_eq!(w.mint(&w.wish()).await, Err(No::TaskEnded));
    assert_eq!(refusal(w.store.start_task(&wish.start(w.number(), w.now())).await), Err(No::TaskEnded));
    w.clock.advance(words::TASK_KEEP_MS - 1);
    let fresh = Wish { token: Some(2), issued_at: w.now(), ..w.wish() };
    assert_eq!(w.mint(&fresh).await, Err(No::TaskEnded));
    w.clock.advance(1);
    let again = w.mint(&Wish { lease: w.number(), ..fresh }).await.unwrap();
    assert_eq!(again.task.unwrap().started, w.now(), "after that it is another task");
}

/// Completing moves the task's fence once; a second completion says that it is done.
pub async fn completing_is_idempotent_and_ends_leases(w: World) {
    let wish = w.wish();
    let record = w.minted(&wish).await;
    let other = w.minted(&Wish { task: Some(2), ..w.wish() }).await;
    let done = w.store.revoke(&wish.complete(w.number(), w.number(), w.now())).await.unwrap();
    assert_eq!(done.task.unwrap().state, TaskState::Ended);
    let job = done.job.unwrap();
    assert_eq!(job.end, EndReason::Completed);
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    assert!(w.check(other.id).await.is_ok());
    w.clock.advance(10);
    let again = w.store.revoke(&wish.complete(w.number(), w.number(), w.now())).await.unwrap();
    assert_eq!((again.job, again.gate, again.changes), (None, None, done.changes));
    assert_eq!(again.task.unwrap().state, TaskState::Ended);
    assert_eq!(w.sweep().await, [record.id]);
    assert_eq!(w.check(record.id).await, Err(No::Ended(EndReason::Completed, Some(job.id))));
    let renewal = refusal(w.store.renew(&wish.renewal(w.number(), w.now())).await);
    assert_eq!(renewal, Err(No::Ended(EndReason::Completed, Some(job.id))));
}

/// A workload may complete before anything was opened: then nothing opens it later.
pub async fn completing_what_was_never_opened_keeps_it_shut(w: World) {
    let wish = w.wish();
    let done = w.store.revoke(&wish.complete(w.number(), w.number(), w.now())).await.unwrap();
    assert_eq!(done.task.unwrap().state, TaskState::Ended);
    assert_eq!(w.mint(&wish).await, Err(No::TaskEnded));
    let thief = Wish { task: Some(1), ..w.other(2) };
    assert_eq!(w.mint(&thief).await, Err(No::TaskOfAnother), "and it is still the workload's own");
}

/// By its id; an unknown one is not made.
pub async fn an_operator_completes_only_what_is_there(w: World) {
    let complete = |n: u8| {
        let what = RevokeWhat::Task {
            id: words::task(n),
            by: None,
            spend: None,
            evidence: None,
            keep_ms: words::TASK_KEEP_MS,
        };
        words::revoke(w.number(), what)
    };
    assert_eq!(refusal(w.store.revoke(&complete(9)).await), Err(No::NotFound));
    assert_eq!(w.store.task(&words::task(9)).await.unwrap(), None);
    let record = w.minted(&w.wish()).await;
    assert_eq!(w.store.revoke(&complete(1)).await.unwrap().task.unwrap().state, TaskState::Ended);
    assert_eq!(w.check(record.id).await, Err(No::FenceMoved));
    assert_eq!(w.state(record.id).await, Some(LeaseState::Active), "dead before the sweep");
}

/// The record is kept longer than the window, so that it does not open anew.
pub async fn a_window_that_is_over_takes_nobody_in(w: World) {
    let wish = Wish { window_s: 60, ..w.wish() };
    w.minted(&wish).await;
    w.clock.advance(60_000);
    assert_eq!(w.mint(&w.wish()).await, Err(No::WindowOver));
    assert_eq!(refusal(w.store.start_task(&wish.start(w.number(), w.now())).await), Err(No::WindowOver));
    let done = w.store.revoke(&wish.complete(w.number(), w.number(), w.now())).await.unwrap();
    assert_eq!(done.task.unwrap().state, TaskState::Ended, "it can still be completed");
}

/// A stolen token of the job completes nothing, and an owner's revocation does not keep a job from completing.
pub async fn a_completion_needs_the_token_of_its_key(w: World) {
    let wish = w.wish();
    let record = w.minted(&wish).await;
    let thief = Wish { key: 2, ..wish.clone() };
    let complete = thief.complete(w.number(), w.number(), w.now());
    assert_eq!(refusal(w.store.revoke(&complete).await), Err(No::EvidenceOfOtherKey));
    assert!(w.check(record.id).await.is_ok());
    w.revoke(Dimension::Owner, 1).await;
    w.clock.advance(defaults::SKEW_MS);
    assert!(w.store.revoke(&wish.complete(w.number(), w.number(), w.now())).await.unwrap().job.is_some());
}
