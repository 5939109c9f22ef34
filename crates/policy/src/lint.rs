//! What `mayfly policy check` warns of: policies that are valid and probably not what their author means.
//!
//! A warning must never refuse a configuration.

use std::collections::BTreeSet;

use cedar_policy::{EntityUid, Policy, PrincipalConstraint, RequestEnv};
use mayfly_domain::{Binding, UnixMillis};
use serde_json::Value as Json;

use crate::authorized::OperatorAction;
use crate::engine::Engine;
use crate::facts::WorkloadAction;
use crate::rules::{Rule, nearest};
use crate::source::Place;

#[cfg(test)]
mod tests;

/// So near is the end of observing that a person should know.
const OBSERVE_NEAR_DAYS: u64 = 14;
/// So long is too long to observe.
const OBSERVE_LONG_DAYS: u64 = 180;
const DAY_MS: u64 = 86_400_000;

/// A kind of warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lint {
    /// A permit that asks nothing of who the workload is: only what it claims, or nothing at all.
    NothingProven,
    /// A policy that no request can satisfy.
    NeverApplies,
    /// A policy names a profile, operator, group or trust domain that does not exist.
    UnknownName,
    /// A profile that no policy can permit.
    ProfileUnreachable,
    /// A profile whose tokens are bound to no key.
    BearerProfile,
    /// A policy in observe mode whose date is near, past, or far away.
    ObserveUntil,
    /// An action of an acceptor's schema that no check can ever be permitted.
    ActionUnreachable,
}

impl Lint {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NothingProven => "nothing-proven",
            Self::NeverApplies => "never-applies",
            Self::UnknownName => "unknown-name",
            Self::ProfileUnreachable => "profile-unreachable",
            Self::BearerProfile => "bearer-profile",
            Self::ObserveUntil => "observe-until",
            Self::ActionUnreachable => "action-unreachable",
        }
    }
}

/// A warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its kind.
    pub lint: Lint,
    /// The policy's place; none for a profile.
    pub place: Option<Place>,
    /// What is odd; lower case, no full stop.
    pub message: String,
    /// What may be meant.
    pub help: Option<String>,
}

impl Engine {
    /// Every warning as of `now`, policies first, each in the order of the files.
    pub fn lint(&self, now: UnixMillis) -> Vec<Warning> {
        let applying = self.applying();
        let mut warnings = Vec::new();
        for (n, rule) in self.rules.iter().enumerate() {
            warnings.extend(self.unknown_names(rule));
            if rule.impossible {
                let message =
                    format!("`{}` can never apply: no request satisfies its scope and conditions", rule.id);
                warnings.push(of_rule(rule, Lint::NeverApplies, message, None));
            } else if !applying.contains(&n) {
                let message =
                    format!("`{}` can never apply: no profile and no action is in its scope", rule.id);
                warnings.push(of_rule(rule, Lint::NeverApplies, message, None));
            }
            if self.is_about_mints(rule) {
                warnings.extend(nothing_proven(rule));
            }
            warnings.extend(observe_until(rule, now));
        }
        warnings.extend(self.profiles.values().flat_map(|p| self.of_profile(p)));
        warnings.extend(self.of_actions());
        warnings
    }

    /// The rules that are in any slice.
    fn applying(&self) -> BTreeSet<usize> {
        let mut all = BTreeSet::from_iter(self.follow.rules.iter().copied());
        for prepared in self.profiles.values() {
            for action in WorkloadAction::ALL {
                all.extend(prepared.slice(action).rules.iter().copied());
            }
        }
        for action in OperatorAction::ALL {
            for kind in self.words.target_types() {
                let any = crate::words::uid(kind, "");
                all.extend(self.operator_slice(action, &any).rules.iter().copied());
            }
        }
        all.extend(self.requests().applying().into_iter().filter_map(|id| self.by_id.get(id).copied()));
        all
    }

    fn is_about_mints(&self, rule: &Rule) -> bool {
        let mut envs = rule.policy.get_valid_request_envs(&self.words.schema);
        let is_ours = |e: &RequestEnv| *e.action().type_name() == self.words.action;
        rule.is_permit() && envs.any(|e| *e.principal() == self.words.workload && is_ours(&e))
    }

    /// The actions that nobody can ever be permitted.
    fn of_actions(&self) -> Vec<Warning> {
        let intents: BTreeSet<&str> =
            self.profiles().flat_map(|p| &p.intents).map(|intent| intent.as_str()).collect();
        let mut warnings = Vec::new();
        for (action, groups, permitted) in self.requests().reachable() {
            let (why, help) = if groups.iter().all(|group| !intents.contains(group.as_str())) {
                (
                    "no profile has an intent that contains it",
                    "put it into an action group that is some profile's intent",
                )
            } else if !permitted {
                ("no policy can permit it", "write a `permit` for it or for a group that it is in")
            } else {
                continue;
            };
            let message = format!("no check of `{action}` is ever accepted: {why}");
            warnings.push(Warning {
                lint: Lint::ActionUnreachable,
                place: None,
                message,
                help: Some(help.to_owned()),
            });
        }
        warnings.sort_by(|a, b| a.message.cmp(&b.message));
        warnings
    }

    fn of_profile(&self, prepared: &crate::engine::Prepared) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let Some(profile) = &prepared.profile else { return warnings };
        let name = &profile.name;
        let slice = prepared.slice(WorkloadAction::Mint);
        let mut permits = slice.rules.iter().filter_map(|n| self.rules.get(*n)).filter(|r| r.is_permit());
        if permits.all(|r| r.impossible) {
            warnings.push(Warning {
                lint: Lint::ProfileUnreachable,
                place: None,
                message: format!("no policy can permit a mint of the profile `{name}`"),
                help: Some(format!("write a `permit` with `resource == Mayfly::Profile::\"{name}\"`")),
            });
        }
        if profile.binding() == Binding::Bearer {
            warnings.push(Warning {
                lint: Lint::BearerProfile,
                place: None,
                message: format!(
                    "the tokens of the profile `{name}` work for whoever holds them (`binding = \"bearer\"`)"
                ),
                help: Some("bind them to the workload's key: `binding = \"dpop\"` or `\"mtls\"`".into()),
            });
        }
        warnings
    }

    fn unknown_names(&self, rule: &Rule) -> Vec<Warning> {
        let mut seen = BTreeSet::new();
        let literals = rule.policy.entity_literals();
        literals
            .iter()
            .filter(|uid| seen.insert(uid.to_string()))
            .filter_map(|uid| self.unknown(rule, uid))
            .collect()
    }

    fn unknown(&self, rule: &Rule, uid: &EntityUid) -> Option<Warning> {
        let id: &str = uid.id().as_ref();
        let kind = uid.type_name();
        let (word, known): (&str, BTreeSet<&str>) = if *kind == self.words.profile {
            ("profile", self.profiles.keys().map(|n| n.as_str()).collect())
        } else if *kind == self.words.operator {
            ("operator", self.operators.keys().map(|n| n.as_str()).collect())
        } else if *kind == self.words.group {
            ("group with an operator in it", self.operators.values().flatten().map(|g| g.as_str()).collect())
        } else if *kind == self.words.integration {
            let named = self.profiles().map(|p| p.integration.as_str());
            ("integration of a profile", named.collect())
        } else if *kind == self.words.trust_domain {
            ("trust domain here", BTreeSet::from([self.trust_domain.as_str()]))
        } else {
            return None;
        };
        if known.contains(id) {
            return None;
        }
        let shown = mayfly_domain::text::shown(id);
        let help = nearest(id, known).map(|n| format!("did you mean `{n}`?"));
        Some(of_rule(
            rule,
            Lint::UnknownName,
            format!("`{}` names `{shown}`: there is no such {word}", rule.id),
            help,
        ))
    }
}

/// Warns of an end of observing that somebody should look at.
fn observe_until(rule: &Rule, now: UnixMillis) -> Option<Warning> {
    let until = rule.observed_until?;
    let days = until.0.saturating_sub(now.0) / DAY_MS;
    let id = &rule.id;
    let (message, help) = if until <= now {
        (format!("`{id}` is enforced: the date of its `@until` has come"), "remove `@mode` and `@until`")
    } else if days <= OBSERVE_NEAR_DAYS {
        (format!("`{id}` is observed and will be enforced in {} days", days + 1), "see what it would refuse")
    } else if days > OBSERVE_LONG_DAYS {
        (
            format!("`{id}` is observed for {days} more days"),
            "choose a nearer date: until then it refuses nothing",
        )
    } else {
        return None;
    };
    Some(of_rule(rule, Lint::ObserveUntil, message, Some(help.to_owned())))
}

fn of_rule(rule: &Rule, lint: Lint, message: String, help: Option<String>) -> Warning {
    Warning { lint, place: Some(rule.place.clone()), message, help }
}

/// Warns of a permit that is open to every workload that merely says the right things.
fn nothing_proven(rule: &Rule) -> Option<Warning> {
    let open =
        matches!(rule.policy.principal_constraint(), PrincipalConstraint::Any | PrincipalConstraint::Is(_));
    let conditions = conditions(&rule.policy)?;
    if !open || asks_of_proof(&conditions) {
        return None;
    }
    let message = if mentions(&conditions, "claimed") {
        format!(
            "`{}` permits on what the workload claims alone: every attested workload can claim it",
            rule.id
        )
    } else {
        format!("`{}` permits every attested workload", rule.id)
    };
    let help = "say whom it is for: `principal in Mayfly::Owner::\"team:…\"`, a tag, or `context.proven`";
    Some(of_rule(rule, Lint::NothingProven, message, Some(help.to_owned())))
}

fn conditions(policy: &Policy) -> Option<Json> {
    policy.to_json().ok()?.get("conditions").cloned()
}

/// Whether an expression looks at the principal, or at what was proven.
fn asks_of_proof(expr: &Json) -> bool {
    expr.get("Var").and_then(Json::as_str) == Some("principal")
        || is_context_attr(expr, "proven")
        || children(expr).any(asks_of_proof)
}

fn mentions(expr: &Json, attr: &str) -> bool {
    is_context_attr(expr, attr) || children(expr).any(|e| mentions(e, attr))
}

/// Whether an expression is `context.ATTR`.
fn is_context_attr(expr: &Json, attr: &str) -> bool {
    expr.get(".").is_some_and(|access| {
        let of = access.get("left").and_then(|l| l.get("Var")).and_then(Json::as_str);
        of == Some("context") && access.get("attr").and_then(Json::as_str) == Some(attr)
    })
}

fn children(expr: &Json) -> Box<dyn Iterator<Item = &Json> + '_> {
    match expr {
        Json::Array(items) => Box::new(items.iter()),
        Json::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}
