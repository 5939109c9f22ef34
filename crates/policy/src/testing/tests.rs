use super::*;
use crate::fixture::*;

const FILE: &str = r#"
[[test]]
name = "a release tag may deploy"
expect = "allow"
decided_by = ["payments-deploy"]
max_ttl = "15m"
[test.workload]
id = "/ci/payments/deploy"
owners = ["team:payments"]
environment = "production"
tags = { ref = "refs/tags/v1" }
profile = "payments-deploy"
intent = "deploy:payments"
ttl = "1h"

[[test]]
name = "a branch may not"
expect = "deny"
reason = "PROFILE_NOT_ALLOWED"
decided_by = []
[test.workload]
id = "spiffe://acme.internal/ci/payments/deploy"
owners = ["team:payments"]
environment = "production"
tags = { ref = "refs/heads/main" }
at = "2026-07-01T12:00:00Z"
profile = "payments-deploy"
intent = "deploy:payments"

[[test]]
name = "on call may revoke an owner"
expect = "allow"
decided_by = ["responder"]
operator = { name = "dana", action = "revoke", on = { dimension = "owner", value = "team:payments" } }
"#;

#[test]
fn a_file_of_tests_passes() {
    let tests: PolicyTests = toml::from_str(FILE).unwrap();
    let outcomes = tests.run(&engine(&[PAYMENTS]));
    assert_eq!(outcomes.len(), 3);
    for outcome in outcomes {
        assert_eq!(outcome.problems, Vec::<String>::new(), "{}", outcome.name);
    }
}

#[test]
fn each_expectation_can_fail() {
    for (from, to, problem) in [
        ("expect = \"allow\"", "expect = \"deny\"", "expected deny"),
        ("refs/tags/v1", "refs/heads/v1", "expected allow"),
        ("[\"payments-deploy\"]", "[\"other\"]", "expected the decision of `other`"),
        ("max_ttl = \"15m\"", "max_ttl = \"14m\"", "at most 14m, was 15m"),
        ("max_ttl = \"15m\"", "max_ttl = \"long\"", "`max_ttl`"),
        ("\"PROFILE_NOT_ALLOWED\"", "\"BLOCKED\"", "expected BLOCKED"),
        ("\"PROFILE_NOT_ALLOWED\"", "\"NOPE\"", "there is no `NOPE`"),
        ("id = \"/ci", "id = \"//ci", "SPIFFE ID"),
        ("12:00:00Z", "noon", "`at`"),
        ("\"dana\"", "\"kim\"", "POLICY_DENIED"),
    ] {
        assert!(FILE.contains(from), "{from}");
        let tests: PolicyTests = toml::from_str(&FILE.replacen(from, to, 1)).unwrap();
        let problems: Vec<String> =
            tests.run(&engine(&[PAYMENTS])).into_iter().flat_map(|o| o.problems).collect();
        assert!(problems.iter().any(|p| p.contains(problem)), "{to}: {problems:?}");
    }
}

#[test]
fn a_malformed_file_is_refused() {
    for (from, to) in [
        ("expect = \"allow\"", "expects = \"allow\""),
        ("action = \"revoke\"", "action = \"explode\""),
        ("dimension = \"owner\"", "dimension = \"colour\""),
        ("[\"team:payments\"]", "[\"nobody\"]"),
    ] {
        assert!(toml::from_str::<PolicyTests>(&FILE.replacen(from, to, 1)).is_err(), "{to}");
    }
    let both = "[[test]]\nname = \"x\"\nexpect = \"deny\"\n";
    let tests: PolicyTests = toml::from_str(both).unwrap();
    assert!(tests.run(&engine(&[]))[0].problems[0].contains("exactly one"));
}

#[test]
fn names_of_certificates_are_asked_for_and_expected() {
    const FILE: &str = r#"
[[test]]
name = "the ledger serves under its name"
expect = "allow"
names = ["10.1.2.3", "ledger.payments.svc"]
[test.workload]
id = "/svc/ledger"
owners = ["team:payments"]
environment = "production"
tags = { pod_ip = "10.1.2.3" }
profile = "ledger-mtls"

[[test]]
name = "and under no other"
expect = "deny"
reason = "NAME_NOT_ALLOWED"
[test.workload]
id = "/svc/ledger"
owners = ["team:payments"]
environment = "production"
profile = "ledger-mtls"
names = ["vault.payments.svc"]
"#;
    let engine = x509_engine();
    let run = |file: &str| {
        let tests: PolicyTests = toml::from_str(file).unwrap();
        tests.run(&engine).into_iter().flat_map(|o| o.problems).collect::<Vec<_>>()
    };
    assert_eq!(run(FILE), Vec::<String>::new());
    for (from, to, problem) in [
        ("names = [\"10.1.2.3\", ", "names = [", "were `ledger.payments.svc`, `10.1.2.3`"),
        ("names = [\"10.1.2.3\", ", "names = [\"*.svc\", ", "`names`: "),
        ("\"vault.payments.svc\"", "\"ledger.payments.svc\"", "expected deny"),
        ("\"vault.payments.svc\"", "\"va ult\"", "DNS name"),
    ] {
        assert!(FILE.contains(from), "{from}");
        let problems = run(&FILE.replacen(from, to, 1));
        assert!(problems.iter().any(|p| p.contains(problem)), "{to}: {problems:?}");
    }
}

const REQUESTS: &str = r#"
[[test]]
name = "a viewer gets orders"
expect = "allow"
decided_by = ["orders-of-payments"]
observed = ["soon"]
[test.request]
id = "/svc/shop"
owners = ["team:payments"]
intent = "view:orders"
scopes = ["orders:read"]
demands = ["orders:read"]
action = 'Payments::Action::"GET /orders"'
resource = 'Payments::Order::"42"'
method = "GET"
url = "/orders/42"

[[test]]
name = "and places none"
expect = "deny"
reason = "OUTSIDE_INTENT"
decided_by = []
observed = []
[test.request]
id = "/svc/shop"
owners = ["team:payments"]
intent = "view:orders"
action = 'Payments::Action::"POST /orders"'
resource = 'Payments::Order::"42"'
"#;

#[test]
fn requests_are_tested_by_what_judges_them() {
    let soon = "@id(\"soon\") @mode(\"observe\") @until(\"2026-02-01\")
        forbid (principal, action == Payments::Action::\"GET /orders\", resource) when { context.request.method == \"GET\" };";
    let engine = request_engine(&[soon]).unwrap();
    let run = |text: &str| -> Vec<String> {
        let tests: PolicyTests = toml::from_str(text).unwrap();
        tests.run(&engine).into_iter().flat_map(|o| o.problems).collect()
    };
    assert_eq!(run(REQUESTS), Vec::<String>::new());
    for (from, to, problem) in [
        ("expect = \"allow\"", "expect = \"deny\"", "expected deny"),
        (
            "observed = [\"soon\"]",
            "observed = []",
            "expected the observation of no policy, was that of `soon`",
        ),
        ("demands = [\"orders:read\"]", "demands = [\"orders:write\"]", "INSUFFICIENT_SCOPE"),
        ("team:payments", "team:other", "expected allow"),
        ("\"OUTSIDE_INTENT\"", "\"ACTION_UNKNOWN\"", "expected ACTION_UNKNOWN, was OUTSIDE_INTENT"),
        ("url = \"/orders/42\"", "url = \"/orders/../42\"", "dot segment"),
        ("resource = 'Payments::Order::\"42\"'", "resource = \"x\"", "resource"),
    ] {
        let problems = run(&REQUESTS.replacen(from, to, 1));
        assert!(problems.iter().any(|p| p.contains(problem)), "{to}: {problems:?}");
    }
}
