//! GitHub's `sub`, which has two forms: with names alone, and (for repositories created or renamed since
//! 2026-07-15) with the ids of owner and repository behind the names.

/// A `sub` of GitHub Actions: `repo:OWNER/REPO:…` or `repo:OWNER@ID/REPO@ID:…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GithubSub<'a> {
    /// The owner's name.
    pub owner: &'a str,
    /// The repository's name.
    pub repository: &'a str,
    /// The ids of owner and repository, in the newer form.
    pub ids: Option<(&'a str, &'a str)>,
    /// What follows: `ref:refs/heads/main`, `environment:production`, `pull_request`.
    pub context: &'a str,
}

/// Parses either form; a `sub` that an organisation has customised is neither.
pub fn parse_sub(sub: &str) -> Option<GithubSub<'_>> {
    let rest = sub.strip_prefix("repo:")?;
    let (place, context) = rest.split_once(':')?;
    let (owner, repository) = place.split_once('/')?;
    let (owner, owner_id) = with_id(owner)?;
    let (repository, repository_id) = with_id(repository)?;
    let ids = match (owner_id, repository_id) {
        (Some(o), Some(r)) => Some((o, r)),
        (None, None) => None,
        _ => return None,
    };
    Some(GithubSub { owner, repository, ids, context })
}

/// The older form of a `sub` in the newer one.
pub(crate) fn names_form(sub: &str) -> Option<String> {
    let parsed = parse_sub(sub)?;
    parsed.ids?;
    Some(format!("repo:{}/{}:{}", parsed.owner, parsed.repository, parsed.context))
}

fn with_id(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, id) = match text.split_once('@') {
        Some((name, id)) => (name, Some(id)),
        None => (text, None),
    };
    let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let numbered = id.is_none_or(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()));
    (named && numbered).then_some((name, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let old = "repo:acme/payments:ref:refs/heads/main";
        let new = "repo:acme@481516/payments@2342108:ref:refs/heads/main";
        assert_eq!(parse_sub(old).unwrap().ids, None);
        let parsed = parse_sub(new).unwrap();
        assert_eq!((parsed.owner, parsed.repository), ("acme", "payments"));
        assert_eq!(parsed.ids, Some(("481516", "2342108")));
        assert_eq!(parsed.context, "ref:refs/heads/main");
        assert_eq!(names_form(new).as_deref(), Some(old));
        assert_eq!(names_form(old), None);
        for bad in [
            "repo:acme/payments",
            "repo:acme:ref",
            "repo:acme@1/payments:x",
            "repo:acme/payments@2:x",
            "repo:acme@/payments@:x",
            "repo:acme@1x/payments@2:x",
            "repo:acme@1@2/payments@2:x",
            "repo:/payments:x",
            "repository_owner:acme:x",
            "repo:acme@1/pay/ments@2:x",
            "",
        ] {
            assert_eq!(parse_sub(bad), None, "{bad}");
        }
    }
}
