use mayfly_domain::{Dimension, LeaseId, Reason, Refusal, Subject, UnixMillis};

use crate::fixture::*;
use crate::*;

mod x509;

fn mint(engine: &Engine, facts: &WorkloadFacts, claimed: &Claimed) -> Decision<Granted> {
    engine.what_if(facts, WorkloadAction::Mint, claimed)
}

fn refusal(engine: &Engine, facts: &WorkloadFacts, claimed: &Claimed) -> Refusal {
    mint(engine, facts, claimed).answer.unwrap_err()
}

fn ids(decision: &Decision<Granted>) -> Vec<&str> {
    decision.decided_by.iter().map(|id| id.as_str()).collect()
}

/// A permit of everything, with one condition.
fn permit_when(id: &str, condition: &str) -> String {
    format!("@id(\"{id}\") permit (principal is Mayfly::Workload, action, resource) when {{ {condition} }};")
}

#[test]
fn the_example_permits_its_job_and_nothing_else() {
    let engine = engine(&[PAYMENTS]);
    let decision = mint(&engine, &job(), &deploy());
    assert_eq!(ids(&decision), ["payments-deploy"]);
    let granted = decision.answer.unwrap();
    assert_eq!(granted.ttl, ttl("5m"));
    assert_eq!(granted.scopes, scopes(&["deploy:read", "deploy:write"]));
    assert_eq!(granted.intent.as_str(), "deploy:payments");
    assert!(engine.what_if(&job(), WorkloadAction::Renew, &deploy()).is_allowed());

    type Change = fn(&mut WorkloadFacts);
    let changes: [(&str, Change); 6] = [
        ("another owner", |f| f.owners = owners(&["team:other"])),
        ("no tag", |f| f.tags.clear()),
        ("another tag", |f| f.tags = [("ref".to_owned(), "refs/heads/main".to_owned())].into()),
        ("a tag of another name", |f| f.tags = [("sha".to_owned(), "refs/tags/v1".to_owned())].into()),
        ("no environment", |f| f.environment = None),
        ("another environment", |f| f.environment = Some("staging".parse().unwrap())),
    ];
    for (what, change) in changes {
        let mut facts = job();
        change(&mut facts);
        assert_eq!(refusal(&engine, &facts, &deploy()).reason, Reason::ProfileNotAllowed, "{what}");
    }
    let rollback = claim("payments-deploy", "rollback:payments");
    assert_eq!(refusal(&engine, &job(), &rollback).reason, Reason::ProfileNotAllowed);
}

#[test]
fn nothing_is_allowed_without_a_policy() {
    let engine = engine(&[]);
    assert_eq!(refusal(&engine, &job(), &deploy()).reason, Reason::ProfileNotAllowed);
    let everything = Target::Subject(Subject::parse(Dimension::Everything, "acme.internal").unwrap());
    for action in OperatorAction::ALL {
        let answer = engine.what_if_operator(&operator("dana"), action, &everything).answer;
        assert_eq!(answer.unwrap_err().reason, Reason::PolicyDenied);
    }
}

#[test]
fn a_forbid_is_told_to_operators_and_its_advice_to_workloads_only_if_public() {
    let mut facts = job();
    facts.environment = None;
    let hidden = engine(&[PAYMENTS]);
    let decision = mint(&hidden, &facts, &deploy());
    assert_eq!(ids(&decision), ["environments-stay-apart"]);
    let refusal = decision.answer.unwrap_err();
    assert!(refusal.detail.contains("`environments-stay-apart`"), "{refusal}");
    assert!(refusal.detail.contains("must say environment"), "{refusal}");
    assert_eq!(refusal.facts, []);

    let shown = engine(&[&PAYMENTS.replace("@advice", "@public @advice")]);
    let refusal = mint(&shown, &facts, &deploy()).answer.unwrap_err();
    let advice = "the trust rule of this workload must say environment = \"production\"";
    assert_eq!(refusal.facts, [("advice", advice.to_owned())]);
}

/// What a workload sees of a refusal.
fn visible(refusal: Refusal) -> (Reason, Vec<(&'static str, String)>, Option<std::time::Duration>) {
    (refusal.reason, refusal.facts, refusal.retry_after)
}

#[test]
fn a_profile_that_is_not_allowed_looks_like_one_that_does_not_exist() {
    let forbid = "@id(\"f\") @public @advice(\"not on this network\") forbid (principal, action, resource) \
                  when { context has claimed };";
    // The last one permits all: even then, what does not exist is refused, and its advice says nothing.
    let all = permit_when("all", "true").replace("permit", "@public @advice(\"hello\") permit");
    for policies in [vec![], vec![forbid], vec![PAYMENTS], vec![all.as_str()]] {
        let engine = engine(&policies);
        let mut stranger = job();
        stranger.owners = owners(&["team:other"]);
        let nothing = refusal(&engine, &stranger, &claim("no-such-profile", "deploy:payments"));
        assert_eq!(nothing.reason, Reason::ProfileNotAllowed);
        if mint(&engine, &stranger, &deploy()).is_allowed() {
            assert_eq!(nothing.facts, []);
            continue;
        }
        let mut wrong_scope = deploy();
        wrong_scope.scopes = scopes(&["admin"]);
        let mut both_wrong = claim("payments-deploy", "guess:it");
        both_wrong.scopes = scopes(&["admin"]);
        for asked in [
            deploy(),
            claim("payments-deploy", "guess:it"),
            claim("payments-deploy", ""),
            wrong_scope,
            both_wrong,
        ] {
            assert_eq!(visible(refusal(&engine, &stranger, &asked)), visible(nothing.clone()), "{asked:?}");
        }
    }
}

#[test]
fn an_intent_is_one_that_the_profile_lists() {
    let engine = engine(&[PAYMENTS]);
    // Told only the intents that it may have: `rollback:payments` is listed and not permitted.
    for asked in ["", "destroy:payments"] {
        let refusal = refusal(&engine, &job(), &claim("payments-deploy", asked));
        assert_eq!(refusal.reason, Reason::IntentNotAllowed, "{asked:?}");
        assert_eq!(refusal.facts, [("intents", "deploy:payments".to_owned())]);
    }
    let single = profile("payments-deploy", |raw| raw.intents.truncate(1));
    let engine = load(&[PAYMENTS], vec![single]).unwrap();
    let granted = mint(&engine, &job(), &claim("payments-deploy", "")).answer.unwrap();
    assert_eq!(granted.intent.as_str(), "deploy:payments");
}

#[test]
fn scopes_are_some_of_the_profiles() {
    let engine = engine(&[PAYMENTS]);
    let asking = |names: &[&str]| Claimed { scopes: scopes(names), ..deploy() };
    let granted = mint(&engine, &job(), &asking(&["deploy:read"])).answer.unwrap();
    assert_eq!(granted.scopes, scopes(&["deploy:read"]));
    let refusal = refusal(&engine, &job(), &asking(&["deploy:read", "admin"]));
    assert_eq!(refusal.reason, Reason::ScopeNotAllowed);
    assert_eq!(refusal.facts, [("scopes", "deploy:read deploy:write".to_owned())]);
    let none = profile("payments-deploy", |raw| raw.token.as_mut().unwrap().scopes.clear());
    let bare = load(&[PAYMENTS], vec![none]).unwrap();
    assert_eq!(mint(&bare, &job(), &deploy()).answer.unwrap().scopes, scopes(&[]));
}

#[test]
fn the_shortest_life_wins() {
    let permit = |id: &str, max: &str| permit_when(id, "true").replace("permit", &format!("{max} permit"));
    let (ten, three, free) =
        (permit("a", "@max_ttl(\"10m\")"), permit("b", "@max_ttl(\"3m\")"), permit("c", ""));
    for (policies, asked, granted) in [
        (vec![&free], None, "5m"),
        (vec![&free], Some("1m"), "1m"),
        (vec![&free], Some("30d"), "15m"),
        (vec![&ten], Some("30d"), "10m"),
        (vec![&ten, &three, &free], Some("30d"), "3m"),
        (vec![&ten, &three, &free], None, "3m"),
        (vec![&three], Some("2m"), "2m"),
    ] {
        let policies: Vec<&str> = policies.into_iter().map(String::as_str).collect();
        let claimed = Claimed { ttl: asked.map(ttl), ..deploy() };
        let decision = mint(&engine(&policies), &job(), &claimed);
        assert_eq!(decision.decided_by.len(), policies.len());
        assert_eq!(decision.answer.unwrap().ttl, ttl(granted), "{policies:?} {asked:?}");
    }
}

#[test]
fn a_policy_that_fails_denies() {
    let fails = "context.claimed.ttl_s * 9223372036854775807 > 0";
    let forbid =
        format!("@id(\"f\") forbid (principal is Mayfly::Workload, action, resource) when {{ {fails} }};");
    let permit = permit_when("p", fails).replace("resource)", "resource is Mayfly::Profile)");
    for bad in [forbid, permit] {
        let decision = mint(&engine(&[PAYMENTS, &bad]), &job(), &deploy());
        let refusal = decision.answer.unwrap_err();
        assert_eq!(refusal.reason, Reason::ProfileNotAllowed);
        assert!(refusal.detail.contains("failed"), "{refusal}");
        assert_eq!(refusal.facts, []);
        assert_eq!(decision.failed.len(), 1);
        assert_eq!(decision.decided_by, []);
    }
}

#[test]
fn policies_see_what_was_proven_and_what_is_claimed() {
    let expected = [
        r#"principal == Mayfly::Workload::"spiffe://acme.internal/ci/payments/deploy""#,
        r#"principal in Mayfly::Owner::"user:alice""#,
        r#"resource in Mayfly::Owner::"team:platform" && resource in Mayfly::Integration::"k8s-prod""#,
        r#"context.proven.attestation == "oidc" && context.proven.task == "gh-1-1""#,
        r#"context.proven.key == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k""#,
        r#"context.proven.peer.isInRange(ip("10.0.0.0/8"))"#,
        r#"context.proven.now == datetime("2026-01-01")"#,
        r#"context.claimed.intent == "deploy:payments" && context.claimed.ttl_s == 300"#,
        r#"context.claimed.scopes == ["deploy:read", "deploy:write"]"#,
        r#"context.claimed.audience == "https://deploy.acme.internal""#,
    ];
    for condition in expected {
        let policy = permit_when("p", condition).replace("resource)", "resource is Mayfly::Profile)");
        assert!(mint(&engine(&[&policy]), &job(), &deploy()).is_allowed(), "{condition}");
    }
    // The life that policies see is never longer than the profile's.
    let policy =
        permit_when("p", "context.claimed.ttl_s == 900").replace("resource)", "resource is Mayfly::Profile)");
    let long = Claimed { ttl: Some(ttl("300d")), ..deploy() };
    assert!(mint(&engine(&[&policy]), &job(), &long).is_allowed());
}

#[test]
fn any_address_and_time_can_be_asked_about() {
    let policy = permit_when("p", r#"context.proven.peer.isInRange(ip("10.0.0.0/8"))"#);
    let engine = engine(&[&policy.replace("resource)", "resource is Mayfly::Profile)")]);
    for (peer, allowed) in [
        (Some("::ffff:10.1.2.3"), true),
        (Some("::10.1.2.3"), false),
        (Some("fe80::1"), false),
        (Some("2001:db8::1"), false),
        (None, false),
    ] {
        let mut facts = job();
        facts.peer = peer.map(|p| p.parse().unwrap());
        facts.at = UnixMillis(u64::MAX);
        let decision = mint(&engine, &facts, &deploy());
        assert_eq!(decision.is_allowed(), allowed, "{peer:?}");
        assert_eq!(decision.failed, []);
        assert_ne!(decision.answer.err().map(|r| r.reason), Some(Reason::Internal), "{peer:?}");
    }
}

#[test]
fn mint_and_renew_are_different_actions() {
    let only_mint = PAYMENTS.replace(", Mayfly::Action::\"renew\"]", "]");
    let engine = engine(&[&only_mint]);
    assert!(mint(&engine, &job(), &deploy()).is_allowed());
    assert!(!engine.what_if(&job(), WorkloadAction::Renew, &deploy()).is_allowed());
}

fn subject(dimension: Dimension, value: &str) -> Target {
    Target::Subject(Subject::parse(dimension, value).unwrap())
}

fn lease() -> Target {
    Target::Lease {
        id: LeaseId::from_bytes([7; 16]),
        workload: job().workload,
        owners: job().owners,
        profile: Some("payments-deploy".parse().unwrap()),
        task: Some("gh-1-1".parse().unwrap()),
    }
}

#[test]
fn operators_do_what_their_groups_may() {
    let engine = engine(&[PAYMENTS]);
    for action in OperatorAction::ALL {
        let permitted =
            !matches!(action, OperatorAction::Lift | OperatorAction::Rotate | OperatorAction::Join);
        for target in [
            subject(Dimension::Everything, "acme.internal"),
            subject(Dimension::Owner, "team:payments"),
            subject(Dimension::Workload, "spiffe://acme.internal/ci/x"),
            subject(Dimension::Task, "gh-1-1"),
            subject(Dimension::Profile, "payments-deploy"),
            subject(Dimension::Profile, "long-gone"),
            subject(Dimension::Integration, "k8s-prod"),
            lease(),
        ] {
            let answer = engine.operate(&operator("dana"), action, target.clone());
            assert_eq!(answer.is_ok(), permitted, "{action:?} {target:?}");
            match answer {
                Ok(proof) => {
                    assert!(!proof.deadline().has_passed());
                    assert_eq!(proof.grant().action, action);
                    assert_eq!(proof.grant().target, target);
                    assert_eq!(proof.into_grant().decided_by, ["responder".parse().unwrap()]);
                }
                Err(refusal) => assert_eq!(refusal.reason, Reason::PolicyDenied),
            }
            let other = engine.operate(&operator("kim"), action, target.clone()).unwrap_err();
            assert_eq!(other.reason, Reason::PolicyDenied);
            let nobody = engine.operate(&operator("mallory"), action, target).unwrap_err();
            assert_eq!(nobody.reason, Reason::CertificateNotAllowed);
        }
    }
}

#[test]
fn a_policy_on_an_owner_covers_the_leases_of_its_workloads() {
    let of = |owner: &str| {
        engine(&[&format!(
            "@id(\"theirs\") permit (principal, action, resource in Mayfly::Owner::\"{owner}\");"
        )])
    };
    engine_operates(&of("team:payments"), true);
    engine_operates(&of("team:billing"), false);
}

fn engine_operates(engine: &Engine, permitted: bool) {
    let answer = engine.operate(&operator("dana"), OperatorAction::Revoke, lease());
    assert_eq!(answer.is_ok(), permitted);
}

#[test]
fn evidence_is_nothing_that_an_operator_can_name() {
    let all = "@id(\"all\") permit (principal, action, resource);";
    let hash = mayfly_domain::EvidenceHash::of(b"x");
    let target = Target::Subject(Subject::Evidence(hash));
    let refusal = engine(&[all]).operate(&operator("dana"), OperatorAction::Revoke, target).unwrap_err();
    assert_eq!(refusal.reason, Reason::PolicyDenied);
}

#[test]
fn keys_are_rotated_for_the_whole_trust_domain_only() {
    let engine = engine(&["@id(\"all\") permit (principal, action, resource);"]);
    let may = |target| engine.operate(&operator("dana"), OperatorAction::Rotate, target).is_ok();
    assert!(may(subject(Dimension::Everything, "acme.internal")));
    assert!(!may(lease()));
}

#[test]
fn a_join_token_is_permitted_by_the_owner_and_environment_that_it_would_give() {
    let engine = engine(&[r#"@id("p") permit (principal, action == Mayfly::Action::"join",
        resource in Mayfly::Owner::"team:payments") when { !(resource has environment) };"#]);
    let may = |owner: &str, environment: Option<&str>| {
        let target = Target::Workload {
            id: "spiffe://acme.internal/svc/ledger".parse().unwrap(),
            owner: owner.parse().unwrap(),
            environment: environment.map(|e| e.parse().unwrap()),
        };
        engine.operate(&operator("dana"), OperatorAction::Join, target).is_ok()
    };
    assert!(may("team:payments", None));
    assert!(!may("team:ledger", None));
    assert!(!may("team:payments", Some("production")));
    assert!(!may_on(&engine, lease()) && !may_on(&engine, subject(Dimension::Everything, "acme.internal")));
}

fn may_on(engine: &Engine, target: Target) -> bool {
    engine.operate(&operator("dana"), OperatorAction::Join, target).is_ok()
}

#[test]
fn a_lease_is_within_its_workload_profile_task_and_integration() {
    for (place, within) in [
        (r#"Mayfly::Workload::"spiffe://acme.internal/ci/payments/deploy""#, true),
        (r#"Mayfly::Profile::"payments-deploy""#, true),
        (r#"Mayfly::Integration::"k8s-prod""#, true),
        (r#"Mayfly::Owner::"team:platform""#, true),
        (r#"Mayfly::Task::"gh-1-1""#, true),
        (r#"Mayfly::Task::"gh-1-2""#, false),
        (r#"Mayfly::Owner::"team:other""#, false),
    ] {
        let policy =
            format!("@id(\"p\") permit (principal is Mayfly::Operator, action, resource in {place});");
        let answer = engine(&[&policy]).operate(&operator("dana"), OperatorAction::Revoke, lease());
        assert_eq!(answer.is_ok(), within, "{place}");
    }
}

#[test]
fn an_operators_context_has_what_was_proven() {
    let policy = r#"@id("p") permit (principal == Mayfly::Operator::"dana", action, resource)
        when { context.proven.peer == ip("192.0.2.1") && context.proven.key == "key"
            && context.proven.now < datetime("2026-01-02") && context.proven.task == "" };"#;
    let engine = engine(&[policy]);
    let target = subject(Dimension::Owner, "team:payments");
    assert!(engine.operate(&operator("dana"), OperatorAction::Block, target.clone()).is_ok());
    let mut elsewhere = operator("dana");
    elsewhere.peer = None;
    assert!(engine.operate(&elsewhere, OperatorAction::Block, target).is_err());
}
