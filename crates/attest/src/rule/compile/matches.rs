//! What a rule matches, and which claims it may build names of.

use std::collections::BTreeSet;

use mayfly_domain::text::shown;

use super::super::{Condition, Test};
use super::Mistakes;
use crate::preset::Preset;
use crate::raw::RawMatch;
use crate::template::{Template, is_claim_name};

pub(super) fn conditions(m: &mut Mistakes, raw: &[(String, RawMatch)], preset: &Preset) -> Vec<Condition> {
    let mut out: Vec<Condition> = Vec::new();
    if raw.is_empty() {
        m.add("match", "is empty: it would accept every token of the issuer");
    }
    for (claim, wanted) in raw {
        let key = format!("match.{}", shown(claim));
        if !is_claim_name(claim) {
            m.add(&key, "is not a claim's name: letters, digits and `_` only");
            continue;
        }
        if matches!(claim.as_str(), "iss" | "aud" | "exp" | "iat" | "nbf" | "jti") {
            m.add(&key, "is judged by `issuer`, `audience` and `evidence_life`, not by `match`");
            continue;
        }
        if out.iter().any(|c| c.claim == *claim) {
            m.add(&key, "is matched twice");
            continue;
        }
        let texts: Vec<&String> = match wanted {
            RawMatch::Exact(text) | RawMatch::Prefix(text) => vec![text],
            RawMatch::OneOf(all) => all.iter().collect(),
        };
        if texts.is_empty() || texts.iter().any(|t| t.is_empty()) {
            m.add(&key, "is empty: it would accept everything or nothing");
            continue;
        }
        if texts.iter().any(|t| t.contains('*')) {
            m.add(&key, "`*` is no pattern: write the whole text, `{ prefix = \"…\" }` or a list of texts");
            continue;
        }
        if preset.hex.contains(&claim.as_str())
            && !texts.iter().all(|t| t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        {
            m.add(&key, "is lower-case hexadecimal digits, without colons");
            continue;
        }
        let test = match wanted {
            RawMatch::Prefix(start) => Test::Prefix(start.clone()),
            RawMatch::Exact(_) | RawMatch::OneOf(_) => {
                let all: BTreeSet<String> = texts.into_iter().cloned().collect();
                Test::OneOf(all.into_iter().collect())
            }
        };
        let is_id = preset.anchors.contains(&claim.as_str()) || claim.ends_with("_id");
        let is_id = is_id && !preset.starts.contains(&claim.as_str());
        if is_id && matches!(test, Test::Prefix(_)) {
            m.add(&key, "is an id: it is matched whole");
            continue;
        }
        out.push(Condition { claim: claim.clone(), test });
    }
    out.sort();
    out
}

/// Demands an id that is never given to somebody else, and ids beside names. The start of a name by which an
/// authority gives out ids is as good as an id.
pub(super) fn anchored(m: &mut Mistakes, conditions: &[Condition], preset: &Preset, allow_names: bool) {
    if conditions.is_empty() {
        return;
    }
    let pinned = |claims: &[&str]| {
        let enough = |c: &&Condition| c.is_exact() || preset.starts.contains(&c.claim.as_str());
        conditions.iter().filter(enough).any(|c| claims.contains(&c.claim.as_str()))
    };
    let sub_with_ids = conditions.iter().any(|c| c.is_sub_with_ids(preset));
    if !(pinned(preset.anchors) || sub_with_ids || (allow_names && pinned(preset.name_anchors))) {
        let anchors: Vec<String> = preset.anchors.iter().map(|a| format!("`{a}`")).collect();
        m.add("match", format!("has no anchor: match {} by its whole value", anchors.join(" or ")));
    }
    for condition in conditions {
        let Some(ids) = preset.ids_of(&condition.claim) else { continue };
        if !(allow_names || pinned(ids) || condition.is_sub_with_ids(preset)) {
            let key = format!("match.{}", condition.claim);
            m.add(&key, name_alone(ids));
        }
    }
}

pub(super) fn templates_are_safe(
    m: &mut Mistakes,
    key: &str,
    template: &Template,
    conditions: &[Condition],
    preset: &Preset,
    allow_names: bool,
) {
    for claim in template.claims() {
        if preset.match_only.contains(&claim) {
            m.add(key, format!("`{{{claim}}}` can be changed by who holds the evidence: use `{{id}}`"));
        }
        let Some(ids) = preset.ids_of(claim) else { continue };
        let pinned = conditions.iter().any(|c| c.is_exact() && ids.contains(&c.claim.as_str()));
        let beside = template.claims().any(|c| ids.contains(&c));
        if !(allow_names || pinned || beside) {
            m.add(key, format!("`{{{claim}}}`: {}", name_alone(ids)));
        }
    }
}

fn name_alone(ids: &[&str]) -> String {
    let ids: Vec<String> = ids.iter().map(|i| format!("`{i}`")).collect();
    format!(
        "is a name that somebody else can take over: add {}, or say `allow_names = true`",
        ids.join(" or ")
    )
}
