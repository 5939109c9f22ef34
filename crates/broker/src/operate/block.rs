//! Blocks.

use mayfly_audit::{Kind, Stored};
use mayfly_domain::{Block, Gate, Refusal, Subject, TaskReason, Ttl};
use mayfly_policy::{OperatorAction, Target};

use super::names::Named;
use crate::broker::Broker;
use crate::call::Call;
use crate::staff::Operator;

/// A block to be set.
#[derive(Debug, Clone)]
pub struct BlockInput {
    /// What it blocks.
    pub named: Named,
    /// Why.
    pub reason: TaskReason,
    /// How long; none: until it is lifted.
    pub length: Option<Ttl>,
}

/// A block that was set.
#[derive(Debug, Clone)]
pub struct BlockSet {
    /// The gate with it.
    pub gate: Gate,
    /// What became of the audit record.
    pub audit: Stored,
    /// What the operator may not have meant.
    pub warnings: Vec<String>,
}

/// What is done to a block, for policy and audit.
struct Act {
    kind: Kind,
    action: OperatorAction,
    reason: Option<TaskReason>,
}

/// A block's end, for the audit record.
pub(super) fn block_words(block: &Block) -> String {
    match block.until {
        Some(until) => format!("a block until {} ms", until.0),
        None => "a block without an end".to_owned(),
    }
}

impl Broker {
    /// Sets a block: from now on no mint for the subject.
    ///
    /// # Errors
    /// A refusal; nothing is blocked, unless it is `STORE_UNAVAILABLE`: then calling again is safe.
    pub async fn set_block(
        &self,
        call: &Call,
        operator: &Operator,
        input: BlockInput,
    ) -> Result<BlockSet, Refusal> {
        let BlockInput { named, reason, length } = input;
        let now = self.clock().now();
        let block = Block {
            reason,
            author: operator.name.to_string(),
            since: now,
            until: length.map(|ttl| now.plus(ttl.as_millis())),
        };
        let act =
            Act { kind: Kind::Block, action: OperatorAction::Block, reason: Some(block.reason.clone()) };
        let warnings = self.block_warnings(operator, &named.subject, &block).await;
        let (gate, audit) = self.change_block(call, operator, act, &named, Some(block)).await?;
        Ok(BlockSet { gate, audit, warnings })
    }

    /// Lifts a block. What it had refused stays refused; what is dead stays dead.
    ///
    /// # Errors
    /// `BLOCK_NOT_FOUND`, or a refusal.
    pub async fn lift_block(
        &self,
        call: &Call,
        operator: &Operator,
        subject: Subject,
        reason: Option<TaskReason>,
    ) -> Result<(Gate, Stored), Refusal> {
        let named = Named { subject, force: true };
        let act = Act { kind: Kind::Lift, action: OperatorAction::Lift, reason };
        self.change_block(call, operator, act, &named, None).await
    }

    async fn change_block(
        &self,
        call: &Call,
        operator: &Operator,
        act: Act,
        named: &Named,
        block: Option<Block>,
    ) -> Result<(Gate, Stored), Refusal> {
        let timer = self.timer(act.kind.as_str());
        let mut record = self.record(call, act.kind);
        record.operator = Some(operator.name.clone());
        record.subject = Some(named.subject.clone());
        record.reason_text = act.reason;
        record.detail = block.as_ref().map(block_words).unwrap_or_default();
        let outcome = async {
            self.revoking()?;
            self.permit(call, operator, act.action, Target::Subject(named.subject.clone()))?;
            self.known(named).await?;
            let gate =
                self.leases().store().set_block(&named.subject, block).await.map_err(|e| self.refused(e))?;
            let copied = self.refresh_copy().await;
            // It is in force whether or not it is acknowledged.
            let audit = self.audit().record_or_defer(record.clone()).await;
            copied?;
            Ok((gate, audit))
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    /// Every block that stands.
    ///
    /// # Errors
    /// Policy's or the store's refusal.
    pub async fn blocks(&self, call: &Call, operator: &Operator) -> Result<Vec<(Subject, Gate)>, Refusal> {
        self.permit(call, operator, OperatorAction::List, self.anything())?;
        let now = self.clock().now();
        let mut all = self.leases().store().blocks().await.map_err(|e| self.refused(e))?;
        all.retain(|(_, gate)| gate.standing_block(now).is_some());
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}
