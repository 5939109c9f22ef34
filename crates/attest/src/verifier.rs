//! The verifier: the one maker of [`Attested`], in the order of work that spends least on a bad request.
//!
//! Size, nonce, envelope signature; then the attestor (issuer on the list, keys, signature, times); then
//! rules, audience and life of the evidence. It must never ask a store or a policy.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Deadline, Reason, Refusal, TrustDomain, UnixMillis, defaults};

use crate::attested::{Attested, AttestedFacts, EvidenceFacts, OnOtherKey};
use crate::envelope::{Envelope, Opened};
use crate::evidence::{Attestor, Challenge, Evidence, Judged, Known, Verified};
use crate::nonce::{NonceKeys, NonceScope};
use crate::rule::Identity;
use crate::ruleset::RuleSet;

/// Opens envelopes and attests workloads. Rules and nonce keys are replaced while it works.
pub struct Verifier {
    trust_domain: TrustDomain,
    attestor: Arc<dyn Attestor>,
    clock: SharedClock,
    rules: ArcSwap<RuleSet>,
    nonce_keys: ArcSwapOption<NonceKeys>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier without rules and nonce keys: it refuses everything.
    pub fn new(trust_domain: TrustDomain, attestor: Arc<dyn Attestor>, clock: SharedClock) -> Self {
        let rules = ArcSwap::from_pointee(RuleSet::default());
        Self { trust_domain, attestor, clock, rules, nonce_keys: ArcSwapOption::empty() }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Replaces all rules. Attestors are told of [`RuleSet::issuers`] first, so that no issuer of a new rule is
    /// refused meanwhile.
    pub fn set_rules(&self, rules: RuleSet) {
        self.rules.store(Arc::new(rules));
    }

    /// The rules of now.
    pub fn rules(&self) -> Arc<RuleSet> {
        self.rules.load_full()
    }

    /// Replaces all nonce keys.
    pub fn set_nonce_keys(&self, keys: NonceKeys) {
        self.nonce_keys.store(Some(Arc::new(keys)));
    }

    /// Makes a nonce; also says when it expires.
    ///
    /// # Errors
    /// `NOT_SERVING` before there are nonce keys; `INTERNAL` where the machine gives no random octets.
    pub fn issue_nonce(&self, scope: &NonceScope) -> Result<(Vec<u8>, UnixMillis), Refusal> {
        let nonce = self.keys()?.issue(scope, self.clock.now())?;
        Ok((nonce.encode(), nonce.issued.plus(defaults::NONCE_LIFE_MS)))
    }

    /// Opens an envelope for `rpc`, by its full name (`mayfly.v1.WorkloadService/Mint`).
    ///
    /// # Errors
    /// `TOO_LARGE`, `ENVELOPE_INVALID`, `NONCE_INVALID`, `NONCE_EXPIRED`, `ENVELOPE_SIGNATURE_INVALID`, in
    /// this order; `NOT_SERVING` before there are nonce keys.
    pub fn open(&self, scope: &NonceScope, rpc: &str, envelope: Envelope) -> Result<Opened, Refusal> {
        let now = self.clock.now();
        Opened::open(&self.trust_domain, &*self.keys()?, scope, rpc, envelope, now)
    }

    /// Attests the workload that sent `opened` with `evidence`.
    ///
    /// # Errors
    /// The attestor's refusals, then `NO_TRUST_RULE`, `TRUST_RULE_AMBIGUOUS`, `EVIDENCE_AUDIENCE`,
    /// `EVIDENCE_LIFETIME`, `EVIDENCE_CLAIMS`.
    pub async fn attest(
        &self,
        opened: &Opened,
        evidence: &Evidence,
        peer: Option<IpAddr>,
    ) -> Result<Attested, Refusal> {
        let deadline = Deadline::after(Duration::from_millis(defaults::MINT_DEADLINE_MS));
        let challenge =
            Challenge { trust_domain: &self.trust_domain, nonce: opened.nonce(), key: opened.thumbprint() };
        let facts = match self.attestor.verify(evidence, &challenge, self.clock.now()).await? {
            Judged::Foreign(verified) => self.by_rule(opened, verified, peer)?,
            Judged::Known(known) => self.by_name(opened, *known, peer)?,
        };
        Ok(Attested::new(facts, deadline))
    }

    /// Whom a trust rule makes of a foreign issuer's claims.
    fn by_rule(
        &self,
        opened: &Opened,
        verified: Verified,
        peer: Option<IpAddr>,
    ) -> Result<AttestedFacts, Refusal> {
        let rules = self.rules.load();
        let rule = rules.select(&verified)?;
        rule.judge(&verified, &opened.thumbprint())?;
        let Identity { workload, owners, task, tags } = rule.identify(&verified.claims)?;
        Ok(AttestedFacts {
            workload,
            owners,
            key: opened.thumbprint(),
            lease: opened.lease(),
            rule: Some(rule.name().clone()),
            environment: rule.environment().cloned(),
            kind: verified.kind,
            tags,
            task,
            evidence: Some(EvidenceFacts {
                issuer: verified.issuer,
                hash: verified.hash,
                alias: verified.alias,
                issued_at: verified.issued_at,
                expires: verified.expires,
                on_other_key: rule.on_other_key(),
                holder: verified.holder.unwrap_or(opened.thumbprint()),
                single_use: false,
                life: rule.evidence_life(),
            }),
            parent: None,
            peer,
            at: self.clock.now(),
        })
    }

    /// Whom Mayfly itself named before.
    fn by_name(&self, opened: &Opened, known: Known, peer: Option<IpAddr>) -> Result<AttestedFacts, Refusal> {
        if !known.workload.is_in(&self.trust_domain) || known.workload.is_reserved() {
            let detail = format!("`{}` is no workload of this trust domain", known.workload);
            return Err(Refusal::new(Reason::CertificateNotAllowed, detail));
        }
        let evidence = known.shown.map(|shown| EvidenceFacts {
            issuer: self.trust_domain.to_string(),
            hash: shown.hash,
            alias: None,
            issued_at: shown.issued_at,
            expires: shown.expires,
            on_other_key: OnOtherKey::Refuse,
            holder: opened.thumbprint(),
            single_use: true,
            life: defaults::JOIN_TTL_MAX,
        });
        Ok(AttestedFacts {
            workload: known.workload,
            owners: known.owners,
            key: opened.thumbprint(),
            lease: opened.lease(),
            rule: known.rule,
            environment: known.environment,
            kind: known.kind,
            tags: known.tags,
            task: known.task,
            evidence,
            parent: known.parent,
            peer,
            at: self.clock.now(),
        })
    }

    fn keys(&self) -> Result<Arc<NonceKeys>, Refusal> {
        self.nonce_keys
            .load_full()
            .ok_or_else(|| Refusal::new(Reason::NotServing, "there are no nonce keys yet"))
    }
}

#[cfg(test)]
mod tests;
