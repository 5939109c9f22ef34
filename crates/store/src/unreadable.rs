//! Leases whose records can't be read: passed over, named once, counted.
//!
//! One broken record must never keep a list, a sweep or the undo queue from all others.

use std::collections::BTreeSet;

use mayfly_domain::LeaseId;
use mayfly_lease::StoreError;
use parking_lot::Mutex;

/// How many are remembered; where there are more, the count stops here.
const REMEMBERED: usize = 10_000;

/// The leases whose records this handle could not read.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Mutex<BTreeSet<LeaseId>>);

impl Unreadable {
    /// What was read; nothing where it is corrupt, which is noted.
    ///
    /// # Errors
    /// Every other error.
    pub(crate) fn pass<T>(&self, id: LeaseId, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(StoreError::Corrupt(why)) => {
                self.note(id, &why);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Notes one, and says so where it is new.
    pub(crate) fn note(&self, id: LeaseId, why: &str) {
        let mut known = self.0.lock();
        if known.len() < REMEMBERED && known.insert(id) {
            tracing::error!(lease = %id, why, "a lease's record can't be read; lists and sweeps pass it over");
        }
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.0.lock().len()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_corrupt_is_passed_over_and_counted_once() {
        let (unreadable, id) = (Unreadable::default(), LeaseId::from_bytes([1; 16]));
        let corrupt = || Err::<(), _>(StoreError::Corrupt("bad body".into()));
        assert_eq!(unreadable.pass(id, Ok(5)), Ok(Some(5)));
        assert_eq!(unreadable.count(), 0);
        for _ in 0..2 {
            assert_eq!(unreadable.pass(id, corrupt()), Ok(None));
        }
        assert_eq!(unreadable.count(), 1);
        let away = StoreError::Unavailable("gone".into());
        assert_eq!(unreadable.pass(id, Err::<(), _>(away.clone())), Err(away));
    }
}
