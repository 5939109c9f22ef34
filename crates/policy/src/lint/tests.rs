use super::*;
use crate::fixture::*;

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

fn lints(policies: &[&str]) -> Vec<(Lint, String)> {
    engine(policies).lint(NOW).into_iter().map(|w| (w.lint, w.message)).collect()
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
    let warnings = engine(&[PAYMENTS, group]).lint(NOW);
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
    let found: Vec<Lint> = engine.lint(NOW).into_iter().map(|w| w.lint).collect();
    assert_eq!(found, [Lint::ProfileUnreachable, Lint::BearerProfile]);
}

#[test]
fn an_end_of_observing_is_told_when_it_is_near_past_or_far() {
    let policy = "@id(\"soon\") @mode(\"observe\") @until(\"2026-09-01\")
        forbid (principal, action in Payments::Action::\"view:orders\", resource);";
    let engine = request_engine(&[policy]).unwrap();
    let until = 1_788_220_800_000;
    let at = |days: i64| {
        let now = UnixMillis(u64::try_from(until - days * 86_400_000).unwrap());
        let found: Vec<String> = engine
            .lint(now)
            .into_iter()
            .filter(|w| w.lint == Lint::ObserveUntil)
            .map(|w| w.message)
            .collect();
        found.concat()
    };
    for (days, told) in [
        (-400, "is enforced"),
        (0, "is enforced"),
        (1, "in 2 days"),
        (14, "in 15 days"),
        (15, ""),
        (180, ""),
        (181, "for 181 more days"),
    ] {
        assert!(at(days).contains(told) && at(days).is_empty() == told.is_empty(), "{days}: {}", at(days));
    }
}

#[test]
fn an_action_that_nobody_can_use_is_told() {
    let told = |engine: &Engine| {
        let all = engine.lint(NOW).into_iter().filter(|w| w.lint == Lint::ActionUnreachable);
        all.map(|w| w.message).collect::<Vec<_>>()
    };
    let engine = request_engine(&[]).unwrap();
    assert_eq!(
        told(&engine),
        [
            "no check of `Payments::Action::\"POST /orders\"` is ever accepted: no profile has an intent that contains it"
        ]
    );
    let forbids = "@id(\"never\") permit (principal in Mayfly::Group::\"oncall\", action, resource);";
    assert_eq!(told(&request_engine(&[forbids]).unwrap()).len(), 1);
    let kinds: Vec<Lint> = engine.lint(NOW).into_iter().map(|w| w.lint).collect();
    assert!(!kinds.contains(&Lint::NeverApplies) && !kinds.contains(&Lint::NothingProven), "{kinds:?}");
}
