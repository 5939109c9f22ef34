//! From a rule's file to a rule: every mistake at once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use mayfly_domain::text::shown;
use mayfly_domain::{
    Audience, Environment, FieldError, Owner, Owners, RuleName, SpiffeId, TaskId, TrustDomain, Ttl,
    UnixMillis, defaults,
};
use url::Url;

use super::{Condition, Test, TrustRule};
use crate::attested::OnOtherKey;
use crate::issuer::{Algorithm, Issuer};
use crate::preset::{Bind, Preset};
use crate::raw::{RawMatch, RawTask, RawTrustRule};
use crate::template::{Template, is_claim_name};

/// What claims look like while a template is tried at load.
const SAMPLE: &str = "x";

/// Collects mistakes; a value that could not be read becomes none and is reported once.
#[derive(Default)]
struct Mistakes(Vec<FieldError>);

impl Mistakes {
    fn add(&mut self, key: &str, message: impl std::fmt::Display) {
        self.0.push(FieldError::new(key, message.to_string()));
    }

    fn take<T, E: std::fmt::Display>(&mut self, key: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|e| self.add(key, e)).ok()
    }

    fn optional<T, E: std::fmt::Display>(
        &mut self,
        key: &str,
        raw: Option<&str>,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        raw.and_then(|text| self.take(key, parse(text)))
    }
}

pub(super) fn compile(raw: RawTrustRule, trust_domain: &TrustDomain) -> Result<TrustRule, Vec<FieldError>> {
    let mut m = Mistakes::default();
    let name = m.take("name", RuleName::parse(&raw.name));
    let preset = preset(&mut m, raw.preset.as_deref());
    let issuer = issuer(&mut m, &raw, preset);
    let environment = m.optional("environment", raw.environment.as_deref(), Environment::parse);
    let review_by = m.optional("review_by", raw.review_by.as_deref(), date);
    let bind = m.optional("bind", raw.bind.as_deref(), bind).unwrap_or(preset.bind);
    let on_other_key =
        m.optional("on_other_key", raw.on_other_key.as_deref(), on_other_key).unwrap_or(OnOtherKey::Refuse);
    if bind == Bind::Audience && on_other_key == OnOtherKey::Supersede {
        m.add(
            "on_other_key",
            "`supersede` needs `bind = \"first-use\"`: a token whose audience names its key has no other",
        );
    }
    let audience = raw.audience.as_deref().unwrap_or(trust_domain.as_str());
    let audience = m.take("audience", Audience::parse(audience));
    if audience.as_ref().is_some_and(|a| bind == Bind::Audience && a.as_str().contains('#')) {
        m.add("audience", "must not hold `#`: the key's thumbprint follows it");
    }
    let evidence_life = m
        .optional("evidence_life", raw.evidence_life.as_deref(), Ttl::parse)
        .unwrap_or(defaults::EVIDENCE_LIFE_MAX);
    if evidence_life > defaults::EVIDENCE_LIFE_LIMIT {
        // Older evidence could name a task whose end nobody remembers.
        m.add(
            "evidence_life",
            format!("`{evidence_life}` is longer than `{}`", defaults::EVIDENCE_LIFE_LIMIT),
        );
    }
    let spiffe_id = spiffe_id(&mut m, &raw.spiffe_id, trust_domain);
    let owners = owners(&mut m, &raw.owners);
    let conditions = conditions(&mut m, &raw.matches, preset);
    anchored(&mut m, &conditions, preset, raw.allow_names);
    let (window, window_max) = windows(&mut m, &raw.task);
    let task_ids = task_ids(&mut m, &raw.task, preset);
    let expose = expose(&mut m, &raw.expose);
    let written = owners.iter().map(|t| ("owners", t));
    let written = written.chain(spiffe_id.as_ref().map(|t| ("spiffe_id", t)));
    let written =
        written.chain(raw.task.id.is_some().then(|| task_ids.first()).flatten().map(|t| ("task.id", t)));
    for (key, template) in written {
        names_have_ids(&mut m, key, template, &conditions, preset, raw.allow_names);
    }
    match (name, issuer, spiffe_id, audience) {
        (Some(name), Some(issuer), Some(spiffe_id), Some(audience)) if m.0.is_empty() => Ok(TrustRule {
            name,
            preset,
            trust_domain: trust_domain.clone(),
            issuer,
            spiffe_id,
            owners,
            environment,
            review_by,
            conditions,
            task_ids,
            shared: raw.task.shared,
            window,
            window_max,
            expose,
            bind,
            audience: audience.as_str().to_owned(),
            on_other_key,
            evidence_life,
            allow_names: raw.allow_names,
        }),
        _ => Err(m.0),
    }
}

fn preset(m: &mut Mistakes, name: Option<&str>) -> &'static Preset {
    let Some(name) = name else { return Preset::PLAIN };
    Preset::find(name).unwrap_or_else(|| {
        let known: Vec<String> = Preset::ALL.iter().map(|p| format!("`{}`", p.name)).collect();
        m.add("preset", format!("`{}` is unknown; known: {}", shown(name), known.join(", ")));
        Preset::PLAIN
    })
}

/// An absolute `https` URL without user, query and fragment.
fn https(input: &str) -> Result<String, String> {
    let no = |why: &str| format!("`{}` {why}", shown(input));
    if input.len() > 512 || !input.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(no("is not a URL of at most 512 visible ASCII characters"));
    }
    let url = Url::parse(input).map_err(|_| no("is not a URL"))?;
    if url.scheme() != "https" || url.host_str().is_none_or(str::is_empty) {
        return Err(no("must start with `https://` and a host"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(no("must have no user and no fragment"));
    }
    Ok(input.to_owned())
}

fn issuer(m: &mut Mistakes, raw: &RawTrustRule, preset: &Preset) -> Option<Issuer> {
    let url = match raw.issuer.as_deref().or(preset.issuer) {
        Some(url) => m.take("issuer", https(url)).filter(|url| {
            let plain = !url.contains('?');
            if !plain {
                m.add("issuer", "must have no query");
            }
            plain
        }),
        None => {
            if raw.preset.is_none() {
                m.add("issuer", "is missing: a rule without a preset names its issuer");
            }
            None
        }
    };
    let jwks_uri = m.optional("jwks_uri", raw.jwks_uri.as_deref(), https);
    let jwks_host = m.optional("jwks_host", raw.jwks_host.as_deref(), |host: &str| {
        let good = Url::parse(&format!("https://{host}/"))
            .is_ok_and(|u| u.path() == "/" && u.username().is_empty() && host_and_port(&u) == *host);
        if good {
            Ok(host.to_owned())
        } else {
            Err(format!("`{}` is not a lower-case host name", shown(host)))
        }
    });
    let mut algorithms = BTreeSet::new();
    for one in &raw.algorithms {
        algorithms.extend(m.take("algorithms", Algorithm::parse(one)));
    }
    Some(Issuer { url: url?, jwks_uri, jwks_host, algorithms: algorithms.into_iter().collect() })
}

fn host_and_port(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

fn date(input: &str) -> Result<UnixMillis, String> {
    let no = || format!("`{}` is not a date such as 2027-05-01", shown(input));
    let day = NaiveDate::parse_from_str(input, "%Y-%m-%d").map_err(|_| no())?;
    let seconds = day.and_hms_opt(0, 0, 0).ok_or_else(no)?.and_utc().timestamp();
    Ok(UnixMillis::from_secs(u64::try_from(seconds).map_err(|_| no())?))
}

fn bind(input: &str) -> Result<Bind, String> {
    [Bind::Audience, Bind::FirstUse]
        .into_iter()
        .find(|b| b.as_str() == input)
        .ok_or_else(|| format!("`{}` must be `audience` or `first-use`", shown(input)))
}

fn on_other_key(input: &str) -> Result<OnOtherKey, String> {
    match input {
        "refuse" => Ok(OnOtherKey::Refuse),
        "supersede" => Ok(OnOtherKey::Supersede),
        other => Err(format!("`{}` must be `refuse` or `supersede`", shown(other))),
    }
}

fn spiffe_id(m: &mut Mistakes, raw: &str, trust_domain: &TrustDomain) -> Option<Template> {
    const KEY: &str = "spiffe_id";
    if raw.contains("://") {
        m.add(KEY, "must be the path alone, such as `/ci/payments`: the trust domain goes in front");
        return None;
    }
    let template = m.take(KEY, Template::parse(raw))?;
    let path = m.take(KEY, template.sample(SAMPLE))?;
    let id = m.take(KEY, SpiffeId::new(trust_domain, &path))?;
    if id.is_reserved() {
        m.add(KEY, "paths below `/mayfly/` are reserved for brokers, operators and acceptors");
        return None;
    }
    Some(template)
}

fn owners(m: &mut Mistakes, raw: &[String]) -> Vec<Template> {
    const KEY: &str = "owners";
    let mut out = Vec::new();
    let mut samples = Vec::new();
    for text in raw {
        let Some(template) = m.take(KEY, Template::parse(text)) else { continue };
        if template.claims().next().is_some() && !template.literal_start().contains(':') {
            m.add(KEY, format!("`{}`: the kind of an owner must not come from a claim", shown(text)));
            continue;
        }
        let sample = m.take(KEY, template.sample(SAMPLE));
        samples.extend(sample.and_then(|s| m.take(KEY, Owner::parse(&s))));
        out.push(template);
    }
    if raw.is_empty() || raw.len() > Owners::MAX {
        m.add(KEY, "a rule names one to four owners");
    } else if samples.len() == raw.len()
        && out.iter().enumerate().any(|(n, t)| out.iter().skip(n + 1).any(|o| o == t))
    {
        m.add(KEY, "names the same owner twice");
    }
    out
}

fn conditions(m: &mut Mistakes, raw: &[(String, RawMatch)], preset: &Preset) -> Vec<Condition> {
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
        let test = match wanted {
            RawMatch::Prefix(start) => Test::Prefix(start.clone()),
            RawMatch::Exact(_) | RawMatch::OneOf(_) => {
                let all: BTreeSet<String> = texts.into_iter().cloned().collect();
                Test::OneOf(all.into_iter().collect())
            }
        };
        let is_id = preset.anchors.contains(&claim.as_str()) || claim.ends_with("_id");
        if is_id && matches!(test, Test::Prefix(_)) {
            m.add(&key, "is an id: it is matched whole");
            continue;
        }
        out.push(Condition { claim: claim.clone(), test });
    }
    out.sort();
    out
}

/// Demands an id that is never given to somebody else, and ids beside names.
fn anchored(m: &mut Mistakes, conditions: &[Condition], preset: &Preset, allow_names: bool) {
    if conditions.is_empty() {
        return;
    }
    let pinned =
        |claims: &[&str]| conditions.iter().any(|c| c.is_exact() && claims.contains(&c.claim.as_str()));
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

fn names_have_ids(
    m: &mut Mistakes,
    key: &str,
    template: &Template,
    conditions: &[Condition],
    preset: &Preset,
    allow_names: bool,
) {
    for claim in template.claims() {
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

fn windows(m: &mut Mistakes, task: &RawTask) -> (Ttl, Ttl) {
    let max = m.optional("task.window.max", task.window_max.as_deref(), Ttl::parse);
    let default = m.optional("task.window.default", task.window.as_deref(), Ttl::parse);
    let max =
        max.unwrap_or_else(|| default.unwrap_or(defaults::TASK_WINDOW_MAX).max(defaults::TASK_WINDOW_MAX));
    let default = default.unwrap_or_else(|| defaults::TASK_WINDOW.min(max));
    if default > max {
        m.add("task.window.default", format!("`{default}` is longer than the maximum, `{max}`"));
    }
    if max > defaults::LINEAGE_MAX {
        m.add("task.window.max", format!("`{max}` is longer than `{}`", defaults::LINEAGE_MAX));
    }
    (default, max)
}

fn task_ids(m: &mut Mistakes, task: &RawTask, preset: &Preset) -> Vec<Template> {
    const KEY: &str = "task.id";
    let texts: Vec<&str> = match (&task.id, task.shared) {
        (Some(id), _) => vec![id.as_str()],
        (None, true) => preset.task_shared.into_iter().collect(),
        (None, false) => preset.task.to_vec(),
    };
    if texts.is_empty() {
        m.add(KEY, "is missing: no preset says what a task is");
    }
    let mut out = Vec::new();
    for text in texts {
        let Some(template) = m.take(KEY, Template::parse(text)) else { continue };
        if template.claims().next().is_none() {
            m.add(KEY, "names no claim: every job would be one task");
        }
        let sample = m.take(KEY, template.sample(SAMPLE));
        if sample.and_then(|s| m.take(KEY, TaskId::parse(&s))).is_some() {
            out.push(template);
        }
    }
    out
}

fn expose(m: &mut Mistakes, raw: &[(String, String)]) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (tag, claim) in raw {
        let key = format!("expose.{}", shown(tag));
        if !is_claim_name(tag) || !is_claim_name(claim) {
            m.add(&key, "tag and claim are letters, digits and `_`");
        } else if out.insert(tag.clone(), claim.clone()).is_some() {
            m.add(&key, "is exposed twice");
        }
    }
    if out.len() > 32 {
        m.add("expose", "exposes more than 32 claims");
    }
    out
}
