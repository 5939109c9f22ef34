//! What rules refuse at load, which evidence they accept, and what they make of it.

mod x509;

use mayfly_domain::{EvidenceHash, KeyAlg, PublicKey, defaults};

use super::*;
use crate::evidence::ClaimValue;
use crate::raw::{RawMatch, RawTask};
use crate::ruleset::RuleSet;

const GITHUB: &str = "https://token.actions.githubusercontent.com";

fn domain() -> TrustDomain {
    TrustDomain::parse("acme.internal").unwrap()
}

fn exact(claim: &str, value: &str) -> (String, RawMatch) {
    (claim.into(), RawMatch::Exact(value.into()))
}

fn prefix(claim: &str, value: &str) -> (String, RawMatch) {
    (claim.into(), RawMatch::Prefix(value.into()))
}

/// The example of the documentation.
fn payments() -> RawTrustRule {
    RawTrustRule {
        name: "payments-deploy".into(),
        preset: Some("github-actions".into()),
        spiffe_id: "/ci/payments/deploy".into(),
        owners: vec!["team:payments".into(), "user:gh-{actor_id}".into()],
        environment: Some("production".into()),
        review_by: Some("2027-05-01".into()),
        matches: vec![
            exact("repository_owner_id", "481516"),
            exact("repository_id", "2342108"),
            exact("job_workflow_ref", "acme/payments/.github/workflows/release.yml@refs/heads/main"),
            exact("environment", "production"),
            prefix("ref", "refs/tags/v"),
        ],
        task: RawTask {
            id: Some("gh-{run_id}-{run_attempt}".into()),
            shared: true,
            window: Some("30m".into()),
            window_max: Some("2h".into()),
        },
        expose: vec![("ref".into(), "ref".into()), ("sha".into(), "sha".into())],
        ..RawTrustRule::default()
    }
}

fn gitlab() -> RawTrustRule {
    RawTrustRule {
        name: "billing".into(),
        preset: Some("gitlab".into()),
        issuer: Some("https://gitlab.acme.internal".into()),
        spiffe_id: "/ci/billing/{job_id}".into(),
        owners: vec!["team:billing".into()],
        matches: vec![exact("project_id", "1042")],
        ..RawTrustRule::default()
    }
}

fn compile(raw: RawTrustRule) -> TrustRule {
    TrustRule::compile(raw, &domain()).unwrap()
}

/// The keys and messages of the mistakes.
fn mistakes(raw: RawTrustRule) -> Vec<String> {
    TrustRule::compile(raw, &domain()).unwrap_err().iter().map(ToString::to_string).collect()
}

fn evidence(issuer: &str, claims: &[(&str, &str)]) -> Verified {
    Verified {
        kind: "oidc",
        issuer: issuer.into(),
        audience: "acme.internal".into(),
        claims: claims.iter().map(|(k, v)| ((*k).into(), ClaimValue::Text((*v).into()))).collect(),
        hash: EvidenceHash::of(b"x"),
        alias: None,
        issued_at: UnixMillis::from_secs(1_000),
        expires: UnixMillis::from_secs(1_300),
        holder: None,
    }
}

fn job() -> Verified {
    evidence(
        GITHUB,
        &[
            ("sub", "repo:acme@481516/payments@2342108:environment:production"),
            ("repository_owner_id", "481516"),
            ("repository_id", "2342108"),
            ("job_workflow_ref", "acme/payments/.github/workflows/release.yml@refs/heads/main"),
            ("environment", "production"),
            ("ref", "refs/tags/v1.4.0"),
            ("actor_id", "1001"),
            ("run_id", "987"),
            ("run_attempt", "1"),
            ("check_run_id", "55501"),
        ],
    )
}

fn with(mut evidence: Verified, claim: &str, value: Option<&str>) -> Verified {
    match value {
        Some(value) => evidence.claims.insert(claim.into(), ClaimValue::Text(value.into())),
        None => evidence.claims.remove(claim),
    };
    evidence
}

fn key() -> Thumbprint {
    PublicKey::new(KeyAlg::Ed25519, &[7; 32]).unwrap().thumbprint()
}

#[test]
fn the_example_makes_what_it_says() {
    let rule = compile(payments());
    assert!(rule.accepts(&job()));
    let made = rule.identify(&job().claims).unwrap();
    assert_eq!(made.workload.as_str(), "spiffe://acme.internal/ci/payments/deploy");
    let owners: Vec<&str> = made.owners.iter().map(Owner::as_str).collect();
    assert_eq!(owners, ["team:payments", "user:gh-1001"]);
    assert_eq!((made.task.id.as_str(), made.task.shared), ("gh-987-1", true));
    assert_eq!((made.task.window.as_secs(), made.task.window_max.as_secs()), (1_800, 7_200));
    assert_eq!(made.tags.len(), 1, "an absent claim is no tag");
    assert_eq!(made.tags.get("ref").map(String::as_str), Some("refs/tags/v1.4.0"));
    assert_eq!(rule.review_by(), Some(UnixMillis::from_secs(1_809_129_600)));
    assert_eq!(rule.bind(), Bind::Audience);
}

#[test]
fn one_condition_that_fails_is_enough() {
    let rule = compile(payments());
    for (claim, value) in [
        ("repository_owner_id", Some("481517")),
        ("repository_id", Some("23421080")),
        ("repository_id", None),
        ("environment", Some("production ")),
        ("environment", Some("Production")),
        ("environment", None),
        ("ref", Some("refs/tags/")),
        ("ref", Some("xrefs/tags/v1")),
        ("ref", Some("")),
    ] {
        let bad = with(job(), claim, value);
        assert!(!rule.accepts(&bad), "{claim} {value:?}");
        let failed = rule.failed(&bad);
        assert_eq!(failed.len(), 1);
        assert_eq!((failed[0].claim.as_str(), failed[0].got.as_deref()), (claim, value));
    }
    let mut list = job();
    list.claims.insert("repository_id".into(), ClaimValue::List(vec!["2342108".into()]));
    assert!(!rule.accepts(&list), "a list matches nothing");
    let mut number = job();
    number.claims.insert("repository_id".into(), ClaimValue::Number("2342108".into()));
    assert!(rule.accepts(&number), "an id may be a number");
    let mut other = job();
    other.issuer.push('/');
    assert!(!rule.accepts(&other));
    assert_eq!(rule.failed(&other)[0].claim, "iss");
}

#[test]
fn mistakes_come_all_at_once() {
    let raw = RawTrustRule {
        name: "Payments".into(),
        preset: Some("github".into()),
        issuer: Some("http://issuer".into()),
        spiffe_id: "/mayfly/broker/x".into(),
        owners: vec!["payments".into()],
        environment: Some("no environment".into()),
        review_by: Some("2027-02-30".into()),
        bind: Some("key".into()),
        on_other_key: Some("accept".into()),
        evidence_life: Some("0s".into()),
        algorithms: vec!["HS256".into(), "none".into()],
        task: RawTask { window: Some("3h".into()), window_max: Some("1h".into()), ..RawTask::default() },
        ..RawTrustRule::default()
    };
    let all = mistakes(raw);
    for key in [
        "`name`",
        "`preset`",
        "`issuer`",
        "`spiffe_id`",
        "`owners`",
        "`environment`",
        "`review_by`",
        "`bind`",
        "`on_other_key`",
        "`evidence_life`",
        "`algorithms`",
        "`match`",
        "`task.id`",
        "`task.window.default`",
    ] {
        assert!(all.iter().any(|m| m.starts_with(key)), "{key} in {all:#?}");
    }
    assert_eq!(all.iter().filter(|m| m.starts_with("`algorithms`")).count(), 2);
}

/// One change to a good rule, and what it must be refused with.
#[test]
fn what_is_refused_at_load() {
    type Change = fn(&mut RawTrustRule);
    let table: &[(Change, &str)] = &[
        (|r| r.matches.clear(), "`match`: is empty"),
        (|r| r.matches = vec![exact("environment", "production")], "`match`: has no anchor"),
        (|r| r.matches = vec![prefix("ref", "refs/heads/")], "`match`: has no anchor"),
        (|r| r.matches[1] = prefix("repository_id", "23"), "`match.repository_id`: is an id"),
        (|r| r.matches.push(prefix("sha", "")), "`match.sha`: is empty"),
        (|r| r.matches.push(exact("sha", "")), "`match.sha`: is empty"),
        (|r| r.matches.push(("sha".into(), RawMatch::OneOf(vec![]))), "`match.sha`: is empty"),
        (|r| r.matches.push(exact("sha", "*")), "`match.sha`: `*` is no pattern"),
        (|r| r.matches.push(prefix("workflow", "re*")), "`match.workflow`: `*` is no pattern"),
        (|r| r.matches.push(exact("ref", "refs/heads/main")), "`match.ref`: is matched twice"),
        (|r| r.matches.push(exact("aud", "x")), "`match.aud`: is judged by"),
        (|r| r.matches.push(exact("a b", "x")), "`match.a b`: is not a claim's name"),
        (|r| r.matches.push(exact("actor", "alice")), "`match.actor`: is a name"),
        (|r| r.owners = vec!["user:{actor}".into()], "`owners`: `{actor}`: is a name"),
        (|r| r.owners = vec!["{actor_id}:x".into()], "`owners`: `{actor_id}:x`: the kind"),
        (|r| r.owners = vec![], "`owners`: a rule names one to four"),
        (|r| r.owners = (0..5).map(|n| format!("team:t{n}")).collect(), "`owners`: a rule names one to four"),
        (|r| r.owners = vec!["team:a".into(), "team:a".into()], "`owners`: names the same owner twice"),
        (|r| r.owners = vec!["team:a b".into()], "`owners`: invalid owner"),
        (|r| r.spiffe_id = "/ci/{nope".into(), "`spiffe_id`: has a `{` without"),
        (|r| r.spiffe_id = "/ci/nope}".into(), "`spiffe_id`: has a `}` without"),
        (|r| r.spiffe_id = "/ci/{a b}".into(), "`spiffe_id`: `{a b}` does not name"),
        (|r| r.spiffe_id = "/ci/{run_id}{sha}".into(), "`spiffe_id`: `{run_id}` and `{sha}` could run"),
        (|r| r.spiffe_id = "/mayfly/operator/{sha}".into(), "`spiffe_id`: paths below `/mayfly/`"),
        (|r| r.spiffe_id = "/mayfly".into(), "`spiffe_id`: paths below `/mayfly/`"),
        (|r| r.spiffe_id = "spiffe://acme.internal/ci".into(), "`spiffe_id`: must be the path alone"),
        (|r| r.spiffe_id = "/ci/../mayfly".into(), "`spiffe_id`: invalid SPIFFE ID"),
        (|r| r.spiffe_id = "ci".into(), "`spiffe_id`: invalid SPIFFE ID"),
        (|r| r.spiffe_id = "/ci/{repository}".into(), ""),
        (|r| r.task.id = Some("deploy".into()), "`task.id`: names no claim"),
        (|r| r.task.id = Some("gh {run_id}".into()), "`task.id`: invalid task"),
        (|r| r.task.window_max = Some("31d".into()), "`task.window.max`: `31d` is longer"),
        (|r| r.on_other_key = Some("supersede".into()), "`on_other_key`: `supersede` needs"),
        (|r| r.audience = Some("a#b".into()), "`audience`: must not hold `#`"),
        (|r| r.audience = Some("a b".into()), "`audience`: invalid audience"),
        (|r| r.issuer = Some("https://user@host".into()), "`issuer`: `https://user@host` must have no user"),
        (|r| r.issuer = Some("https://host/?a=b".into()), "`issuer`: must have no query"),
        (|r| r.issuer = Some("https://host/#a".into()), "`issuer`: `https://host/#a` must have no user"),
        (|r| r.jwks_uri = Some("http://host/keys".into()), "`jwks_uri`: `http://host/keys` must start"),
        (|r| r.jwks_host = Some("host/keys".into()), "`jwks_host`: `host/keys` is not"),
        (|r| r.expose.push(("a-b".into(), "sha".into())), "`expose.a-b`: tag and claim"),
        (|r| r.expose.push(("ref".into(), "sha".into())), "`expose.ref`: is exposed twice"),
    ];
    for (change, expected) in table {
        let mut raw = payments();
        change(&mut raw);
        match *expected {
            "" => drop(compile(raw)),
            expected => {
                let all = mistakes(raw);
                assert!(all.len() == 1 && all[0].starts_with(expected), "{expected}: {all:#?}");
            }
        }
    }
}

#[test]
fn names_stand_alone_only_where_the_rule_allows_them() {
    let mut raw = payments();
    raw.matches = vec![exact("repository", "acme/payments")];
    raw.owners = vec!["user:{actor}".into()];
    assert_eq!(mistakes(raw.clone()).len(), 3);
    raw.allow_names = true;
    compile(raw.clone());
    raw.matches = vec![prefix("repository", "acme/")];
    assert_eq!(mistakes(raw).len(), 1, "a prefix is no anchor, allowed or not");
}

#[test]
fn githubs_sub_matches_in_both_of_its_forms() {
    let names = "repo:acme/payments:environment:production";
    let ids = "repo:acme@481516/payments@2342108:environment:production";
    let rule = |sub: &str, allow_names: bool| {
        let mut raw = payments();
        raw.matches = vec![exact("sub", sub)];
        raw.allow_names = allow_names;
        TrustRule::compile(raw, &domain())
    };
    assert!(rule(names, false).is_err(), "names alone are no anchor");
    let (by_names, by_ids) = (rule(names, true).unwrap(), rule(ids, false).unwrap());
    let old = with(job(), "sub", Some(names));
    assert!(by_names.accepts(&old) && by_names.accepts(&job()));
    assert!(by_ids.accepts(&job()) && !by_ids.accepts(&old));
    let taken_over = with(job(), "sub", Some("repo:acme@9/payments@2342108:environment:production"));
    assert!(!by_ids.accepts(&taken_over));
    let refused = by_names.identify(&taken_over.claims).unwrap_err();
    assert_eq!(refused.reason, Reason::EvidenceClaims, "ids that contradict one another");
}

#[test]
fn templates_refuse_what_is_absent_and_what_is_reserved() {
    let mut raw = payments();
    raw.spiffe_id = "/{environment}/operator/x".into();
    let rule = compile(raw);
    assert_eq!(rule.identify(&job().claims).unwrap().workload.path(), "/production/operator/x");
    for (claim, value) in
        [("environment", None), ("environment", Some("")), ("environment", Some("mayfly")), ("run_id", None)]
    {
        let refused = rule.identify(&with(job(), claim, value).claims).unwrap_err();
        assert_eq!(refused.reason, Reason::EvidenceClaims, "{claim} {value:?}");
    }
    for hostile in ["..", "a/b", "a}b", "{run_id}", "a\u{202e}b", "a\nb", "A"] {
        let made = rule.identify(&with(job(), "environment", Some(hostile)).claims).unwrap();
        assert!(made.workload.path().split('/').count() == 4, "{hostile:?}");
        assert_ne!(made.workload.path(), "/a/operator/x");
    }
    let exposed = with(job(), "sha", Some("a\u{202e}b"));
    assert_eq!(compile(payments()).identify(&exposed.claims).unwrap_err().reason, Reason::EvidenceClaims);
}

#[test]
fn a_job_is_a_task_of_its_own_where_the_rule_says_nothing() {
    let mut raw = payments();
    raw.task = RawTask::default();
    let rule = compile(raw.clone());
    let id = |rule: &TrustRule, e: &Verified| rule.identify(&e.claims).unwrap().task.id.to_string();
    assert_eq!(id(&rule, &job()), "gh-987-1-55501");
    assert_eq!(id(&rule, &with(job(), "check_run_id", None)), "gh-987-1");
    raw.task.shared = true;
    assert_eq!(id(&compile(raw), &job()), "gh-987-1");
    let rule = compile(gitlab());
    let token = evidence("https://gitlab.acme.internal", &[("project_id", "1042"), ("job_id", "9")]);
    assert_eq!(id(&rule, &token), "gl-9");
    assert_eq!(rule.bind(), Bind::FirstUse);
}

#[test]
fn a_rule_without_a_preset_names_issuer_subject_and_task() {
    let mut raw = gitlab();
    raw.preset = None;
    assert_eq!(mistakes(raw.clone()).len(), 2);
    raw.matches = vec![exact("sub", "robot")];
    raw.task.id = Some("t-{job_id}".into());
    compile(raw.clone());
    raw.issuer = None;
    assert_eq!(mistakes(raw).len(), 1);
}

#[test]
fn the_audience_depends_on_how_tokens_are_bound() {
    let (github, gitlab) = (compile(payments()), compile(gitlab()));
    assert_eq!(github.audience_for(&key()), format!("acme.internal#{}", key()));
    assert_eq!(gitlab.audience_for(&key()), "acme.internal");
    let mut token = job();
    for (audience, good) in [
        (format!("acme.internal#{}", key()), true),
        ("acme.internal".to_owned(), false),
        (format!("staging.internal#{}", key()), false),
        (format!("acme.internal#{}x", key()), false),
    ] {
        token.audience = audience;
        let judged = github.judge(&token, &key()).map_err(|e| e.reason);
        assert_eq!(judged, if good { Ok(()) } else { Err(Reason::EvidenceAudience) }, "{}", token.audience);
    }
}

#[test]
fn evidence_lives_as_long_as_the_rule_allows() {
    let mut raw = gitlab();
    raw.evidence_life = Some("5m".into());
    let rule = compile(raw);
    let mut token = job();
    rule.judge(&token, &key()).unwrap();
    token.expires = token.expires.plus(1_000);
    assert_eq!(rule.judge(&token, &key()).unwrap_err().reason, Reason::EvidenceLifetime);

    let mut raw = gitlab();
    raw.evidence_life = Some("25h".into());
    assert_eq!(mistakes(raw), ["`evidence_life`: `25h` is longer than `1d`"]);
}

#[test]
fn a_rule_whose_claims_can_name_anothers_workload_is_warned_of() {
    let warned = |payments_id: &str, gitlab_id: &str| -> Vec<String> {
        let (mut a, mut b) = (payments(), gitlab());
        (a.spiffe_id, b.spiffe_id) = (payments_id.into(), gitlab_id.into());
        let set = RuleSet::new(vec![compile(a), compile(b)]).unwrap();
        let taking = set.lint(UnixMillis(0)).into_iter().filter(|(_, e)| e.message.contains("workload of"));
        taking.map(|(rule, e)| format!("{rule} {}", e.key)).collect()
    };
    let gitlab = gitlab().name;
    assert_eq!(warned("/ci/payments/deploy", "/ci/{job_id}/deploy"), [format!("{gitlab} spiffe_id")]);
    assert_eq!(warned("/ci/{run_id}", "/ci/{job_id}").len(), 2, "both ways between two issuers");
    assert!(warned("/ci/payments/deploy", "/ci/payments/deploy").is_empty(), "what both files say is meant");
    assert!(warned("/gh/{run_id}", "/gl/{job_id}").is_empty());
}

#[test]
fn a_rule_whose_claims_can_name_anothers_owner_is_warned_of() {
    let warned = |github: &str, gitlab_owner: &str| -> usize {
        let (mut a, mut b) = (payments(), gitlab());
        (a.owners, b.owners) = (vec![github.into()], vec![gitlab_owner.into()]);
        let set = RuleSet::new(vec![compile(a), compile(b)]).unwrap();
        set.lint(UnixMillis(0)).into_iter().filter(|(_, e)| e.key == "owners").count()
    };
    assert_eq!(warned("user:{actor_id}", "user:{user_id}"), 2, "both ways between two issuers");
    assert_eq!(warned("user:{actor_id}", "user:alice"), 1, "a claim may be what another rule fixes");
    assert_eq!(warned("user:gh-{actor_id}", "user:gl-{user_id}"), 0);
    assert_eq!(warned("user:{actor_id}", "team:{user_id}"), 0);
    assert_eq!(warned("team:a", "team:a"), 0, "what both files say is meant");
}

#[test]
fn exactly_one_rule_accepts() {
    let rename = |mut raw: RawTrustRule, name: &str| {
        raw.name = name.into();
        raw
    };
    let mut wide = rename(payments(), "wide");
    wide.matches.truncate(2);
    let set = RuleSet::new(vec![compile(payments()), compile(wide.clone()), compile(gitlab())]).unwrap();
    let refused = set.select(&job()).unwrap_err();
    assert_eq!(refused.reason, Reason::TrustRuleAmbiguous);
    assert!(
        set.lint(UnixMillis(0))
            .iter()
            .any(|(rule, e)| rule.as_str() == "wide" && e.message.contains("ambiguous"))
    );

    let set = RuleSet::new(vec![compile(payments()), compile(gitlab())]).unwrap();
    assert_eq!(set.select(&job()).unwrap().name().as_str(), "payments-deploy");
    let refused = set.select(&with(job(), "ref", Some("refs/heads/main"))).unwrap_err();
    assert_eq!(refused.reason, Reason::NoTrustRule);
    assert!(refused.detail.contains("`ref` is `refs/heads/main`"), "{}", refused.detail);
    assert!(
        refused.facts.iter().all(|(_, fact)| !fact.contains("payments")),
        "rules are for operators alone"
    );
    assert_eq!(set.select(&evidence("https://other", &[])).unwrap_err().reason, Reason::IssuerUnknown);
    let explained = set.explain(&job());
    assert_eq!((explained[0].rule.as_str(), explained[0].failed.len()), ("payments-deploy", 0));
    assert!(!explained[1].failed.is_empty());
    let issuers: Vec<String> = set.issuers().into_iter().map(|i| i.url).collect();
    assert_eq!(issuers, ["https://gitlab.acme.internal", GITHUB]);
}

#[test]
fn rules_that_do_not_go_together() {
    let keys = |rules: Vec<TrustRule>| -> Vec<String> {
        RuleSet::new(rules).unwrap_err().into_iter().map(|e| e.key).collect()
    };
    assert_eq!(keys(vec![compile(payments()), compile(payments())]), ["name", "match"]);
    let mut other = payments();
    other.name = "other".into();
    other.matches.reverse();
    assert_eq!(keys(vec![compile(payments()), compile(other.clone())]), ["match"], "the order means nothing");
    other.matches[0] = prefix("ref", "refs/tags/w");
    other.algorithms = vec!["RS256".into()];
    other.jwks_uri = Some("https://mirror/keys".into());
    assert_eq!(keys(vec![compile(payments()), compile(other)]), ["jwks_uri", "algorithms"]);
}

#[test]
fn what_deserves_a_second_look() {
    let keys = |raw: RawTrustRule, now| -> Vec<String> {
        compile(raw).lint(now).into_iter().map(|e| e.key).collect()
    };
    let before = UnixMillis::from_secs(1_800_000_000);
    assert!(keys(payments(), before).is_empty(), "the example has no warning");
    assert_eq!(keys(payments(), UnixMillis::from_secs(1_809_129_600)), ["review_by"]);
    let mut raw = payments();
    raw.review_by = None;
    raw.allow_names = true;
    raw.matches = vec![exact("repository_owner_id", "1"), exact("sub", "x"), exact("typo", "x")];
    raw.expose = vec![("x".into(), "shaa".into())];
    let all = keys(raw.clone(), before);
    assert_eq!(all, ["review_by", "allow_names", "match.sub", "match.typo", "expose"]);
    raw.matches = vec![exact("repository_owner_id", "1")];
    assert!(keys(raw, before).contains(&"spiffe_id".to_owned()), "a whole organisation is one workload");
    let mut raw = gitlab();
    raw.on_other_key = Some("supersede".into());
    assert!(keys(raw, before).contains(&"on_other_key".to_owned()));
}
