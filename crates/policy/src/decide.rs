//! Decisions about workloads and operators, and the proofs that they lead to.
//!
//! A workload learns of a profile only what a policy permits it: one that does not exist, one that it may not
//! have, and a wrong intent or scope of one that it may not have are the same refusal. What else differs
//! between them (which policies a slice holds) is microseconds of work.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use cedar_policy::{Entities, PolicySet};
use mayfly_attest::{Attested, AttestedFacts};
use mayfly_domain::{Deadline, Intent, PolicyId, Reason, Refusal, San, Scopes, defaults};

use crate::authorized::{
    Authorized, Claimed, Grant, Mint, Operate, OperatorAction, OperatorGrant, Renew, Target, TaskAct,
};
use crate::case::Case;
use crate::decision::{Decision, Granted, PolicyFailure};
use crate::engine::{Engine, Prepared, Verdict};
use crate::facts::{Ask, OperatorPrincipal, Proven, RenewClaim, Who, WorkloadAction, WorkloadFacts};
use crate::profile::Profile;
use crate::slice::Slice;
use crate::words::{self, WordsError};

#[cfg(test)]
mod tests;

impl Engine {
    /// Permits a mint: the profile, one of its intents, some of its scopes, and a life that is the least of
    /// what was asked, the profile's longest and the shortest `@max_ttl` of the permits that applied.
    ///
    /// # Errors
    /// `PROFILE_NOT_ALLOWED` where no policy permits it or the profile does not exist; `INTENT_NOT_ALLOWED`,
    /// `KIND_MISMATCH`, `SCOPE_NOT_ALLOWED`, `NAME_NOT_ALLOWED` only for a workload that may have the profile.
    pub fn mint(&self, attested: Attested, claimed: Claimed) -> Result<Authorized<Mint>, Refusal> {
        let deadline = attested.deadline();
        let decision = self.attested(attested.facts(), &Ask::claimed(WorkloadAction::Mint, &claimed));
        let grant = grant(attested.into_facts(), decision, claimed.reason)?;
        Ok(Authorized::new(grant, deadline))
    }

    /// Permits a renewal, by the same rules as a mint and the action `renew`.
    ///
    /// # Errors
    /// As [`Engine::mint`].
    pub fn renew(&self, attested: Attested, claim: &RenewClaim) -> Result<Authorized<Renew>, Refusal> {
        let deadline = attested.deadline();
        let decision = self.attested(attested.facts(), &Ask::renewal(claim));
        let grant = grant(attested.into_facts(), decision, None)?;
        Ok(Authorized::new(grant, deadline))
    }

    /// Permits a workload what needs no policy: to open, read and complete its own task and to release its own
    /// leases. That they are its own is for the store to hold.
    pub fn own_task(&self, attested: Attested) -> Authorized<TaskAct> {
        let deadline = attested.deadline();
        Authorized::new(attested.into_facts(), deadline)
    }

    /// Permits what an operator does to what it names. Groups are the configuration's.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_ALLOWED` where the configuration has no such operator, `POLICY_DENIED` where no policy
    /// permits it.
    pub fn operate(
        &self,
        operator: &OperatorPrincipal,
        action: OperatorAction,
        target: Target,
    ) -> Result<Authorized<Operate>, Refusal> {
        let Decision { answer, decided_by, .. } = self.what_if_operator(operator, action, &target);
        answer?;
        let deadline = Deadline::after(Duration::from_millis(defaults::MINT_DEADLINE_MS));
        let grant = OperatorGrant { operator: operator.name.clone(), action, target, decided_by };
        Ok(Authorized::new(grant, deadline))
    }

    /// What a workload with these facts would be answered. No proof: nothing can be minted with it.
    pub fn what_if(
        &self,
        facts: &WorkloadFacts,
        action: WorkloadAction,
        claimed: &Claimed,
    ) -> Decision<Granted> {
        self.decide(&facts.into(), &Ask::claimed(action, claimed))
    }

    /// What an operator would be answered. No proof.
    pub fn what_if_operator(
        &self,
        operator: &OperatorPrincipal,
        action: OperatorAction,
        target: &Target,
    ) -> Decision<()> {
        let Some(groups) = self.operator_groups(&operator.name) else {
            return refused(Refusal::new(
                Reason::CertificateNotAllowed,
                format!("the configuration has no operator `{}`", operator.name),
            ));
        };
        match self.judge_operator(operator, groups, action, target, |slice| &slice.policies) {
            Ok(verdict) if verdict.allowed => {
                Decision { answer: Ok(()), decided_by: verdict.decided_by, failed: verdict.failed }
            }
            Ok(verdict) => {
                let what = format!("`{}` on {}", action.as_str(), target_words(target));
                self.denied(Reason::PolicyDenied, &what, verdict)
            }
            Err(e) => refused(e.into()),
        }
    }

    /// Judges by the policies that `choose` gives for a slice: its own, or in a test the full set.
    pub(crate) fn judge_operator<'e>(
        &'e self,
        operator: &OperatorPrincipal,
        groups: &[mayfly_domain::GroupName],
        action: OperatorAction,
        target: &Target,
        choose: impl Fn(&'e Slice) -> &'e PolicySet,
    ) -> Result<Verdict, WordsError> {
        let find = |name: &mayfly_domain::ProfileName| {
            self.profile(name).and_then(|p| self.words.profile_entity(p).ok())
        };
        let Some((resource, mut entities)) = self.words.target(target, find) else {
            return Ok(Verdict { allowed: false, decided_by: Vec::new(), failed: Vec::new() });
        };
        let principal = self.words.operator_entity(&operator.name, groups.iter());
        let proven = Proven {
            attestation: "certificate",
            key: &operator.key,
            peer: operator.peer,
            at: operator.at,
            task: "",
        };
        let context = self.words.staff_context(&proven)?;
        let slice = self.operator_slice(action, &resource);
        let request = words::request(principal.uid(), self.words.action(action.as_str()), resource, context)?;
        entities.push(principal);
        let entities = words::with_entities(&Entities::empty(), entities)?;
        Ok(self.ask(choose(slice), &request, &entities))
    }

    fn attested(&self, facts: &AttestedFacts, ask: &Ask<'_>) -> Decision<Granted> {
        let key = facts.key.to_string();
        self.decide(&Who::attested(facts, &key), ask)
    }

    pub(crate) fn decide(&self, who: &Who<'_>, ask: &Ask<'_>) -> Decision<Granted> {
        self.decide_by(who, ask, |prepared| {
            prepared.slice(ask.action).for_workload(&self.rules, who.holder())
        })
    }

    /// Decides by the policies that `choose` gives for a profile: its slice for this workload, or in a test the full
    /// set.
    pub(crate) fn decide_by<'e, P: Deref<Target = PolicySet>>(
        &'e self,
        who: &Who<'_>,
        ask: &Ask<'_>,
        choose: impl Fn(&'e Prepared) -> P,
    ) -> Decision<Granted> {
        let prepared = self.profiles.get(ask.profile).unwrap_or(&self.decoy);
        let policies = choose(prepared);
        let answer = Case::new(self, who, ask).and_then(|case| match case.profile() {
            Some(profile) => self.decide_profile(&case, &policies, profile),
            None => self.decide_nothing(&case, &policies),
        });
        answer.unwrap_or_else(|e| refused(e.into()))
    }

    fn judge(
        &self,
        case: &Case<'_>,
        policies: &PolicySet,
        intent: &str,
        scopes: &Scopes,
    ) -> Result<Verdict, WordsError> {
        Ok(self.ask(policies, &case.request(intent, scopes)?, &case.entities))
    }

    /// A profile that does not exist is asked like one that does, and refused whatever the answer.
    fn decide_nothing(&self, case: &Case<'_>, policies: &PolicySet) -> Result<Decision<Granted>, WordsError> {
        let intent = case.ask.intent.map_or("", Intent::as_str);
        let mut verdict = self.judge(case, policies, intent, case.scopes())?;
        if verdict.allowed {
            verdict.decided_by.clear();
        }
        let mut decision = self.denied(Reason::ProfileNotAllowed, &case.what(), verdict);
        if let Err(refusal) = &mut decision.answer {
            refusal.detail = format!("there is no profile `{}`", case.ask.profile);
        }
        Ok(decision)
    }

    fn decide_profile(
        &self,
        case: &Case<'_>,
        policies: &PolicySet,
        profile: &Arc<Profile>,
    ) -> Result<Decision<Granted>, WordsError> {
        let none = Scopes::default();
        let all = profile.token().map_or(&none, |t| &t.scopes);
        // Scopes that the profile does not grant are spoken of only where it is permitted with its own.
        let scopes = if case.in_scope() { case.scopes() } else { all };
        let Some(intent) = case.intent() else {
            return self.decide_intents(case, policies, profile, scopes);
        };
        let verdict = self.judge(case, policies, intent.as_str(), scopes)?;
        if !verdict.allowed {
            return Ok(self.denied(Reason::ProfileNotAllowed, &case.what(), verdict));
        }
        if let Some(kind) = case.ask.kind.filter(|kind| *kind != profile.kind()) {
            let (granted, asked) = (profile.kind().as_str(), kind.as_str());
            let detail = format!("{}: it grants the kind `{granted}`, `{asked}` was asked for", case.what());
            return Ok(refused(Refusal::new(Reason::KindMismatch, detail).fact("kind", granted)));
        }
        if !case.in_scope() {
            let detail = format!("{}: a scope is not among `{}`", case.what(), all.joined());
            return Ok(refused(Refusal::new(Reason::ScopeNotAllowed, detail).fact("scopes", all.joined())));
        }
        let names = match names(case) {
            Ok(names) => names,
            Err(refusal) => return Ok(refused(refusal)),
        };
        let ttl = self.max_ttl(&verdict.decided_by).map_or(case.ttl(), |max| case.ttl().min(max));
        let (profile, intent, scopes) = (profile.clone(), intent.clone(), scopes.clone());
        let granted = Granted { profile, intent, ttl, scopes, names };
        Ok(Decision { answer: Ok(granted), decided_by: verdict.decided_by, failed: verdict.failed })
    }

    /// No intent of the profile's was asked for: the workload is told so, and which it may have, where it may
    /// have any.
    fn decide_intents(
        &self,
        case: &Case<'_>,
        policies: &PolicySet,
        profile: &Profile,
        scopes: &Scopes,
    ) -> Result<Decision<Granted>, WordsError> {
        let mut permitted = Vec::new();
        let mut first_denial = None;
        for intent in &profile.intents {
            let verdict = self.judge(case, policies, intent.as_str(), scopes)?;
            if verdict.allowed {
                permitted.push(intent.as_str());
            } else if first_denial.is_none() {
                first_denial = Some(verdict);
            }
        }
        if let (true, Some(verdict)) = (permitted.is_empty(), first_denial) {
            return Ok(self.denied(Reason::ProfileNotAllowed, &case.what(), verdict));
        }
        let detail = match case.ask.intent {
            Some(asked) => format!("{}: the intent `{asked}` is not listed", case.what()),
            None => format!("{}: it lists {} intents and none was named", case.what(), profile.intents.len()),
        };
        let refusal = Refusal::new(Reason::IntentNotAllowed, detail);
        Ok(refused(refusal.fact("intents", permitted.join(", "))))
    }

    /// A refusal with its particulars for operators, and the advice that its policies make public.
    pub(crate) fn denied<T>(&self, reason: Reason, what: &str, verdict: Verdict) -> Decision<T> {
        let Verdict { decided_by, failed, .. } = verdict;
        let mut refusal = Refusal::new(reason, self.particulars(what, &decided_by, &failed));
        for rule in decided_by.iter().filter_map(|id| self.rule(id)).filter(|r| r.public) {
            if let Some(advice) = &rule.advice {
                refusal = refusal.fact("advice", advice.clone());
            }
        }
        Decision { answer: Err(refusal), decided_by, failed }
    }

    fn particulars(&self, what: &str, decided_by: &[PolicyId], failed: &[PolicyFailure]) -> String {
        let mut parts = Vec::new();
        for failure in failed {
            parts.push(format!("{what}: policy `{}` failed: {}", failure.policy, failure.message));
        }
        for id in decided_by {
            let advice = self.rule(id).and_then(|r| r.advice.as_deref());
            let advice = advice.map(|a| format!(" ({a})")).unwrap_or_default();
            parts.push(format!("{what}: policy `{id}` forbids it{advice}"));
        }
        if parts.is_empty() {
            parts.push(format!("{what}: no policy permits it"));
        }
        parts.join("; ")
    }
}

/// The names that are asked for, each of which the profile must grant; all that it grants where there are none.
fn names(case: &Case<'_>) -> Result<Vec<San>, Refusal> {
    let all = case.all_names();
    let Some(asked) = case.ask.names else { return Ok(all) };
    let mut names: Vec<San> = Vec::with_capacity(asked.len());
    for name in asked {
        if !all.contains(name) {
            let granted: Vec<String> = all.iter().map(ToString::to_string).collect();
            let detail = format!("{}: `{name}` is not among `{}`", case.what(), granted.join(" "));
            let refusal = Refusal::new(Reason::NameNotAllowed, detail).fact("name", name.to_string());
            return Err(refusal.fact("names", granted.join(" ")));
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

fn refused<T>(refusal: Refusal) -> Decision<T> {
    Decision { answer: Err(refusal), decided_by: Vec::new(), failed: Vec::new() }
}

fn grant(
    attested: AttestedFacts,
    decision: Decision<Granted>,
    reason: Option<mayfly_domain::TaskReason>,
) -> Result<Grant, Refusal> {
    let Granted { profile, intent, ttl, scopes, names } = decision.answer?;
    Ok(Grant { attested, profile, intent, reason, ttl, scopes, names, decided_by: decision.decided_by })
}

fn target_words(target: &Target) -> String {
    match target {
        Target::Subject(subject) => format!("{subject}"),
        Target::Lease { id, .. } => format!("lease {id}"),
        Target::Workload { id, owner, .. } => format!("workload {id} of {owner}"),
    }
}
