//! Slices: of all policies, those that could apply to an action and a resource.
//!
//! INVARIANT: a policy is left out only where its scope can't hold for the slice's action and resource, or for
//! the workload that a slice is narrowed to, so a slice decides exactly as the full set would. Conditions are
//! never looked at.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, PolicySet, PolicySetError, PrincipalConstraint,
    ResourceConstraint,
};

use mayfly_domain::{Owners, SpiffeId};

use crate::rules::Rule;
use crate::words::Words;

#[cfg(test)]
mod tests;

/// Some of the rules, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// The rules' places in the list of all.
    pub(crate) rules: Vec<usize>,
    pub(crate) policies: Arc<PolicySet>,
    /// Which workloads each rule's scope names, in the order of `rules`.
    named: Vec<Named>,
    /// The sets that workloads were asked by, by the rules in them: one bit each.
    narrowed: RwLock<HashMap<Vec<u64>, Arc<PolicySet>>>,
}

/// Sets that are kept for workloads. Those whom the policies name alike share one, so that a site has few.
const NARROWED_MAX: usize = 256;

impl Slice {
    /// The policies of this slice whose scope can hold for a workload: most of a site's are about others, and
    /// Cedar takes microseconds to find that out of each.
    pub(crate) fn for_workload(&self, rules: &[Rule], who: Holder<'_>) -> Arc<PolicySet> {
        let mut bits = vec![0_u64; self.named.len().div_ceil(64)];
        let mut left_out = false;
        for (chunk, word) in self.named.chunks(64).zip(&mut bits) {
            for (n, named) in chunk.iter().enumerate() {
                match named.may_be(who) {
                    true => *word |= 1 << n,
                    false => left_out = true,
                }
            }
        }
        if !left_out {
            return self.policies.clone();
        }
        let (known, full) = {
            let narrowed = self.narrowed.read().unwrap_or_else(PoisonError::into_inner);
            (narrowed.get(&bits).cloned(), narrowed.len() >= NARROWED_MAX)
        };
        match known {
            Some(known) => known,
            None if full => self.policies.clone(),
            None => self.narrow(rules, who, bits),
        }
    }

    fn narrow(&self, rules: &[Rule], who: Holder<'_>, bits: Vec<u64>) -> Arc<PolicySet> {
        let may = self.rules.iter().zip(&self.named).filter(|(_, named)| named.may_be(who));
        let chosen = may.filter_map(|(n, _)| rules.get(*n)).map(|r| r.policy.clone());
        // It can only fail on two policies of one id, which the rules have not.
        let Ok(policies) = PolicySet::from_policies(chosen) else { return self.policies.clone() };
        let mut narrowed = self.narrowed.write().unwrap_or_else(PoisonError::into_inner);
        narrowed.entry(bits).or_insert(Arc::new(policies)).clone()
    }
}

/// A workload, as the scopes of policies can name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) workload: &'a SpiffeId,
    pub(crate) owners: &'a Owners,
}

/// Which workloads a policy's scope names. A workload's only ancestors are its owners.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Every,
    One(String),
    OfOwner(String),
    None,
}

/// Whether a policy's scope can hold for any workload at all.
pub(crate) fn may_be_a_workload(words: &Words, rule: &Rule) -> bool {
    Named::of(words, &rule.policy.principal_constraint()) != Named::None
}

impl Named {
    fn of(words: &Words, constraint: &PrincipalConstraint) -> Self {
        let within = |top: &EntityUid| match top.type_name() {
            kind if *kind == words.workload => Self::One(top.id().unescaped().to_owned()),
            kind if *kind == words.owner => Self::OfOwner(top.id().unescaped().to_owned()),
            _ => Self::None,
        };
        match constraint {
            PrincipalConstraint::Any => Self::Every,
            PrincipalConstraint::Is(kind) if *kind == words.workload => Self::Every,
            PrincipalConstraint::Eq(it) if *it.type_name() == words.workload => within(it),
            PrincipalConstraint::In(top) => within(top),
            PrincipalConstraint::IsIn(kind, top) if *kind == words.workload => within(top),
            PrincipalConstraint::Is(_) | PrincipalConstraint::Eq(_) | PrincipalConstraint::IsIn(..) => {
                Self::None
            }
        }
    }

    fn may_be(&self, who: Holder<'_>) -> bool {
        match self {
            Self::Every => true,
            Self::One(id) => id == who.workload.as_str(),
            Self::OfOwner(owner) => who.owners.iter().any(|o| o.as_str() == owner),
            Self::None => false,
        }
    }
}

/// A slice; it can only fail on two policies of one id, which the rules have not.
type Made = Result<Arc<Slice>, Box<PolicySetError>>;

/// Makes slices; resources that no policy tells apart share one.
#[derive(Debug)]
pub(crate) struct Slicer<'a> {
    words: &'a Words,
    rules: &'a [Rule],
    made: HashMap<Vec<usize>, Arc<Slice>>,
}

impl<'a> Slicer<'a> {
    pub(crate) fn new(words: &'a Words, rules: &'a [Rule]) -> Self {
        Self { words, rules, made: HashMap::new() }
    }

    /// The rules that could apply to `action` on `resource`, whose ancestors are exactly `ancestors`.
    pub(crate) fn of(&mut self, action: &EntityUid, resource: &EntityUid, ancestors: &[EntityUid]) -> Made {
        let within = |top: &EntityUid| top == resource || ancestors.contains(top);
        self.make(action, &[], |constraint| match constraint {
            ResourceConstraint::Any => true,
            ResourceConstraint::Eq(it) => it == resource,
            ResourceConstraint::In(top) => within(top),
            ResourceConstraint::Is(kind) => kind == resource.type_name(),
            ResourceConstraint::IsIn(kind, top) => kind == resource.type_name() && within(top),
        })
    }

    /// The rules that could apply to `action`, which is in `groups`, on any resource of a type.
    pub(crate) fn of_type(
        &mut self,
        action: &EntityUid,
        groups: &[EntityUid],
        resource: &EntityTypeName,
    ) -> Made {
        self.make(action, groups, |constraint| match constraint {
            ResourceConstraint::Any | ResourceConstraint::In(_) => true,
            ResourceConstraint::Eq(it) => it.type_name() == resource,
            ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => kind == resource,
        })
    }

    fn make(
        &mut self,
        action: &EntityUid,
        groups: &[EntityUid],
        holds: impl Fn(&ResourceConstraint) -> bool,
    ) -> Made {
        let may_apply = |rule: &Rule| {
            let of_action = match rule.policy.action_constraint() {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(it) => it == *action,
                ActionConstraint::In(all) => all.iter().any(|a| a == action || groups.contains(a)),
            };
            of_action && holds(&rule.policy.resource_constraint())
        };
        let rules: Vec<usize> =
            self.rules.iter().enumerate().filter(|(_, r)| may_apply(r)).map(|(n, _)| n).collect();
        if let Some(slice) = self.made.get(&rules) {
            return Ok(slice.clone());
        }
        let chosen: Vec<_> = rules.iter().filter_map(|n| self.rules.get(*n)).map(|r| &r.policy).collect();
        let named = chosen.iter().map(|p| Named::of(self.words, &p.principal_constraint())).collect();
        let policies = PolicySet::from_policies(chosen.into_iter().cloned()).map_err(Box::new)?;
        let slice =
            Slice { rules: rules.clone(), policies: policies.into(), named, narrowed: RwLock::default() };
        let slice = Arc::new(slice);
        self.made.insert(rules, slice.clone());
        Ok(slice)
    }
}
