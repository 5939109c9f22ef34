//! Policy tests: questions with the answers that a team expects, kept beside its policies
//! (`*.policytest.toml` or `.json`) and run by `mayfly policy test`.
//!
//! They are asked of the same engine that decides mints, without an attestation, and so make no proof.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mayfly_domain::{
    Dimension, Environment, Intent, OperatorName, Owner, Owners, PolicyId, ProfileName, Reason, San, Scope,
    Scopes, SpiffeId, Subject, TaskId, Ttl, UnixMillis,
};

use crate::authorized::{Claimed, OperatorAction, Target};
use crate::engine::Engine;
use crate::facts::{OperatorPrincipal, WorkloadAction, WorkloadFacts};

mod request;
#[cfg(test)]
mod tests;

pub use request::TestRequest;

/// A file of tests.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTests {
    /// The tests.
    #[serde(default)]
    pub test: Vec<PolicyTest>,
}

/// One test. Exactly one of `workload`, `operator` and `request` is given.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTest {
    /// What it shows, for people.
    pub name: String,
    /// The workload that asks.
    pub workload: Option<TestWorkload>,
    /// The operator who asks.
    pub operator: Option<TestOperator>,
    /// The request that an acceptor asks about.
    pub request: Option<TestRequest>,
    /// The answer that is expected.
    pub expect: Expected,
    /// The policies that must have decided, all and only these; missing: any.
    pub decided_by: Option<Vec<PolicyId>>,
    /// The longest life that the grant may have, such as `15m`.
    pub max_ttl: Option<String>,
    /// The names that a certificate must have beside the SPIFFE ID, all and only these; missing: any.
    pub names: Option<Vec<String>>,
    /// The reason that a refusal must have.
    pub reason: Option<String>,
    /// The policies in observe mode that must have been against it, all and only these; missing: any.
    pub observed: Option<Vec<PolicyId>>,
}

/// A workload's question.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestWorkload {
    /// Its SPIFFE ID, or the path of one in the trust domain.
    pub id: String,
    /// Who answers for it.
    pub owners: Vec<Owner>,
    /// Its trust rule's environment.
    pub environment: Option<Environment>,
    /// The claims that its rule exposes.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The kind of attestation.
    #[serde(default = "oidc")]
    pub attestation: String,
    /// Where the call comes from.
    pub peer: Option<IpAddr>,
    /// When, in RFC 3339; missing: 2026-01-01T00:00:00Z.
    pub at: Option<String>,
    /// The task.
    pub task: Option<TaskId>,
    /// What it does.
    #[serde(default = "mint")]
    pub action: WorkloadAction,
    /// The profile that it asks for.
    pub profile: ProfileName,
    /// The intent.
    pub intent: Option<Intent>,
    /// The life, such as `5m`.
    pub ttl: Option<String>,
    /// The scopes.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The names that it asks for, DNS names and addresses.
    #[serde(default)]
    pub names: Vec<String>,
}

/// An operator's question.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestOperator {
    /// Who; the groups are the configuration's.
    pub name: OperatorName,
    /// What.
    pub action: TestAction,
    /// On what.
    pub on: TestTarget,
    /// Where the call comes from.
    pub peer: Option<IpAddr>,
    /// When, in RFC 3339; missing: 2026-01-01T00:00:00Z.
    pub at: Option<String>,
}

/// What an operator names, such as `{ dimension = "owner", value = "team:payments" }`.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestTarget {
    /// The dimension.
    pub dimension: Dimension,
    /// Its value.
    pub value: String,
}

/// An operator's action by its name in policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct TestAction(pub OperatorAction);

impl TryFrom<String> for TestAction {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let found = OperatorAction::ALL.into_iter().find(|a| a.as_str() == name);
        found.map(Self).ok_or_else(|| {
            let all: Vec<&str> = OperatorAction::ALL.iter().map(|a| a.as_str()).collect();
            format!(
                "unknown action `{}`: must be one of {}",
                mayfly_domain::text::shown(&name),
                all.join(", ")
            )
        })
    }
}

/// The answer that a test expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It is permitted.
    Allow,
    /// It is refused.
    Deny,
}

/// How a test came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The test's name.
    pub name: String,
    /// What was not as expected, or why the test can't be asked; empty: it passed.
    pub problems: Vec<String>,
}

fn oidc() -> String {
    "oidc".to_owned()
}

const fn mint() -> WorkloadAction {
    WorkloadAction::Mint
}

/// The moment of a test that names none: 2026-01-01T00:00:00Z.
const NEW_YEAR: UnixMillis = UnixMillis::from_secs(1_767_225_600);

/// An answer, whoever asked.
struct Answer {
    refusal: Option<mayfly_domain::Refusal>,
    ttl: Option<Ttl>,
    names: Vec<San>,
    decided_by: Vec<PolicyId>,
    observed: Vec<PolicyId>,
}

impl PolicyTests {
    /// Asks every question.
    pub fn run(&self, engine: &Engine) -> Vec<Outcome> {
        self.test.iter().map(|test| test.run(engine)).collect()
    }
}

impl PolicyTest {
    /// Asks the question.
    pub fn run(&self, engine: &Engine) -> Outcome {
        let problems = match self.ask(engine) {
            Ok(answer) => self.compare(&answer).unwrap_or_else(|problem| vec![problem]),
            Err(problem) => vec![problem],
        };
        Outcome { name: self.name.clone(), problems }
    }

    fn ask(&self, engine: &Engine) -> Result<Answer, String> {
        match (&self.workload, &self.operator, &self.request) {
            (Some(workload), None, None) => workload.ask(engine),
            (None, Some(operator), None) => operator.ask(engine),
            (None, None, Some(request)) => request.ask(engine),
            _ => Err("a test needs exactly one of `workload`, `operator` and `request`".to_owned()),
        }
    }

    fn compare(&self, answer: &Answer) -> Result<Vec<String>, String> {
        let mut problems = Vec::new();
        match (&answer.refusal, self.expect) {
            (None, Expected::Deny) => {
                problems.push(format!("expected deny, was allowed by {}", names(&answer.decided_by)));
            }
            (Some(refusal), Expected::Allow) => {
                problems.push(format!("expected allow, was denied: {}: {}", refusal.reason, refusal.detail));
            }
            _ => {}
        }
        for (what, expected, found) in [
            ("the decision", &self.decided_by, &answer.decided_by),
            ("the observation", &self.observed, &answer.observed),
        ] {
            let Some(mut expected) = expected.clone() else { continue };
            expected.sort();
            if expected != *found {
                let (expected, found) = (names(&expected), names(found));
                problems.push(format!("expected {what} of {expected}, was that of {found}"));
            }
        }
        if let Some(max) = &self.max_ttl {
            let max = Ttl::parse(max).map_err(|e| format!("`max_ttl`: {e}"))?;
            if let Some(ttl) = answer.ttl.filter(|ttl| *ttl > max) {
                problems.push(format!("expected a life of at most {max}, was {ttl}"));
            }
        }
        if let Some(expected) = &self.names {
            let mut expected = sans(expected).map_err(|e| format!("`names`: {e}"))?;
            let mut found = answer.names.clone();
            expected.sort();
            found.sort();
            if expected != found {
                problems.push(format!("expected the names {}, were {}", shown(&expected), shown(&found)));
            }
        }
        if let Some(code) = &self.reason {
            let reason = Reason::parse(code).ok_or_else(|| format!("`reason`: there is no `{code}`"))?;
            if let Some(refusal) = answer.refusal.as_ref().filter(|r| r.reason != reason) {
                problems.push(format!("expected {reason}, was {}", refusal.reason));
            }
        }
        Ok(problems)
    }
}

impl TestWorkload {
    fn ask(&self, engine: &Engine) -> Result<Answer, String> {
        let facts = WorkloadFacts {
            workload: workload(engine, &self.id)?,
            owners: Owners::new(self.owners.iter().cloned()).map_err(|e| e.to_string())?,
            environment: self.environment.clone(),
            attestation: self.attestation.clone(),
            key: String::new(),
            tags: self.tags.clone(),
            task: self.task.clone(),
            peer: self.peer,
            at: moment(self.at.as_deref())?,
        };
        let claimed = Claimed {
            profile: self.profile.clone(),
            intent: self.intent.clone(),
            reason: None,
            ttl: self.ttl.as_deref().map(Ttl::parse).transpose().map_err(|e| e.to_string())?,
            scopes: Scopes::new(self.scopes.iter().cloned()).map_err(|e| e.to_string())?,
            names: sans(&self.names)?,
            kind: None,
        };
        let decision = engine.what_if(&facts, self.action, &claimed);
        let granted = decision.answer.as_ref().ok();
        let (ttl, names) = (granted.map(|g| g.ttl), granted.map(|g| g.names.clone()).unwrap_or_default());
        Ok(Answer {
            refusal: decision.answer.err(),
            ttl,
            names,
            decided_by: decision.decided_by,
            observed: Vec::new(),
        })
    }
}

impl TestOperator {
    fn ask(&self, engine: &Engine) -> Result<Answer, String> {
        let operator = OperatorPrincipal {
            name: self.name.clone(),
            peer: self.peer,
            key: String::new(),
            at: moment(self.at.as_deref())?,
        };
        let on = Subject::parse(self.on.dimension, &self.on.value).map_err(|e| e.to_string())?;
        let decision = engine.what_if_operator(&operator, self.action.0, &Target::Subject(on));
        Ok(Answer {
            refusal: decision.answer.err(),
            ttl: None,
            names: Vec::new(),
            decided_by: decision.decided_by,
            observed: Vec::new(),
        })
    }
}

/// A SPIFFE ID, or the path of one in the engine's trust domain.
fn workload(engine: &Engine, id: &str) -> Result<SpiffeId, String> {
    let id = if id.starts_with('/') { SpiffeId::new(engine.trust_domain(), id) } else { SpiffeId::parse(id) };
    id.map_err(|e| e.to_string())
}

fn moment(text: Option<&str>) -> Result<UnixMillis, String> {
    let Some(text) = text else { return Ok(NEW_YEAR) };
    let at = chrono::DateTime::parse_from_rfc3339(text).map_err(|e| format!("`at`: `{text}`: {e}"))?;
    Ok(UnixMillis(u64::try_from(at.timestamp_millis()).unwrap_or_default()))
}

fn sans(texts: &[String]) -> Result<Vec<San>, String> {
    texts.iter().map(|text| San::parse(text).map_err(|e| e.to_string())).collect()
}

fn shown(names: &[San]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn names(ids: &[PolicyId]) -> String {
    if ids.is_empty() {
        return "no policy".to_owned();
    }
    let names: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    names.join(", ")
}
