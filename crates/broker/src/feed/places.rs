//! How many acceptors may follow a broker at once, in all and each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::{AcceptorName, Reason, Refusal};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

/// Of one acceptor: its processes.
pub(crate) const FOLLOWERS_EACH: usize = 1_024;
/// Of one acceptor that are sent a snapshot at once: half of all that may be.
const SNAPSHOTS_EACH: usize = super::SNAPSHOTS_AT_ONCE / 2;
/// How long one that finds no place waits.
const FULL_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Each {
    taken: usize,
    sending: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    each: HashMap<AcceptorName, Each>,
}

/// The places.
#[derive(Debug)]
pub(crate) struct Places {
    /// In all.
    most: usize,
    taken: Mutex<Taken>,
}

/// A place, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    acceptor: AcceptorName,
    pub(crate) sending: Arc<Semaphore>,
}

impl Places {
    /// So many places in all.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub(crate) fn take(self: &Arc<Self>, acceptor: &AcceptorName) -> Result<Place, Refusal> {
        let mut taken = self.taken.lock();
        if taken.all >= self.most {
            return Err(full("as many follow this broker as may"));
        }
        let each = taken
            .each
            .entry(acceptor.clone())
            .or_insert_with(|| Each { taken: 0, sending: Arc::new(Semaphore::new(SNAPSHOTS_EACH)) });
        if each.taken >= FOLLOWERS_EACH {
            return Err(full("as many of this acceptor follow this broker as may"));
        }
        each.taken += 1;
        let sending = each.sending.clone();
        taken.all += 1;
        Ok(Place { places: self.clone(), acceptor: acceptor.clone(), sending })
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().all
    }
}

fn full(what: &str) -> Refusal {
    Refusal::new(Reason::Overloaded, what).after(FULL_WAIT)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(each) = taken.each.get_mut(&self.acceptor) {
            each.taken = each.taken.saturating_sub(1);
            if each.taken == 0 {
                taken.each.remove(&self.acceptor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_each_and_in_all_and_given_back() {
        let most = 3 * FOLLOWERS_EACH;
        let places = Arc::new(Places::new(most));
        let name = |n: usize| AcceptorName::parse(&format!("api-{n}")).unwrap();
        let mut held: Vec<Place> = (0..FOLLOWERS_EACH).map(|_| places.take(&name(0)).unwrap()).collect();
        assert_eq!(places.take(&name(0)).unwrap_err().reason, Reason::Overloaded);
        held.extend((FOLLOWERS_EACH..most).map(|n| places.take(&name(n)).unwrap()));
        assert_eq!(places.taken(), most);
        let refused = places.take(&name(most)).unwrap_err();
        assert!(refused.retry_after.is_some(), "{refused}");
        held.clear();
        assert_eq!((places.taken(), places.taken.lock().each.len()), (0, 0));
    }
}
