//! Explanations: which policies decided, and what the nearest permits lacked. For operators only.
//!
//! Conditions are taken apart into their conjuncts, and each is asked of Cedar as a policy of its own: this
//! module must never evaluate an expression by itself.

use cedar_policy::{Entities, Policy, PolicySet, Request};
use mayfly_domain::{Intent, PolicyId};
use serde_json::{Value as Json, json};

use crate::authorized::Claimed;
use crate::case::Case;
use crate::decision::{Decision, Granted};
use crate::engine::{Engine, Verdict};
use crate::facts::{Ask, Who, WorkloadAction, WorkloadFacts};
use crate::profile::X509Profile;
use crate::rules::{Rule, nearest};
use crate::source::Place;

mod request;
#[cfg(test)]
mod tests;

pub use request::RequestExplanation;

/// The most permits that an explanation shows.
const NEAREST_MAX: usize = 5;

/// Why a request is answered as it is.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What policy answered.
    pub decision: Decision<Granted>,
    /// The policies that decided, with their places and advice.
    pub deciding: Vec<Deciding>,
    /// For a denial: the permits that could have applied, those first of which most conditions held.
    pub nearest: Vec<Missed>,
    /// For a profile that does not exist: the profile that was probably meant.
    pub meant: Option<String>,
    /// Of a certificate that is granted: the templates that give this workload no name, since a value is missing
    /// or is not one label or one address.
    pub nameless: Vec<String>,
}

/// A policy that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deciding {
    /// The policy.
    pub policy: PolicyId,
    /// Where it is.
    pub place: Place,
    /// Its `@advice`.
    pub advice: Option<String>,
}

/// A permit that did not apply, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// The policy.
    pub policy: PolicyId,
    /// Where it is.
    pub place: Place,
    /// How many of its conditions held before this one.
    pub held: usize,
    /// The part of the policy that holds the condition.
    pub clause: Clause,
    /// The first condition that was false, in Cedar.
    pub condition: String,
    /// Where it could not be evaluated: why.
    pub failed: Option<String>,
    /// The policy's `@advice`.
    pub advice: Option<String>,
}

/// A part of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clause {
    /// Whom it is about.
    Principal,
    /// `when`: the condition had to be true.
    When,
    /// `unless`: the condition had to be false.
    Unless,
}

impl Clause {
    /// The word for it in Cedar.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::When => "when",
            Self::Unless => "unless",
        }
    }
}

impl Engine {
    /// Explains what a workload with these facts is answered.
    pub fn explain(&self, facts: &WorkloadFacts, action: WorkloadAction, claimed: &Claimed) -> Explanation {
        let ask = Ask::claimed(action, claimed);
        let who = Who::from(facts);
        let decision = self.decide(&who, &ask);
        let deciding = self.deciding(&decision.decided_by);
        let Some(prepared) = self.profiles.get(ask.profile) else {
            let names = self.profiles.keys().map(|n| n.as_str());
            let meant = nearest(ask.profile.as_str(), names).map(str::to_owned);
            return Explanation { decision, deciding, nearest: Vec::new(), meant, nameless: Vec::new() };
        };
        let mut missed = Vec::new();
        if !decision.is_allowed()
            && let Ok(case) = Case::new(self, &who, &ask)
            // The request as it was made, whether or not the profile lists its intent and scopes.
            && let Ok(request) =
                case.request(ask.intent.or(case.intent()).map_or("", Intent::as_str), case.scopes())
        {
            let slice = prepared.slice(action);
            let permits = slice.rules.iter().filter_map(|n| self.rules.get(*n)).filter(|r| r.is_permit());
            missed.extend(permits.filter_map(|rule| self.missed(rule, &request, &case.entities)));
        }
        missed.sort_by(|a, b| b.held.cmp(&a.held).then_with(|| a.policy.cmp(&b.policy)));
        missed.truncate(NEAREST_MAX);
        let certificate = decision.answer.as_ref().ok().and_then(|granted| granted.profile.x509());
        let templates = certificate.into_iter().flat_map(X509Profile::templates);
        let nameless = templates.filter(|t| t.name(&facts.workload, &facts.tags).is_none());
        let nameless = nameless.map(ToString::to_string).collect();
        Explanation { decision, deciding, nearest: missed, meant: None, nameless }
    }

    fn deciding(&self, ids: &[PolicyId]) -> Vec<Deciding> {
        let shown =
            |r: &Rule| Deciding { policy: r.id.clone(), place: r.place.clone(), advice: r.advice.clone() };
        ids.iter().filter_map(|id| self.rule(id)).map(shown).collect()
    }

    fn missed(&self, rule: &Rule, request: &Request, entities: &Entities) -> Option<Missed> {
        for (held, part) in parts(&rule.policy)?.into_iter().enumerate() {
            let (holds, failed) = match self.probe(&part.policy, request, entities) {
                Some(Verdict { allowed, failed, .. }) => {
                    (allowed, failed.into_iter().next().map(|f| f.message))
                }
                None => (false, Some("the condition could not be taken apart".to_owned())),
            };
            if !holds {
                return Some(Missed {
                    policy: rule.id.clone(),
                    place: rule.place.clone(),
                    held,
                    clause: part.clause,
                    condition: part.text(),
                    failed,
                    advice: rule.advice.clone(),
                });
            }
        }
        None
    }

    fn probe(&self, part: &Json, request: &Request, entities: &Entities) -> Option<Verdict> {
        // An id that the engine's answer keeps, so that a failure's message comes back.
        let id = cedar_policy::PolicyId::new("probe");
        let policy = Policy::from_json(Some(id), part.clone()).ok()?;
        let set = PolicySet::from_policies([policy]).ok()?;
        Some(self.ask(&set, request, entities))
    }
}

/// One condition of a permit, as a permit of its own.
struct Part {
    clause: Clause,
    policy: Json,
    /// The condition by itself: what is shown.
    shown: Json,
}

impl Part {
    fn of_scope(principal: &Json) -> Self {
        let policy = bare(principal, Vec::new());
        Self { clause: Clause::Principal, shown: policy.clone(), policy }
    }

    fn of_condition(clause: Clause, condition: &Json) -> Self {
        let anyone = json!({ "op": "All" });
        let with = |kind: &str| bare(&anyone, vec![json!({ "kind": kind, "body": condition })]);
        Self { clause, policy: with(clause.as_str()), shown: with("when") }
    }

    /// The condition in Cedar: the policy's text without what is the same in each.
    fn text(&self) -> String {
        let Ok(policy) = Policy::from_json(None, self.shown.clone()) else { return String::new() };
        let text = policy.to_string();
        let inner = match self.clause {
            Clause::Principal => {
                text.strip_prefix("permit(").and_then(|t| t.strip_suffix(", action, resource);"))
            }
            Clause::When | Clause::Unless => text
                .strip_prefix("permit(principal, action, resource) when { ")
                .and_then(|t| t.strip_suffix(" };")),
        };
        inner.unwrap_or(&text).to_owned()
    }
}

fn bare(principal: &Json, conditions: Vec<Json>) -> Json {
    json!({
        "effect": "permit",
        "principal": principal,
        "action": { "op": "All" },
        "resource": { "op": "All" },
        "conditions": conditions,
    })
}

/// A permit's conditions in the order in which Cedar looks at them.
fn parts(policy: &Policy) -> Option<Vec<Part>> {
    let json = policy.to_json().ok()?;
    let mut parts = vec![Part::of_scope(json.get("principal")?)];
    for condition in json.get("conditions")?.as_array()? {
        let body = condition.get("body")?;
        let (clause, joined) = match condition.get("kind")?.as_str()? {
            "unless" => (Clause::Unless, "||"),
            _ => (Clause::When, "&&"),
        };
        flatten(body, joined, &mut |leaf| parts.push(Part::of_condition(clause, leaf)));
    }
    Some(parts)
}

/// Walks the operands of nested `&&` (or `||`), from left to right.
pub(crate) fn flatten<'a>(expr: &'a Json, operator: &str, leaf: &mut impl FnMut(&'a Json)) {
    let sides = expr.get(operator).and_then(|op| Some((op.get("left")?, op.get("right")?)));
    match sides {
        Some((left, right)) => {
            flatten(left, operator, leaf);
            flatten(right, operator, leaf);
        }
        None => leaf(expr),
    }
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.decision.answer {
            Ok(granted) => {
                let Granted { profile, intent, ttl, scopes, names } = granted;
                write!(f, "allowed: {} for {intent}, {ttl}, ", profile.name)?;
                match profile.x509() {
                    None => writeln!(f, "scopes `{}`", scopes.joined())?,
                    Some(x509) => {
                        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                        writeln!(f, "{}, names `{}`", x509.usages(), names.join(" "))?;
                    }
                }
            }
            Err(refusal) => writeln!(f, "denied: {}\n  {}", refusal.reason, refusal.detail)?,
        }
        self.deciding.iter().try_for_each(|decided| write!(f, "{decided}"))?;
        if let Some(meant) = &self.meant {
            writeln!(f, "  did you mean the profile `{meant}`?")?;
        }
        for template in &self.nameless {
            writeln!(
                f,
                "  no name from  {template}  (a value is missing, or is not one label or one address)"
            )?;
        }
        self.nearest.iter().try_for_each(|missed| write!(f, "{missed}"))
    }
}

impl std::fmt::Display for Deciding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  decided by  {} ({})", self.policy, self.place)?;
        self.advice.iter().try_for_each(|advice| writeln!(f, "    advice    {advice}"))
    }
}

impl std::fmt::Display for Missed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  nearest permit  {} ({})", self.policy, self.place)?;
        let answer = match (&self.failed, self.clause) {
            (Some(why), _) => format!("failed: {why}"),
            (None, Clause::Unless) => "true".to_owned(),
            (None, _) => "false".to_owned(),
        };
        writeln!(f, "    {}  {}  was {answer}", self.clause.as_str(), self.condition)?;
        self.advice.iter().try_for_each(|advice| writeln!(f, "    advice  {advice}"))
    }
}
