//! Judging what a request wants, once the credential that it comes with was judged alive.
//!
//! Must never be asked about a credential that is not: policy, even in observe mode, decides only what is left to it.

use mayfly_audit::Record;
use mayfly_domain::{AcceptorName, Binding, PolicyId, Reason, Refusal, UnixMillis};
use mayfly_lease::LeaseRecord;
use mayfly_lease::feed::UsedItem;
use mayfly_policy::{RequestDecision, RequestFacts};

use crate::broker::Broker;
use crate::check::{CheckInput, Credential};
use crate::staff::Acceptor;

/// A credential that is accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its lease.
    pub record: LeaseRecord,
    /// How long the answer may be reused for the same question; 0: for this request alone.
    pub reuse_ms: u32,
    /// The policies in observe mode that would have refused the request.
    pub observed: Vec<PolicyId>,
}

impl Broker {
    /// Judges a request with a credential whose lease is alive. `about` becomes the record of a refusal.
    pub(crate) async fn judge_request(
        &self,
        input: &CheckInput,
        record: LeaseRecord,
        acceptor: &Acceptor,
        about: &mut Record,
    ) -> Result<Accepted, Refusal> {
        let now = self.clock().now();
        let decision = match &input.request {
            Some(ask) => Some(self.running().engine.requests().judge(&facts(&record, now)?, ask)),
            None => None,
        };
        let reuse_ms = self.reuse_of(&acceptor.name, input, &record, decision.as_ref(), now);
        let mut observed = Vec::new();
        if let Some(decision) = decision {
            if decision.answer.is_err() || !decision.observed.is_empty() {
                describe(about, &record, decision.decided_by);
            }
            decision.answer?;
            observed = decision.observed;
        }
        if !observed.is_empty() {
            observed.iter().for_each(|policy| self.meter().observed(policy));
            let mut audited = about.clone();
            audited.observed.clone_from(&observed);
            // What is only observed is not refused because it can't be written.
            if let Err(e) = self.audit().record(audited).await {
                tracing::error!(error = %e, "what a policy in observe mode would refuse could not be audited");
            }
        }
        self.count_uses(input, &record);
        Ok(Accepted { record, reuse_ms, observed })
    }

    fn reuse_of(
        &self,
        acceptor: &AcceptorName,
        input: &CheckInput,
        record: &LeaseRecord,
        decision: Option<&RequestDecision>,
        now: UnixMillis,
    ) -> u32 {
        // The next request has another proof, which only the broker would verify.
        let of_proof =
            matches!(input.credential, Credential::Token(_)) && record.body.binding != Binding::Bearer;
        if of_proof {
            return 0;
        }
        let wanted = self.running().acceptors.get(acceptor).map_or(0, |entry| entry.reuse_ms);
        let until = decision.and_then(|d| d.holds_until).map_or(record.expires, |u| u.min(record.expires));
        let left = u32::try_from(until.0.saturating_sub(now.0)).unwrap_or(u32::MAX);
        self.reuse().allowed(wanted).min(left)
    }

    /// Counts the intent that a request was within, and the scopes that its acceptor demanded.
    fn count_uses(&self, input: &CheckInput, record: &LeaseRecord) {
        let body = &record.body;
        let Some(profile) = &body.profile else { return };
        let now = self.clock().now();
        let count = |item| self.usage().record(now, profile, &body.workload, item, 1);
        body.intent.iter().cloned().map(UsedItem::Intent).for_each(count);
        let scopes = input.request.iter().flat_map(|ask| ask.scopes().iter());
        scopes.cloned().map(UsedItem::Scope).for_each(count);
    }
}

/// Whose credential it is, and which policies decided.
fn describe(about: &mut Record, record: &LeaseRecord, policies: Vec<PolicyId>) {
    let body = &record.body;
    about.lease = Some(record.id);
    about.workload = Some(body.workload.clone());
    about.owners = Some(body.owners.clone());
    about.task.clone_from(&body.task);
    about.intent.clone_from(&body.intent);
    about.profile.clone_from(&body.profile);
    about.policies = policies;
}

fn facts(record: &LeaseRecord, at: UnixMillis) -> Result<RequestFacts<'_>, Refusal> {
    let body = &record.body;
    let no = || Refusal::new(Reason::Internal, "a workload's lease without task or intent");
    Ok(RequestFacts {
        workload: &body.workload,
        owners: &body.owners,
        lease: record.id,
        task: body.task.as_ref().ok_or_else(no)?,
        profile: body.profile.as_ref(),
        intent: body.intent.as_ref().ok_or_else(no)?,
        scopes: &body.scopes,
        key: Some(&body.key).filter(|_| body.binding != Binding::Bearer),
        binding: Some(body.binding),
        at,
    })
}
