//! Undoing side effects: the reaper, and the scan that finds what has lost its record.

use async_trait::async_trait;
use mayfly_domain::{LeaseId, LeaseState, UnixMillis, defaults};

use crate::command::CheckCommand;
use crate::record::LeaseRecord;
use crate::store::{LeaseStore, StoreError};

/// A target where credentials of one kind leave something behind. Names at the target derive from the
/// lease id, so that undoing needs nothing else and may be repeated.
#[async_trait]
pub trait Target: Send + Sync {
    /// Removes what the lease left; nothing there is success.
    ///
    /// # Errors
    /// Words for operators; the undo stays queued.
    async fn undo(&self, id: LeaseId) -> Result<(), String>;

    /// The leases of everything at the target that bears our prefix.
    ///
    /// # Errors
    /// Words for operators; the scan is tried again later.
    async fn list(&self) -> Result<Vec<LeaseId>, String>;
}

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Side effects undone and confirmed.
    pub undone: u32,
    /// Undos that failed and stay queued.
    pub failed: u32,
}

/// One round of the reaper: the store first ends what is overdue, then the target undoes, then the store is
/// told. A crash between any two steps repeats the undo.
///
/// # Errors
/// [`StoreError`] where the queue can't be read or an undo not be confirmed.
pub async fn reap(store: &dyn LeaseStore, target: &dyn Target, limit: u32) -> Result<Round, StoreError> {
    let mut round = Round::default();
    for record in store.due_undos(limit).await? {
        match target.undo(record.id).await {
            Ok(()) => {
                store.undone(&record).await?;
                round.undone += 1;
            }
            Err(why) => {
                tracing::warn!(lease = %record.id, why, "undo failed");
                round.failed += 1;
            }
        }
    }
    Ok(round)
}

/// Whether a mint may still confirm this lease, at `now` by a broker's own clock: it may be ahead of the store's, which
/// decides, by the skew.
pub fn may_be_confirmed(record: &LeaseRecord, now: UnixMillis) -> bool {
    record.state == LeaseState::Reserved && now < record.confirm_by.plus(defaults::SKEW_MS)
}

/// One scan: what is at the target is listed first, records are read after; what is neither reserved within
/// its deadline nor accepted by a check is undone.
///
/// # Errors
/// [`StoreError`] where records can't be read.
pub async fn scan(store: &dyn LeaseStore, target: &dyn Target, now: UnixMillis) -> Result<Round, StoreError> {
    let mut round = Round::default();
    let listed = target.list().await.map_err(StoreError::Unavailable)?;
    for id in listed {
        if store.get(id).await?.is_some_and(|record| may_be_confirmed(&record, now)) {
            continue;
        }
        match store.check(&CheckCommand { id, observation: None }).await {
            Ok(_) => continue,
            Err(StoreError::Refused(_)) => {}
            Err(other) => return Err(other),
        }
        match target.undo(id).await {
            Ok(()) => round.undone += 1,
            Err(why) => {
                tracing::warn!(lease = %id, why, "undo failed");
                round.failed += 1;
            }
        }
    }
    Ok(round)
}
