use super::*;
use crate::fixture::{raw, raw_x509};

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
        (|r| r.kind = "account".into(), "`kind`: unknown `account`: must be one of `token`, `x509`"),
        (|r| r.x509 = raw_x509("x").x509, "`x509`: the table `[x509]` does not belong to `kind = \"token\"`"),
        (|r| r.kind.clear(), "`kind`: is missing"),
        (|r| r.integration = "..".into(), "`integration`: "),
        (|r| r.owner = "platform".into(), "`owner`: "),
        (|r| r.environment = Some("Prod".into()), "`environment`: "),
        (|r| r.intents.clear(), "`intents`: must list 1 to 32"),
        (|r| r.intents = vec!["a:b".into(); 33], "`intents`: must list 1 to 32"),
        (|r| r.intents = vec!["a:b".into(); 2], "`intents`: `a:b` is listed twice"),
        (|r| r.intents.push("deploy".into()), "`intents[2]`: invalid intent"),
        (|r| r.review_by = Some("May".into()), "`review_by`: "),
        (|r| r.token = None, "`token`: the table `[token]` is missing"),
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
    assert_eq!(keys, ["name", "summary", "kind", "integration", "owner", "intents"]);

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

fn x509(raw: &mut RawProfile) -> &mut RawX509 {
    raw.x509.as_mut().unwrap()
}

#[test]
fn a_certificates_profile_compiles_to_what_its_file_says() {
    let profile = Profile::compile(&raw_x509("ledger-mtls"), TtlLimits::default()).unwrap();
    assert_eq!(profile.kind(), CredentialKind::X509);
    assert_eq!((profile.binding(), profile.acceptors()), (Binding::Mtls, AcceptorMode::Online));
    assert_eq!(profile.lives(), (Ttl::parse("1h").unwrap(), Ttl::parse("6h").unwrap()));
    let granted = profile.x509().unwrap();
    assert!(granted.client && granted.server && profile.token().is_none());
    assert_eq!(granted.outage_budget, Some(Ttl::parse("20m").unwrap()));
    let id = SpiffeId::parse("spiffe://acme.internal/svc/ledger").unwrap();
    let names = |tags: &[(&str, &str)]| {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        profile.names(&id, &tags).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&[("pod_ip", "10.1.2.3")]), ["ledger.payments.svc", "10.1.2.3"]);
    assert_eq!(names(&[]), ["ledger.payments.svc"]);
}

#[test]
fn each_mistake_of_a_certificates_profile_names_its_key() {
    type Change = fn(&mut RawProfile);
    let cases: &[(Change, &str)] = &[
        (|r| r.x509 = None, "`x509`: the table `[x509]` is missing"),
        (|r| r.token = raw("x").token, "`token`: the table `[token]` does not belong to `kind = \"x509\"`"),
        (|r| x509(r).dns.push("*.svc".into()), "`x509.dns[1]`: invalid DNS name"),
        (|r| x509(r).dns.push("{name".into()), "`x509.dns[1]`: invalid template"),
        (|r| x509(r).dns.push("{name}.payments.svc".into()), "`x509.dns[1]`: is listed twice"),
        (
            |r| x509(r).dns.extend((0..15).map(|n| format!("a{n}.svc"))),
            "`x509.dns`: with `x509.ips` it lists",
        ),
        (|r| x509(r).ips.push("10.0.0.{n}".into()), "`x509.ips[1]`: invalid template"),
        (|r| x509(r).usage.clear(), "`x509.usage`: must list `client`, `server` or both"),
        (
            |r| x509(r).usage.push("peer".into()),
            "`x509.usage[2]`: unknown `peer`: must be one of `client`, `server`",
        ),
        (|r| x509(r).usage.push("client".into()), "`x509.usage[2]`: is listed twice"),
        (
            |r| x509(r).ttl.max = Some("2d".into()),
            "`x509.ttl.max`: `2d` is longer than the configuration's `ttl.x509.max`",
        ),
        (
            |r| x509(r).ttl.default = Some("7h".into()),
            "`x509.ttl.default`: `7h` is longer than `x509.ttl.max`",
        ),
        (
            |r| x509(r).outage_budget = Some("1h".into()),
            "`x509.outage_budget`: `1h` is not less than `x509.ttl.default`",
        ),
        (|r| x509(r).outage_budget = Some("soon".into()), "`x509.outage_budget`: "),
        (|r| x509(r).acceptors = "never".into(), "`x509.acceptors`: unknown `never`"),
    ];
    for (change, expected) in cases {
        let mut raw = raw_x509("ledger-mtls");
        change(&mut raw);
        let found = Profile::compile(&raw, TtlLimits::default()).unwrap_err();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{expected}: {found:?}");
        assert!(found[0].starts_with(expected), "{expected}: {found:?}");
    }
    let mut many = raw_x509("x");
    many.kind.clear();
    x509(&mut many).usage.clear();
    x509(&mut many).acceptors.clear();
    let found = Profile::compile(&many, TtlLimits::default()).unwrap_err();
    let keys: Vec<&str> = found.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["kind", "x509.usage", "x509.acceptors"]);
}
