//! Requests judged in-process by policies that came with the feed.

use mayfly_domain::{Reason, Scope, Scopes};
use mayfly_policy::RequestAsk;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::follow_response::What;

use super::broker::{Session, Site, at, fence, soon, until};
use super::tokens::{Key, claims, owner};
use crate::judged::Request;

const SCHEMA: &str = r#"namespace Deploy {
  entity Cluster;
  action "deploy:payments";
  action "POST /releases" in ["deploy:payments"] appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
  action "DELETE /cluster" appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
}"#;

const POLICIES: &str = r#"
@id("deploy") permit (principal in Mayfly::Owner::"team:payments", action in Deploy::Action::"deploy:payments", resource);
@id("old") forbid (principal, action, resource == Deploy::Cluster::"old");
@id("soon") @mode("observe") @until("2100-01-01")
forbid (principal, action in Deploy::Action::"deploy:payments", resource == Deploy::Cluster::"eu");
"#;

fn ask(action: &str, cluster: &str, scopes: &[&str]) -> RequestAsk {
    let scopes = Scopes::new(scopes.iter().map(|s| Scope::parse(s).unwrap())).unwrap();
    let (action, cluster) =
        (format!("Deploy::Action::\"{action}\""), format!("Deploy::Cluster::\"{cluster}\""));
    RequestAsk::new(&action, &cluster, "POST", "/releases", None, scopes).unwrap()
}

async fn policies(session: &Session, schema: &str, policies: &str) {
    let (schema, policies) = (schema.to_owned(), policies.to_owned());
    session.say(What::Policies(pb::RequestPolicies { revision: "1".into(), schema, policies })).await;
}

#[tokio::test]
async fn a_request_is_judged_by_policies_that_came_with_the_feed() {
    let mut site = Site::new().await;
    let key = Key::new();
    let verifier = site.builder().with_policies().start().unwrap();
    let mut session = site.session().await;
    assert!(session.start.policies);
    session.accept().await;
    session.keys(1, &[&key.public], &[]).await;
    policies(&session, SCHEMA, POLICIES).await;
    session.snapshot(at(7), &[]).await;
    session.pinged(at(7)).await;
    soon(verifier.ready()).await;

    let token = key.token(&claims().to_string());
    let judged = verifier.check_token(&token, &Request::default()).unwrap();
    let answer = |ask: &RequestAsk| verifier.check_request(&judged, ask).map_err(|e| e.reason);
    for (asked, expected) in [
        (ask("POST /releases", "us", &[]), Ok(0)),
        (ask("POST /releases", "eu", &[]), Ok(1)),
        (ask("POST /releases", "old", &[]), Err(Reason::PolicyDenied)),
        (ask("POST /releases", "us", &["nobody:has"]), Err(Reason::TokenScope)),
        (ask("DELETE /cluster", "us", &[]), Err(Reason::OutsideIntent)),
        (ask("GET /releases", "us", &[]), Err(Reason::ActionUnknown)),
    ] {
        assert_eq!(answer(&asked).map(|observed| observed.len()), expected, "{asked:?}");
    }

    // A change is in force when it came; what can't be read decides nothing.
    let good = ask("POST /releases", "us", &[]);
    policies(&session, SCHEMA, "").await;
    until(|| answer(&good) == Err(Reason::PolicyDenied)).await;
    policies(&session, SCHEMA, "permit (principal, action, resource);").await;
    until(|| answer(&good) == Err(Reason::NeedsBroker)).await;
    policies(&session, SCHEMA, POLICIES).await;
    until(|| answer(&good).is_ok()).await;

    // Policies revive nothing, and obey the feed's freshness.
    session.events(at(8), &[fence(owner().key(), 5)]).await;
    session.pinged(at(8)).await;
    assert_eq!(answer(&good), Err(Reason::LeaseRevoked));
    site.hands.boot_passes(60_000);
    assert_eq!(answer(&good), Err(Reason::AcceptorNotFresh));
}

#[tokio::test]
async fn nothing_counts_before_the_sessions_policies_came() {
    let mut site = Site::new().await;
    let key = Key::new();
    let verifier = site.builder().with_policies().start().unwrap();
    let mut session = site.session().await;
    session.accept().await;
    session.keys(1, &[&key.public], &[]).await;
    session.snapshot(at(7), &[]).await;
    let mut again = site.session().await;
    assert!(!verifier.is_fresh(), "a session without policies makes nothing fresh");
    again.accept().await;
    again.keys(1, &[&key.public], &[]).await;
    policies(&again, "", "").await;
    again.snapshot(at(7), &[]).await;
    again.pinged(at(7)).await;
    soon(verifier.ready()).await;
    session.lost().await;
}

#[tokio::test]
async fn a_verifier_that_asked_for_no_policies_decides_by_none() {
    let mut site = Site::new().await;
    let key = Key::new();
    let (verifier, session) = site.fresh(&[&key.public]).await;
    assert!(!session.start.policies);
    let judged = verifier.check_token(&key.token(&claims().to_string()), &Request::default()).unwrap();
    let refused = verifier.check_request(&judged, &ask("POST /releases", "us", &[])).unwrap_err();
    assert_eq!(refused.reason, Reason::NeedsBroker);
}
