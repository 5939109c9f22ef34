//! Requests judged by policy, from an acceptor's schema to the record of what was refused.

use std::fs;

use mayfly_proto::v1 as pb;

use crate::harness::{API, Site, Spec};

const SCHEMA: &str = r#"namespace Deploy {
  entity Cluster;
  action "deploy:payments";
  action "POST /deploy" in ["deploy:payments"] appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
  action "DELETE /cluster" appliesTo {
    principal: Mayfly::Workload, resource: Cluster, context: Mayfly::Request
  };
}"#;

const POLICIES: &str = r#"
@id("deploy-clusters")
permit (
  principal in Mayfly::Owner::"team:payments",
  action in Deploy::Action::"deploy:payments",
  resource
) when { context.request.method == "POST" && context.request.path like "/v1/*" };

@id("from-inside") @mode("observe") @until("2100-01-01")
forbid (principal, action in Deploy::Action::"deploy:payments", resource)
unless { context.proven.source.isInRange(ip("10.0.0.0/8")) };
"#;

fn wants(
    lease: &str,
    change: impl FnOnce(&mut pb::RequestContext, &mut pb::CheckRequest),
) -> pb::CheckRequest {
    let mut request = pb::CheckRequest {
        credential: Some(pb::check_request::Credential::Lease(lease.to_owned())),
        method: "POST".to_owned(),
        url: "https://deploy.acme.internal/v1/deploy".to_owned(),
        ..Default::default()
    };
    let mut context = pb::RequestContext {
        action: "Deploy::Action::\"POST /deploy\"".to_owned(),
        resource: "Deploy::Cluster::\"eu\"".to_owned(),
        source: "10.1.2.3".to_owned(),
        scopes: Vec::new(),
    };
    change(&mut context, &mut request);
    request.context = Some(context);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_judged_by_the_acceptors_schema_and_policies() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let job = node.job(&site, &Spec::default()).await;
    let api = node.acceptor("deploy-api").await;
    let minted = job.mint("payments-deploy", "deploy:payments").await.unwrap();
    let lease = minted.lease.as_str();
    let ask = async |change: &dyn Fn(&mut pb::RequestContext, &mut pb::CheckRequest)| {
        api.ask(wants(lease, change)).await.map_err(|reason| reason.to_string())
    };
    assert_eq!(ask(&|_, _| ()).await, Err("ACTION_UNKNOWN".into()), "before any schema");
    assert_eq!(
        ask(&|c, _| *c = pb::RequestContext::default()).await,
        Ok(()),
        "what names no action is asked no policy"
    );

    fs::create_dir_all(node.dir.join("schema")).unwrap();
    fs::write(node.dir.join("schema/deploy.cedarschema"), SCHEMA).unwrap();
    fs::write(node.dir.join("policies/deploy-api.cedar"), POLICIES).unwrap();
    assert!(node.reloader.reload().await);

    type Change = fn(&mut pb::RequestContext, &mut pb::CheckRequest);
    let cases: [(Change, Result<(), &str>); 19] = [
        (|_, _| (), Ok(())),
        (|c, _| c.scopes = vec!["deploy:write".into()], Ok(())),
        (|c, _| c.scopes = vec!["deploy:admin".into()], Err("INSUFFICIENT_SCOPE")),
        (|c, _| c.action = "Deploy::Action::\"PUT /deploy\"".into(), Err("ACTION_UNKNOWN")),
        (|c, _| c.action = "Deploy::Action::\"deploy:payments\"".into(), Err("ACTION_UNKNOWN")),
        (|c, _| c.action = "Mayfly::Action::\"mint\"".into(), Err("ACTION_UNKNOWN")),
        (|c, _| c.resource = "Mayfly::Profile::\"payments-deploy\"".into(), Err("ACTION_UNKNOWN")),
        (|c, _| c.action = "Deploy::Action::\"DELETE /cluster\"".into(), Err("OUTSIDE_INTENT")),
        (|_, r| r.method = "GET".into(), Err("POLICY_DENIED")),
        (|_, r| r.url = "https://deploy.acme.internal/admin".into(), Err("POLICY_DENIED")),
        (|_, r| r.url = "https://deploy.acme.internal/v1/../admin".into(), Err("INPUT_INVALID")),
        (|_, r| r.url = "https://deploy.acme.internal/v1/%2e%2e/admin".into(), Err("INPUT_INVALID")),
        (|c, _| c.action = "Deploy::Action::POST".into(), Err("INPUT_INVALID")),
        (|c, _| c.action = " Deploy::Action::\"POST /deploy\"".into(), Err("INPUT_INVALID")),
        (|c, _| c.resource.clear(), Err("INPUT_INVALID")),
        (|c, _| c.resource = "x".repeat(4_096), Err("INPUT_INVALID")),
        (|c, _| c.source = "localhost".into(), Err("INPUT_INVALID")),
        (|c, _| c.scopes = vec!["two words".into()], Err("INPUT_INVALID")),
        (|c, _| c.scopes = vec!["s".into(); 33], Err("TOO_LARGE")),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(ask(&change).await, expected.map_err(str::to_owned), "case {n}");
    }

    let observed = api.client.check(wants(lease, |c, _| c.source = "192.0.2.1".into())).await.unwrap();
    assert!(observed.accepted);
    assert_eq!((observed.observed, observed.reuse_ms), (vec!["from-inside".to_owned()], 0));
    let metrics = node.metrics().await;
    assert!(metrics.contains("mayfly_observed_refusals_total{policy=\"from-inside\"} 1"), "{metrics}");
    let audit = node.audit();
    let record =
        |what: &str| audit.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{audit}"));
    assert!(record("\"observed\":[\"from-inside\"]").contains("\"outcome\":\"allowed\""));
    assert!(record("OUTSIDE_INTENT").contains(lease));

    // With the token itself its proof is judged first, and a proof is no reason to reuse an answer.
    let mut by_token = wants(lease, |_, _| ());
    by_token.credential = Some(pb::check_request::Credential::Token(minted.credential.clone()));
    assert_eq!(api.ask(by_token.clone()).await, Err("PROOF_MISSING".into()));
    (by_token.method, by_token.url) = ("GET".to_owned(), API.to_owned());
    by_token.dpop = job.proof(&minted.credential);
    assert_eq!(api.ask(by_token).await, Err("POLICY_DENIED".into()));

    let alice = node.operator("alice").await;
    alice.revoke_lease(lease).await.unwrap();
    assert_eq!(ask(&|_, _| ()).await, Err("LEASE_REVOKED".into()), "no policy revives what is dead");
    node.stop().await;
}
