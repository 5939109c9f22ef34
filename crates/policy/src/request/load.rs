//! Putting the request engine together from the policies and the acceptors' schemas.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{Authorizer, Entities, Entity};
use mayfly_domain::PolicyId;

use super::looks::Looks;
use super::schema::{self, Declared, Merged};
use super::{Action, Of, RequestEngine};
use crate::rules::{self, Rule};
use crate::slice::{Slice, Slicer, may_be_a_workload};
use crate::source::{PolicyError, general};
use crate::words::{self, Words};

const OUR_ACTION: &str = "Mayfly::Action";

impl RequestEngine {
    /// An engine of what a broker sends to those who decide by themselves: the acceptors' schemas and the policies, as
    /// [`RequestEngine::policies`] gives them. It needs nothing else.
    ///
    /// # Errors
    /// Every mistake, as for a configuration; then nothing may be decided by them.
    pub fn new(schema: &str, policies: &str) -> Result<Self, Vec<PolicyError>> {
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let merged = match schema.is_empty() {
            true => schema::merge(&[])?,
            false => schema::merge(&[file("schema", schema)])?,
        };
        let words = Words::of(merged.schema.clone()).map_err(|e| vec![general(e)])?;
        let rules = rules::load(&words, &[file("policies", policies)])?;
        Self::of(merged, &rules)
    }

    /// An engine of those of `rules` that judge requests.
    pub(crate) fn of(merged: Merged, rules: &[Rule]) -> Result<Self, Vec<PolicyError>> {
        let Merged { schema, actions: declared, text } = merged;
        let words = Words::of(schema).map_err(|e| vec![general(e)])?;
        let mut errors = Vec::new();
        let of_mode = |observed: bool| -> Vec<Rule> {
            let of_mode = rules.iter().filter(|r| r.observed_until.is_some() == observed);
            of_mode.filter(|r| may_be_a_workload(&words, r)).cloned().collect()
        };
        let (enforced, observed) = (of_mode(false), of_mode(true));
        let mut actions = HashMap::new();
        let (mut of_requests, mut looks) = (BTreeSet::new(), HashMap::new());
        {
            let mut slicers = (Slicer::new(&words, &enforced), Slicer::new(&words, &observed));
            for action in declared {
                let made = made(&action, &mut slicers, |of| {
                    for rule in rules_of(&of.enforced, &enforced).chain(rules_of(&of.observed, &observed)) {
                        let seen = looks.entry(rule.id.clone()).or_insert_with(|| look(rule, &mut errors));
                        of.looks = of.looks.and(*seen);
                        of_requests.insert(rule.id.clone());
                    }
                });
                // As a check gives it: Cedar would write some characters as escapes.
                let name = format!("{}::\"{}\"", action.uid.type_name(), action.uid.id().unescaped());
                actions.insert(name, made.map_err(|e| vec![e])?);
            }
        }
        for rule in rules.iter().filter(|r| r.observed_until.is_some()) {
            let ours = |e: cedar_policy::RequestEnv| e.action().type_name().to_string() == OUR_ACTION;
            if rule.policy.get_valid_request_envs(&words.schema).any(ours) {
                let message = format!("`{}` is observed and does not judge requests alone", rule.id);
                let help = "name actions of an acceptor's schema: mints and operators are not observed";
                errors.push(rule.place.error(message, Some(help.to_owned())));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // In the order of the files.
        let sent = rules.iter().filter(|r| of_requests.contains(&r.id));
        let sent: Vec<String> = sent.filter_map(|r| r.policy.to_cedar()).collect();
        let policies = sent.join("\n");
        let revision = revision(&text, &policies);
        let by_id = rules.iter().filter_map(|r| Some((r.id.clone(), r.advice.as_deref()?.into()))).collect();
        let authorizer = Authorizer::new();
        Ok(Self { words, enforced, observed, by_id, actions, authorizer, schema: text, policies, revision })
    }

    /// The policies that could apply to any request.
    pub(crate) fn applying(&self) -> BTreeSet<&PolicyId> {
        let all = self.actions.values().flat_map(|action| action.resources.values());
        all.flat_map(|of| {
            rules_of(&of.enforced, &self.enforced).chain(rules_of(&of.observed, &self.observed))
        })
        .map(|rule| &rule.id)
        .collect()
    }

    /// Every action by its name, with the intents that contain it and whether a policy could permit it.
    pub(crate) fn reachable(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>, bool)> {
        self.actions.iter().map(|(name, action)| {
            let mut permits = action.resources.values().flat_map(|of| rules_of(&of.enforced, &self.enforced));
            (name.as_str(), &action.intents, permits.any(|rule| rule.is_permit() && !rule.impossible))
        })
    }
}

fn rules_of<'r>(slice: &Slice, rules: &'r [Rule]) -> impl Iterator<Item = &'r Rule> {
    let all: Vec<&Rule> = slice.rules.iter().filter_map(|n| rules.get(*n)).collect();
    all.into_iter()
}

/// What a policy looks at; that it looks at what nobody gives is a mistake.
fn look(rule: &Rule, errors: &mut Vec<PolicyError>) -> Looks {
    Looks::of(&rule.policy).unwrap_or_else(|attr| {
        let message = format!("`{}` judges requests too, and nobody gives `{attr}` at a request", rule.id);
        let help = "a credential shows its workload, owners, task, intent and scopes; name the actions that the policy \
                    is about, such as `action == Mayfly::Action::\"mint\"`";
        errors.push(rule.place.error(message, Some(help.to_owned())));
        Looks::default()
    })
}

fn made(
    declared: &Declared,
    (enforced, observed): &mut (Slicer<'_>, Slicer<'_>),
    mut see: impl FnMut(&mut Of),
) -> Result<Action, PolicyError> {
    let Declared { uid, groups, resources } = declared;
    let mut of = HashMap::new();
    for (kind, choices) in resources {
        let mut one = Of {
            kind: kind.clone(),
            choices: choices.clone(),
            enforced: enforced.of_type(uid, groups, kind).map_err(general)?,
            observed: observed.of_type(uid, groups, kind).map_err(general)?,
            looks: Looks::default(),
        };
        see(&mut one);
        of.insert(kind.to_string(), one);
    }
    let entity = Entity::new_no_attrs(uid.clone(), groups.iter().cloned().collect());
    let intents = std::iter::once(uid).chain(groups).map(|u| u.id().unescaped().to_owned()).collect();
    Ok(Action {
        uid: uid.clone(),
        entities: words::with_entities(&Entities::empty(), [entity]).map_err(general)?,
        intents,
        resources: of,
    })
}

/// Names the content, alike on every broker.
fn revision(schema: &str, policies: &str) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(b"mayfly request policies v1\0");
    context.update(&u64::try_from(schema.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(schema.as_bytes());
    context.update(policies.as_bytes());
    let digest = context.finish();
    digest.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}
