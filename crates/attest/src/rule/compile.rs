//! From a rule's file to a rule: every mistake at once.

mod matches;
mod trusted;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use mayfly_domain::text::shown;
use mayfly_domain::{
    Environment, FieldError, Owner, Owners, RuleName, SpiffeId, TaskId, TrustDomain, Ttl, UnixMillis,
    defaults,
};

use super::TrustRule;
use crate::preset::Preset;
use crate::raw::{RawTask, RawTrustRule};
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
    let trusted = trusted::trusted(&mut m, &raw, preset);
    let environment = m.optional("environment", raw.environment.as_deref(), Environment::parse);
    let review_by = m.optional("review_by", raw.review_by.as_deref(), date);
    let binding = trusted::binding(&mut m, &raw, preset, trust_domain.as_str());
    let evidence_life =
        m.optional("evidence_life", raw.evidence_life.as_deref(), Ttl::parse).unwrap_or(preset.evidence_life);
    if evidence_life > preset.evidence_life_max {
        // Older evidence could name a task whose end nobody remembers.
        m.add("evidence_life", format!("`{evidence_life}` is longer than `{}`", preset.evidence_life_max));
    }
    let spiffe_id = spiffe_id(&mut m, &raw.spiffe_id, trust_domain);
    let owners = owners(&mut m, &raw.owners);
    let conditions = matches::conditions(&mut m, &raw.matches, preset);
    matches::anchored(&mut m, &conditions, preset, raw.allow_names);
    let (window, window_max) = windows(&mut m, &raw.task, preset);
    let task_ids = task_ids(&mut m, &raw.task, preset);
    let expose = expose(&mut m, &raw.expose);
    let written = owners.iter().map(|t| ("owners", t));
    let written = written.chain(spiffe_id.as_ref().map(|t| ("spiffe_id", t)));
    let written =
        written.chain(raw.task.id.is_some().then(|| task_ids.first()).flatten().map(|t| ("task.id", t)));
    for (key, template) in written {
        matches::templates_are_safe(&mut m, key, template, &conditions, preset, raw.allow_names);
    }
    match (name, trusted, spiffe_id, binding) {
        (Some(name), Some(trusted), Some(spiffe_id), Some((bind, on_other_key, audience)))
            if m.0.is_empty() =>
        {
            Ok(TrustRule {
                name,
                preset,
                trust_domain: trust_domain.clone(),
                trusted,
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
            })
        }
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

fn date(input: &str) -> Result<UnixMillis, String> {
    let no = || format!("`{}` is not a date such as 2027-05-01", shown(input));
    let day = NaiveDate::parse_from_str(input, "%Y-%m-%d").map_err(|_| no())?;
    let seconds = day.and_hms_opt(0, 0, 0).ok_or_else(no)?.and_utc().timestamp();
    Ok(UnixMillis::from_secs(u64::try_from(seconds).map_err(|_| no())?))
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

fn windows(m: &mut Mistakes, task: &RawTask, preset: &Preset) -> (Ttl, Ttl) {
    let max = m.optional("task.window.max", task.window_max.as_deref(), Ttl::parse);
    let default = m.optional("task.window.default", task.window.as_deref(), Ttl::parse);
    let (usual, longest) = preset.window;
    let max = max.unwrap_or_else(|| default.unwrap_or(longest).max(longest));
    let default = default.unwrap_or_else(|| usual.min(max));
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
