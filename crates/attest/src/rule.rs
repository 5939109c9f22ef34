//! Trust rules: which verified evidence makes which workload.
//!
//! A rule is anchored: it matches an id that its issuer never gives to somebody else. This module must never
//! make an identity from evidence that does not match, nor one below the reserved path.

mod compile;
mod conditions;
mod lint;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mayfly_domain::text::{shown, visible};
use mayfly_domain::{
    Environment, FieldError, Owner, Owners, Reason, Refusal, RuleName, SpiffeId, TaskId, Thumbprint,
    TrustDomain, Ttl, UnixMillis,
};

pub use conditions::{Condition, Test};

use crate::attested::{OnOtherKey, TaskClaim};
use crate::evidence::{Claims, Verified};
use crate::issuer::{Authority, Issuer, Trusted};
use crate::preset::{Bind, Preset};
use crate::raw::RawTrustRule;
use crate::template::{Template, Unfilled};

/// The longest value of an exposed claim, in octets.
const TAG_OCTETS_MAX: usize = 1_024;

/// A trust rule, valid.
#[derive(Debug, Clone)]
pub struct TrustRule {
    name: RuleName,
    preset: &'static Preset,
    trust_domain: TrustDomain,
    trusted: Trusted,
    spiffe_id: Template,
    owners: Vec<Template>,
    environment: Option<Environment>,
    review_by: Option<UnixMillis>,
    conditions: Vec<Condition>,
    task_ids: Vec<Template>,
    shared: bool,
    window: Ttl,
    window_max: Ttl,
    expose: BTreeMap<String, String>,
    bind: Bind,
    audience: String,
    on_other_key: OnOtherKey,
    evidence_life: Ttl,
    allow_names: bool,
}

/// What a rule makes of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub workload: SpiffeId,
    /// Who answers for it.
    pub owners: Owners,
    /// The task that the evidence names.
    pub task: TaskClaim,
    /// The claims that the rule exposes.
    pub tags: BTreeMap<String, String>,
}

/// One condition of a rule that evidence does not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedMatch {
    /// The claim.
    pub claim: String,
    /// What the rule demands.
    pub expected: String,
    /// What the evidence has; none: no such claim, or no text.
    pub got: Option<String>,
}

impl TrustRule {
    /// Makes a rule of what its file says.
    ///
    /// # Errors
    /// Every mistake at once, by key.
    pub fn compile(raw: RawTrustRule, trust_domain: &TrustDomain) -> Result<Self, Vec<FieldError>> {
        compile::compile(raw, trust_domain)
    }

    /// Its name.
    pub fn name(&self) -> &RuleName {
        &self.name
    }

    /// Its preset's name; empty where it has none.
    pub fn preset(&self) -> &'static str {
        self.preset.name
    }

    /// Whose evidence it accepts, by the name that the evidence gives.
    pub fn issuer_name(&self) -> &str {
        self.trusted.name()
    }

    /// The issuer of tokens that it names, if its evidence is tokens.
    pub fn issuer(&self) -> Option<&Issuer> {
        match &self.trusted {
            Trusted::Issuer(issuer) => Some(issuer),
            Trusted::Authority(_) => None,
        }
    }

    /// The authority that it names, if its evidence is certificates.
    pub fn authority(&self) -> Option<&Authority> {
        match &self.trusted {
            Trusted::Issuer(_) => None,
            Trusted::Authority(authority) => Some(authority),
        }
    }

    /// Its environment.
    pub fn environment(&self) -> Option<&Environment> {
        self.environment.as_ref()
    }

    /// The start of the day by which somebody must have looked at it again.
    pub fn review_by(&self) -> Option<UnixMillis> {
        self.review_by
    }

    /// How its tokens are bound to keys.
    pub fn bind(&self) -> Bind {
        self.bind
    }

    /// The longest life of its evidence, from `iat` to `exp` or from `notBefore` to `notAfter`.
    pub fn evidence_life(&self) -> Ttl {
        self.evidence_life
    }

    /// What happens when another key presents its evidence.
    pub fn on_other_key(&self) -> OnOtherKey {
        self.on_other_key
    }

    /// The names of the tags that it exposes.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.expose.keys().map(String::as_str)
    }

    /// The conditions, sorted by claim.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Whether evidence is of its issuer and meets every condition.
    pub fn accepts(&self, evidence: &Verified) -> bool {
        self.issuer_name() == evidence.issuer
            && self.conditions.iter().all(|c| c.holds(self.preset, &evidence.claims))
    }

    /// The conditions that evidence does not meet; none: the rule accepts it.
    pub fn failed(&self, evidence: &Verified) -> Vec<FailedMatch> {
        let issuer = (self.issuer_name() != evidence.issuer).then(|| FailedMatch {
            claim: "iss".into(),
            expected: format!("`{}`", self.issuer_name()),
            got: Some(shown(&evidence.issuer)),
        });
        let failed = self.conditions.iter().filter(|c| !c.holds(self.preset, &evidence.claims));
        issuer
            .into_iter()
            .chain(failed.map(|c| FailedMatch {
                claim: c.claim.clone(),
                expected: c.test.to_string(),
                got: evidence.claims.get(&c.claim).and_then(|v| v.as_text()).map(shown),
            }))
            .collect()
    }

    /// The audience that evidence for `key` must have; empty where its own key is proof enough.
    pub fn audience_for(&self, key: &Thumbprint) -> String {
        match self.bind {
            Bind::Audience => format!("{}#{key}", self.audience),
            Bind::FirstUse => self.audience.clone(),
            Bind::Proof => String::new(),
        }
    }

    /// Judges what a rule says beside its match: the audience, by the way in which it binds tokens to keys,
    /// and the life of the evidence.
    ///
    /// # Errors
    /// `EVIDENCE_AUDIENCE`, `EVIDENCE_LIFETIME`.
    pub fn judge(&self, evidence: &Verified, key: &Thumbprint) -> Result<(), Refusal> {
        let audience = self.audience_for(key);
        if evidence.audience != audience {
            let detail = format!("rule `{}`: the audience is `{}`", self.name, shown(&evidence.audience));
            return Err(Refusal::new(Reason::EvidenceAudience, detail).fact("expected", audience));
        }
        let life = evidence.expires.0.saturating_sub(evidence.issued_at.0);
        if life > self.evidence_life.as_millis() {
            let detail = format!("rule `{}`: {} s, {} allowed", self.name, life / 1_000, self.evidence_life);
            return Err(Refusal::new(Reason::EvidenceLifetime, detail)
                .fact("allowed", self.evidence_life.to_string()));
        }
        Ok(())
    }

    /// The owners that the rule names without a claim.
    pub fn fixed_owners(&self) -> impl Iterator<Item = Owner> {
        let fixed = self.owners.iter().filter(|t| t.claims().next().is_none());
        fixed.filter_map(|t| Owner::parse(t.literal_start()).ok())
    }

    /// The workload that the rule names, where no claim is part of it.
    pub fn fixed_workload(&self) -> Option<SpiffeId> {
        let fixed = Some(&self.spiffe_id).filter(|t| t.claims().next().is_none())?;
        SpiffeId::new(&self.trust_domain, fixed.literal_start()).ok()
    }

    /// Whether evidence for this rule could make a workload that is meant to be `other`'s: by a claim of another
    /// issuer, or by a claim where the other's name is fixed.
    pub fn could_take_workload_of(&self, other: &Self) -> bool {
        let claims = |rule: &Self| rule.spiffe_id.claims().next().is_some();
        claims(self)
            && (self.issuer_name() != other.issuer_name() || !claims(other))
            && self.spiffe_id.can_meet(&other.spiffe_id)
    }

    /// The owner template by which evidence for this rule could make an owner that is meant to be `other`'s: by a
    /// claim of another issuer, or by a claim where the other's name is fixed.
    pub fn could_take_owner_of(&self, other: &Self) -> Option<&Template> {
        let claims = |template: &Template| template.claims().next().is_some();
        let foreign = self.issuer_name() != other.issuer_name();
        let taken = |mine: &&Template| {
            claims(mine) && other.owners.iter().any(|o| (foreign || !claims(o)) && mine.can_meet(o))
        };
        self.owners.iter().find(taken)
    }

    /// Makes workload, owners, task and tags of evidence that the rule accepts.
    ///
    /// # Errors
    /// `EVIDENCE_CLAIMS` where a claim that a template names is absent, empty or too long, or where claims
    /// contradict one another.
    pub fn identify(&self, claims: &Claims) -> Result<Identity, Refusal> {
        let refuse =
            |what: String| Refusal::new(Reason::EvidenceClaims, format!("rule `{}`: {what}", self.name));
        let unfilled = |e: Unfilled| refuse(e.to_string()).fact("claim", e.claim);
        conditions::consistent(self.preset, claims).map_err(|e| refuse(e.to_owned()))?;
        let path = self.spiffe_id.fill(claims).map_err(unfilled)?;
        let workload = SpiffeId::new(&self.trust_domain, &path).map_err(|e| refuse(e.to_string()))?;
        if workload.is_reserved() {
            return Err(refuse(format!("`{workload}` is below the reserved path")));
        }
        let mut owners = Vec::with_capacity(self.owners.len());
        for template in &self.owners {
            let owner = template.fill(claims).map_err(unfilled)?;
            owners.push(Owner::parse(&owner).map_err(|e| refuse(e.to_string()))?);
        }
        let owners = Owners::new(owners).map_err(|e| refuse(e.to_string()))?;
        Ok(Identity { workload, owners, task: self.task(claims)?, tags: self.tags_of(claims)? })
    }

    fn task(&self, claims: &Claims) -> Result<TaskClaim, Refusal> {
        let refuse =
            |what: String| Refusal::new(Reason::EvidenceClaims, format!("rule `{}`: {what}", self.name));
        let there = |t: &&Template| t.claims().all(|c| claims.contains_key(c));
        let template = self.task_ids.iter().find(there).or(self.task_ids.last());
        let template = template.ok_or_else(|| refuse("has no task id".to_owned()))?;
        let id = template.fill(claims).map_err(|e| refuse(e.to_string()).fact("claim", e.claim))?;
        Ok(TaskClaim {
            id: TaskId::parse(&id).map_err(|e| refuse(e.to_string()))?,
            window: self.window,
            window_max: self.window_max,
            shared: self.shared,
        })
    }

    fn tags_of(&self, claims: &Claims) -> Result<BTreeMap<String, String>, Refusal> {
        let mut tags = BTreeMap::new();
        for (tag, claim) in &self.expose {
            let Some(value) = claims.get(claim) else { continue };
            let text = value.as_text().filter(|t| visible("claim", t, TAG_OCTETS_MAX).is_ok());
            let Some(text) = text else {
                let detail = format!("rule `{}`: the exposed claim `{claim}` is not plain text", self.name);
                return Err(Refusal::new(Reason::EvidenceClaims, detail).fact("claim", claim.clone()));
            };
            tags.insert(tag.clone(), text.to_owned());
        }
        Ok(tags)
    }
}
