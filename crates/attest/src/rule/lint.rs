//! What is allowed in a rule and still worth a second look: the warnings of `mayfly trust check`.

use mayfly_domain::{FieldError, UnixMillis};

use super::TrustRule;
use crate::attested::OnOtherKey;
use crate::template::Template;

/// How long before its end an authority's certificate is warned of.
const CA_WARNING_MS: u64 = 30 * 86_400_000;

impl TrustRule {
    /// The warnings, by key.
    pub fn lint(&self, now: UnixMillis) -> Vec<FieldError> {
        let mut out = Vec::new();
        let mut warn = |key: &str, message: String| out.push(FieldError::new(key, message));
        match self.review_by {
            Some(day) if day <= now => warn("review_by", "has passed: look at the rule again".into()),
            None => warn("review_by", "is missing: nobody is reminded to look at the rule again".into()),
            Some(_) => {}
        }
        if self.authority().is_some_and(|a| a.expires <= now.plus(CA_WARNING_MS)) {
            warn(
                "ca_file",
                "the authority's certificate ends within 30 days: nothing by it is evidence then".into(),
            );
        }
        if self.allow_names {
            warn("allow_names", "names can be taken over by somebody else: prefer ids".into());
        }
        for condition in &self.conditions {
            let key = format!("match.{}", condition.claim);
            if condition.claim == "sub" && self.preset.has_github_sub() {
                warn(
                    &key,
                    "has two forms and can be customised: prefer `repository_id`, `environment` and `ref`"
                        .into(),
                );
            }
            if self.is_unknown(&condition.claim) {
                warn(&key, "is no claim that the preset's tokens are known to have".into());
            }
        }
        for (key, claim) in self.named_claims() {
            if self.is_unknown(claim) {
                warn(key, format!("`{claim}` is no claim that the preset's tokens are known to have"));
            }
        }
        for (broad, narrow) in self.preset.broad {
            let matched = |claim: &str| self.conditions.iter().any(|c| c.claim == claim);
            let told_apart = self.spiffe_id.claims().any(|c| narrow.contains(&c));
            if matched(broad) && !narrow.iter().any(|c| matched(c)) && !matched("sub") && !told_apart {
                warn(
                    "spiffe_id",
                    format!(
                        "everything of one `{broad}` is one workload: match or name `{}`",
                        narrow.first().unwrap_or(broad)
                    ),
                );
            }
        }
        let many =
            self.conditions.iter().find(|c| !c.is_exact() && self.preset.starts.contains(&c.claim.as_str()));
        if let Some(many) = many.filter(|_| self.spiffe_id.claims().next().is_none()) {
            warn(
                "spiffe_id",
                format!("everything whose `{0}` starts so is one workload: name `{{{0}}}`", many.claim),
            );
        }
        if self.on_other_key == OnOtherKey::Supersede {
            warn(
                "on_other_key",
                "a stolen token can replace the key of the one that it was stolen from".into(),
            );
        }
        out
    }

    fn is_unknown(&self, claim: &str) -> bool {
        !self.preset.claims.is_empty() && !self.preset.claims.contains(&claim)
    }

    fn named_claims(&self) -> impl Iterator<Item = (&str, &str)> {
        fn of<'a>(key: &'a str, t: &'a Template) -> impl Iterator<Item = (&'a str, &'a str)> {
            t.claims().map(move |c| (key, c))
        }
        of("spiffe_id", &self.spiffe_id)
            .chain(self.owners.iter().flat_map(|t| of("owners", t)))
            .chain(self.task_ids.iter().flat_map(|t| of("task.id", t)))
            .chain(self.expose.values().map(|c| ("expose", c.as_str())))
    }
}
