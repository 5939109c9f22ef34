//! Slices: of all policies, those that could apply to an action and a resource.
//!
//! INVARIANT: a policy is left out only where its scope can't hold for the slice's action and resource, so a
//! slice decides exactly as the full set would. Conditions are never looked at.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, PolicySet, PolicySetError, ResourceConstraint,
};

use crate::rules::Rule;

#[cfg(test)]
mod tests;

/// Some of the rules, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// The rules' places in the list of all.
    pub(crate) rules: Vec<usize>,
    pub(crate) policies: PolicySet,
}

/// A slice; it can only fail on two policies of one id, which the rules have not.
type Made = Result<Arc<Slice>, Box<PolicySetError>>;

/// Makes slices; resources that no policy tells apart share one.
#[derive(Debug)]
pub(crate) struct Slicer<'a> {
    rules: &'a [Rule],
    made: HashMap<Vec<usize>, Arc<Slice>>,
}

impl<'a> Slicer<'a> {
    pub(crate) fn new(rules: &'a [Rule]) -> Self {
        Self { rules, made: HashMap::new() }
    }

    /// The rules that could apply to `action` on `resource`, whose ancestors are exactly `ancestors`.
    pub(crate) fn of(&mut self, action: &EntityUid, resource: &EntityUid, ancestors: &[EntityUid]) -> Made {
        let within = |top: &EntityUid| top == resource || ancestors.contains(top);
        self.make(action, |constraint| match constraint {
            ResourceConstraint::Any => true,
            ResourceConstraint::Eq(it) => it == resource,
            ResourceConstraint::In(top) => within(top),
            ResourceConstraint::Is(kind) => kind == resource.type_name(),
            ResourceConstraint::IsIn(kind, top) => kind == resource.type_name() && within(top),
        })
    }

    /// The rules that could apply to `action` on any resource of a type.
    pub(crate) fn of_type(&mut self, action: &EntityUid, resource: &EntityTypeName) -> Made {
        self.make(action, |constraint| match constraint {
            ResourceConstraint::Any | ResourceConstraint::In(_) => true,
            ResourceConstraint::Eq(it) => it.type_name() == resource,
            ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => kind == resource,
        })
    }

    fn make(&mut self, action: &EntityUid, holds: impl Fn(&ResourceConstraint) -> bool) -> Made {
        let may_apply = |rule: &Rule| {
            let of_action = match rule.policy.action_constraint() {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(it) => it == *action,
                ActionConstraint::In(all) => all.contains(action),
            };
            of_action && holds(&rule.policy.resource_constraint())
        };
        let rules: Vec<usize> =
            self.rules.iter().enumerate().filter(|(_, r)| may_apply(r)).map(|(n, _)| n).collect();
        if let Some(slice) = self.made.get(&rules) {
            return Ok(slice.clone());
        }
        let chosen = rules.iter().filter_map(|n| self.rules.get(*n)).map(|r| r.policy.clone());
        let policies = PolicySet::from_policies(chosen).map_err(Box::new)?;
        let slice = Arc::new(Slice { rules: rules.clone(), policies });
        self.made.insert(rules, slice.clone());
        Ok(slice)
    }
}
