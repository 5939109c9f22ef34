//! The keys that sign tokens: rotated without refusing anybody, or withdrawn at once.

use mayfly_audit::{Kind, Stored};
use mayfly_domain::{KeyAlg, Reason, Refusal, TaskReason, UnixMillis};
use mayfly_mint::{KeyState, Live, LiveLeases, TokenKeyInfo};
use mayfly_policy::OperatorAction;

use super::rotation::InUse;
use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;

/// A step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStep {
    /// Publish a new key; nothing is signed with it yet.
    Prepare(Option<KeyAlg>),
    /// Sign with the prepared key, once every live broker has it.
    Activate,
    /// Withdraw retiring keys whose last token has expired, with `force` all of them: then what they signed is
    /// refused.
    Retire {
        /// Whether live tokens may be refused.
        force: bool,
    },
    /// Prepare, wait for every live broker, activate.
    Rotate(Option<KeyAlg>),
}

/// A token key as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// The key.
    pub info: TokenKeyInfo,
    /// The live leases whose newest token it signed.
    pub live: LiveLeases,
}

/// What a withdrawal did.
#[derive(Debug, Clone)]
pub struct Withdrawn<T> {
    /// What there is now.
    pub now: Vec<T>,
    /// When it was acknowledged: what was signed with it is refused since then.
    pub acknowledged: UnixMillis,
    /// Whether the audit record is written or waits in the reserve.
    pub audit: Stored,
}

/// Whether what is retired may still be in use.
pub(super) const fn live(force: bool) -> Live {
    if force { Live::Refuse } else { Live::Spare }
}

impl Broker {
    /// Takes a step of a key rotation. No valid token is refused on the way, unless `force` says so.
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
        let mut record = self.record(call, Kind::Key);
        record.operator = Some(operator.name.clone());
        record.detail = format!("{step:?}");
        let outcome = async {
            self.serving()?;
            self.permit(call, operator, OperatorAction::Rotate, self.anything())?;
            self.take_key_step(step).await?;
            self.audit().record(record.clone()).await?;
            Ok(self.keys().token_keys().to_vec())
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        outcome
    }

    async fn take_key_step(&self, step: KeyStep) -> Result<(), Refusal> {
        let mut stored = self.stored_keys().await?;
        match step {
            KeyStep::Prepare(alg) => {
                self.change_keys(&stored, |set, custody, now| Ok((set.prepare(alg, custody, now)?, ()))).await
            }
            KeyStep::Activate => {
                self.everyone_has(stored.version()).await?;
                self.change_keys(&stored, |set, _, now| Ok((set.activate(now)?, ()))).await
            }
            KeyStep::Retire { force } => {
                self.change_keys(&stored, |set, _, now| Ok((set.retire(now, live(force))?, ()))).await
            }
            KeyStep::Rotate(alg) => {
                if !stored.token_keys().any(|k| k.state == KeyState::Prepared) {
                    self.change_keys(&stored, |set, custody, now| Ok((set.prepare(alg, custody, now)?, ())))
                        .await?;
                    stored = self.stored_keys().await?;
                }
                self.wait_for_everyone(stored.version()).await?;
                self.change_keys(&stored, |set, _, now| Ok((set.activate(now)?, ()))).await
            }
        }
    }

    /// The keys that sign tokens, with the live leases of each.
    ///
    /// # Errors
    /// Policy's or the store's refusal.
    pub async fn list_keys(&self, call: &Call, operator: &Operator) -> Result<Vec<ShownKey>, Refusal> {
        self.permit(call, operator, OperatorAction::List, self.anything())?;
        let used = self.in_use().await?;
        Ok(self.shown_keys(&used))
    }

    fn shown_keys(&self, used: &InUse) -> Vec<ShownKey> {
        let keys = self.keys();
        let shown = |info: &TokenKeyInfo| ShownKey { info: info.clone(), live: used.of(&info.kid) };
        keys.token_keys().iter().map(shown).collect()
    }

    /// Withdraws a token key at once. When it returns, it is out of the JWKS, and no check at any broker accepts
    /// what it signed. The active one is replaced in the same step.
    ///
    /// # Errors
    /// `NOT_FOUND`, policy's refusal; `STORE_UNAVAILABLE`: it may be withdrawn, and calling again is safe.
    pub async fn revoke_key(
        &self,
        call: &Call,
        operator: &Operator,
        kid: &str,
        reason: TaskReason,
        ticket: Option<String>,
    ) -> Result<Withdrawn<ShownKey>, Refusal> {
        let mut record = self.record(call, Kind::Key);
        record.operator = Some(operator.name.clone());
        record.reason_text = Some(reason);
        record.ticket = ticket;
        record.detail = format!("revoke {}", mayfly_domain::text::shown(kid));
        let outcome = async {
            self.revoking()?;
            self.permit(call, operator, OperatorAction::Rotate, self.anything())?;
            self.change_keys_now(|set, custody, now| set.revoke(kid, custody, now)).await?;
            let acknowledged = self.clock().now();
            // It is in force whether or not it is acknowledged.
            let audit = self.audit().record_or_defer(record.clone()).await;
            Ok(Withdrawn { now: self.shown_keys(&InUse::default()), acknowledged, audit })
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        outcome
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
        match self.change_keys(&stored, |set, _, now| Ok((set.retire(now, Live::Spare)?, ()))).await {
            Ok(()) => tracing::info!("a retiring key was withdrawn: its last token has expired"),
            Err(refusal) if matches!(refusal.reason, Reason::InputInvalid | Reason::KeyInUse) => {}
            Err(refusal) => tracing::warn!(error = %refusal, "a retiring key could not be withdrawn"),
        }
    }
}
