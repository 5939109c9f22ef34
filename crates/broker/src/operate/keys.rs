//! Rotating the keys that sign tokens.

use std::time::Duration;

use mayfly_domain::{KeyAlg, Reason, Refusal};
use mayfly_mint::{KeySet, KeySetError, KeyState, TokenKeyInfo};
use mayfly_policy::OperatorAction;

use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;

/// How long `rotate` waits for the other brokers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// Publish a new key; nothing is signed with it yet.
    Prepare(Option<KeyAlg>),
    /// Sign with the prepared key, once every live broker has it.
    Activate,
    /// Withdraw retiring keys whose last token has expired.
    Retire,
    /// Prepare, wait for every live broker, activate.
    Rotate(Option<KeyAlg>),
}

impl Broker {
    /// Takes a step of a key rotation. No valid token is refused on the way.
    ///
    /// # Errors
    /// A refusal that says what to wait for; the keys are as they were, unless it is `STORE_UNAVAILABLE` or
    /// `AUDIT_UNAVAILABLE`: look at them before the step is taken again.
    pub async fn rotate_keys(
        &self,
        call: &Call,
        operator: &Operator,
        step: KeyStep,
    ) -> Result<Vec<TokenKeyInfo>, Refusal> {
        let mut record = self.record(call, mayfly_audit::Kind::Key);
        record.operator = Some(operator.name.clone());
        record.detail = format!("{step:?}");
        let outcome = async {
            self.serving()?;
            self.permit(call, operator, OperatorAction::Rotate, self.anything())?;
            match step {
                KeyStep::Prepare(alg) => {
                    self.change_keys(self.stored_keys().await?, |set, now| set.prepare(alg, now)).await?;
                }
                KeyStep::Activate => {
                    let stored = self.stored_keys().await?;
                    self.everyone_has(stored.version()).await?;
                    self.change_keys(stored, KeySet::activate).await?;
                }
                KeyStep::Retire => {
                    self.change_keys(self.stored_keys().await?, KeySet::retire_finished).await?;
                }
                KeyStep::Rotate(alg) => {
                    let mut stored = self.stored_keys().await?;
                    if !stored.token_keys().any(|k| k.state == KeyState::Prepared) {
                        self.change_keys(stored, |set, now| set.prepare(alg, now)).await?;
                        stored = self.stored_keys().await?;
                    }
                    self.wait_for_everyone(stored.version()).await?;
                    self.change_keys(stored, KeySet::activate).await?;
                }
            }
            self.audit().record(record.clone()).await?;
            Ok(self.keys().token_keys().to_vec())
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        outcome
    }

    /// The keys that sign tokens.
    ///
    /// # Errors
    /// Policy's refusal.
    pub fn list_keys(&self, call: &Call, operator: &Operator) -> Result<Vec<TokenKeyInfo>, Refusal> {
        self.permit(call, operator, OperatorAction::List, self.anything())?;
        Ok(self.keys().token_keys().to_vec())
    }

    /// The keys as the store has them: another broker may have changed them a moment ago.
    async fn stored_keys(&self) -> Result<KeySet, Refusal> {
        let stored = self.leases().store().keys().await.map_err(|e| self.refused(e))?;
        let (_, sealed) = stored.ok_or(Reason::StoreHolding)?;
        KeySet::open(self.seal(), &sealed).map_err(|e| Refusal::new(Reason::Internal, e.to_string()))
    }

    /// Puts what `change` makes of `set` in its place, where nobody else has changed it since.
    async fn change_keys(
        &self,
        set: KeySet,
        change: impl FnOnce(&KeySet, mayfly_domain::UnixMillis) -> Result<KeySet, KeySetError>,
    ) -> Result<(), Refusal> {
        let store = self.leases().store();
        let next = change(&set, self.clock().now())
            .map_err(|e| Refusal::new(Reason::InputInvalid, e.to_string()).fact("problem", e.to_string()))?;
        let sealed = next.seal(self.seal()).map_err(|e| Refusal::new(Reason::Internal, e.to_string()))?;
        let put =
            store.put_keys(set.version(), next.version(), &sealed).await.map_err(|e| self.refused(e))?;
        if !put {
            return Err(Refusal::new(Reason::RaceLost, "somebody else changed the keys"));
        }
        self.refresh_copy().await
    }

    async fn everyone_has(&self, version: u64) -> Result<(), Refusal> {
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

    async fn wait_for_everyone(&self, version: u64) -> Result<(), Refusal> {
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

    /// Withdraws keys whose last token has expired, so that nobody has to remember.
    pub(crate) async fn retire_finished_keys(&self) {
        let retiring = self.keys().token_keys().iter().any(|k| k.state == KeyState::Retiring);
        if !retiring || self.serving().is_err() {
            return;
        }
        let stored = match self.stored_keys().await {
            Ok(stored) => stored,
            Err(refusal) => return tracing::warn!(error = %refusal, "the keys could not be read"),
        };
        match self.change_keys(stored, KeySet::retire_finished).await {
            Ok(()) => tracing::info!("a retiring key was withdrawn: its last token has expired"),
            Err(refusal) if refusal.reason == Reason::InputInvalid => {}
            Err(refusal) => tracing::warn!(error = %refusal, "a retiring key could not be withdrawn"),
        }
    }
}
