//! Which acceptors' followers this broker has registered: the store knows each for a while after its stream, and every
//! barrier, list and watcher reads them all.
//!
//! So an acceptor that comes again and again, each time as somebody else, is refused before the store is full of it. Must
//! never forget one sooner than the store does, but for a good-bye.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::{AcceptorName, Reason, Refusal};
use mayfly_lease::feed::FollowerId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::places::FOLLOWERS_EACH;

/// Of one acceptor, those that follow and those that the store knows still: each of its processes may begin anew a few
/// times within that.
pub(crate) const REGISTERED_EACH: usize = 4 * FOLLOWERS_EACH;
/// How long one that finds no room waits.
const FULL_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Known {
    streams: usize,
    /// Until when the store knows it, where no stream is left.
    until: Instant,
}

type Each = HashMap<FollowerId, Known>;

/// The registrations.
#[derive(Debug, Default)]
pub(crate) struct Registered(Mutex<HashMap<AcceptorName, Each>>);

/// That a follower is registered, for as long as its stream is there; the store knows it `kept` longer.
#[derive(Debug)]
pub(crate) struct Registration {
    registered: Arc<Registered>,
    acceptor: AcceptorName,
    id: FollowerId,
    kept: Duration,
}

impl Registered {
    /// Takes room for a follower; one that is known takes none again.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub(crate) fn take(
        self: &Arc<Self>,
        acceptor: &AcceptorName,
        id: FollowerId,
        kept: Duration,
    ) -> Result<Registration, Refusal> {
        self.take_at(acceptor, id, kept, Instant::now())
    }

    fn take_at(
        self: &Arc<Self>,
        acceptor: &AcceptorName,
        id: FollowerId,
        kept: Duration,
        now: Instant,
    ) -> Result<Registration, Refusal> {
        let mut all = self.0.lock();
        let each = all.entry(acceptor.clone()).or_default();
        if each.len() >= REGISTERED_EACH && !each.contains_key(&id) {
            each.retain(|_, known| known.streams > 0 || now < known.until);
            if each.len() >= REGISTERED_EACH {
                let why = "as many followers of this acceptor are registered as may";
                return Err(Refusal::new(Reason::Overloaded, why).after(FULL_WAIT));
            }
        }
        let known = each.entry(id).or_insert(Known { streams: 0, until: now });
        known.streams += 1;
        Ok(Registration { registered: self.clone(), acceptor: acceptor.clone(), id, kept })
    }

    fn leave(&self, acceptor: &AcceptorName, id: FollowerId, until: Option<Instant>) {
        let mut all = self.0.lock();
        let Some(each) = all.get_mut(acceptor) else { return };
        let Some(known) = each.get_mut(&id) else { return };
        known.streams = known.streams.saturating_sub(1);
        match until {
            Some(until) => known.until = known.until.max(until),
            None if known.streams == 0 => {
                each.remove(&id);
            }
            None => {}
        }
        if each.is_empty() {
            all.remove(acceptor);
        }
    }
}

impl Registration {
    /// The store has forgotten the follower.
    pub(crate) fn forgotten(mut self) {
        self.kept = Duration::ZERO;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let until = (!self.kept.is_zero()).then(|| Instant::now() + self.kept);
        self.registered.leave(&self.acceptor, self.id, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(65);

    fn id(n: usize) -> FollowerId {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        FollowerId(id)
    }

    #[test]
    fn whoever_comes_as_another_each_time_is_refused_until_the_store_forgets() {
        let registered = Arc::new(Registered::default());
        let (api, other) = ("api".parse().unwrap(), "other".parse().unwrap());
        let take = |n| registered.take(&api, id(n), KEPT);
        let first = take(0).unwrap();
        (1..REGISTERED_EACH).for_each(|n| drop(take(n).unwrap()));
        let refused = take(REGISTERED_EACH).unwrap_err();
        assert_eq!((refused.reason, refused.retry_after), (Reason::Overloaded, Some(FULL_WAIT)));
        // Those that are known come back, and others have room of their own.
        drop(take(1).unwrap());
        drop(take(0).unwrap());
        drop(registered.take(&other, id(REGISTERED_EACH), KEPT).unwrap());
        // A good-bye makes room at once, for as many as it was of.
        take(2).unwrap().forgotten();
        drop(take(REGISTERED_EACH).unwrap());
        assert!(take(2).is_err());
        let later = Instant::now() + KEPT;
        drop(registered.take_at(&api, id(2), KEPT, later).unwrap());
        assert_eq!(registered.0.lock()[&api].len(), 2, "the one that follows still, and the one that came");
        drop(first);
    }

    #[test]
    fn a_good_bye_of_one_stream_forgets_nothing_of_another() {
        let registered = Arc::new(Registered::default());
        let api = "api".parse().unwrap();
        let (one, two) =
            (registered.take(&api, id(1), KEPT).unwrap(), registered.take(&api, id(1), KEPT).unwrap());
        one.forgotten();
        assert_eq!(registered.0.lock()[&api][&id(1)].streams, 1);
        two.forgotten();
        assert!(registered.0.lock().is_empty());
    }
}
