use mayfly_domain::Reason;

use super::*;
use crate::fixture::*;
use crate::{Engine, PolicyError};

const DAY_MS: u64 = 86_400_000;
/// Fails whenever it is evaluated.
const OVERFLOW: &str = "context.proven.now.offset(duration(\"9223372036854775807ms\")) > context.proven.now";

fn engine(policies: &[&str]) -> Engine {
    request_engine(policies).unwrap()
}

fn errors(policy: &str) -> Vec<PolicyError> {
    request_engine(&[policy]).unwrap_err()
}

/// Asks the broker's engine, and the one that an acceptor makes of what it is sent: they must answer alike.
fn judge(engine: &Engine, shown: &Shown, ask: &RequestAsk) -> RequestDecision {
    let ours = engine.requests();
    let sent = ours.policies();
    let theirs = RequestEngine::new(&sent.schema, &sent.policies).unwrap();
    assert_eq!(theirs.policies(), sent);
    let decided = ours.judge(&shown.facts(), ask);
    let again = theirs.judge(&shown.facts(), ask);
    let seen = |d: &RequestDecision| {
        (d.answer.clone().map_err(|e| e.reason), d.decided_by.clone(), d.observed.clone(), d.holds_until)
    };
    assert_eq!(seen(&decided), seen(&again));
    decided
}

fn answer(engine: &Engine, shown: &Shown, ask: &RequestAsk) -> Result<(), Reason> {
    judge(engine, shown, ask).answer.map_err(|e| e.reason)
}

fn ids(ids: &[PolicyId]) -> Vec<&str> {
    ids.iter().map(PolicyId::as_str).collect()
}

#[test]
fn an_intent_contains_what_its_group_contains() {
    let engine = engine(&[]);
    for (intent, action, resource, expected) in [
        ("view:orders", "GET /orders", "Order::\"42\"", Ok(())),
        ("view:orders", "GET /orders", "Desk::\"eu\"", Ok(())),
        ("view:orders", "POST /orders", "Order::\"42\"", Err(Reason::OutsideIntent)),
        ("manage:orders", "GET /orders", "Order::\"42\"", Ok(())),
        ("manage:orders", "POST /orders", "Order::\"42\"", Ok(())),
        // The schema knows no such group.
        ("deploy:payments", "GET /orders", "Order::\"42\"", Err(Reason::OutsideIntent)),
        // A group applies to nothing.
        ("view:orders", "view:orders", "Order::\"42\"", Err(Reason::ActionUnknown)),
        ("view:orders", "GET /order", "Order::\"42\"", Err(Reason::ActionUnknown)),
        ("view:orders", "GET /orders", "Report::\"42\"", Err(Reason::ActionUnknown)),
        ("view:orders", "GET /orders", "Desk::\"mars\"", Err(Reason::ActionUnknown)),
    ] {
        assert_eq!(
            answer(&engine, &Shown::of(intent), &wants(action, resource)),
            expected,
            "{intent} {action}"
        );
    }
}

#[test]
fn without_a_schema_no_action_can_be_named() {
    let engine = crate::fixture::engine(&[PAYMENTS]);
    let shown = Shown::of("view:orders");
    let wanted = wants("GET /orders", "Order::\"42\"");
    assert_eq!(answer(&engine, &shown, &wanted), Err(Reason::ActionUnknown));
    let nothing = RequestAsk::new("", "", "GET", "/orders", None, Scopes::default()).unwrap();
    assert_eq!(answer(&engine, &shown, &nothing), Ok(()), "a request without an action asks no policy");
    assert_eq!(engine.requests().policies().policies, "");
}

#[test]
fn demanded_scopes_must_be_held_whatever_is_wanted() {
    let engine = engine(&[]);
    let shown = Shown::of("view:orders");
    for (demanded, expected) in [
        (&[][..], Ok(())),
        (&["orders:read"], Ok(())),
        (&["orders:read", "orders:write"], Ok(())),
        (&["orders:delete"], Err(Reason::TokenScope)),
        (&["orders:read", "orders:delete"], Err(Reason::TokenScope)),
    ] {
        let named = RequestAsk { scopes: scopes(demanded), ..wants("GET /orders", "Order::\"42\"") };
        assert_eq!(answer(&engine, &shown, &named), expected, "{demanded:?}");
        let bare = RequestAsk { wanted: None, ..named };
        assert_eq!(answer(&engine, &shown, &bare), expected, "{demanded:?}");
    }
    let lacking =
        RequestAsk { scopes: scopes(&["a", "orders:read", "b"]), ..wants("GET /orders", "Order::\"1\"") };
    let refusal = judge(&engine, &shown, &lacking).answer.unwrap_err();
    assert_eq!(refusal.facts, [("scopes", "a b".to_owned())]);
}

#[test]
fn policies_see_the_request() {
    for (condition, allowed) in [
        ("context.request.method == \"GET\"", true),
        ("context.request.method == \"POST\"", false),
        ("context.request.path == \"/orders/42\"", true),
        ("context.request.path like \"/admin*\"", false),
        ("context.request.scopes.contains(\"orders:write\")", true),
        ("context.request.scopes.contains(\"orders:delete\")", false),
        ("context.request.intent == \"view:orders\"", true),
        ("context.proven.source.isInRange(ip(\"10.0.0.0/8\"))", true),
        ("context.proven.source.isInRange(ip(\"192.0.2.0/24\"))", false),
        ("context.proven.now == datetime(\"2026-01-01T00:00:00Z\")", true),
        ("context.proven.task == \"gh-1-1\"", true),
        ("context.proven.profile == \"payments-deploy\"", true),
        ("context.proven.binding == \"dpop\"", true),
        ("context.proven.key == \"\"", true),
        ("context.proven.lease == \"07070707-0707-0707-0707-070707070707\"", true),
        ("action in Payments::Action::\"view:orders\"", true),
        ("action in Payments::Action::\"manage:orders\"", true),
        ("action == Payments::Action::\"POST /orders\"", false),
        ("resource == Payments::Order::\"42\"", true),
        ("resource == Payments::Order::\"43\"", false),
        ("principal in Mayfly::Owner::\"user:alice\"", true),
        ("principal in Mayfly::Owner::\"user:bob\"", false),
    ] {
        let forbid = format!(
            "@id(\"only\") forbid (principal, action == Payments::Action::\"GET /orders\", resource) unless {{ {condition} }};"
        );
        let engine = engine(&[&forbid]);
        let decided = judge(&engine, &Shown::of("view:orders"), &wants("GET /orders", "Order::\"42\""));
        assert_eq!(decided.is_allowed(), allowed, "{condition}: {decided:?}");
        let expected = if allowed { "orders-of-payments" } else { "only" };
        assert_eq!(ids(&decided.decided_by), [expected], "{condition}");
    }
}

#[test]
fn nothing_is_permitted_by_default_and_a_policy_that_errs_denies() {
    let overflow = format!(
        "@id(\"overflow\") forbid (principal, action == Payments::Action::\"POST /orders\", resource) when {{ {OVERFLOW} }};"
    );
    let engine = engine(&[&overflow]);
    let stranger = Shown { owners: owners(&["team:billing"]), ..Shown::of("view:orders") };
    let wanted = wants("GET /orders", "Order::\"42\"");
    let decided = judge(&engine, &stranger, &wanted);
    assert_eq!((decided.answer.unwrap_err().reason, decided.decided_by.len()), (Reason::PolicyDenied, 0));
    let decided = judge(&engine, &Shown::of("manage:orders"), &wants("POST /orders", "Order::\"42\""));
    assert_eq!(decided.answer.unwrap_err().reason, Reason::PolicyDenied);
    assert_eq!(decided.failed[0].policy.as_str(), "overflow");
    assert!(judge(&engine, &Shown::of("manage:orders"), &wanted).is_allowed(), "of this action only");
}

#[test]
fn what_is_observed_refuses_from_its_date_on() {
    let start = Shown::of("view:orders").at;
    let observe = |condition: &str| {
        format!(
            "@id(\"office-only\") @mode(\"observe\") @until(\"2026-01-31\")
             forbid (principal, action in Payments::Action::\"view:orders\", resource) when {{ {condition} }};"
        )
    };
    let until = UnixMillis(start.0 + 30 * DAY_MS);
    let wanted = wants("GET /orders", "Order::\"42\"");
    for (condition, applies) in [
        ("true", true),
        ("context.request.method == \"PUT\"", false),
        // One that fails would deny once it is enforced.
        (OVERFLOW, true),
    ] {
        let engine = engine(&[&observe(condition)]);
        let at = |at: u64| judge(&engine, &Shown { at: UnixMillis(at), ..Shown::of("view:orders") }, &wanted);
        let observed = if applies { vec!["office-only"] } else { vec![] };
        for before in [start.0, until.0 - 1] {
            let decided = at(before);
            assert!(decided.is_allowed(), "{condition}");
            assert_eq!(ids(&decided.observed), observed, "{condition}");
            let holds = if condition == OVERFLOW { UnixMillis(before) } else { until };
            assert_eq!(decided.holds_until, Some(holds));
        }
        for after in [until.0, until.0 + DAY_MS] {
            let decided = at(after);
            assert_eq!(decided.is_allowed(), !applies, "{condition}");
            let holds = (condition == OVERFLOW).then_some(UnixMillis(after));
            assert_eq!((ids(&decided.observed), decided.holds_until), (vec![], holds));
            let named = decided.decided_by.iter().chain(decided.failed.iter().map(|f| &f.policy));
            assert_eq!(named.into_iter().any(|id| id.as_str() == "office-only"), applies);
        }
        // What is refused anyway is not recorded as a would-be refusal.
        let stranger = Shown { owners: owners(&["team:billing"]), ..Shown::of("view:orders") };
        let decided = judge(&engine, &stranger, &wanted);
        assert!(!decided.is_allowed() && decided.observed.is_empty());
    }
}

#[test]
fn what_looks_at_the_time_holds_for_no_time() {
    let of_time = "@id(\"hours\") forbid (principal, action == Payments::Action::\"POST /orders\", resource)
        when { context.proven.now.toTime() < duration(\"0h\") };";
    let engine = engine(&[of_time]);
    let shown = Shown::of("manage:orders");
    let holds = |action| judge(&engine, &shown, &wants(action, "Order::\"42\"")).holds_until;
    assert_eq!((holds("POST /orders"), holds("GET /orders")), (Some(shown.at), None));
}

#[test]
fn what_a_credential_does_not_carry_is_for_the_broker() {
    let of_profile = "@id(\"p\") forbid (principal, action == Payments::Action::\"POST /orders\", resource)
        unless { context.proven.profile == \"payments-deploy\" };";
    let engine = engine(&[of_profile]);
    let carried = Shown { profile: None, ..Shown::of("manage:orders") };
    let of = |shown: &Shown, action| answer(&engine, shown, &wants(action, "Order::\"42\""));
    assert_eq!(of(&carried, "POST /orders"), Err(Reason::NeedsBroker));
    assert_eq!(of(&carried, "GET /orders"), Ok(()), "only where a policy looks at it");
    assert_eq!(of(&Shown::of("manage:orders"), "POST /orders"), Ok(()));

    let of_binding = "@id(\"b\") forbid (principal, action, resource is Payments::Order) when { context.proven.binding == \"bearer\" };";
    let engine = request_engine(&[of_binding]).unwrap();
    let unsaid = Shown { binding: None, ..Shown::of("manage:orders") };
    let of = |shown: &Shown| answer(&engine, shown, &wants("POST /orders", "Order::\"42\""));
    assert_eq!((of(&unsaid), of(&Shown::of("manage:orders"))), (Err(Reason::NeedsBroker), Ok(())));
    let bearer = Shown { binding: Some(Binding::Bearer), ..unsaid };
    assert_eq!(of(&bearer), Err(Reason::PolicyDenied));
}

#[test]
fn a_policy_of_requests_rests_on_what_a_credential_shows() {
    let request = "forbid (principal, action == Payments::Action::\"GET /orders\", resource)";
    for (policy, message) in [
        (format!("@id(\"a\") {request} when {{ principal has environment }};"), "nobody gives `environment`"),
        (format!("@id(\"a\") {request} when {{ principal.hasTag(\"ref\") }};"), "nobody gives `ref`"),
        // Without an action it is of requests, too.
        (
            "@id(\"a\") forbid (principal is Mayfly::Workload, action, resource) when { principal.hasTag(\"ref\") };"
                .to_owned(),
            "nobody gives `ref`",
        ),
        (format!("@id(\"a\") {request} when {{ context.claimed.intent == \"x\" }};"), "attribute `claimed`"),
        (format!("@id(\"a\") {request} when {{ resource.region == \"eu\" }};"), "attribute `region`"),
        ("@id(\"a\") permit (principal, action == Payments::Action::\"GET /order\", resource);".into(), "GET /order"),
        (
            "@id(\"a\") @mode(\"observe\") @until(\"2026-01-31\") forbid (principal, action, resource);".into(),
            "does not judge requests alone",
        ),
        (
            "@id(\"a\") @mode(\"observe\") @until(\"2026-01-31\") \
             forbid (principal, action == Mayfly::Action::\"mint\", resource);"
                .into(),
            "does not judge requests alone",
        ),
    ] {
        let errors = errors(&policy);
        assert!(errors[0].message.contains(message), "{policy}: {errors:?}");
        assert_eq!((errors[0].file.as_str(), errors[0].line), ("2.cedar", 1), "{policy}");
    }
    let of_mint = "@id(\"a\") forbid (principal, action == Mayfly::Action::\"mint\", resource) \
                   when { principal.hasTag(\"ref\") };";
    assert!(request_engine(&[of_mint]).is_ok());
    let of_operators = "@id(\"a\") forbid (principal is Mayfly::Operator, action, resource);";
    let engine = request_engine(&[of_operators]).unwrap();
    assert!(!engine.requests().policies().policies.contains("Operator"), "nobody else is told of it");
}

#[test]
fn the_revision_names_the_content() {
    let revision = |policies: &[&str]| engine(policies).requests().revision().to_owned();
    let of_mint = "@id(\"m\") forbid (principal, action == Mayfly::Action::\"mint\", resource);";
    let of_requests = "@id(\"r\") forbid (principal, action in Payments::Action::\"view:orders\", resource);";
    assert_eq!(revision(&[]), revision(&[of_mint]), "only what judges requests counts");
    assert_ne!(revision(&[]), revision(&[of_requests]));
    assert_eq!(revision(&[]).len(), 32);
    let sent = engine(&[of_mint, of_requests]).requests().policies();
    assert!(!sent.policies.contains("mint") && sent.policies.contains("@id(\"r\")"));
}

#[test]
fn a_question_is_whole_or_not_asked() {
    let ask = |action, resource, method, url| {
        RequestAsk::new(action, resource, method, url, None, Scopes::default())
    };
    let (action, resource) = ("Payments::Action::\"GET /orders\"", "Payments::Order::\"42\"");
    for (action, resource, method, url, good) in [
        (action, resource, "GET", "https://orders/42", true),
        (action, resource, "", "", true),
        ("", "", "", "", true),
        (action, "", "", "", false),
        ("", resource, "", "", false),
        ("Action::\"x\"", resource, "", "", false),
        (action, "Payments::Order", "", "", false),
        (action, resource, "GET /", "", false),
        (action, resource, "GET", "/orders/../admin", false),
    ] {
        assert_eq!(ask(action, resource, method, url).is_ok(), good, "{action} {resource} {method} {url}");
    }
}
