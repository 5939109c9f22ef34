//! `[x509]` of a profile's file: the certificate that it grants.

use mayfly_domain::san::SANS_MAX;
use mayfly_domain::{Invalid, Ttl};

use super::{Mistakes, RawTtl, TtlLimit, compile_acceptors, compile_ttl};
use crate::profile::{SanTemplate, X509Profile};

/// `[x509]` of a profile's file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawX509 {
    /// The DNS names that it grants, such as `{name}.payments.svc`.
    pub dns: Vec<String>,
    /// The addresses that it grants, such as `{pod_ip}`.
    pub ips: Vec<String>,
    /// `client`, `server` or both.
    pub usage: Vec<String>,
    /// How long it lives.
    pub ttl: RawTtl,
    /// How long an outage may last that hurts nobody: so long before its end it is renewed at the latest.
    pub outage_budget: Option<String>,
    /// `online`, `feed` or `offline`.
    pub acceptors: String,
}

pub(super) fn compile(bad: &mut Mistakes, raw: &RawX509, limits: TtlLimit) -> Option<X509Profile> {
    let dns = templates(bad, "x509.dns", &raw.dns, SanTemplate::dns);
    let ips = templates(bad, "x509.ips", &raw.ips, SanTemplate::ip);
    if dns.len() + ips.len() > SANS_MAX {
        bad.note("x509.dns", format!("with `x509.ips` it lists more than {SANS_MAX} names"));
    }
    let usage = usage(bad, &raw.usage);
    let acceptors = compile_acceptors(bad, "x509.acceptors", &raw.acceptors);
    let budget =
        raw.outage_budget.as_deref().map(|budget| bad.parse("x509.outage_budget", budget, Ttl::parse));
    let (ttl, ttl_max) = compile_ttl(bad, "x509", &raw.ttl, limits)?;
    let outage_budget = budget.flatten();
    if let Some(budget) = outage_budget.filter(|budget| *budget >= ttl) {
        bad.note("x509.outage_budget", format!("`{budget}` is not less than `x509.ttl.default`, `{ttl}`"));
    }
    let (client, server) = usage?;
    Some(X509Profile { dns, ips, client, server, ttl, ttl_max, outage_budget, acceptors: acceptors? })
}

fn templates(
    bad: &mut Mistakes,
    key: &str,
    raw: &[String],
    parse: fn(&str) -> Result<SanTemplate, Invalid>,
) -> Vec<SanTemplate> {
    for (n, text) in raw.iter().enumerate() {
        if raw.iter().take(n).any(|before| before == text) {
            bad.note(&format!("{key}[{n}]"), "is listed twice");
        }
    }
    bad.all(key, raw, parse)
}

/// Whether it is for clients and for servers.
fn usage(bad: &mut Mistakes, raw: &[String]) -> Option<(bool, bool)> {
    let (mut client, mut server) = (false, false);
    for (n, word) in raw.iter().enumerate() {
        let key = format!("x509.usage[{n}]");
        let usage = bad.one_of(&key, word, &["client", "server"], |usage| usage)?;
        let seen = if usage == "client" { &mut client } else { &mut server };
        if std::mem::replace(seen, true) {
            bad.note(&key, "is listed twice");
        }
    }
    if raw.is_empty() {
        bad.note("x509.usage", "must list `client`, `server` or both");
        return None;
    }
    Some((client, server))
}
