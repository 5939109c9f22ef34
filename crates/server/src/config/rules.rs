//! `trust/*.toml`: which verified evidence makes which workload.
//!
//! Only the form is looked at here; what a rule may say is decided where rules are compiled.

use std::path::Path;

use mayfly_attest::raw::{RawMatch, RawTask, RawTrustRule};
use mayfly_attest::{Authority, RuleSet, TrustRule};
use mayfly_attestors::x509::read_authority;
use mayfly_domain::{FieldError, TrustDomain, Ttl};
use toml::de::DeValue;

use super::document::{Document, Value};
use super::files::read_file;
use super::kinds::{Kinded, date, flag, list, text, wrong};
use super::reader::{Notes, Reader};

const TEXT_MAX: usize = 1_024;
const LIST_MAX: usize = 64;

/// Reads a rule. `longest` is the longest life of evidence that the store keeps fences for.
pub(super) fn rule(
    doc: &Document<'_>,
    notes: &Notes,
    trust_domain: &TrustDomain,
    longest: Ttl,
) -> Option<TrustRule> {
    let before = notes.count();
    let raw = raw_rule(doc, notes);
    match TrustRule::compile(raw, trust_domain) {
        Ok(rule) if rule.evidence_life() > longest => {
            let message = format!(
                "`{}` is longer than `{longest}`, the longest life that revocations are kept for: shorten it, or raise \
                 `ttl.lineage.max` of mayfly.toml",
                rule.evidence_life()
            );
            notes.fields(doc, [FieldError::new("evidence_life", message)]);
            None
        }
        Ok(rule) if notes.count() == before => Some(rule),
        Ok(_) => None,
        Err(errors) => {
            notes.fields(doc, errors);
            None
        }
    }
}

fn raw_rule(doc: &Document<'_>, notes: &Notes) -> RawTrustRule {
    let r = Reader::new(doc, notes);
    let word = |key| r.optional(key, text(TEXT_MAX));
    let words = |key| r.optional(key, list(LIST_MAX, text(TEXT_MAX))).unwrap_or_default();
    let raw = RawTrustRule {
        name: word("name").unwrap_or_default(),
        preset: word("preset"),
        issuer: word("issuer"),
        jwks_uri: word("jwks_uri"),
        jwks_host: word("jwks_host"),
        authority: r.optional("ca_file", |value| authority(doc.file, value)),
        spiffe_id: word("spiffe_id").unwrap_or_default(),
        owners: words("owners"),
        environment: word("environment"),
        review_by: r.optional("review_by", date),
        matches: pairs(&r, "match", matched),
        task: task(r.table("task")),
        expose: pairs(&r, "expose", text(TEXT_MAX)),
        bind: word("bind"),
        audience: word("audience"),
        on_other_key: word("on_other_key"),
        evidence_life: word("evidence_life"),
        allow_names: r.optional("allow_names", flag).unwrap_or_default(),
        algorithms: words("algorithms"),
    };
    r.finish();
    raw
}

/// The authority in a PEM file, whose path is relative to the rule's.
fn authority(rule: &Path, value: &Value<'_>) -> Kinded<Authority> {
    let path = text(TEXT_MAX)(value)?;
    let file = rule.parent().unwrap_or(Path::new(".")).join(path);
    let source = read_file(&file).or_else(|e| wrong(format!("{}: {}", e.file.display(), e.message)))?;
    read_authority(source.text.as_bytes()).or_else(|e| wrong(format!("{}: {e}", file.display())))
}

fn task(r: Reader<'_>) -> RawTask {
    let window = r.table("window");
    let task = RawTask {
        id: r.optional("id", text(TEXT_MAX)),
        shared: r.optional("shared", flag).unwrap_or_default(),
        window: window.optional("default", text(TEXT_MAX)),
        window_max: window.optional("max", text(TEXT_MAX)),
    };
    window.finish();
    r.finish();
    task
}

/// The entries of a table whose keys are claims or tags.
fn pairs<T>(r: &Reader<'_>, key: &'static str, kind: impl Fn(&Value<'_>) -> Kinded<T>) -> Vec<(String, T)> {
    let mut all = Vec::new();
    for (name, value) in r.entries(key) {
        match kind(value) {
            Ok(one) => all.push((name.to_owned(), one)),
            Err(bad) => r.wrongs(&format!("{key}.{name}"), bad),
        }
    }
    all
}

/// `"exact"`, `{ prefix = "…" }` or a list of exact texts.
fn matched(value: &Value<'_>) -> Kinded<RawMatch> {
    const FORMS: &str = "must be text, `{ prefix = \"…\" }` or a list of texts";
    match value.get_ref() {
        DeValue::String(_) => text(TEXT_MAX)(value).map(RawMatch::Exact),
        DeValue::Array(_) => list(LIST_MAX, text(TEXT_MAX))(value).map(RawMatch::OneOf),
        DeValue::Table(table) => {
            let mut entries = table.iter();
            match (entries.next(), entries.next()) {
                (Some((key, prefix)), None) if key.get_ref() == "prefix" => {
                    text(TEXT_MAX)(prefix).map(RawMatch::Prefix)
                }
                _ => wrong(FORMS),
            }
        }
        _ => wrong(FORMS),
    }
}

/// Puts the rules together; what is wrong between two of them is told of the directory.
pub(super) fn together(rules: Vec<TrustRule>, directory: &Path, notes: &Notes) -> Option<RuleSet> {
    match RuleSet::new(rules) {
        Ok(set) => Some(set),
        Err(errors) => {
            for e in errors {
                notes.push(super::Problem { key: e.key, ..super::Problem::of_file(directory, e.message) });
            }
            None
        }
    }
}
