//! Templates of the names that a profile grants: text with `{name}`, the last segment of the workload's SPIFFE
//! ID, and `{tag}`, a claim that its trust rule exposes.
//!
//! A filled template is a valid name or nothing. INVARIANT: a value fills one DNS label or part of one, or a whole
//! address; what a claim holds can't add a label, a wildcard or another host.

use std::collections::BTreeMap;

use mayfly_domain::{Invalid, San, SpiffeId};

#[cfg(test)]
mod tests;

/// The longest template, in octets.
const OCTETS_MAX: usize = 512;
/// The placeholder of the SPIFFE ID's last segment.
const NAME: &str = "name";

/// A template of a DNS name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanTemplate {
    text: String,
    kind: Kind,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dns,
    Ip,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Name,
    Tag(String),
}

impl SanTemplate {
    /// Compiles a template of a DNS name, such as `{name}.payments.svc`.
    ///
    /// # Errors
    /// [`Invalid`] for an unknown syntax, or a text that no value makes a DNS name.
    pub fn dns(text: &str) -> Result<Self, Invalid> {
        let template = Self::compile(text, Kind::Dns)?;
        // A value is one label or part of one: what fails with the plainest one fails with all.
        San::dns(&template.fill(|_| Some("x")).unwrap_or_default())?;
        Ok(template)
    }

    /// Compiles a template of an address: an address, or one placeholder such as `{pod_ip}`.
    ///
    /// # Errors
    /// [`Invalid`] for anything else.
    pub fn ip(text: &str) -> Result<Self, Invalid> {
        let template = Self::compile(text, Kind::Ip)?;
        match template.parts.as_slice() {
            [Part::Text(address)] => San::ip(address).map(|_| template),
            [_] => Ok(template),
            _ => {
                Err(Invalid::new("template", text, "must be an address, or one placeholder and nothing else"))
            }
        }
    }

    fn compile(text: &str, kind: Kind) -> Result<Self, Invalid> {
        let no = |why: &'static str| Invalid::new("template", text, why);
        if text.is_empty() || text.len() > OCTETS_MAX {
            return Err(no("must have 1 to 512 octets"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (word, after) = after.split_once('}').ok_or_else(|| no("has a brace without its other"))?;
            // The alphabet of the tags that trust rules expose.
            if word.is_empty() || !word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(no("a placeholder is `{name}` or `{tag}`: letters, digits and `_`"));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(if word == NAME { Part::Name } else { Part::Tag(word.to_owned()) });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            return Err(no("has a brace without its other"));
        }
        Ok(Self { text: text.to_owned(), kind, parts })
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name for this workload; none where a value is missing, or is not one label or one address.
    pub fn name(&self, workload: &SpiffeId, tags: &BTreeMap<String, String>) -> Option<San> {
        let filled = self.fill(|part| {
            let value = match part {
                Part::Name => workload.path().rsplit('/').next(),
                Part::Tag(tag) => tags.get(tag).map(String::as_str),
                Part::Text(_) => None,
            };
            value.filter(|value| self.kind == Kind::Ip || is_label(value))
        })?;
        match self.kind {
            Kind::Dns => San::dns(&filled).ok(),
            Kind::Ip => San::ip(&filled).ok(),
        }
    }

    fn fill<'v>(&'v self, value: impl Fn(&'v Part) -> Option<&'v str>) -> Option<String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                placeholder => out.push_str(value(placeholder)?),
            }
        }
        Some(out)
    }
}

/// Whether a value is one label of a DNS name.
fn is_label(value: &str) -> bool {
    (1..=63).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !value.starts_with('-')
        && !value.ends_with('-')
}

impl std::fmt::Display for SanTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
