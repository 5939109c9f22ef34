use super::*;
use crate::fixture::*;

fn lints(policies: &[&str]) -> Vec<(Lint, String)> {
    engine(policies).lint().into_iter().map(|w| (w.lint, w.message)).collect()
}

fn of(policy: &str) -> Vec<Lint> {
    lints(&[PAYMENTS, policy]).into_iter().map(|(lint, _)| lint).collect()
}

#[test]
fn the_example_is_clean() {
    assert_eq!(lints(&[PAYMENTS]), []);
}

#[test]
fn a_permit_must_rest_on_something_proven() {
    let permit = |principal: &str, rest: &str| {
        format!("@id(\"x\") permit ({principal}, action, resource is Mayfly::Profile) {rest};")
    };
    let any = "principal is Mayfly::Workload";
    for (principal, rest, warned) in [
        (any, "", true),
        ("principal", "", true),
        (any, "when { context.claimed.intent == \"deploy:payments\" }", true),
        (any, "when { resource.environment == \"staging\" }", true),
        (any, "when { context.claimed.ttl_s < 60 } unless { context.claimed.audience == \"x\" }", true),
        (any, "when { context.claimed.ttl_s < 60 && context.proven.task == \"x\" }", false),
        (any, "when { principal.hasTag(\"ref\") }", false),
        ("principal in Mayfly::Owner::\"team:x\"", "when { context.claimed.ttl_s < 60 }", false),
        ("principal == Mayfly::Workload::\"spiffe://a/b\"", "", false),
    ] {
        let expected: &[Lint] = if warned { &[Lint::NothingProven] } else { &[] };
        assert_eq!(of(&permit(principal, rest)), expected, "{principal} {rest}");
    }
    let claimed = lints(&[PAYMENTS, &permit(any, "when { context.claimed.ttl_s < 60 }")]);
    assert!(claimed[0].1.contains("claims alone"), "{claimed:?}");
    // Operators are proven by their certificates.
    assert_eq!(of("@id(\"x\") permit (principal is Mayfly::Operator, action, resource);"), []);
}

#[test]
fn policies_that_never_apply_and_names_that_nothing_has() {
    for (policy, expected) in [
        (
            "@id(\"x\") forbid (principal is Mayfly::Workload, action, resource is Mayfly::Profile) when { false };",
            vec![Lint::NeverApplies],
        ),
        (
            "@id(\"x\") forbid (principal, action == Mayfly::Action::\"mint\", resource == Mayfly::Profile::\"gone\");",
            vec![Lint::UnknownName, Lint::NeverApplies],
        ),
        (
            "@id(\"x\") permit (principal in Mayfly::Group::\"oncal\", action == Mayfly::Action::\"lift\", resource);",
            vec![Lint::UnknownName],
        ),
        (
            "@id(\"x\") permit (principal == Mayfly::Operator::\"eve\", action == Mayfly::Action::\"lift\", resource);",
            vec![Lint::UnknownName],
        ),
        (
            "@id(\"x\") forbid (principal, action, resource == Mayfly::TrustDomain::\"other\");",
            vec![Lint::UnknownName],
        ),
    ] {
        assert_eq!(of(policy), expected, "{policy}");
    }
    let group = "@id(\"x\") permit (principal in Mayfly::Group::\"oncal\", action, resource);";
    let warnings = engine(&[PAYMENTS, group]).lint();
    assert_eq!(warnings[0].help.as_deref(), Some("did you mean `oncall`?"));
    assert_eq!(warnings[0].place.as_ref().unwrap().to_string(), "1.cedar:1");
}

#[test]
fn profiles_are_told_that_are_out_of_reach_or_bearer() {
    let lonely = profile("lonely", |raw| {
        let token = raw.token.as_mut().unwrap();
        token.binding = Some("bearer".into());
        token.bearer_reason = Some("the target knows nothing else".into());
    });
    let engine = load(&[PAYMENTS], vec![profile("payments-deploy", |_| ()), lonely]).unwrap();
    let found: Vec<Lint> = engine.lint().into_iter().map(|w| w.lint).collect();
    assert_eq!(found, [Lint::ProfileUnreachable, Lint::BearerProfile]);
}
