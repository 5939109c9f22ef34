//! A profile as its file says it, and how it becomes a [`Profile`]: all mistakes at once.
//!
//! This module must never read a file: keys are told by their path, and whoever read the file knows the lines.

use mayfly_domain::{
    AcceptorMode, Audience, Binding, CredentialKind, Environment, FieldError, IntegrationName, Intent,
    Invalid, Owner, ProfileName, Scope, Scopes, Ttl, defaults, text,
};

use super::{Grants, Profile, TokenProfile};

mod x509;

pub use x509::RawX509;

/// The most intents that a profile may list.
pub const INTENTS_MAX: usize = 32;

/// The lives that the configuration's `[ttl]` allows one kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlLimit {
    /// The life where a profile says nothing.
    pub default: Ttl,
    /// The longest life; no profile may exceed it.
    pub max: Ttl,
}

/// The lives that the configuration's `[ttl]` allows each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlLimits {
    /// Access tokens.
    pub token: TtlLimit,
    /// Certificates.
    pub x509: TtlLimit,
}

impl Default for TtlLimits {
    fn default() -> Self {
        Self {
            token: TtlLimit { default: defaults::TOKEN_TTL, max: defaults::TOKEN_TTL_MAX },
            x509: TtlLimit { default: defaults::X509_TTL, max: defaults::X509_TTL_MAX },
        }
    }
}

/// A profile's file, whose form its reader looked at. Empty text stands for a missing key; [`Profile::compile`] says which are required.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawProfile {
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    pub summary: String,
    /// The kind of credential: `token` or `x509`.
    pub kind: String,
    /// What it opens.
    pub integration: String,
    /// Who answers for the grant itself.
    pub owner: String,
    /// Its environment.
    pub environment: Option<String>,
    /// The intents that a task may have.
    pub intents: Vec<String>,
    /// When a person should look at it again: `YYYY-MM-DD`.
    pub review_by: Option<String>,
    /// The token that it grants.
    pub token: Option<RawToken>,
    /// The certificate that it grants.
    pub x509: Option<RawX509>,
    /// Its quotas.
    pub quota: RawQuota,
}

/// `[token]` of a profile's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawToken {
    /// The one audience.
    pub audience: String,
    /// Every scope that it grants.
    pub scopes: Vec<String>,
    /// How long it lives.
    pub ttl: RawTtl,
    /// `dpop`, `mtls` or `bearer`; `dpop` where it is missing.
    pub binding: Option<String>,
    /// Why it must be a bearer token; required with `binding = "bearer"`, refused otherwise.
    pub bearer_reason: Option<String>,
    /// `online`, `feed` or `offline`.
    pub acceptors: String,
}

/// `token.ttl`, `x509.ttl`: lives such as `15m`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawTtl {
    /// The life where the workload asks for none; missing: the configuration's, or `max` where that is less.
    pub default: Option<String>,
    /// The longest life; missing: the configuration's.
    pub max: Option<String>,
}

/// `[quota]` of a profile's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawQuota {
    /// Each workload's.
    pub workload: RawWorkloadQuota,
}

/// `[quota.workload]` of a profile's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawWorkloadQuota {
    /// The most live leases of one workload.
    pub live_leases: Option<i64>,
}

/// Collects mistakes; a missing value means that one was noted.
#[derive(Default)]
struct Mistakes(Vec<FieldError>);

impl Mistakes {
    fn note(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(FieldError::new(key, message));
    }

    fn parse<T>(&mut self, key: &str, value: &str, parse: fn(&str) -> Result<T, Invalid>) -> Option<T> {
        if value.is_empty() {
            self.note(key, "is missing");
            return None;
        }
        parse(value).map_err(|e| self.note(key, e.to_string())).ok()
    }

    fn all<T>(&mut self, key: &str, values: &[String], parse: fn(&str) -> Result<T, Invalid>) -> Vec<T> {
        let mut out = Vec::with_capacity(values.len());
        for (n, value) in values.iter().enumerate() {
            out.extend(self.parse(&format!("{key}[{n}]"), value, parse));
        }
        out
    }

    fn one_of<T: Copy>(
        &mut self,
        key: &str,
        value: &str,
        choices: &[T],
        name: fn(T) -> &'static str,
    ) -> Option<T> {
        let found = choices.iter().copied().find(|c| name(*c) == value);
        if found.is_none() {
            let names: Vec<String> = choices.iter().map(|c| format!("`{}`", name(*c))).collect();
            let problem = if value.is_empty() {
                "is missing".into()
            } else {
                format!("unknown `{}`", text::shown(value))
            };
            self.note(key, format!("{problem}: must be one of {}", names.join(", ")));
        }
        found
    }
}

fn line(input: &str) -> Result<String, Invalid> {
    text::visible("text", input, 256)?;
    Ok(input.to_owned())
}

fn day(input: &str) -> Result<(), Invalid> {
    chrono::NaiveDate::parse_from_str(input, "%Y-%m-%d")
        .map(|_| ())
        .map_err(|_| Invalid::new("date", input, "must be a date such as `2027-05-01`"))
}

impl Profile {
    /// Makes a profile of its file, for a configuration that allows the lives of `limits`.
    ///
    /// # Errors
    /// Every mistake, each with its key's path.
    pub fn compile(raw: &RawProfile, limits: TtlLimits) -> Result<Self, Vec<FieldError>> {
        let mut bad = Mistakes::default();
        let name = bad.parse("name", &raw.name, ProfileName::parse);
        let summary = bad.parse("summary", &raw.summary, line);
        let kinds = [CredentialKind::Token, CredentialKind::X509];
        let kind = bad.one_of("kind", &raw.kind, &kinds, CredentialKind::as_str);
        let integration = bad.parse("integration", &raw.integration, IntegrationName::parse);
        let owner = bad.parse("owner", &raw.owner, Owner::parse);
        let environment =
            raw.environment.as_deref().and_then(|e| bad.parse("environment", e, Environment::parse));
        let intents = compile_intents(&mut bad, &raw.intents);
        if let Some(review_by) = &raw.review_by {
            bad.parse("review_by", review_by, day);
        }
        let live_leases_workload = raw.quota.workload.live_leases.and_then(|n| match u32::try_from(n) {
            Ok(n) if n > 0 => Some(n),
            _ => {
                bad.note("quota.workload.live_leases", format!("`{n}` must be 1 to {}", u32::MAX));
                None
            }
        });
        let grants = compile_grants(&mut bad, kind, raw, limits);
        match (name, summary, integration, owner, grants) {
            (Some(name), Some(summary), Some(integration), Some(owner), Some(grants)) if bad.0.is_empty() => {
                Ok(Self {
                    name,
                    summary,
                    integration,
                    owner,
                    environment,
                    intents,
                    grants,
                    live_leases_workload,
                })
            }
            _ => Err(bad.0),
        }
    }
}

/// What the kind's own table says. The other kind's table is a mistake, and what is wrong in it is told too.
fn compile_grants(
    bad: &mut Mistakes,
    kind: Option<CredentialKind>,
    raw: &RawProfile,
    limits: TtlLimits,
) -> Option<Grants> {
    let token = raw.token.as_ref().map(|token| compile_token(bad, token, limits.token));
    let x509 = raw.x509.as_ref().map(|x509| x509::compile(bad, x509, limits.x509));
    let kind = kind?;
    for (given, table) in [(token.is_some(), CredentialKind::Token), (x509.is_some(), CredentialKind::X509)] {
        if given != (kind == table) {
            let (table, kind) = (table.as_str(), kind.as_str());
            let problem = if given {
                format!("the table `[{table}]` does not belong to `kind = \"{kind}\"`")
            } else {
                format!("the table `[{table}]` is missing")
            };
            bad.note(table, problem);
        }
    }
    match kind {
        CredentialKind::X509 => x509.flatten().map(Grants::X509),
        _ => token.flatten().map(Grants::Token),
    }
}

fn compile_intents(bad: &mut Mistakes, raw: &[String]) -> Vec<Intent> {
    if raw.is_empty() || raw.len() > INTENTS_MAX {
        bad.note("intents", format!("must list 1 to {INTENTS_MAX} intents such as `deploy:payments`"));
        return Vec::new();
    }
    let intents = bad.all("intents", raw, Intent::parse);
    let mut sorted: Vec<&Intent> = intents.iter().collect();
    sorted.sort();
    for pair in sorted.windows(2) {
        if let [a, b] = pair
            && a == b
        {
            bad.note("intents", format!("`{a}` is listed twice"));
        }
    }
    intents
}

fn compile_token(bad: &mut Mistakes, raw: &RawToken, limits: TtlLimit) -> Option<TokenProfile> {
    let audience = bad.parse("token.audience", &raw.audience, Audience::parse);
    let scopes = Scopes::new(bad.all("token.scopes", &raw.scopes, Scope::parse))
        .map_err(|e| bad.note("token.scopes", e.to_string()))
        .ok();
    let binding = bad.one_of(
        "token.binding",
        raw.binding.as_deref().unwrap_or(Binding::Dpop.as_str()),
        &[Binding::Dpop, Binding::Mtls, Binding::Bearer],
        Binding::as_str,
    );
    match (binding, raw.bearer_reason.as_deref()) {
        (Some(Binding::Bearer), reason) => {
            let reason = reason.unwrap_or_default();
            if reason.is_empty() {
                bad.note(
                    "token.bearer_reason",
                    "is missing: a bearer token works for whoever holds it, so its profile says why",
                );
            } else {
                bad.parse("token.bearer_reason", reason, line);
            }
        }
        (Some(_), Some(_)) => bad.note("token.bearer_reason", "belongs to `binding = \"bearer\"` only"),
        _ => {}
    }
    let acceptors = compile_acceptors(bad, "token.acceptors", &raw.acceptors);
    let ttl = compile_ttl(bad, "token", &raw.ttl, limits);
    let (ttl, ttl_max) = ttl?;
    Some(TokenProfile {
        audience: audience?,
        scopes: scopes?,
        ttl,
        ttl_max,
        binding: binding?,
        acceptors: acceptors?,
    })
}

fn compile_acceptors(bad: &mut Mistakes, key: &str, raw: &str) -> Option<AcceptorMode> {
    let modes = [AcceptorMode::Online, AcceptorMode::Feed, AcceptorMode::Offline];
    bad.one_of(key, raw, &modes, AcceptorMode::as_str)
}

/// The lives of `table`, a table of the profile and of the configuration's `[ttl]`.
fn compile_ttl(bad: &mut Mistakes, table: &str, raw: &RawTtl, limits: TtlLimit) -> Option<(Ttl, Ttl)> {
    let (default_key, max_key) = (format!("{table}.ttl.default"), format!("{table}.ttl.max"));
    let max = raw.max.as_deref().map_or(Some(limits.max), |v| bad.parse(&max_key, v, Ttl::parse));
    let default = match raw.default.as_deref() {
        Some(v) => bad.parse(&default_key, v, Ttl::parse),
        None => max.map(|max| limits.default.min(max)),
    };
    let (default, max) = (default?, max?);
    if max > limits.max {
        let most = limits.max;
        bad.note(&max_key, format!("`{max}` is longer than the configuration's `ttl.{table}.max`, `{most}`"));
    }
    if default > max {
        bad.note(&default_key, format!("`{default}` is longer than `{max_key}`, `{max}`"));
    }
    Some((default, max))
}
