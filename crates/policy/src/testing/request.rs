//! Tests of policies that judge requests.

use std::net::IpAddr;

use mayfly_domain::{Binding, Intent, LeaseId, Owner, Owners, ProfileName, Scope, Scopes, TaskId};

use super::{Answer, moment, workload};
use crate::engine::Engine;
use crate::request::{RequestAsk, RequestFacts};

/// A request, and the credential that it comes with.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestRequest {
    /// The workload's SPIFFE ID, or the path of one in the trust domain.
    pub id: String,
    /// Who answers for it.
    pub owners: Vec<Owner>,
    /// The task's intent.
    pub intent: Intent,
    /// The task.
    pub task: Option<TaskId>,
    /// The profile; missing: as an acceptor in its own process sees it, which does not know.
    pub profile: Option<ProfileName>,
    /// The scopes of the credential.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// How the credential is bound.
    #[serde(default = "dpop")]
    pub binding: Binding,
    /// The action, `Payments::Action::"GET /orders"`.
    #[serde(default)]
    pub action: String,
    /// The resource, `Payments::Order::"42"`.
    #[serde(default)]
    pub resource: String,
    /// The method.
    #[serde(default)]
    pub method: String,
    /// The URL, or the path.
    #[serde(default)]
    pub url: String,
    /// Where the request comes from.
    pub source: Option<IpAddr>,
    /// The scopes that the acceptor demands.
    #[serde(default)]
    pub demands: Vec<Scope>,
    /// When, in RFC 3339; missing: 2026-01-01T00:00:00Z.
    pub at: Option<String>,
}

const fn dpop() -> Binding {
    Binding::Dpop
}

impl TestRequest {
    pub(super) fn ask(&self, engine: &Engine) -> Result<Answer, String> {
        let scopes = |all: &[Scope]| Scopes::new(all.iter().cloned()).map_err(|e| e.to_string());
        let (id, held) = (workload(engine, &self.id)?, scopes(&self.scopes)?);
        let owners = Owners::new(self.owners.iter().cloned()).map_err(|e| e.to_string())?;
        let task = match &self.task {
            Some(task) => task.clone(),
            None => "test".parse().map_err(|_| "no task".to_owned())?,
        };
        let facts = RequestFacts {
            workload: &id,
            owners: &owners,
            lease: LeaseId::from_bytes([0; 16]),
            task: &task,
            profile: self.profile.as_ref(),
            intent: &self.intent,
            scopes: &held,
            key: None,
            binding: Some(self.binding),
            at: moment(self.at.as_deref())?,
        };
        let demanded = scopes(&self.demands)?;
        let ask =
            RequestAsk::new(&self.action, &self.resource, &self.method, &self.url, self.source, demanded);
        let decision = engine.requests().judge(&facts, &ask.map_err(|e| e.to_string())?);
        Ok(Answer {
            refusal: decision.answer.err(),
            ttl: None,
            names: Vec::new(),
            decided_by: decision.decided_by,
            observed: decision.observed,
        })
    }
}
