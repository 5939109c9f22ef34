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
    /// A refusal that says what to wait for; the keys are as they were.
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
                KeyStep::Prepare(alg) => self.change_keys(|set, now| set.prepare(alg, now)).await?,
                KeyStep::Activate => {
                    self.everyone_has(self.keys().version()).await?;
                    self.change_keys(KeySet::activate).await?;
                }
                KeyStep::Retire => self.change_keys(KeySet::retire_finished).await?,
                KeyStep::Rotate(alg) => {
                    let prepared = self.keys().token_keys().iter().any(|k| k.state == KeyState::Prepared);
                    if !prepared {
                        self.change_keys(|set, now| set.prepare(alg, now)).await?;
                    }
                    self.wait_for_everyone().await?;
                    self.change_keys(KeySet::activate).await?;
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

    async fn change_keys(
        &self,
        change: impl FnOnce(&KeySet, mayfly_domain::UnixMillis) -> Result<KeySet, KeySetError>,
    ) -> Result<(), Refusal> {
        let store = self.leases().store();
        let Some((version, sealed)) = store.keys().await.map_err(|e| self.refused(e))? else {
            return Err(Reason::StoreHolding.into());
        };
        let internal = |e: KeySetError| Refusal::new(Reason::Internal, e.to_string());
        let set = KeySet::open(self.seal(), &sealed).map_err(internal)?;
        let next = change(&set, self.clock().now())
            .map_err(|e| Refusal::new(Reason::InputInvalid, e.to_string()).fact("problem", e.to_string()))?;
        let sealed = next.seal(self.seal()).map_err(internal)?;
        let put = store.put_keys(version, next.version(), &sealed).await.map_err(|e| self.refused(e))?;
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

    async fn wait_for_everyone(&self) -> Result<(), Refusal> {
        let version = self.keys().version();
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
        match self.change_keys(KeySet::retire_finished).await {
            Ok(()) => tracing::info!("a retiring key was withdrawn: its last token has expired"),
            Err(refusal) if refusal.reason == Reason::InputInvalid => {}
            Err(refusal) => tracing::warn!(error = %refusal, "a retiring key could not be withdrawn"),
        }
    }
}
