//! The issuing authorities: rotated without refusing anybody, withdrawn at once, put under a company's root.

use std::collections::BTreeMap;

use mayfly_audit::Kind;
use mayfly_domain::{Reason, Refusal, TaskReason};
use mayfly_mint::{AuthorityInfo, KeySet, KeyState, LiveLeases, Role, chain_from_pem};
use mayfly_policy::OperatorAction;

use super::keys::{Withdrawn, live};
use super::rotation::InUse;
use crate::blocking::blocking;
use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;

/// The longest chain that is read, in octets.
const CHAIN_OCTETS_MAX: usize = 48 * 1024;

/// A step of a rotation of one role's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorityStep {
    /// Make and publish a new authority; it issues nothing yet.
    Prepare,
    /// Issue by the prepared authority, once every live broker has it.
    Activate,
    /// Withdraw authorities that no live lease needs, with `force` whatever needs them.
    Retire {
        /// Which; none: every retiring one.
        id: Option<String>,
        /// Whether live certificates may be refused.
        force: bool,
    },
    /// Prepare, wait for every live broker, activate.
    Rotate,
}

/// An authority as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownAuthority {
    /// The authority.
    pub info: AuthorityInfo,
    /// The live leases whose newest certificate it issued.
    pub live: LiveLeases,
}

impl Broker {
    /// The authorities, with the live leases of each.
    ///
    /// # Errors
    /// Policy's or the store's refusal.
    pub async fn list_authorities(
        &self,
        call: &Call,
        operator: &Operator,
    ) -> Result<Vec<ShownAuthority>, Refusal> {
        self.permit(call, operator, OperatorAction::List, self.anything())?;
        let used = self.in_use().await?;
        Ok(self.shown_authorities(&used))
    }

    fn shown_authorities(&self, used: &InUse) -> Vec<ShownAuthority> {
        let keys = self.keys();
        let shown = |info: &AuthorityInfo| ShownAuthority { info: info.clone(), live: used.of(&info.id) };
        keys.authorities().iter().map(shown).collect()
    }

    /// Takes a step of the rotation of a role's authority. No valid certificate is refused on the way, unless
    /// `force` says so.
    ///
    /// # Errors
    /// `KEY_IN_USE` with the number of live leases and when the last ends; `RACE_LOST` while a live broker has not
    /// heard of the prepared authority; the authorities are as they were, unless it is `STORE_UNAVAILABLE` or
    /// `AUDIT_UNAVAILABLE`.
    pub async fn rotate_authority(
        &self,
        call: &Call,
        operator: &Operator,
        role: Role,
        step: AuthorityStep,
    ) -> Result<Vec<ShownAuthority>, Refusal> {
        let mut record = self.record(call, Kind::Key);
        record.operator = Some(operator.name.clone());
        record.detail = format!("{role} authority: {step:?}");
        let outcome = async {
            self.serving()?;
            self.permit(call, operator, OperatorAction::Rotate, self.anything())?;
            let used = self.take_authority_step(role, step).await?;
            self.audit().record(record.clone()).await?;
            Ok(self.shown_authorities(&used))
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        outcome
    }

    async fn take_authority_step(&self, role: Role, step: AuthorityStep) -> Result<InUse, Refusal> {
        let mut stored = self.stored_keys().await?;
        match step {
            AuthorityStep::Prepare => self.prepare_authority(&stored, role).await?,
            AuthorityStep::Activate => {
                self.everyone_has(stored.version()).await?;
                self.activate_authority(&stored, role).await?;
            }
            AuthorityStep::Rotate => {
                let prepared = |a: AuthorityInfo| a.role == role && a.state == KeyState::Prepared;
                if !stored.authorities().any(prepared) {
                    self.prepare_authority(&stored, role).await?;
                    stored = self.stored_keys().await?;
                }
                self.wait_for_everyone(stored.version()).await?;
                self.activate_authority(&stored, role).await?;
            }
            AuthorityStep::Retire { id, force } => {
                // A broker with older keys may issue by the one that retires until it hears of it.
                if !force {
                    self.wait_for_everyone(stored.version()).await?;
                }
                let used = self.in_use().await?;
                let leases: BTreeMap<String, LiveLeases> =
                    stored.authorities().map(|a| (a.id.clone(), used.of(&a.id))).collect();
                self.change_keys(&stored, |set, _, now| {
                    let next = set.retire_authorities(role, id.as_deref(), &leases, live(force), now)?;
                    Ok((next, ()))
                })
                .await?;
                return Ok(used);
            }
        }
        self.in_use().await
    }

    async fn prepare_authority(&self, stored: &KeySet, role: Role) -> Result<(), Refusal> {
        self.change_keys(stored, |set, custody, now| Ok((set.prepare_authority(role, custody, now)?, ())))
            .await
    }

    async fn activate_authority(&self, stored: &KeySet, role: Role) -> Result<(), Refusal> {
        self.change_keys(stored, |set, _, now| Ok((set.activate_authority(role, now)?, ()))).await
    }

    /// Withdraws an authority at once. When it returns, it is out of the bundle, and no check at any broker accepts
    /// what it issued. The active one is replaced in the same step, by the prepared one or a new one below our root.
    ///
    /// # Errors
    /// `NOT_FOUND`, policy's refusal; `STORE_UNAVAILABLE`: it may be withdrawn, and calling again is safe.
    pub async fn revoke_authority(
        &self,
        call: &Call,
        operator: &Operator,
        id: &str,
        reason: TaskReason,
        ticket: Option<String>,
    ) -> Result<Withdrawn<ShownAuthority>, Refusal> {
        let mut record = self.record(call, Kind::Key);
        record.operator = Some(operator.name.clone());
        record.reason_text = Some(reason);
        record.ticket = ticket;
        record.detail = format!("revoke authority {}", mayfly_domain::text::shown(id));
        let outcome = async {
            self.revoking()?;
            self.permit(call, operator, OperatorAction::Rotate, self.anything())?;
            let changed =
                self.change_keys_now(|set, custody, now| set.revoke_authority(id, custody, now)).await;
            // Also after an error: it may be in force.
            self.recent_acceptors().forget();
            changed?;
            let acknowledged = self.clock().now();
            let audit = self.audit().record_or_defer(record.clone()).await;
            Ok(Withdrawn { now: self.shown_authorities(&InUse::default()), acknowledged, audit })
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        outcome
    }

    /// A request (PKCS #10) for a company's CA to certify a role's authority: the prepared one, else the active
    /// one. The authority's id and the request as PEM.
    ///
    /// # Errors
    /// Policy's refusal, `SIGNER_UNAVAILABLE`.
    pub async fn authority_csr(
        &self,
        call: &Call,
        operator: &Operator,
        role: Role,
    ) -> Result<(String, String), Refusal> {
        self.permit(call, operator, OperatorAction::Rotate, self.anything())?;
        let stored = self.stored_keys().await?;
        Ok(blocking(self.custody().blocks(), || stored.csr(role, self.custody()))?)
    }

    /// Puts a company's certificate for a role's authority in place: PEM, the authority's certificate first, then
    /// its parents up to the company's root. What verifiers trust stays as it was.
    ///
    /// # Errors
    /// `CA_INVALID` says what is wrong with it; policy's or the store's refusal.
    pub async fn import_authority(
        &self,
        call: &Call,
        operator: &Operator,
        role: Role,
        pem: &str,
    ) -> Result<ShownAuthority, Refusal> {
        let mut record = self.record(call, Kind::Key);
        record.operator = Some(operator.name.clone());
        record.detail = format!("{role} authority: import");
        let outcome = async {
            self.serving()?;
            self.permit(call, operator, OperatorAction::Rotate, self.anything())?;
            if pem.len() > CHAIN_OCTETS_MAX {
                return Err(Reason::TooLarge.into());
            }
            let chain = chain_from_pem(pem.as_bytes())?;
            let stored = self.stored_keys().await?;
            let id =
                self.change_keys(&stored, |set, custody, now| set.import(role, &chain, custody, now)).await?;
            record.detail = format!("{role} authority {id}: import");
            self.audit().record(record.clone()).await?;
            let used = self.in_use().await?;
            let shown = self.shown_authorities(&used).into_iter().find(|a| a.info.id == id);
            shown.ok_or_else(|| Refusal::new(Reason::RaceLost, "the authority was withdrawn meanwhile"))
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        outcome
    }
}
