//! Policies as files say them, parsed: every mistake at once, each with its file, line and column.
//!
//! This module must never decide anything, nor read a file.

use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy, PolicySet, ValidationMode, ValidationWarning, Validator};
use mayfly_domain::{Owner, PolicyId, SpiffeId, Ttl, UnixMillis, text};

use crate::source::{Place, PolicyError, Source, without_comments};
use crate::words::Words;

#[cfg(test)]
mod tests;

/// The annotations that a policy may carry.
const ANNOTATIONS: [&str; 6] = ["id", "max_ttl", "advice", "public", "mode", "until"];

/// A policy, valid.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) id: PolicyId,
    /// Its Cedar id is `id`.
    pub(crate) policy: Policy,
    pub(crate) place: Place,
    pub(crate) max_ttl: Option<Ttl>,
    pub(crate) advice: Option<String>,
    /// Whether the workload may see the advice.
    pub(crate) public: bool,
    /// Until when it is only observed: what it would refuse is recorded and let pass. None: it is enforced.
    pub(crate) observed_until: Option<UnixMillis>,
    /// Whether Cedar found that no request can ever satisfy it.
    pub(crate) impossible: bool,
}

impl Rule {
    pub(crate) fn is_permit(&self) -> bool {
        self.policy.effect() == Effect::Permit
    }
}

/// Parses and validates every file.
pub(crate) fn load(words: &Words, files: &[(String, String)]) -> Result<Vec<Rule>, Vec<PolicyError>> {
    let mut errors = Vec::new();
    let sources = Source::all(files);
    let mut drafts = Vec::new();
    for source in &sources {
        drafts.extend(read(source, &mut errors));
    }
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let mut rules = Vec::new();
    for Draft { source, offset, policy } in drafts {
        let place = source.place(offset);
        let id = id(&policy, &place, &mut errors);
        let mut cedar_id = id.as_ref().map_or_else(|| place.to_string(), ToString::to_string);
        if let Some(first) = places.get(&cedar_id) {
            let help = format!("the other one is at {first}");
            errors.push(place.error(format!("`@id(\"{cedar_id}\")` is used twice"), Some(help)));
            cedar_id = place.to_string();
        }
        places.insert(cedar_id.clone(), place.clone());
        let policy = policy.new_id(cedar_policy::PolicyId::new(cedar_id));
        let rule = annotated(id, policy, place, &mut errors);
        rules.push((source, offset, rule));
    }
    validate(words, &mut rules, &mut errors);
    if errors.is_empty() {
        return Ok(rules.into_iter().filter_map(|(_, _, rule)| rule).collect());
    }
    errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Err(errors)
}

/// A policy as parsed, and where it begins in its file.
struct Draft<'a> {
    source: &'a Source<'a>,
    offset: usize,
    policy: Policy,
}

fn read<'a>(source: &'a Source<'a>, errors: &mut Vec<PolicyError>) -> Vec<Draft<'a>> {
    if let Some(error) = source.deceptive() {
        errors.push(error);
        return Vec::new();
    }
    let set = match source.text.parse::<PolicySet>() {
        Ok(set) => set,
        Err(e) => {
            errors.extend(e.iter().map(|e| source.diagnosed(e, 0)));
            return Vec::new();
        }
    };
    // Cedar keeps each policy's text but not where it was: policies are looked for in their order.
    let mut all: Vec<(usize, String, Option<Policy>)> = Vec::new();
    for policy in set.policies() {
        all.push((number(policy.id()), policy.to_cedar().unwrap_or_default(), Some(policy.clone())));
    }
    for template in set.templates() {
        all.push((number(template.id()), template.to_cedar(), None));
    }
    all.sort_by_key(|(n, _, _)| *n);
    let searched = without_comments(source.text);
    let mut from = 0;
    let mut drafts = Vec::new();
    for (_, text, policy) in all {
        let rest = searched.get(from..).unwrap_or_default();
        let offset = from + rest.find(&without_comments(&text)).unwrap_or_default();
        from = offset + text.len();
        match policy {
            Some(policy) => drafts.push(Draft { source, offset, policy }),
            None => errors.push(source.error(
                offset,
                "templates are not supported",
                Some("name the principal or the resource instead of `?principal` or `?resource`".into()),
            )),
        }
    }
    drafts
}

/// Cedar numbers the policies of a text: `policy0`, `policy1`.
fn number(id: &cedar_policy::PolicyId) -> usize {
    let text: &str = id.as_ref();
    text.trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

fn id(policy: &Policy, place: &Place, errors: &mut Vec<PolicyError>) -> Option<PolicyId> {
    let Some(id) = policy.annotation("id") else {
        let help = "write `@id(\"a-name-for-it\")` before it".to_owned();
        errors.push(place.error("the policy has no `@id`", Some(help)));
        return None;
    };
    PolicyId::parse(id).map_err(|e| errors.push(place.error(e.to_string(), None))).ok()
}

fn annotated(
    id: Option<PolicyId>,
    policy: Policy,
    place: Place,
    errors: &mut Vec<PolicyError>,
) -> Option<Rule> {
    let mut bad = |message: String, help: Option<String>| errors.push(place.error(message, help));
    for (name, _) in policy.annotations() {
        if !ANNOTATIONS.contains(&name) {
            let help = nearest(name, ANNOTATIONS).map(|n| format!("did you mean `@{n}`?"));
            bad(format!("unknown annotation `@{}`", text::shown(name)), help);
        }
    }
    let permits = policy.effect() == Effect::Permit;
    let max_ttl = policy.annotation("max_ttl").and_then(|v| {
        if !permits {
            bad("`@max_ttl` on a `forbid` bounds nothing".into(), Some("put it on the `permit`".into()));
        }
        Ttl::parse(v).map_err(|e| bad(format!("`@max_ttl`: {e}"), None)).ok()
    });
    let advice = policy.annotation("advice").and_then(|v| {
        text::visible("advice", v, 512).map_err(|e| bad(format!("`@advice`: {e}"), None)).ok()?;
        Some(v.to_owned())
    });
    let public = policy.annotation("public").is_some();
    if public && policy.annotation("advice").is_none() {
        bad(
            "`@public` without `@advice` shows nothing".into(),
            Some("write the `@advice` that the workload may see".into()),
        );
    }
    let observed_until = observed_until(&policy, &mut bad);
    Some(Rule { id: id?, policy, place, max_ttl, advice, public, observed_until, impossible: false })
}

/// Reads `@mode("observe")` and `@until`: what is observed has an end, so that nothing is only observed for ever.
fn observed_until(policy: &Policy, bad: &mut impl FnMut(String, Option<String>)) -> Option<UnixMillis> {
    let (mode, until) = (policy.annotation("mode"), policy.annotation("until"));
    let example = || Some("write `@mode(\"observe\") @until(\"2027-01-31\")`".to_owned());
    match mode {
        None if until.is_some() => bad("`@until` without `@mode` ends nothing".into(), example()),
        None => {}
        Some("observe") if policy.effect() == Effect::Permit => bad(
            "`@mode(\"observe\")` on a `permit`: it would take access away until its date, and then give it while \
             nobody looks"
                .into(),
            Some("leave the `permit` out until it shall count, or observe a `forbid`".into()),
        ),
        Some("observe") if until.is_none() => {
            bad("`@mode(\"observe\")` without an end".into(), example());
        }
        Some("observe") => {}
        Some(other) => bad(format!("unknown mode `{}`", text::shown(other)), example()),
    }
    let date = until.filter(|_| mode == Some("observe"))?;
    let parsed = day(date);
    if parsed.is_none() {
        bad(format!("`@until`: `{}` is not a date", text::shown(date)), example());
    }
    parsed
}

/// The beginning of a day, UTC, written `2027-01-31`.
fn day(text: &str) -> Option<UnixMillis> {
    let date = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    // Only one form of each date.
    let ms = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    u64::try_from(ms).ok().filter(|_| date.format("%Y-%m-%d").to_string() == text).map(UnixMillis)
}

fn validate(words: &Words, rules: &mut [(&Source<'_>, usize, Option<Rule>)], errors: &mut Vec<PolicyError>) {
    let mut set = PolicySet::new();
    for (source, offset, rule) in rules.iter() {
        if let Some(rule) = rule
            && let Err(e) = set.add(rule.policy.clone())
        {
            errors.push(source.error(*offset, e.to_string(), None));
        }
    }
    let result = Validator::new(words.schema.clone()).validate(&set, ValidationMode::Strict);
    for (source, offset, rule) in rules.iter_mut() {
        let Some(rule) = rule else { continue };
        for (message, help) in misspelt(words, &rule.policy) {
            errors.push(source.error(*offset, message, help));
        }
        for e in result.validation_errors().filter(|e| e.policy_id() == rule.policy.id()) {
            errors.push(source.diagnosed(e, *offset));
        }
        let mut warnings = result.validation_warnings().filter(|w| w.policy_id() == rule.policy.id());
        rule.impossible = warnings.any(|w| matches!(w, ValidationWarning::ImpossiblePolicy(_)));
    }
}

/// The owners and workloads that a policy names in a spelling that no owner and no workload ever has. A
/// `forbid` of one would silently forbid nothing.
fn misspelt(words: &Words, policy: &Policy) -> Vec<(String, Option<String>)> {
    let mut found = BTreeMap::new();
    for uid in policy.entity_literals() {
        let id: &str = uid.id().as_ref();
        let right = if *uid.type_name() == words.owner {
            Owner::parse(id).map(|owner| owner.to_string())
        } else if *uid.type_name() == words.workload {
            SpiffeId::parse(id).map(|workload| workload.to_string())
        } else {
            continue;
        };
        match right {
            Ok(right) if right == id => {}
            Ok(right) => {
                let message = format!("no owner is spelt `{}`", text::shown(id));
                found.insert(message, Some(format!("owners are lower case: `{right}`")));
            }
            Err(e) => {
                found.insert(e.to_string(), None);
            }
        }
    }
    found.into_iter().collect()
}

/// The name most like `input`, where one is like it at all.
pub(crate) fn nearest<'a>(input: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.into_iter().map(|n| (strsim::jaro_winkler(input, n), n));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, n)| n)
}
