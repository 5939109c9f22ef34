//! `profiles/*.toml`: what a workload can ask for.
//!
//! Only the form is looked at here; what a profile may say is decided where profiles are compiled.

use mayfly_policy::profile::{RawQuota, RawToken, RawTtl, RawWorkloadQuota, RawX509};
use mayfly_policy::{Profile, RawProfile, TtlLimits};

use super::document::Document;
use super::kinds::{count, date, list, text};
use super::reader::{Notes, Reader};

const TEXT_MAX: usize = 1_024;
const LIST_MAX: usize = 64;

pub(super) fn profile(doc: &Document<'_>, notes: &Notes, limits: TtlLimits) -> Option<Profile> {
    let before = notes.count();
    let raw = raw_profile(doc, notes);
    match Profile::compile(&raw, limits) {
        Ok(profile) if notes.count() == before => Some(profile),
        Ok(_) => None,
        Err(errors) => {
            notes.fields(doc, errors);
            None
        }
    }
}

fn raw_profile(doc: &Document<'_>, notes: &Notes) -> RawProfile {
    let r = Reader::new(doc, notes);
    let word = |key| r.optional(key, text(TEXT_MAX));
    let token = r.table("token");
    let x509 = r.table("x509");
    let quota = r.table("quota");
    let raw = RawProfile {
        name: word("name").unwrap_or_default(),
        summary: word("summary").unwrap_or_default(),
        kind: word("kind").unwrap_or_default(),
        integration: word("integration").unwrap_or_default(),
        owner: word("owner").unwrap_or_default(),
        environment: word("environment"),
        intents: r.optional("intents", list(LIST_MAX, text(TEXT_MAX))).unwrap_or_default(),
        review_by: r.optional("review_by", date),
        token: token.exists().then(|| raw_token(&token)),
        x509: x509.exists().then(|| raw_x509(&x509)),
        quota: RawQuota { workload: workload_quota(quota.table("workload")) },
    };
    token.finish();
    x509.finish();
    quota.finish();
    r.finish();
    raw
}

fn raw_token(r: &Reader<'_>) -> RawToken {
    let word = |key| r.optional(key, text(TEXT_MAX));
    RawToken {
        audience: word("audience").unwrap_or_default(),
        scopes: r.optional("scopes", list(LIST_MAX, text(TEXT_MAX))).unwrap_or_default(),
        ttl: raw_ttl(r.table("ttl")),
        binding: word("binding"),
        bearer_reason: word("bearer_reason"),
        acceptors: word("acceptors").unwrap_or_default(),
    }
}

fn raw_x509(r: &Reader<'_>) -> RawX509 {
    let words = |key| r.optional(key, list(LIST_MAX, text(TEXT_MAX))).unwrap_or_default();
    RawX509 {
        dns: words("dns"),
        ips: words("ips"),
        usage: words("usage"),
        ttl: raw_ttl(r.table("ttl")),
        outage_budget: r.optional("outage_budget", text(TEXT_MAX)),
        acceptors: r.optional("acceptors", text(TEXT_MAX)).unwrap_or_default(),
    }
}

fn raw_ttl(r: Reader<'_>) -> RawTtl {
    let raw =
        RawTtl { default: r.optional("default", text(TEXT_MAX)), max: r.optional("max", text(TEXT_MAX)) };
    r.finish();
    raw
}

fn workload_quota(r: Reader<'_>) -> RawWorkloadQuota {
    let live_leases = r.optional("live_leases", count(1..=u32::MAX)).map(i64::from);
    r.finish();
    RawWorkloadQuota { live_leases }
}
