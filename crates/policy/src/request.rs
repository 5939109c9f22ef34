//! Judging requests: whether a credential that is alive may be used for what a request wants, decided when it is used.
//!
//! The same engine decides at brokers and in acceptors' own processes, so policies may look only at what every credential
//! shows. Default deny; an evaluation error denies. A policy in observe mode is asked and recorded, and refuses nothing
//! before its date; nothing but policies is ever observed.

mod judge;
mod load;
mod looks;
mod name;
pub(crate) mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::{Authorizer, Entities, EntityTypeName, EntityUid};
use mayfly_domain::{
    Binding, Intent, Invalid, LeaseId, Owners, PolicyId, ProfileName, Refusal, Scopes, SpiffeId, TaskId,
    Thumbprint, UnixMillis,
};

use crate::decision::PolicyFailure;
use crate::rules::Rule;
use crate::slice::Slice;
use crate::words::Words;
use looks::Looks;

/// What a credential shows, whose lease was found alive and whose binding was found good. Plain data: no proof.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// Who holds it.
    pub workload: &'a SpiffeId,
    /// Who answers for it.
    pub owners: &'a Owners,
    /// Its lease.
    pub lease: LeaseId,
    /// The task.
    pub task: &'a TaskId,
    /// The profile, where it is known: a credential does not carry it.
    pub profile: Option<&'a ProfileName>,
    /// The task's intent.
    pub intent: &'a Intent,
    /// What it grants.
    pub scopes: &'a Scopes,
    /// The key that it is bound to.
    pub key: Option<&'a Thumbprint>,
    /// How, where it is known: a token that is bound to a key does not say how that is proven.
    pub binding: Option<Binding>,
    /// When.
    pub at: UnixMillis,
}

/// What a request wants, as its acceptor says.
///
/// INVARIANT: names, method and path are of one spelling each and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestAsk {
    wanted: Option<Wanted>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) source: Option<IpAddr>,
    scopes: Scopes,
}

/// An action on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    action: String,
    kind: String,
    id: String,
}

impl RequestAsk {
    /// A question: `action` (`Payments::Action::"GET /orders"`) on `resource` (`Payments::Order::"42"`), both or neither;
    /// the method and the URL of the request where there are any; where it came from; the scopes that the acceptor
    /// demands.
    ///
    /// # Errors
    /// [`Invalid`] where one is malformed, or could be read in two ways.
    pub fn new(
        action: &str,
        resource: &str,
        method: &str,
        url: &str,
        source: Option<IpAddr>,
        scopes: Scopes,
    ) -> Result<Self, Invalid> {
        let wanted = match (action, resource) {
            ("", "") => None,
            ("", _) => return Err(Invalid::new("action", "", "a resource needs an action")),
            (_, "") => return Err(Invalid::new("resource", "", "an action needs a resource")),
            _ => {
                name::named("action", action)?;
                let resource = name::named("resource", resource)?;
                let (kind, id) = (resource.kind.to_owned(), resource.id.to_owned());
                Some(Wanted { action: action.to_owned(), kind, id })
            }
        };
        let (method, path) = (name::method(method)?.to_owned(), name::path(url)?.to_owned());
        Ok(Self { wanted, method, path, source, scopes })
    }

    /// The scopes that the acceptor demands.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Whether it names an action.
    pub fn names_action(&self) -> bool {
        self.wanted.is_some()
    }

    /// What is wanted, for operators.
    pub(crate) fn what(&self) -> String {
        match &self.wanted {
            Some(Wanted { action, kind, id }) => format!("`{action}` on `{kind}::\"{id}\"`"),
            None => "a request".to_owned(),
        }
    }
}

/// What was decided about a request.
#[derive(Debug, Clone)]
pub struct RequestDecision {
    /// Permitted, or the refusal.
    pub answer: Result<(), Refusal>,
    /// The policies that decided: the permits of a permission, the forbids of a refusal.
    pub decided_by: Vec<PolicyId>,
    /// Policies that failed while they were evaluated; any one that is enforced denies.
    pub failed: Vec<PolicyFailure>,
    /// The policies in observe mode that would have refused what was permitted. Sorted.
    pub observed: Vec<PolicyId>,
    /// From when on the same question may have another answer; none: time has no part in it.
    pub holds_until: Option<UnixMillis>,
}

impl RequestDecision {
    /// Whether it was permitted.
    pub fn is_allowed(&self) -> bool {
        self.answer.is_ok()
    }

    fn refused(refusal: Refusal) -> Self {
        Self {
            answer: Err(refusal),
            decided_by: Vec::new(),
            failed: Vec::new(),
            observed: Vec::new(),
            holds_until: None,
        }
    }
}

/// Decides about requests.
#[derive(Debug)]
pub struct RequestEngine {
    words: Words,
    /// The policies that are enforced.
    enforced: Vec<Rule>,
    /// Those in observe mode, forbids all of them.
    observed: Vec<Rule>,
    by_id: HashMap<PolicyId, Arc<str>>,
    /// By the name that a check gives.
    actions: HashMap<String, Action>,
    authorizer: Authorizer,
    schema: String,
    policies: String,
    revision: String,
}

/// An action that checks name, ready to be asked about.
#[derive(Debug)]
struct Action {
    uid: EntityUid,
    /// Its entity, with its groups as parents.
    entities: Entities,
    /// The intents that contain it: its own id and those of its groups.
    intents: BTreeSet<String>,
    /// By the name of the resource's type.
    resources: HashMap<String, Of>,
}

/// An action on a type of resource.
#[derive(Debug)]
struct Of {
    kind: EntityTypeName,
    /// The only entities that there are, of an enumerated type.
    choices: Option<BTreeSet<String>>,
    enforced: Arc<Slice>,
    observed: Arc<Slice>,
    looks: Looks,
}

/// What acceptors that decide by themselves are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPolicies {
    /// Names the content: the same content has the same one everywhere.
    pub revision: String,
    /// The acceptors' schemas as one, in Cedar.
    pub schema: String,
    /// The policies that judge requests, in Cedar.
    pub policies: String,
}

impl RequestEngine {
    /// What makes the same engine elsewhere.
    pub fn policies(&self) -> RequestPolicies {
        RequestPolicies {
            revision: self.revision.clone(),
            schema: self.schema.clone(),
            policies: self.policies.clone(),
        }
    }

    /// Names the content.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}
