//! The set of trust rules: exactly one must accept a piece of evidence.

use std::collections::BTreeMap;

use mayfly_domain::text::shown;
use mayfly_domain::{FieldError, Reason, Refusal, RuleName, Ttl, UnixMillis};

use crate::evidence::Verified;
use crate::issuer::{Authority, Issuer};
use crate::rule::{FailedMatch, TrustRule};

/// Trust rules that go together.
///
/// INVARIANT: names and matches differ; rules of one issuer agree on where its keys are and on its algorithms;
/// an authority is named by one certificate.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<TrustRule>,
}

/// How one rule sees a piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleExplanation {
    /// The rule.
    pub rule: RuleName,
    /// What does not match; empty: the rule accepts it.
    pub failed: Vec<FailedMatch>,
}

impl RuleSet {
    /// Puts rules together.
    ///
    /// # Errors
    /// Every pair that can't go together; the message names both rules.
    pub fn new(rules: Vec<TrustRule>) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        for (n, a) in rules.iter().enumerate() {
            for b in rules.iter().skip(n + 1) {
                if a.name() == b.name() {
                    errors.push(FieldError::new("name", format!("`{}` names two rules", a.name())));
                }
                if a.issuer_name() != b.issuer_name() {
                    let same =
                        a.authority().zip(b.authority()).is_some_and(|(a, b)| a.identity == b.identity);
                    if same {
                        let message = format!(
                            "`{}` and `{}` name two certificates of one authority",
                            a.name(),
                            b.name()
                        );
                        errors.push(FieldError::new("ca_file", message));
                    }
                    continue;
                }
                if a.conditions() == b.conditions() {
                    let message = format!("`{}` and `{}` match the same evidence", a.name(), b.name());
                    errors.push(FieldError::new("match", message));
                }
                let (Some(one), Some(other)) = (a.issuer(), b.issuer()) else { continue };
                for (key, differ) in [
                    ("jwks_uri", one.jwks_uri != other.jwks_uri),
                    ("jwks_host", one.jwks_host != other.jwks_host),
                    ("algorithms", one.algorithms != other.algorithms),
                ] {
                    if differ {
                        let message = format!("`{}` and `{}` differ for one issuer", a.name(), b.name());
                        errors.push(FieldError::new(key, message));
                    }
                }
            }
        }
        if errors.is_empty() { Ok(Self { rules }) } else { Err(errors) }
    }

    /// The rules.
    pub fn rules(&self) -> &[TrustRule] {
        &self.rules
    }

    /// The rule of this name.
    pub fn rule(&self, name: &str) -> Option<&TrustRule> {
        self.rules.iter().find(|r| r.name().as_str() == name)
    }

    /// Every issuer of tokens that a rule names, once.
    pub fn issuers(&self) -> Vec<Issuer> {
        let all: BTreeMap<&str, &Issuer> =
            self.rules.iter().filter_map(TrustRule::issuer).map(|i| (i.url.as_str(), i)).collect();
        all.into_values().cloned().collect()
    }

    /// Every certificate authority that a rule names, once.
    pub fn authorities(&self) -> Vec<Authority> {
        let all: BTreeMap<&str, &Authority> =
            self.rules.iter().filter_map(TrustRule::authority).map(|a| (a.name.as_str(), a)).collect();
        all.into_values().cloned().collect()
    }

    /// The longest life of evidence that a rule accepts: so long may evidence name a task that has ended.
    pub fn longest_evidence_life(&self) -> Option<Ttl> {
        self.rules.iter().map(TrustRule::evidence_life).max()
    }

    /// The one rule that accepts this evidence.
    ///
    /// # Errors
    /// `ISSUER_UNKNOWN`, `NO_TRUST_RULE`, `TRUST_RULE_AMBIGUOUS`. The detail names rules and what failed, for
    /// operators; the caller learns the issuer alone.
    pub fn select(&self, evidence: &Verified) -> Result<&TrustRule, Refusal> {
        let mut accepting = self.rules.iter().filter(|r| r.accepts(evidence));
        match (accepting.next(), accepting.next()) {
            (Some(rule), None) => Ok(rule),
            (Some(a), Some(b)) => {
                let detail = format!("`{}` and `{}` both accept it", a.name(), b.name());
                Err(Refusal::new(Reason::TrustRuleAmbiguous, detail).fact("issuer", evidence.issuer.clone()))
            }
            (None, _) => Err(self.none_accepts(evidence)),
        }
    }

    fn none_accepts(&self, evidence: &Verified) -> Refusal {
        let of_issuer = self.rules.iter().filter(|r| r.issuer_name() == evidence.issuer);
        let nearest = of_issuer.map(|r| (r.failed(evidence), r)).min_by_key(|(failed, _)| failed.len());
        let Some((failed, rule)) = nearest else {
            return Refusal::new(Reason::IssuerUnknown, format!("issuer `{}`", shown(&evidence.issuer)));
        };
        let failed: Vec<String> = failed.iter().take(4).map(FailedMatch::to_string).collect();
        let detail = format!("nearest is rule `{}`: {}", rule.name(), failed.join("; "));
        Refusal::new(Reason::NoTrustRule, detail).fact("issuer", format!("{} (known)", evidence.issuer))
    }

    /// How every rule sees this evidence, those that fail least first.
    pub fn explain(&self, evidence: &Verified) -> Vec<RuleExplanation> {
        let see = |r: &TrustRule| RuleExplanation { rule: r.name().clone(), failed: r.failed(evidence) };
        let mut all: Vec<RuleExplanation> = self.rules.iter().map(see).collect();
        all.sort_by_key(|e| e.failed.len());
        all
    }

    /// The warnings about rules that overlap: the rule, and what to look at. [`TrustRule::lint`] has those
    /// about each rule alone.
    pub fn lint(&self, now: UnixMillis) -> Vec<(RuleName, FieldError)> {
        let mut out: Vec<(RuleName, FieldError)> = Vec::new();
        for rule in &self.rules {
            out.extend(rule.lint(now).into_iter().map(|e| (rule.name().clone(), e)));
            let covers = |other: &&TrustRule| {
                other.name() != rule.name()
                    && other.issuer_name() == rule.issuer_name()
                    && rule.conditions().iter().all(|c| other.conditions().contains(c))
            };
            for other in self.rules.iter().filter(covers) {
                let message =
                    format!("accepts all evidence that `{}` accepts: those will be ambiguous", other.name());
                out.push((rule.name().clone(), FieldError::new("match", message)));
            }
            let takes =
                |other: &&TrustRule| other.name() != rule.name() && rule.could_take_workload_of(other);
            for other in self.rules.iter().filter(takes) {
                let message = format!(
                    "its claims can name a workload of `{}`: put a path segment of its own in front of them",
                    other.name()
                );
                out.push((rule.name().clone(), FieldError::new("spiffe_id", message)));
            }
            for other in self.rules.iter().filter(|other| other.name() != rule.name()) {
                let Some(template) = rule.could_take_owner_of(other) else { continue };
                let message = format!(
                    "`{template}` can name an owner of `{}`: put a word of its own in front of the claim, such as \
                     `user:gh-{{actor_id}}`",
                    other.name()
                );
                out.push((rule.name().clone(), FieldError::new("owners", message)));
            }
        }
        out
    }
}

impl std::fmt::Display for FailedMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.got {
            Some(got) => write!(f, "`{}` is `{got}`, not {}", self.claim, self.expected),
            None => write!(f, "`{}` is absent, not {}", self.claim, self.expected),
        }
    }
}
