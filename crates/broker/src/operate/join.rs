//! Join tokens: an operator vouches for a machine that no issuer knows.
//!
//! The token itself is seen once, in the answer to whoever made it: the store has its hash, the audit its id.

use mayfly_audit::{Kind, Stored};
use mayfly_domain::{
    Environment, Invalid, JoinToken, Owners, Reason, Refusal, SpiffeId, TaskReason, Ttl, defaults, join,
};
use mayfly_lease::join::{JoinId, JoinRecord, JoinState};
use mayfly_policy::{OperatorAction, Target};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;

/// Whom a join token is for.
#[derive(Debug, Clone)]
pub struct JoinInput {
    /// The workload that its holder becomes.
    pub workload: SpiffeId,
    /// Who answers for it.
    pub owners: Owners,
    /// Its environment, as a trust rule would say it.
    pub environment: Option<Environment>,
    /// How long it may be used; none: the default.
    pub length: Option<Ttl>,
    /// Why.
    pub reason: Option<TaskReason>,
}

/// A join token that was made.
#[derive(Debug)]
pub struct JoinMade {
    /// The token, to be handed over.
    pub token: JoinToken,
    /// What the store knows of it.
    pub record: JoinRecord,
    /// Whether the audit record is written.
    pub audit: Stored,
}

impl Broker {
    /// Makes a join token. Policy is asked for each of the owners that the workload would have.
    ///
    /// # Errors
    /// `INPUT_INVALID` for a workload of another trust domain or below the reserved path, or a length over a day;
    /// policy's or the store's refusal; `AUDIT_UNAVAILABLE`, and then nobody has the token.
    pub async fn create_join(
        &self,
        call: &Call,
        operator: &Operator,
        input: JoinInput,
    ) -> Result<JoinMade, Refusal> {
        let timer = self.timer("join_create");
        let mut audited = self.record(call, Kind::Join);
        audited.operator = Some(operator.name.clone());
        audited.workload = Some(input.workload.clone());
        audited.owners = Some(input.owners.clone());
        audited.reason_text.clone_from(&input.reason);
        let outcome = async {
            self.serving()?;
            let length = self.checked(&input)?;
            self.vouch(call, operator, &input.workload, &input.owners, input.environment.as_ref())?;
            let token = JoinToken::new(&octets::<{ join::RANDOM_OCTETS }>()?);
            let now = self.clock().now();
            let record = JoinRecord {
                id: JoinId(octets()?),
                hash: token.hash(),
                workload: input.workload.clone(),
                owners: input.owners.clone(),
                environment: input.environment.clone(),
                created: now,
                expires: now.plus(length.as_millis()),
                author: operator.name.to_string(),
                state: JoinState::Open,
            };
            self.leases().store().put_join(&record).await.map_err(|e| self.refused(e))?;
            audited.detail = format!("made {} for {length}", record.id);
            audited.expires_ms = Some(record.expires);
            self.audit().record(audited.clone()).await?;
            Ok(JoinMade { token, record, audit: Stored::Written })
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(audited, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    /// Every join token that is still kept.
    ///
    /// # Errors
    /// Policy's or the store's refusal.
    pub async fn joins(&self, call: &Call, operator: &Operator) -> Result<Vec<JoinRecord>, Refusal> {
        self.permit(call, operator, OperatorAction::List, self.anything())?;
        let mut all = self.leases().store().joins().await.map_err(|e| self.refused(e))?;
        all.sort_by_key(|join| (join.created, join.id));
        Ok(all)
    }

    /// Withdraws a join token that was not used yet; one that was used stays so, and so does what it was used for.
    ///
    /// # Errors
    /// `NOT_FOUND`, policy's or the store's refusal.
    pub async fn withdraw_join(
        &self,
        call: &Call,
        operator: &Operator,
        id: JoinId,
        reason: Option<TaskReason>,
    ) -> Result<(JoinRecord, Stored), Refusal> {
        let timer = self.timer("join_withdraw");
        let mut audited = self.record(call, Kind::Join);
        audited.operator = Some(operator.name.clone());
        audited.detail = format!("withdrew {id}");
        audited.reason_text = reason;
        let outcome = async {
            self.revoking()?;
            let all = self.leases().store().joins().await.map_err(|e| self.refused(e))?;
            let found = all.into_iter().find(|join| join.id == id).ok_or(Reason::NotFound)?;
            audited.workload = Some(found.workload.clone());
            audited.owners = Some(found.owners.clone());
            self.vouch(call, operator, &found.workload, &found.owners, found.environment.as_ref())?;
            let withdrawn = self.leases().store().withdraw_join(id).await.map_err(|e| self.refused(e))?;
            let withdrawn = withdrawn.ok_or(Reason::NotFound)?;
            let audit = self.audit().record_or_defer(audited.clone()).await;
            Ok((withdrawn, audit))
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(audited, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    fn checked(&self, input: &JoinInput) -> Result<Ttl, Refusal> {
        let workload = &input.workload;
        if !workload.is_in(&self.settings().trust_domain) || workload.is_reserved() {
            let why = "must be in this trust domain and not below `/mayfly/`";
            return Err(Invalid::new("workload", workload.as_str(), why).into());
        }
        let length = input.length.unwrap_or(defaults::JOIN_TTL);
        if length > defaults::JOIN_TTL_MAX {
            let why = format!("must be at most {}", defaults::JOIN_TTL_MAX);
            return Err(Invalid::new("length", &length.to_string(), why).into());
        }
        Ok(length)
    }

    /// Whether the operator may make this workload, under each of its owners.
    fn vouch(
        &self,
        call: &Call,
        operator: &Operator,
        workload: &SpiffeId,
        owners: &Owners,
        environment: Option<&Environment>,
    ) -> Result<(), Refusal> {
        for owner in owners.iter() {
            let target = Target::Workload {
                id: workload.clone(),
                owner: owner.clone(),
                environment: environment.cloned(),
            };
            self.permit(call, operator, OperatorAction::Join, target)?;
        }
        Ok(())
    }
}

fn octets<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut out = [0; N];
    SystemRandom::new()
        .fill(&mut out)
        .map_err(|_| Refusal::new(Reason::Internal, "the system gives no randomness"))?;
    Ok(out)
}
