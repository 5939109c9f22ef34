//! What every change of the keys goes through: read, change, put back where nobody else was quicker, wait for the
//! brokers, count what is still in use.

use std::collections::BTreeMap;
use std::time::Duration;

use mayfly_domain::{LeaseState, Reason, Refusal, SignerId, Thumbprint, UnixMillis, defaults};
use mayfly_lease::ListQuery;
use mayfly_mint::{Custody, KeySet, KeySetError, LiveLeases};

use crate::blocking::blocking;
use crate::broker::Broker;

/// How long a rotation in one step waits for the other brokers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a change that lost a race is tried.
const TRIES: usize = 5;

/// The live leases of each key and authority that signed their newest credential.
#[derive(Debug, Default)]
pub(super) struct InUse(BTreeMap<SignerId, LiveLeases>);

impl InUse {
    /// Those of the key or authority of this id.
    pub(super) fn of(&self, id: &str) -> LiveLeases {
        let signer = Thumbprint::parse(id).map(SignerId::from);
        signer.ok().and_then(|signer| self.0.get(&signer)).copied().unwrap_or_default()
    }
}

impl Broker {
    /// The keys as the store has them: another broker may have changed them a moment ago.
    pub(super) async fn stored_keys(&self) -> Result<KeySet, Refusal> {
        let stored = self.leases().store().keys().await.map_err(|e| self.refused(e))?;
        let (_, sealed) = stored.ok_or(Reason::StoreHolding)?;
        Ok(KeySet::open(self.seal(), &sealed)?)
    }

    /// Puts what `change` makes of `set` in its place, where nobody else has changed it since. When it returns, the
    /// change is durable, this broker serves with it, and its sealed copy holds it.
    pub(super) async fn change_keys<T>(
        &self,
        set: &KeySet,
        change: impl FnOnce(&KeySet, &Custody, UnixMillis) -> Result<(KeySet, T), KeySetError>,
    ) -> Result<T, Refusal> {
        let (custody, now) = (self.custody(), self.clock().now());
        let (next, told) = blocking(custody.blocks(), || change(set, custody, now))?;
        let sealed = next.seal(self.seal())?;
        let put = self.leases().store().put_keys(set.version(), next.version(), &sealed).await;
        if !put.map_err(|e| self.refused(e))? {
            return Err(Refusal::new(Reason::RaceLost, "somebody else changed the keys"));
        }
        self.refresh_copy().await?;
        // The others learn from the guard's sign which keys this broker has.
        self.wake_guard();
        Ok(told)
    }

    /// As [`change_keys`](Self::change_keys) on what is stored now, however often somebody else is quicker: a
    /// withdrawal must not wait for a second try by a person.
    pub(super) async fn change_keys_now(
        &self,
        change: impl Fn(&KeySet, &Custody, UnixMillis) -> Result<KeySet, KeySetError>,
    ) -> Result<(), Refusal> {
        let mut tries = 0;
        loop {
            let set = self.stored_keys().await?;
            tries += 1;
            match self.change_keys(&set, |set, custody, now| Ok((change(set, custody, now)?, ()))).await {
                Err(refusal) if refusal.reason == Reason::RaceLost && tries < TRIES => {}
                other => return other,
            }
        }
    }

    /// Refuses while a live broker has older keys than `version`.
    pub(super) async fn everyone_has(&self, version: u64) -> Result<(), Refusal> {
        let brokers = self.leases().store().brokers().await.map_err(|e| self.refused(e))?;
        let behind: Vec<String> =
            brokers.into_iter().filter(|b| b.keys_version < version).map(|b| b.id).collect();
        if behind.is_empty() {
            return Ok(());
        }
        Err(Refusal::new(Reason::RaceLost, format!("not yet at: {}", behind.join(", ")))
            .fact("waiting for", behind.join(", "))
            .after(Duration::from_millis(500)))
    }

    pub(super) async fn wait_for_everyone(&self, version: u64) -> Result<(), Refusal> {
        let patience = mayfly_domain::Deadline::after(PATIENCE);
        loop {
            match self.everyone_has(version).await {
                Err(refusal) if refusal.reason == Reason::RaceLost && !patience.has_passed() => {
                    tokio::time::sleep(crate::guard::TICK).await;
                }
                other => return other,
            }
        }
    }

    /// Walks every lease and counts the live ones by who signed their newest credential.
    pub(super) async fn in_use(&self) -> Result<InUse, Refusal> {
        let mut all = InUse::default();
        let mut after = None;
        loop {
            let query = ListQuery { along: None, after, limit: defaults::LIST_PAGE_MAX };
            let page = self.leases().store().list(&query).await.map_err(|e| self.refused(e))?;
            for lease in self.judged(page.records).await? {
                if matches!(lease.record.state, LeaseState::Ended(_)) {
                    continue;
                }
                let live = all.0.entry(lease.record.signer).or_default();
                live.count += 1;
                live.last_ends = live.last_ends.max(lease.record.expires);
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}
