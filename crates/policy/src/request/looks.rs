//! What a policy looks at, found in its text without evaluating anything. In doubt it looks at everything.

use cedar_policy::Policy;
use serde_json::Value as Json;

/// What policies look at of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Looks {
    /// At the time: the answer may be another one a second later.
    pub(crate) time: bool,
    /// At the profile, which a credential does not carry.
    pub(crate) profile: bool,
    /// At the binding, which a token does not carry in full.
    pub(crate) binding: bool,
}

impl Looks {
    const ALL: Self = Self { time: true, profile: true, binding: true };

    /// What a policy looks at; the attribute that nobody gives at a request, where it asks for one.
    pub(crate) fn of(policy: &Policy) -> Result<Self, String> {
        let Ok(json) = policy.to_json() else { return Ok(Self::ALL) };
        let mut looks = Self::default();
        let conditions = json.get("conditions").and_then(Json::as_array);
        for condition in conditions.into_iter().flatten() {
            looks.at(condition.get("body").unwrap_or(&Json::Null))?;
        }
        Ok(looks)
    }

    /// What both look at together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            time: self.time || other.time,
            profile: self.profile || other.profile,
            binding: self.binding || other.binding,
        }
    }

    fn at(&mut self, expr: &Json) -> Result<(), String> {
        if let Some(names) = context_path(expr) {
            match names.as_slice() {
                ["proven", "now", ..] => self.time = true,
                ["proven", "profile", ..] => self.profile = true,
                ["proven", "binding", ..] => self.binding = true,
                ["proven" | "request", _, ..] | ["request"] => {}
                // The whole context, or all that was proven.
                _ => *self = Self::ALL,
            }
            return Ok(());
        }
        if let Some(attr) = nobodys(expr) {
            return Err(attr);
        }
        match expr {
            Json::Array(items) => items.iter().try_for_each(|e| self.at(e)),
            Json::Object(map) => map.values().try_for_each(|e| self.at(e)),
            _ => Ok(()),
        }
    }
}

/// `context.a.b` as `["a", "b"]`; none for what does not begin with the context.
fn context_path(expr: &Json) -> Option<Vec<&str>> {
    if expr.get("Var").and_then(Json::as_str) == Some("context") {
        return Some(Vec::new());
    }
    let access = expr.get(".")?;
    let mut names = context_path(access.get("left")?)?;
    names.push(access.get("attr")?.as_str()?);
    Some(names)
}

/// The attribute or tag of an entity that an expression asks for: at a request no entity has any. A record that the
/// policy writes itself has its own.
fn nobodys(expr: &Json) -> Option<String> {
    let access = expr.get(".").or_else(|| expr.get("has"));
    if let Some(access) = access {
        let left = access.get("left")?;
        let of_record = left.get("Record").is_some() || context_path(left).is_some();
        return (!of_record).then(|| access.get("attr").and_then(Json::as_str).unwrap_or("?").to_owned());
    }
    let tag = expr.get("hasTag").or_else(|| expr.get("getTag"))?;
    let name = tag.get("right").and_then(|r| r.get("Value")).and_then(Json::as_str);
    Some(name.unwrap_or("a tag").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(condition: &str) -> Result<Looks, String> {
        let text = format!("permit (principal, action, resource) when {{ {condition} }};");
        Looks::of(&Policy::parse(None, text).unwrap())
    }

    #[test]
    fn what_is_looked_at_is_found() {
        let nothing = Looks::default();
        let time = Looks { time: true, ..nothing };
        let profile = Looks { profile: true, ..nothing };
        let binding = Looks { binding: true, ..nothing };
        let all = Looks::ALL;
        for (condition, expected) in [
            ("true", nothing),
            ("context.request.method == \"GET\"", nothing),
            ("context.request has method", nothing),
            ("context.proven.source.isInRange(ip(\"10.0.0.0/8\"))", nothing),
            ("principal in Mayfly::Owner::\"team:a\"", nothing),
            ("{ a: 1 }.a == 1", nothing),
            ("context.proven.now < datetime(\"2027-01-01\")", time),
            ("context.proven[\"now\"].toTime() < duration(\"8h\")", time),
            (
                "if context.request.method == \"GET\" then context.proven.now == context.proven.now else true",
                time,
            ),
            ("!(context.proven.profile like \"a*\")", profile),
            ("context.proven.binding != \"bearer\"", binding),
            ("context.proven has now", all),
            ("context == context", all),
            ("[context.proven].contains(context.proven)", all),
            ("(if true then context else context).proven.key == \"\"", all),
        ] {
            assert_eq!(looks(condition).unwrap_or(all), expected, "{condition}");
        }
        assert_eq!(time.and(profile).and(binding), all);
    }

    #[test]
    fn what_nobody_gives_is_named() {
        for (condition, attr) in [
            ("principal has environment", "environment"),
            ("principal has environment && principal.environment == \"production\"", "environment"),
            ("principal.hasTag(\"ref\")", "ref"),
            ("context.request.method == \"GET\" || principal.getTag(\"ref\") == \"main\"", "ref"),
            ("resource.region == \"eu\"", "region"),
            ("(if true then principal else principal).environment == \"x\"", "environment"),
            ("Mayfly::Profile::\"x\".environment == \"x\"", "environment"),
        ] {
            assert_eq!(looks(condition), Err(attr.to_owned()), "{condition}");
        }
    }
}
