//! A token that is kept: what was asked for, and the lease that is held now.

use std::sync::{Arc, Mutex, PoisonError};

use mayfly_client::workload::{Ask, Minted};
use mayfly_domain::LeaseId;

/// What was asked for, and the newest lease: the one to release at the end.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// What is asked for again where a lease can't be renewed.
    pub(super) ask: Ask,
    lease: Arc<Mutex<Option<LeaseId>>>,
}

impl Wanted {
    pub(super) fn new(ask: Ask, minted: &Minted) -> Self {
        let wanted = Self { ask, lease: Arc::default() };
        wanted.hold(minted);
        wanted
    }

    /// Notes the lease that is held from now on.
    pub(super) fn hold(&self, minted: &Minted) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = LeaseId::parse(&minted.lease).ok();
    }

    /// The lease that is held.
    pub(super) fn lease(&self) -> Option<LeaseId> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
