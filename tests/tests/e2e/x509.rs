//! Certificates of workloads over real TLS: minted, renewed, evidence for others, and refused where they must be.

mod requests;
mod rotation;
mod withdrawals;

use mayfly_client::{AcceptorClient, OperatorClient, channel};
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use prost::Message as _;

use crate::harness::{Acceptor, Job, Node, Operator, Service, Site, load_spec, new_key, owner, refused};

struct Ground {
    site: Site,
    node: Node,
    job: Job,
    alice: Operator,
    api: Acceptor,
}

impl Ground {
    async fn new() -> Self {
        let site = Site::embedded();
        let node = site.start("one").await;
        let job = node.job(&site, &load_spec("1", "1")).await;
        let alice = node.operator("alice").await;
        let api = node.acceptor("mesh-api").await;
        Self { site, node, job, alice, api }
    }

    /// A service that got its certificate with the job's evidence and key.
    async fn service(&self) -> Service {
        let answer = self.job.mint("mesh", "use:mesh").await.unwrap();
        Service::connect(&self.site, &self.node, &answer, &self.job.key).await
    }

    async fn accepts(&self, leaf: &[u8]) -> Result<(), String> {
        let credential = Some(pb::check_request::Credential::Certificate(leaf.to_vec()));
        self.api.ask(pb::CheckRequest { credential, ..Default::default() }).await
    }

    async fn lease(&self, id: &str) -> pb::Lease {
        self.alice.client.get_lease(pb::GetLeaseRequest { id: id.to_owned() }).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_minted_renewed_by_itself_and_gets_another_key() {
    let g = Ground::new().await;
    let answer = g.job.mint("mesh", "use:mesh").await.unwrap();
    assert_eq!((answer.kind.as_str(), answer.binding.as_str()), ("x509", "mtls"));
    assert_eq!(answer.names, ["1.load.svc", "1.load.svc.cluster.local", "127.0.0.1"]);
    assert_eq!((answer.outage_budget_s, answer.certificates.len()), (60, 2));
    let bundle = answer.bundle.as_ref().unwrap();
    assert_eq!((bundle.workload_anchors.len(), bundle.roots.len()), (1, 1));
    assert!(answer.credential.is_empty());
    let service = Service::connect(&g.site, &g.node, &answer, &g.job.key).await;
    assert_eq!(g.accepts(&service.leaf).await, Ok(()));

    let again = service.renew(&g.job.key).await.unwrap();
    assert_eq!(again.lease, answer.lease);
    let next = new_key(&g.site);
    let moved = service.renew(&next).await.unwrap();
    assert_eq!(moved.lease, answer.lease);
    assert_eq!(
        refused(service.renew(&g.job.key).await),
        "CERTIFICATE_NOT_ALLOWED",
        "the lease has another key"
    );
    let moved = Service::connect(&g.site, &g.node, &moved, &next).await;
    moved.renew(&next).await.unwrap();
    assert_eq!(g.accepts(&moved.leaf).await, Ok(()));

    let shown = g.lease(&answer.lease).await;
    assert_eq!((shown.kind.as_str(), shown.renewals), ("x509", 3));
    assert_eq!((shown.names, shown.key), (answer.names, next.public().thumbprint().to_string()));
    assert_eq!(shown.signer, g.node.broker.keys().workload_signer_id().to_string());
    let list = pb::ListLeasesRequest { kind: "x509".to_owned(), ..Default::default() };
    let listed = g.alice.client.list_leases(list).await.unwrap().leases;
    assert_eq!(listed.iter().map(|lease| &lease.id).collect::<Vec<_>>(), [&answer.lease]);
    g.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_refused_at_its_next_call_and_over_a_new_connection() {
    let g = Ground::new().await;
    let service = g.service().await;
    let child = service.mint(&g.job.key, "load", "use:load").await.unwrap();
    let grandchild = service.mint(&new_key(&g.site), "mesh", "use:mesh").await.unwrap();
    assert_eq!(g.lease(&grandchild.lease).await.ancestors.join(" "), service.lease);
    assert_eq!(g.accepts(&grandchild.certificates[0]).await, Ok(()));

    g.alice.revoke(owner("user:gh-1"), false).await.unwrap();
    assert_eq!(refused(service.renew(&g.job.key).await), "LEASE_REVOKED");
    assert_eq!(refused(service.mint(&g.job.key, "load", "use:load").await), "LEASE_REVOKED");
    assert_eq!(g.accepts(&service.leaf).await.unwrap_err(), "LEASE_REVOKED");
    assert_eq!(g.accepts(&grandchild.certificates[0]).await.unwrap_err(), "LEASE_REVOKED");
    let load_api = g.node.acceptor("load-api").await;
    assert_eq!(load_api.lease(&child.lease).await.unwrap_err(), "LEASE_REVOKED");
    // A new connection is a whole handshake; the lease is asked about at each call all the same.
    let target = g.node.target(Some(service.files.clone()));
    let back =
        Service { rpc: WorkloadServiceClient::new(channel::connect(&target).await.unwrap()), ..service };
    assert_eq!(refused(back.renew(&g.job.key).await), "LEASE_REVOKED");
    // First evidence of after the revocation brings it back.
    let fresh = g.service().await;
    fresh.renew(&g.job.key).await.unwrap();
    g.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workloads_certificate_is_no_operators_and_no_acceptors() {
    let g = Ground::new().await;
    let service = g.service().await;
    let target = g.node.target(Some(service.files.clone()));
    let operator = OperatorClient::connect(&target).await.unwrap();
    assert_eq!(refused(operator.get_status(pb::GetStatusRequest {}).await), "CERTIFICATE_NOT_ALLOWED");
    let credential = Some(pb::check_request::Credential::Certificate(service.leaf.clone()));
    let question = pb::CheckRequest { credential, ..Default::default() };
    let acceptor = AcceptorClient::connect(&target).await.unwrap();
    assert_eq!(refused(acceptor.check(question.clone()).await), "CERTIFICATE_NOT_ALLOWED");

    // And an operator's is no workload's, nor is every acceptor one for certificates.
    let target = g.node.target(Some(g.alice.certified.files.clone()));
    let rpc = WorkloadServiceClient::new(channel::connect(&target).await.unwrap());
    let disguised = Service { rpc, ..service };
    assert_eq!(refused(disguised.renew(&g.job.key).await), "CERTIFICATE_NOT_ALLOWED");
    let nobody = WorkloadServiceClient::new(channel::connect(&g.node.target(None)).await.unwrap());
    let bare = Service { rpc: nobody, ..disguised };
    assert_eq!(refused(bare.renew(&g.job.key).await), "CERTIFICATE_REQUIRED");
    let other = g.node.acceptor("token-api").await;
    assert_eq!(other.ask(question).await.unwrap_err(), "TOKEN_AUDIENCE");
    g.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lineage_has_at_most_eight_ancestors() {
    let g = Ground::new().await;
    let mut service = g.service().await;
    for _ in 0..8 {
        let child = service.mint(&g.job.key, "mesh", "use:mesh").await.unwrap();
        service = Service::connect(&g.site, &g.node, &child, &g.job.key).await;
    }
    assert_eq!(g.lease(&service.lease).await.ancestors.len(), 8);
    assert_eq!(refused(service.mint(&g.job.key, "mesh", "use:mesh").await), "LINEAGE_LIMIT");
    service.renew(&g.job.key).await.unwrap();
    g.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_completes_its_task_without_a_key() {
    let g = Ground::new().await;
    let request = pb::MintRequest {
        evidence: Some(crate::harness::oidc(&g.job.evidence())),
        profile: "mesh".to_owned(),
        completion_handle: true,
        ..Default::default()
    };
    let envelope = g.job.envelope(rpc::MINT, request.encode_to_vec()).await.unwrap();
    let answer = g.job.rpc.clone().mint(envelope).await.unwrap().into_inner();
    let handle = answer.completion_handle.clone();
    assert!(handle.starts_with("mfc_"));
    let mut anybody = WorkloadServiceClient::new(channel::connect(&g.node.target(None)).await.unwrap());
    let mut complete = async |handle: &str| {
        let request = pb::CompleteTaskByHandleRequest { handle: handle.to_owned() };
        anybody.complete_task_by_handle(request).await.map(tonic::Response::into_inner)
    };
    assert!(!complete(&handle).await.unwrap().already_ended);
    assert_eq!(g.accepts(&answer.certificates[0]).await.unwrap_err(), "LEASE_ENDED");
    assert!(complete(&handle).await.unwrap().already_ended);
    let forged = complete(&handle.replace("mfc_A", "mfc_B")).await.unwrap_err();
    assert_eq!(mayfly_client::Failure::from(forged).code, "COMPLETION_HANDLE_INVALID");
    assert!(!g.node.audit().contains(&handle));
    g.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bundle_is_told_at_once_at_each_change_and_until_the_broker_drains() {
    let g = Ground::new().await;
    let mut anybody = WorkloadServiceClient::new(channel::connect(&g.node.target(None)).await.unwrap());
    let mut bundles = anybody.watch_bundle(pb::WatchBundleRequest {}).await.unwrap().into_inner();
    let first = bundles.message().await.unwrap().unwrap();
    assert_eq!(first.workload_anchors.len(), 1);
    g.alice.client.rotate_key(pb::RotateKeyRequest { step: 1, ..Default::default() }).await.unwrap();
    let second = bundles.message().await.unwrap().unwrap();
    assert!(second.version > first.version && second.jwks != first.jwks);
    assert_eq!(second.workload_anchors, first.workload_anchors);
    let (_, end) = tokio::join!(g.node.stop(), bundles.message());
    assert!(matches!(end, Ok(None) | Err(_)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_is_first_evidence_once() {
    let g = Ground::new().await;
    let create = pb::CreateJoinTokenRequest {
        workload: "/vm/db-1".to_owned(),
        owners: vec!["team:load".to_owned()],
        reason: "a new machine".to_owned(),
        ..Default::default()
    };
    let made = g.alice.client.create_join_token(create.clone()).await.unwrap();
    let described = made.described.unwrap();
    assert_eq!(
        (described.state.as_str(), described.workload.as_str()),
        ("open", "spiffe://acme.internal/vm/db-1")
    );
    let other = g.node.job(&g.site, &load_spec("2", "2")).await;
    let join_for = async |job: &Job, token: &str, kind: &str| {
        let request = pb::MintRequest {
            evidence: Some(pb::Evidence { kind: Some(pb::evidence::Kind::JoinToken(token.to_owned())) }),
            profile: "mesh".to_owned(),
            kind: kind.to_owned(),
            ..Default::default()
        };
        let envelope = job.envelope(rpc::MINT, request.encode_to_vec()).await?;
        Ok::<_, mayfly_client::Failure>(job.rpc.clone().mint(envelope).await?.into_inner())
    };
    let join = async |job: &Job, token: &str| join_for(job, token, "").await;
    // Who asks for the wrong kind has not used the token up.
    assert_eq!(refused(join_for(&g.job, &made.token, "token").await), "KIND_MISMATCH");
    assert_eq!(refused(join_for(&g.job, &made.token, "account").await), "INPUT_INVALID");
    let answer = join_for(&g.job, &made.token, "x509").await.unwrap();
    assert_eq!((answer.workload, answer.names[0].as_str()), (described.workload, "db-1.load.svc"));
    assert_eq!(refused(join(&g.job, &made.token).await), "EVIDENCE_USED");
    assert_eq!(refused(join(&other, &made.token).await), "EVIDENCE_BOUND_TO_OTHER_KEY");
    assert_eq!(refused(join(&g.job, &made.token.replace("mfj_", "mfj_A")).await), "EVIDENCE_MALFORMED");
    let listed = g.alice.client.list_join_tokens(pb::ListJoinTokensRequest {}).await.unwrap().tokens;
    assert_eq!((listed[0].state.as_str(), &listed[0].lease), ("used", &answer.lease));

    let spare = g.alice.client.create_join_token(create.clone()).await.unwrap();
    let id = spare.described.unwrap().id;
    let withdraw = pb::WithdrawJoinTokenRequest { id, ..Default::default() };
    g.alice.client.withdraw_join_token(withdraw).await.unwrap();
    assert_eq!(refused(join(&other, &spare.token).await), "JOIN_TOKEN_UNKNOWN");
    for bad in [
        pb::CreateJoinTokenRequest { workload: "/mayfly/operator/eve".to_owned(), ..create.clone() },
        pb::CreateJoinTokenRequest { workload: "spiffe://other.internal/vm".to_owned(), ..create.clone() },
        pb::CreateJoinTokenRequest { owners: vec![], ..create.clone() },
        pb::CreateJoinTokenRequest { for_s: 86_401, ..create.clone() },
    ] {
        assert_eq!(refused(g.alice.client.create_join_token(bad).await), "INPUT_INVALID");
    }
    let bob = g.node.operator("bob").await;
    assert_eq!(refused(bob.client.create_join_token(create).await), "POLICY_DENIED");
    assert!(!g.node.audit().contains(&made.token[4..]));
    g.node.stop().await;
}
