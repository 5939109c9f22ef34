use super::*;
use crate::fixture::*;

fn explain(engine: &Engine, facts: &WorkloadFacts, claimed: &Claimed) -> Explanation {
    engine.explain(facts, WorkloadAction::Mint, claimed)
}

#[test]
fn the_first_false_condition_of_the_nearest_permit_is_shown() {
    let engine = engine(&[PAYMENTS]);
    type Change = fn(&mut WorkloadFacts, &mut Claimed);
    let cases: [(Change, usize, Clause, &str); 5] = [
        (
            |f, _| f.owners = owners(&["team:other"]),
            0,
            Clause::Principal,
            "principal is Mayfly::Workload in Mayfly::Owner::\"team:payments\"",
        ),
        (
            |_, c| c.intent = Some("rollback:payments".parse().unwrap()),
            1,
            Clause::When,
            "context.claimed.intent == \"deploy:payments\"",
        ),
        // An intent that the profile does not list is explained as it was asked.
        (
            |_, c| c.intent = Some("guess:it".parse().unwrap()),
            1,
            Clause::When,
            "context.claimed.intent == \"deploy:payments\"",
        ),
        (|f, _| f.tags.clear(), 2, Clause::When, "principal.hasTag(\"ref\")"),
        (
            |f, _| f.tags = [("ref".to_owned(), "refs/heads/x".to_owned())].into(),
            3,
            Clause::When,
            "principal.getTag(\"ref\") like \"refs/tags/v*\"",
        ),
    ];
    for (change, held, clause, condition) in cases {
        let (mut facts, mut claimed) = (job(), deploy());
        change(&mut facts, &mut claimed);
        let explanation = explain(&engine, &facts, &claimed);
        let missed: Vec<_> = explanation.nearest.iter().collect();
        if explanation.decision.answer.as_ref().unwrap_err().reason == mayfly_domain::Reason::IntentNotAllowed
        {
            assert_eq!(claimed.intent.as_ref().unwrap().as_str(), "guess:it");
        }
        assert_eq!(missed.len(), 1, "{explanation}");
        assert_eq!((missed[0].held, missed[0].clause), (held, clause), "{explanation}");
        assert_eq!(missed[0].condition, condition);
        assert_eq!(missed[0].place.line, 2);
        let text = explanation.to_string();
        assert!(text.contains(condition) && text.contains("0.cedar:2"), "{text}");
    }
}

#[test]
fn a_permission_and_a_forbid_name_the_policies_that_decided() {
    let engine = engine(&[PAYMENTS]);
    let allowed = explain(&engine, &job(), &deploy());
    assert_eq!(allowed.deciding.len(), 1);
    assert_eq!(allowed.nearest, []);
    assert!(allowed.to_string().starts_with("allowed: payments-deploy for deploy:payments, 5m"), "{allowed}");
    let mut facts = job();
    facts.environment = None;
    let denied = explain(&engine, &facts, &deploy());
    assert_eq!(denied.deciding[0].policy.as_str(), "environments-stay-apart");
    assert_eq!(denied.deciding[0].place.line, 13);
    // The permit itself would have applied.
    assert_eq!(denied.nearest, []);
    assert!(denied.to_string().contains("advice"), "{denied}");
}

#[test]
fn unless_names_the_condition_that_was_true_and_a_failure_says_so() {
    let unless = r#"@id("u") permit (principal is Mayfly::Workload, action, resource is Mayfly::Profile)
        when { context.claimed.ttl_s > 0 }
        unless { context.proven.task == "x" || context.proven.attestation == "oidc" };"#;
    let fails = r#"@id("f") permit (principal is Mayfly::Workload, action, resource is Mayfly::Profile)
        when { true && context.claimed.ttl_s * 9223372036854775807 > 0 };"#;
    let explanation = explain(&engine(&[unless, fails]), &job(), &deploy());
    let [first, second] = explanation.nearest.as_slice() else { panic!("{explanation}") };
    assert_eq!((first.policy.as_str(), first.clause), ("u", Clause::Unless));
    assert_eq!(first.condition, "context.proven.attestation == \"oidc\"");
    assert_eq!(first.failed, None);
    assert_eq!(second.policy.as_str(), "f");
    assert!(second.failed.as_ref().unwrap().contains("overflow"), "{explanation}");
}

#[test]
fn a_profile_that_does_not_exist_is_told_by_its_nearest_name() {
    let explanation = explain(&engine(&[PAYMENTS]), &job(), &claim("payment-deploy", "deploy:payments"));
    assert_eq!(explanation.meant.as_deref(), Some("payments-deploy"));
    assert!(explanation.to_string().contains("did you mean"), "{explanation}");
}

#[test]
fn a_certificates_names_are_shown_and_what_gives_none() {
    let engine = x509_engine();
    let shown = explain(&engine, &service(), &claim("ledger-mtls", "")).to_string();
    let expected =
        "allowed: ledger-mtls for serve:ledger, 1h, client and server, names `ledger.payments.svc 10.1.2.3`";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(!shown.contains("no name from"), "{shown}");
    let mut bare = service();
    bare.tags.clear();
    let shown = explain(&engine, &bare, &claim("ledger-mtls", "")).to_string();
    assert!(
        shown.contains("names `ledger.payments.svc`\n") && shown.contains("no name from  {pod_ip}"),
        "{shown}"
    );
}

#[test]
fn a_request_is_explained_by_its_policies() {
    let narrow =
        "@id(\"small-orders\") permit (principal, action == Payments::Action::\"POST /orders\", resource)
        when { principal in Mayfly::Owner::\"team:shop\" && context.request.path like \"/orders/*\" };";
    let soon = "@id(\"soon\") @mode(\"observe\") @until(\"2026-02-01\")
        forbid (principal, action in Payments::Action::\"view:orders\", resource);";
    let engine = request_engine(&[narrow, soon]).unwrap();
    let order = |action| wants(action, "Order::\"42\"");
    let allowed = engine.explain_request(&Shown::of("view:orders").facts(), &order("GET /orders"));
    let text = allowed.to_string();
    assert!(text.starts_with("allowed\n  decided by  orders-of-payments (1.cedar:2)"), "{text}");
    assert!(text.contains("would be refused by  soon (3.cedar:1)"), "{text}");
    let stranger = Shown { owners: owners(&["team:billing"]), ..Shown::of("manage:orders") };
    let denied = engine.explain_request(&stranger.facts(), &order("POST /orders")).to_string();
    assert!(denied.contains("POLICY_DENIED") && denied.contains("nearest permit  small-orders"), "{denied}");
    assert!(denied.contains("when  principal in Mayfly::Owner::\"team:shop\"  was false"), "{denied}");
    let outside = engine.explain_request(&Shown::of("view:orders").facts(), &order("POST /orders"));
    assert!(outside.nearest.is_empty() && outside.to_string().contains("OUTSIDE_INTENT"));
}
