//! Guards: what ends a connection when the lease that its peer showed ends.
//!
//! A guard is registered first and judged after; so what comes in between finds it. They are found by dimension and by
//! lease: an event costs those that it concerns and no others. Must never leave a guard open that has ended.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use mayfly_domain::{DimKey, LeaseId, Reason, Refusal, UnixMillis};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::judged::Judged;
use crate::verifier::Verifier;

/// That a guard ended, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// [`Reason::LeaseRevoked`], [`Reason::LeaseExpired`], [`Reason::SignerWithdrawn`], or
    /// [`Reason::AcceptorNotFresh`] where nobody could tell for longer than the bound, or the verifier was shut down.
    pub reason: Reason,
}

/// One that is guarded.
#[derive(Debug)]
struct Watched {
    judged: Arc<Judged>,
    ended: watch::Sender<Option<Ended>>,
}

#[derive(Debug, Default)]
struct Index {
    next: u64,
    all: HashMap<u64, Arc<Watched>>,
    by_dimension: HashMap<DimKey, HashSet<u64>>,
    by_lease: HashMap<LeaseId, HashSet<u64>>,
    by_end: BTreeSet<(UnixMillis, u64)>,
}

impl Index {
    fn dimensions(judged: &Judged) -> impl Iterator<Item = DimKey> {
        judged.observation.iter().flat_map(|o| o.pairs()).map(|pair| pair.key)
    }

    fn leases(judged: &Judged) -> impl Iterator<Item = LeaseId> {
        let ancestors = judged.observation.iter().flat_map(|o| o.ancestors()).copied();
        std::iter::once(judged.credential.lease).chain(ancestors)
    }

    fn add(&mut self, watched: Arc<Watched>) -> u64 {
        self.next += 1;
        let id = self.next;
        for key in Self::dimensions(&watched.judged) {
            self.by_dimension.entry(key).or_default().insert(id);
        }
        for lease in Self::leases(&watched.judged) {
            self.by_lease.entry(lease).or_default().insert(id);
        }
        self.by_end.insert((watched.judged.expires, id));
        self.all.insert(id, watched);
        id
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Watched>> {
        let watched = self.all.remove(&id)?;
        for key in Self::dimensions(&watched.judged) {
            drop_from(&mut self.by_dimension, &key, id);
        }
        for lease in Self::leases(&watched.judged) {
            drop_from(&mut self.by_lease, &lease, id);
        }
        self.by_end.remove(&(watched.judged.expires, id));
        Some(watched)
    }

    fn some(&self, ids: Option<&HashSet<u64>>) -> Vec<(u64, Arc<Watched>)> {
        let ids = ids.into_iter().flatten();
        ids.filter_map(|id| Some((*id, Arc::clone(self.all.get(id)?)))).collect()
    }
}

fn drop_from<K: std::hash::Hash + Eq>(map: &mut HashMap<K, HashSet<u64>>, key: &K, id: u64) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

/// Which guards something concerns.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Concerned {
    /// Those whose lease observed this dimension's value.
    Dimension(DimKey),
    /// Those of this lease or a descendant of it.
    Lease(LeaseId),
    /// Every one.
    All,
}

/// All guards of a verifier.
#[derive(Debug, Default)]
pub(crate) struct Guards(Mutex<Index>);

impl Guards {
    /// Judges those that something concerns; whoever is dead ends. Gives the reason of each that ended.
    pub(crate) fn judge(
        &self,
        concerned: Concerned,
        judge: impl Fn(&Judged) -> Result<(), Reason>,
    ) -> Vec<Reason> {
        let some: Vec<_> = {
            let index = self.0.lock();
            match concerned {
                Concerned::Dimension(key) => index.some(index.by_dimension.get(&key)),
                Concerned::Lease(lease) => index.some(index.by_lease.get(&lease)),
                Concerned::All => index.all.iter().map(|(id, one)| (*id, Arc::clone(one))).collect(),
            }
        };
        let dead =
            some.into_iter().filter_map(|(id, one)| judge(&one.judged).err().map(|reason| (id, reason)));
        dead.filter(|(id, reason)| self.end(*id, *reason)).map(|(_, reason)| reason).collect()
    }

    /// Ends those whose credential is over at `now`; gives how many.
    pub(crate) fn expire(&self, now: UnixMillis) -> usize {
        let over: Vec<_> = {
            let index = self.0.lock();
            index.by_end.iter().take_while(|(end, _)| *end <= now).map(|(_, id)| *id).collect()
        };
        over.into_iter().filter(|id| self.end(*id, Reason::LeaseExpired)).count()
    }

    /// When the first of them expires.
    pub(crate) fn next_end(&self) -> Option<UnixMillis> {
        self.0.lock().by_end.first().map(|(end, _)| *end)
    }

    fn end(&self, id: u64, reason: Reason) -> bool {
        // Out of the index, so that nobody judges it again; its holder is told and finds the reason.
        let Some(watched) = self.0.lock().remove(id) else { return false };
        watched.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(Ended { reason });
            first
        })
    }

    fn add(&self, watched: Arc<Watched>) -> u64 {
        self.0.lock().add(watched)
    }

    fn remove(&self, id: u64) {
        self.0.lock().remove(id);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let index = self.0.lock();
        index.all.is_empty()
            && index.by_dimension.is_empty()
            && index.by_lease.is_empty()
            && index.by_end.is_empty()
    }
}

/// Watches one accepted credential for as long as something rests on it. Dropping it ends the watch, not the connection.
#[derive(Debug)]
pub struct Guard {
    verifier: Verifier,
    judged: Arc<Judged>,
    id: u64,
    ended: watch::Receiver<Option<Ended>>,
}

impl Guard {
    pub(crate) fn register(verifier: Verifier, judged: Arc<Judged>) -> Self {
        let (sender, ended) = watch::channel(None);
        let id = verifier.guards().add(Arc::new(Watched { judged: Arc::clone(&judged), ended: sender }));
        verifier.metrics().guard_opened();
        Self { verifier, judged, id, ended }
    }

    /// What it watches.
    pub fn judged(&self) -> &Arc<Judged> {
        &self.judged
    }

    /// Judges again, now that it is registered: the connection may begin only where this is `Ok`.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self) -> Result<(), Refusal> {
        match *self.ended.borrow() {
            Some(ended) => Err(ended.reason.into()),
            None => self.verifier.still(&self.judged),
        }
    }

    /// Waits until a revocation, a new generation, the expiry, a withdrawn key or staleness ends it. Completes at once
    /// where it has ended; may be dropped and awaited again.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let found = ended.wait_for(Option::is_some).await.map(|found| *found);
        // The sender goes with the end alone.
        found.ok().flatten().unwrap_or(Ended { reason: Reason::AcceptorNotFresh })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.verifier.guards().remove(self.id);
        self.verifier.metrics().guard_closed();
    }
}
