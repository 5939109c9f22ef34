//! What a rule demands of claims.

use mayfly_domain::text::shown;

use crate::evidence::Claims;
use crate::preset::{Preset, github_sub_names, parse_github_sub};

/// How a claim's text is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// It is one of these texts (at least one, sorted).
    OneOf(Vec<String>),
    /// It starts so.
    Prefix(String),
}

impl Test {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::OneOf(all) => all.iter().any(|one| one == text),
            Self::Prefix(start) => text.starts_with(start),
        }
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OneOf(all) => {
                let all: Vec<String> = all.iter().map(|one| format!("`{}`", shown(one))).collect();
                f.write_str(&all.join(" or "))
            }
            Self::Prefix(start) => write!(f, "a text that starts with `{}`", shown(start)),
        }
    }
}

/// One line of a rule's match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// The claim.
    pub claim: String,
    /// What it must be.
    pub test: Test,
}

impl Condition {
    /// Whether the claim is there, is text and passes. GitHub's `sub` is compared in both of its forms.
    pub(super) fn holds(&self, preset: &Preset, claims: &Claims) -> bool {
        let Some(text) = claims.get(&self.claim).and_then(|v| v.as_text()) else { return false };
        if self.test.holds(text) {
            return true;
        }
        preset.has_github_sub()
            && self.claim == "sub"
            && github_sub_names(text).is_some_and(|names| self.test.holds(&names))
    }

    /// Whether the claim is pinned to whole values.
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.test, Test::OneOf(_))
    }

    /// Whether this is a GitHub `sub` whose every value carries the ids of owner and repository.
    pub(super) fn is_sub_with_ids(&self, preset: &Preset) -> bool {
        let has_ids = |text: &str| parse_github_sub(text).is_some_and(|sub| sub.ids.is_some());
        preset.has_github_sub()
            && self.claim == "sub"
            && match &self.test {
                Test::OneOf(all) => all.iter().all(|one| has_ids(one)),
                Test::Prefix(start) => has_ids(start),
            }
    }
}

/// Whether the ids in a GitHub `sub` are those of the claims beside it.
pub(super) fn consistent(preset: &Preset, claims: &Claims) -> Result<(), &'static str> {
    let text = |claim: &str| claims.get(claim).and_then(|v| v.as_text());
    if !preset.has_github_sub() {
        return Ok(());
    }
    let Some((owner, repository)) = text("sub").and_then(parse_github_sub).and_then(|sub| sub.ids) else {
        return Ok(());
    };
    let differs = |claim: &str, id: &str| text(claim).is_some_and(|other| other != id);
    if differs("repository_owner_id", owner) || differs("repository_id", repository) {
        return Err("the ids in `sub` are not those of the other claims");
    }
    Ok(())
}
