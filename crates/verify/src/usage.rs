//! What was used at checks that were decided here: for each lease its intent and the scopes, told with the pings.
//!
//! Must never grow without bound, or slow a check.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use mayfly_domain::{Intent, LeaseId, Scope};
use mayfly_proto::v1 as pb;
use parking_lot::Mutex;

use crate::cache::Entry;

/// The most that one ping tells.
const PING_MAX: usize = 256;
/// The most that waits to be told; what goes beyond is not counted.
const WAITING_MAX: usize = 16_384;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum What {
    Intent(Intent),
    Scope(Scope),
}

/// What waits to be told.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<HashMap<(LeaseId, What), u64>>);

impl Usage {
    /// Takes what an entry of the cache has counted.
    pub(crate) fn collect(&self, entry: &Entry) {
        let judged = &entry.judged;
        let intent = judged.intent.iter().cloned().map(What::Intent);
        let scopes = judged.scopes.iter().cloned().map(What::Scope);
        // The first counter is the intent's, the others the scopes'.
        let (first, rest) = entry.uses.split_first().map_or((None, &[][..]), |(a, b)| (Some(a), b));
        let counters = intent.zip(first).chain(scopes.zip(rest));
        for (what, counter) in counters {
            if counter.load(Ordering::Relaxed) > 0 {
                self.add((judged.credential.lease, what), counter.swap(0, Ordering::Relaxed));
            }
        }
    }

    fn add(&self, key: (LeaseId, What), uses: u64) {
        let mut waiting = self.0.lock();
        if let Some(count) = waiting.get_mut(&key) {
            *count = count.saturating_add(uses);
        } else if waiting.len() < WAITING_MAX {
            waiting.insert(key, uses);
        }
    }

    /// Takes back what no broker is known to have heard; it may be counted twice, and is not lost.
    pub(crate) fn give_back(&self, told: Vec<pb::Usage>) {
        for usage in told {
            let intent = Intent::parse(&usage.intent).map(What::Intent);
            let what = intent.or_else(|_| Scope::parse(&usage.scope).map(What::Scope));
            if let (Ok(lease), Ok(what)) = (LeaseId::parse(&usage.lease), what) {
                self.add((lease, what), usage.uses);
            }
        }
    }

    /// Takes what the next ping tells.
    pub(crate) fn take(&self) -> Vec<pb::Usage> {
        let mut waiting = self.0.lock();
        let keys: Vec<_> = waiting.keys().take(PING_MAX).cloned().collect();
        let taken = keys.into_iter().filter_map(|key| waiting.remove_entry(&key));
        taken
            .map(|((lease, what), uses)| {
                let mut usage = pb::Usage { lease: lease.to_string(), uses, ..pb::Usage::default() };
                match what {
                    What::Intent(intent) => usage.intent = intent.as_str().into(),
                    What::Scope(scope) => usage.scope = scope.as_str().into(),
                }
                usage
            })
            .collect()
    }
}
