use super::*;
use crate::fixture::raw;

fn mistakes(change: impl FnOnce(&mut RawProfile)) -> Vec<String> {
    let mut raw = raw("payments-deploy");
    change(&mut raw);
    match Profile::compile(&raw, TtlLimits::default()) {
        Ok(_) => Vec::new(),
        Err(all) => all.into_iter().map(|e| e.to_string()).collect(),
    }
}

fn token(raw: &mut RawProfile) -> &mut RawToken {
    raw.token.as_mut().unwrap()
}

#[test]
fn a_profile_compiles_to_what_its_file_says() {
    let mut raw = raw("payments-deploy");
    raw.review_by = Some("2027-05-01".into());
    raw.quota.workload.live_leases = Some(5);
    let profile = Profile::compile(&raw, TtlLimits::default()).unwrap();
    assert_eq!(profile.token().unwrap().ttl, Ttl::parse("5m").unwrap());
    assert_eq!(profile.token().unwrap().ttl_max, Ttl::parse("15m").unwrap());
    assert_eq!(profile.token().unwrap().binding, Binding::Dpop);
    assert_eq!(profile.token().unwrap().acceptors, AcceptorMode::Feed);
    assert_eq!(profile.live_leases_workload, Some(5));
    assert_eq!(profile.environment.unwrap().as_str(), "production");
    assert_eq!(profile.intents.len(), 2);
}

#[test]
fn each_mistake_names_its_key() {
    type Change = fn(&mut RawProfile);
    let cases: &[(Change, &str)] = &[
        (|r| r.name = "Payments".into(), "`name`: invalid profile"),
        (|r| r.name.clear(), "`name`: is missing"),
        (|r| r.summary = "a\nb".into(), "`summary`: "),
        (|r| r.kind = "x509".into(), "`kind`: unknown `x509`: the only kind of profile is `token`"),
        (|r| r.kind.clear(), "`kind`: is missing"),
        (|r| r.integration = "..".into(), "`integration`: "),
        (|r| r.owner = "platform".into(), "`owner`: "),
        (|r| r.environment = Some("Prod".into()), "`environment`: "),
        (|r| r.intents.clear(), "`intents`: must list 1 to 32"),
        (|r| r.intents = vec!["a:b".into(); 33], "`intents`: must list 1 to 32"),
        (|r| r.intents = vec!["a:b".into(); 2], "`intents`: `a:b` is listed twice"),
        (|r| r.intents.push("deploy".into()), "`intents[2]`: invalid intent"),
        (|r| r.review_by = Some("May".into()), "`review_by`: "),
        (|r| r.token = None, "`token`: "),
        (|r| token(r).audience = "a b".into(), "`token.audience`: "),
        (|r| token(r).scopes.push("a b".into()), "`token.scopes[2]`: "),
        (|r| token(r).scopes = (0..33).map(|n| format!("s{n}")).collect(), "`token.scopes`: "),
        (|r| token(r).ttl.max = Some("15".into()), "`token.ttl.max`: "),
        (|r| token(r).ttl.max = Some("0s".into()), "`token.ttl.max`: "),
        (
            |r| token(r).ttl.max = Some("2h".into()),
            "`token.ttl.max`: `2h` is longer than the configuration's",
        ),
        (|r| token(r).ttl.default = Some("16m".into()), "`token.ttl.default`: `16m` is longer than"),
        (
            |r| token(r).binding = Some("none".into()),
            "`token.binding`: unknown `none`: must be one of `dpop`",
        ),
        (|r| token(r).binding = Some("bearer".into()), "`token.bearer_reason`: is missing"),
        (|r| token(r).bearer_reason = Some("why".into()), "`token.bearer_reason`: belongs to"),
        (|r| token(r).acceptors = "never".into(), "`token.acceptors`: unknown `never`"),
        (|r| token(r).acceptors.clear(), "`token.acceptors`: is missing"),
        (|r| r.quota.workload.live_leases = Some(0), "`quota.workload.live_leases`: "),
        (|r| r.quota.workload.live_leases = Some(-1), "`quota.workload.live_leases`: "),
    ];
    for (change, expected) in cases {
        let found = mistakes(change);
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:?}");
    }
}

#[test]
fn all_mistakes_come_at_once_and_lives_default_to_the_configurations() {
    let found = Profile::compile(&RawProfile::default(), TtlLimits::default()).unwrap_err();
    let keys: Vec<&str> = found.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["name", "summary", "kind", "integration", "owner", "intents", "token"]);

    let lives = |default: Option<&str>, max: Option<&str>| {
        let mut raw = raw("x");
        raw.token.as_mut().unwrap().ttl =
            RawTtl { default: default.map(Into::into), max: max.map(Into::into) };
        let token = Profile::compile(&raw, TtlLimits::default()).unwrap().token().unwrap().clone();
        (token.ttl.to_string(), token.ttl_max.to_string())
    };
    assert_eq!(lives(None, None), ("5m".into(), "1h".into()));
    assert_eq!(lives(None, Some("2m")), ("2m".into(), "2m".into()));
    assert_eq!(lives(Some("10m"), None), ("10m".into(), "1h".into()));
    let mut bearer = raw("x");
    token(&mut bearer).binding = Some("bearer".into());
    token(&mut bearer).bearer_reason = Some("the target knows nothing else".into());
    Profile::compile(&bearer, TtlLimits::default()).unwrap();
}
