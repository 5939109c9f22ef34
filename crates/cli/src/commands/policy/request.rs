//! Explaining a request: what an acceptor that asks about it would be answered, and why.

use std::net::IpAddr;

use clap::Args;
use mayfly_client::Failure;
use mayfly_domain::{Binding, LeaseId, Reason, Scope, Scopes};
use mayfly_policy::{RequestAsk, RequestExplanation, RequestFacts, WorkloadFacts};
use mayfly_server::config::Loaded;

use super::{Decided, Explain, Explained};

/// A request, as an acceptor would ask about it.
#[derive(Debug, Args)]
pub(super) struct RequestArgs {
    /// Explain a request instead: the Cedar action that an acceptor names
    #[arg(long, value_name = "ACTION", requires_all = ["resource", "intent"], conflicts_with_all = ["ttl", "names"])]
    request: Option<String>,
    /// The Cedar entity that the request is about
    #[arg(long, value_name = "ENTITY", requires = "request")]
    resource: Option<String>,
    /// The request's method
    #[arg(long, requires = "request")]
    method: Option<String>,
    /// The request's URL or path
    #[arg(long, requires = "request")]
    url: Option<String>,
    /// Where the request comes from
    #[arg(long, value_name = "ADDRESS", requires = "request")]
    source: Option<IpAddr>,
    /// A scope that the acceptor demands; may be given several times
    #[arg(long = "demand", value_name = "SCOPE", requires = "request")]
    demands: Vec<Scope>,
}

impl RequestArgs {
    pub(super) fn is_asked(&self) -> bool {
        self.request.is_some()
    }

    /// Explains it for a credential of the workload with the intent and scopes of `explain`.
    pub(super) fn explain(
        &self,
        explain: &Explain,
        workload: &WorkloadFacts,
        loaded: &Loaded,
    ) -> Result<RequestExplanation, Failure> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let ask = RequestAsk::new(
            &text(&self.request),
            &text(&self.resource),
            &text(&self.method),
            &text(&self.url),
            self.source,
            Scopes::new(self.demands.iter().cloned())?,
        )?;
        let missing = |what: &str| Failure::of(Reason::InputInvalid).fact("missing", what);
        let task = match &workload.task {
            Some(task) => task.clone(),
            None => "unknown".parse()?,
        };
        let profile = explain.profile.as_ref();
        let binding =
            profile.and_then(|name| loaded.engine.profile(name)).map_or(Binding::Dpop, |p| p.binding());
        let facts = RequestFacts {
            workload: &workload.workload,
            owners: &workload.owners,
            lease: LeaseId::from_bytes([0; 16]),
            task: &task,
            profile,
            intent: explain.intent.as_ref().ok_or_else(|| missing("--intent"))?,
            scopes: &Scopes::new(explain.scopes.iter().cloned())?,
            key: None,
            binding: Some(binding),
            at: workload.at,
        };
        Ok(loaded.engine.explain_request(&facts, &ask))
    }
}

impl From<RequestExplanation> for Explained {
    fn from(e: RequestExplanation) -> Self {
        let text = e.to_string();
        let refusal = e.decision.answer.err();
        Self {
            names: Vec::new(),
            nameless: Vec::new(),
            allowed: refusal.is_none(),
            reason: refusal.as_ref().map(|r| r.reason.to_string()).unwrap_or_default(),
            detail: refusal.map(|r| r.detail).unwrap_or_default(),
            decided_by: e.deciding.into_iter().map(Decided::from).collect(),
            observed: e.observing.into_iter().map(Decided::from).collect(),
            nearest: e.nearest.into_iter().map(Into::into).collect(),
            meant: None,
            text,
        }
    }
}
