//! The decision about one request.

use cedar_policy::{Entities, Request};
use mayfly_domain::text::shown;
use mayfly_domain::{PolicyId, Reason, Refusal, UnixMillis};

use super::{Action, Of, RequestAsk, RequestDecision, RequestEngine, RequestFacts, Wanted};
use crate::decision::PolicyFailure;
use crate::engine::{Verdict, authorize};
use crate::rules::Rule;
use crate::slice::{Holder, Slice};
use crate::words::{self, WordsError};

impl RequestEngine {
    /// Decides about a request: the scopes that the acceptor demands; then, where it names an action, that the acceptor's
    /// schema knows it and its resource, that the task's intent contains it, and the policies.
    ///
    /// The intent contains an action whose id it is, or that is in the action group of that id in the action's namespace. A
    /// namespace without such a group has nothing that the intent contains.
    ///
    /// Refusals are `INSUFFICIENT_SCOPE`, `ACTION_UNKNOWN`, `OUTSIDE_INTENT`, `POLICY_DENIED`, and `NEEDS_BROKER` where
    /// the policies look at what these facts lack.
    pub fn judge(&self, facts: &RequestFacts<'_>, ask: &RequestAsk) -> RequestDecision {
        if !ask.scopes.is_subset(facts.scopes) {
            let lacking = ask.scopes.iter().filter(|s| !facts.scopes.iter().any(|held| held == *s));
            let lacking: Vec<&str> = lacking.map(|s| s.as_str()).collect();
            let detail = format!("the credential lacks `{}`", lacking.join(" "));
            let refusal = Refusal::new(Reason::TokenScope, detail);
            return RequestDecision::refused(refusal.fact("scopes", lacking.join(" ")));
        }
        let Some(wanted) = &ask.wanted else {
            return RequestDecision {
                answer: Ok(()),
                decided_by: Vec::new(),
                failed: Vec::new(),
                observed: Vec::new(),
                holds_until: None,
            };
        };
        let found =
            self.find(wanted).and_then(|(action, of)| fits(action, of, facts, ask).map(|()| (action, of)));
        match found {
            Ok((action, of)) => self
                .decide(action, of, facts, ask, wanted)
                .unwrap_or_else(|e| RequestDecision::refused(e.into())),
            Err(refusal) => RequestDecision::refused(refusal),
        }
    }

    /// The action and the type of resource that are named.
    fn find(&self, wanted: &Wanted) -> Result<(&Action, &Of), Refusal> {
        let no = |detail: String| Refusal::new(Reason::ActionUnknown, detail.clone()).fact("problem", detail);
        let action = self.actions.get(&wanted.action).ok_or_else(|| {
            no(format!("no schema declares the action `{}` as applying to anything", shown(&wanted.action)))
        })?;
        let of = action.resources.get(&wanted.kind).ok_or_else(|| {
            no(format!("`{}` does not apply to `{}`", shown(&wanted.action), shown(&wanted.kind)))
        })?;
        if of.choices.as_ref().is_some_and(|all| !all.contains(&wanted.id)) {
            return Err(no(format!("there is no `{}::\"{}\"`", shown(&wanted.kind), shown(&wanted.id))));
        }
        Ok((action, of))
    }

    fn decide(
        &self,
        action: &Action,
        of: &Of,
        facts: &RequestFacts<'_>,
        ask: &RequestAsk,
        wanted: &Wanted,
    ) -> Result<RequestDecision, WordsError> {
        let (request, entities) = self.case(action, of, facts, ask, wanted)?;
        let of_slice = |slice: &Slice, rules: &[Rule]| {
            let holder = Holder { workload: facts.workload, owners: facts.owners };
            authorize(&self.authorizer, &slice.for_workload(rules, holder), &request, &entities)
        };
        let mut verdict = of_slice(&of.enforced, &self.enforced);
        let mut observed = Vec::new();
        if verdict.allowed && !of.observed.rules.is_empty() {
            let would_be = of_slice(&of.observed, &self.observed);
            observed = self.let_pass(&mut verdict, would_be, facts.at);
        }
        let answer = match verdict.allowed {
            true => Ok(()),
            false => Err(self.denied(ask, &verdict)),
        };
        let Verdict { decided_by, failed, .. } = verdict;
        Ok(RequestDecision {
            answer,
            decided_by,
            failed,
            observed,
            holds_until: self.holds_until(of, facts.at),
        })
    }

    /// Takes what the policies in observe mode say: those whose date has come refuse, the others are returned.
    fn let_pass(&self, verdict: &mut Verdict, would_be: Verdict, at: UnixMillis) -> Vec<PolicyId> {
        let is_due = |id: &PolicyId| {
            let rule = self.observed.iter().find(|rule| rule.id == *id);
            rule.and_then(|rule| rule.observed_until).is_none_or(|until| until <= at)
        };
        let (due, observed): (Vec<PolicyId>, _) = would_be.decided_by.into_iter().partition(is_due);
        let (failed, pending): (Vec<PolicyFailure>, Vec<_>) =
            would_be.failed.into_iter().partition(|f| is_due(&f.policy));
        if !(due.is_empty() && failed.is_empty()) {
            *verdict = Verdict { allowed: false, decided_by: due, failed };
            return Vec::new();
        }
        // One that fails would deny, too.
        let mut observed: Vec<PolicyId> = observed;
        observed.extend(pending.into_iter().map(|f| f.policy));
        observed.sort();
        observed
    }

    /// From when on the answer may be another one: at once where a policy looks at the time, else when the next of those in
    /// observe mode is enforced.
    fn holds_until(&self, of: &Of, at: UnixMillis) -> Option<UnixMillis> {
        if of.looks.time {
            return Some(at);
        }
        let rules = of.observed.rules.iter().filter_map(|n| self.observed.get(*n));
        rules.filter_map(|rule| rule.observed_until).filter(|until| *until > at).min()
    }

    pub(super) fn case(
        &self,
        action: &Action,
        of: &Of,
        facts: &RequestFacts<'_>,
        ask: &RequestAsk,
        wanted: &Wanted,
    ) -> Result<(Request, Entities), WordsError> {
        let principal = self.words.shown_workload(facts);
        let context = self.words.request_context(facts, ask)?;
        let resource = words::uid(&of.kind, &wanted.id);
        let request = words::request(principal.uid(), action.uid.clone(), resource, context)?;
        Ok((request, words::with_entities(&action.entities, [principal])?))
    }

    fn denied(&self, ask: &RequestAsk, verdict: &Verdict) -> Refusal {
        let what = ask.what();
        let mut parts = Vec::new();
        for failure in &verdict.failed {
            parts.push(format!("{what}: policy `{}` failed: {}", failure.policy, failure.message));
        }
        for id in &verdict.decided_by {
            let advice = self.by_id.get(id).map(|a| format!(" ({a})")).unwrap_or_default();
            parts.push(format!("{what}: policy `{id}` forbids it{advice}"));
        }
        if parts.is_empty() {
            parts.push(format!("{what}: no policy permits it"));
        }
        Refusal::new(Reason::PolicyDenied, parts.join("; "))
    }

    /// The permits that could apply to a request, with what Cedar is asked about it; for explanations.
    pub(crate) fn permits(&self, facts: &RequestFacts<'_>, ask: &RequestAsk) -> Option<Permits<'_>> {
        let wanted = ask.wanted.as_ref()?;
        let (action, of) = self.find(wanted).ok()?;
        let (request, entities) = self.case(action, of, facts, ask, wanted).ok()?;
        let rules = of.enforced.rules.iter().filter_map(|n| self.enforced.get(*n));
        Some(Permits { rules: rules.filter(|rule| rule.is_permit()).collect(), request, entities })
    }
}

/// The permits of an action on a type of resource, and one question to them.
pub(crate) struct Permits<'e> {
    pub(crate) rules: Vec<&'e Rule>,
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

/// Whether the intent contains the action, and everything that its policies look at is known.
fn fits(action: &Action, of: &Of, facts: &RequestFacts<'_>, ask: &RequestAsk) -> Result<(), Refusal> {
    if !action.intents.contains(facts.intent.as_str()) {
        let detail = format!("{} is not within the intent `{}`", ask.what(), facts.intent);
        return Err(Refusal::new(Reason::OutsideIntent, detail).fact("intent", facts.intent.as_str()));
    }
    if of.looks.profile && facts.profile.is_none() {
        return Err(Refusal::new(Reason::NeedsBroker, "a policy looks at the profile"));
    }
    if of.looks.binding && facts.binding.is_none() {
        return Err(Refusal::new(Reason::NeedsBroker, "a policy looks at the binding"));
    }
    Ok(())
}
