//! Why a request is answered as it is.

use crate::engine::Engine;
use crate::explain::{Deciding, Missed, NEAREST_MAX};
use crate::request::{RequestAsk, RequestDecision, RequestFacts};

/// Why a request is answered as it is.
#[derive(Debug, Clone)]
pub struct RequestExplanation {
    /// What was decided.
    pub decision: RequestDecision,
    /// The policies that decided, with their places and advice.
    pub deciding: Vec<Deciding>,
    /// The policies in observe mode that would have refused it.
    pub observing: Vec<Deciding>,
    /// For a denial by policy: the permits that could have applied, those first of which most conditions held.
    pub nearest: Vec<Missed>,
}

impl Engine {
    /// Explains what a request is answered.
    pub fn explain_request(&self, facts: &RequestFacts<'_>, ask: &RequestAsk) -> RequestExplanation {
        let decision = self.requests().judge(facts, ask);
        let denied = decision.answer.as_ref().is_err_and(|r| r.reason == mayfly_domain::Reason::PolicyDenied);
        let mut nearest = Vec::new();
        if denied && let Some(permits) = self.requests().permits(facts, ask) {
            let missed = |rule| self.missed(rule, &permits.request, &permits.entities);
            nearest.extend(permits.rules.iter().copied().filter_map(missed));
        }
        nearest.sort_by(|a: &Missed, b| b.held.cmp(&a.held).then_with(|| a.policy.cmp(&b.policy)));
        nearest.truncate(NEAREST_MAX);
        let (deciding, observing) = (self.deciding(&decision.decided_by), self.deciding(&decision.observed));
        RequestExplanation { decision, deciding, observing, nearest }
    }
}

impl std::fmt::Display for RequestExplanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.decision.answer {
            Ok(()) => writeln!(f, "allowed")?,
            Err(refusal) => writeln!(f, "denied: {}\n  {}", refusal.reason, refusal.detail)?,
        }
        self.deciding.iter().try_for_each(|decided| write!(f, "{decided}"))?;
        for observed in &self.observing {
            writeln!(f, "  would be refused by  {} ({}), in observe mode", observed.policy, observed.place)?;
        }
        self.nearest.iter().try_for_each(|missed| write!(f, "{missed}"))
    }
}
