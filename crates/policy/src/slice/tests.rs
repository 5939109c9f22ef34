use std::sync::LazyLock;

use cedar_policy::PolicySet;
use mayfly_domain::{Owners, PolicyId};
use proptest::prelude::*;

use crate::facts::{Ask, Who};
use crate::fixture::*;
use crate::words::Words;
use crate::*;

static WORDS: LazyLock<Words> = LazyLock::new(words);

fn any_of(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(texts)
}

fn policy() -> impl Strategy<Value = String> {
    let effect = any_of(&["permit", "permit", "permit", "forbid"]);
    let principal = any_of(&[
        "principal",
        "principal is Mayfly::Workload",
        "principal in Mayfly::Owner::\"team:payments\"",
        "principal is Mayfly::Workload in Mayfly::Owner::\"team:other\"",
        "principal in Mayfly::Owner::\"user:alice\"",
        "principal == Mayfly::Workload::\"spiffe://acme.internal/ci/payments/deploy\"",
        "principal is Mayfly::Workload in Mayfly::Workload::\"spiffe://acme.internal/ci/payments/deploy\"",
        "principal in Mayfly::Workload::\"spiffe://acme.internal/ci/payments/1\"",
        "principal is Mayfly::Operator",
        "principal in Mayfly::Group::\"oncall\"",
    ]);
    let action = any_of(&[
        "action",
        "action == Mayfly::Action::\"mint\"",
        "action == Mayfly::Action::\"renew\"",
        "action in [Mayfly::Action::\"mint\", Mayfly::Action::\"renew\"]",
        "action in [Mayfly::Action::\"revoke\", Mayfly::Action::\"list\"]",
    ]);
    let resource = any_of(&[
        "resource",
        "resource == Mayfly::Profile::\"a\"",
        "resource == Mayfly::Profile::\"b\"",
        "resource in Mayfly::Profile::\"a\"",
        "resource in Mayfly::Owner::\"team:platform\"",
        "resource in Mayfly::Integration::\"k8s-prod\"",
        "resource in Mayfly::Integration::\"db\"",
        "resource is Mayfly::Profile",
        "resource is Mayfly::Profile in Mayfly::Integration::\"db\"",
        "resource is Mayfly::Lease",
        "resource == Mayfly::Owner::\"team:platform\"",
    ]);
    let condition = any_of(&[
        "",
        "when { context has claimed }",
        "when { context.proven.task == \"gh-1-1\" }",
        "unless { context.proven.attestation == \"oidc\" }",
        "unless { context.proven.peer.isInRange(ip(\"10.0.0.0/8\")) }",
    ]);
    (effect, principal, action, resource, condition)
        .prop_map(|(e, p, a, r, c)| format!("{e} ({p}, {a}, {r}) {c};"))
}

/// Policies with ids; those that are never valid in this schema (an operator who mints) are left out.
fn policies() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(policy(), 0..12).prop_map(|all| {
        let named = all.into_iter().enumerate().map(|(n, text)| format!("@id(\"p{n}\") {text}"));
        let valid = |text: &String| rules::load(&WORDS, &[("x".to_owned(), text.clone())]).is_ok();
        named.filter(valid).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_slice_decides_as_the_full_set(policies in policies(), named in any::<bool>(), renew in any::<bool>()) {
        let profiles = vec![
            profile("a", |_| ()),
            profile("b", |raw| {
                raw.integration = "db".into();
                raw.owner = "team:data".into();
            }),
        ];
        let policies: Vec<&str> = policies.iter().map(String::as_str).collect();
        let engine = load(&policies, profiles).unwrap();
        let full = PolicySet::from_policies(engine.rules.iter().map(|r| r.policy.clone())).unwrap();
        let facts = job();
        let who = Who::from(&facts);
        let action = if renew { WorkloadAction::Renew } else { WorkloadAction::Mint };
        for name in ["a", "b", "no-such"] {
            let claimed = claim(name, if named { "deploy:payments" } else { "" });
            let ask = Ask::claimed(action, &claimed);
            let sliced = engine.decide(&who, &ask);
            let whole = engine.decide_by(&who, &ask, |_| &full);
            prop_assert_eq!(&sliced.answer, &whole.answer);
            prop_assert_eq!(&sliced.decided_by, &whole.decided_by);
        }
        for action in OperatorAction::ALL {
            for target in targets() {
                let sliced = engine.what_if_operator(&operator("dana"), action, &target);
                let whole = whole_operator(&engine, &full, action, &target);
                prop_assert_eq!(sliced.is_allowed(), whole.0, "{:?} {:?}", action, target);
                prop_assert_eq!(sliced.decided_by, whole.1);
            }
        }
    }
}

fn targets() -> Vec<Target> {
    use mayfly_domain::{Dimension, LeaseId, Subject};
    let subject = |d, v| Target::Subject(Subject::parse(d, v).unwrap());
    vec![
        subject(Dimension::Owner, "team:platform"),
        subject(Dimension::Profile, "a"),
        subject(Dimension::Profile, "b"),
        subject(Dimension::Integration, "db"),
        subject(Dimension::Task, "gh-1-1"),
        Target::Lease {
            id: LeaseId::from_bytes([1; 16]),
            workload: job().workload,
            owners: job().owners,
            profile: Some("b".parse().unwrap()),
            task: None,
        },
    ]
}

/// The full set's answer; keys are rotated for the trust domain only and join tokens made for workloads only, which
/// the slices hold and the set does not.
fn whole_operator(
    engine: &Engine,
    full: &PolicySet,
    action: OperatorAction,
    target: &Target,
) -> (bool, Vec<PolicyId>) {
    if matches!(action, OperatorAction::Rotate | OperatorAction::Join) {
        return (false, Vec::new());
    }
    let groups = engine.operator_groups(&operator("dana").name).unwrap();
    let verdict = engine.judge_operator(&operator("dana"), groups, action, target, |_| full).unwrap();
    (verdict.allowed, verdict.decided_by)
}

#[test]
fn a_slice_leaves_out_what_cannot_apply_and_is_shared() {
    let a = "@id(\"a\") permit (principal is Mayfly::Workload, action, resource == Mayfly::Profile::\"a\");";
    let b = "@id(\"b\") permit (principal is Mayfly::Workload, action, resource == Mayfly::Profile::\"b\");";
    let mint = "@id(\"m\") permit (principal, action == Mayfly::Action::\"mint\", resource);";
    let revoke = "@id(\"r\") permit (principal, action == Mayfly::Action::\"revoke\", resource);";
    let profiles = ["a", "b", "c", "d"].map(|n| profile(n, |_| ())).into();
    let engine = load(&[a, b, mint, revoke], profiles).unwrap();
    let slice = |name: &str, action| {
        let prepared = &engine.profiles[&name.parse::<mayfly_domain::ProfileName>().unwrap()];
        prepared.slice(action)
    };
    assert_eq!(slice("a", WorkloadAction::Mint).rules, [0, 2]);
    assert_eq!(slice("b", WorkloadAction::Mint).rules, [1, 2]);
    assert_eq!(slice("a", WorkloadAction::Renew).rules, [0]);
    assert_eq!(slice("c", WorkloadAction::Mint).rules, [2]);
    assert!(std::ptr::eq(slice("c", WorkloadAction::Mint), slice("d", WorkloadAction::Mint)));
}

#[test]
fn a_slice_is_narrowed_to_the_policies_about_a_workload_and_shared_with_its_like() {
    let about = |n: usize, principal: &str| {
        format!("@id(\"p{n}\") permit (principal{principal}, action == Mayfly::Action::\"mint\", resource);")
    };
    let workload = job().workload;
    let all = [
        about(0, " is Mayfly::Workload"),
        about(1, " in Mayfly::Owner::\"team:payments\""),
        about(2, " in Mayfly::Owner::\"team:other\""),
        about(3, &format!(" == Mayfly::Workload::\"{workload}\"")),
        about(4, " == Mayfly::Workload::\"spiffe://acme.internal/ci/payments/1\""),
    ];
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let engine = load(&all, vec![profile("a", |_| ())]).unwrap();
    let slice =
        engine.profiles[&"a".parse::<mayfly_domain::ProfileName>().unwrap()].slice(WorkloadAction::Mint);
    let ids = |set: &PolicySet| {
        let mut ids: Vec<String> = set.policies().map(|p| p.id().to_string()).collect();
        ids.sort();
        ids
    };
    let of = |facts: &WorkloadFacts| slice.for_workload(&engine.rules, Who::from(facts).holder());
    assert_eq!(ids(&of(&job())), ["p0", "p1", "p3"]);
    let mut other = job();
    other.owners = Owners::new(["team:other".parse().unwrap()]).unwrap();
    other.workload = "spiffe://acme.internal/x".parse().unwrap();
    assert_eq!(ids(&of(&other)), ["p0", "p2"]);
    let mut like = job();
    like.key = "another".to_owned();
    assert!(std::sync::Arc::ptr_eq(&of(&job()), &of(&like)));
}
