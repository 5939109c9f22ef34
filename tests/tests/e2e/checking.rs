//! Online checks: proofs, audiences, and who may ask.

use mayfly_client::proof::dpop;
use mayfly_proto::v1 as pb;
use url::Url;

use crate::harness::{API, Acceptor, Operator, Site, Spec, new_key, question, refused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_token_is_accepted_with_a_new_proof_of_its_key_for_this_request_only() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let job = node.job(&site, &Spec::default()).await;
    let acceptor = node.acceptor("deploy-api").await;
    let minted = job.mint("payments-deploy", "deploy:payments").await.unwrap();
    let other = job.mint("payments-deploy", "deploy:payments").await.unwrap().credential;
    let token = minted.credential.as_str();
    let now = site.clock.now();
    let url = Url::parse(API).unwrap();
    let proof =
        |method: &str, url: &str| dpop(&job.key, method, &Url::parse(url).unwrap(), token, now).unwrap();

    let good = job.proof(token);
    assert_eq!(acceptor.token(token, good.clone()).await, Ok(()));
    let altered = {
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        format!("{rest}.{first}{}", &signature[1..])
    };
    let (header, rest) = token.split_once('.').unwrap();
    let (body, _) = rest.split_once('.').unwrap();
    for (name, request, expected) in [
        ("no proof", question(token, String::new()), "PROOF_MISSING"),
        ("a proof twice", question(token, good), "PROOF_REPLAYED"),
        ("another URL", question(token, proof("GET", "https://api.acme.internal/other")), "PROOF_INVALID"),
        ("another method", question(token, proof("POST", API)), "PROOF_INVALID"),
        ("another token's", question(token, job.proof(&other)), "PROOF_INVALID"),
        (
            "another key's",
            question(token, dpop(&new_key(&site), "GET", &url, token, now).unwrap()),
            "PROOF_INVALID",
        ),
        (
            "too old",
            question(token, dpop(&job.key, "GET", &url, token, now.minus(61_000)).unwrap()),
            "PROOF_INVALID",
        ),
        (
            "too early",
            question(token, dpop(&job.key, "GET", &url, token, now.plus(45_000)).unwrap()),
            "PROOF_INVALID",
        ),
        ("no proof at all", question(token, "x.y.z".to_owned()), "PROOF_INVALID"),
        ("an altered token", question(&altered, job.proof(&altered)), "TOKEN_SIGNATURE_INVALID"),
        ("no token", question("x.y.z", String::new()), "TOKEN_MALFORMED"),
        (
            "without signature",
            question(&format!("{header}.{body}."), String::new()),
            "TOKEN_SIGNATURE_INVALID",
        ),
        ("the evidence", question(&job.evidence(), String::new()), "TOKEN_MALFORMED"),
        ("nothing", pb::CheckRequest::default(), "INPUT_INVALID"),
    ] {
        assert_eq!(acceptor.ask(request).await, Err(expected.to_owned()), "{name}");
    }
    assert_eq!(acceptor.token(token, job.proof(token)).await, Ok(()), "the token itself is none the worse");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptor_asks_about_its_own_audience_and_nothing_else() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let job = node.job(&site, &Spec::default()).await;
    let minted = job.mint("payments-deploy", "deploy:payments").await.unwrap();
    let ledger = node.acceptor("ledger-api").await;
    let told =
        ledger.client.check(question(&minted.credential, job.proof(&minted.credential))).await.unwrap();
    assert_eq!((told.accepted, told.reason.as_str()), (false, "TOKEN_AUDIENCE"));
    let bare = pb::CheckResponse {
        request: told.request.clone(),
        reason: told.reason.clone(),
        ..Default::default()
    };
    assert_eq!(told, bare, "who holds it is not told");
    assert_eq!(ledger.lease(&minted.lease).await.unwrap_err(), "TOKEN_AUDIENCE");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_for_its_own_kind_of_call_while_its_lease_lives() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let job = node.job(&site, &Spec::default()).await;
    let lease = job.mint("payments-deploy", "deploy:payments").await.unwrap().lease;
    let alice = node.operator("alice").await;
    let bob = node.operator("bob").await;
    let acceptor = node.acceptor("deploy-api").await;

    let as_acceptor = Acceptor {
        client: acceptor_with(&node, &alice).await,
        certified: node.operator("alice").await.certified,
    };
    assert_eq!(as_acceptor.lease(&lease).await.unwrap_err(), "CERTIFICATE_NOT_ALLOWED");
    let as_operator =
        mayfly_client::OperatorClient::connect(&node.target(Some(acceptor.certified.files.clone())))
            .await
            .unwrap();
    let status = || pb::GetStatusRequest {};
    assert_eq!(refused(as_operator.get_status(status()).await), "CERTIFICATE_NOT_ALLOWED");
    assert_eq!(refused(bob.revoke_lease(&lease).await), "POLICY_DENIED");
    assert_eq!(acceptor.lease(&lease).await, Ok(()));
    let nobody = mayfly_client::channel::connect(&node.target(None)).await.unwrap();
    let mut nobody = pb::operator_service_client::OperatorServiceClient::new(nobody);
    let why = nobody.get_status(status()).await.unwrap_err();
    assert_eq!(mayfly_client::Failure::from(why).code, "CERTIFICATE_REQUIRED");

    // A certificate dies with its lease, on connections that are open already too.
    bob.client.get_status(status()).await.unwrap_err();
    let second = node.operator("alice").await;
    alice.client.get_status(status()).await.unwrap();
    second.revoke_lease(&alice.certified.lease.to_string()).await.unwrap();
    assert_eq!(refused(alice.client.get_status(status()).await), "CERTIFICATE_NOT_ALLOWED");
    assert_eq!(refused(alice.at(&node).await.get_status(status()).await), "CERTIFICATE_NOT_ALLOWED");
    second.revoke_lease(&acceptor.certified.lease.to_string()).await.unwrap();
    assert_eq!(acceptor.lease(&lease).await.unwrap_err(), "CERTIFICATE_NOT_ALLOWED");
    second.client.get_status(status()).await.unwrap();
    node.stop().await;
}

async fn acceptor_with(node: &crate::harness::Node, operator: &Operator) -> mayfly_client::AcceptorClient {
    mayfly_client::AcceptorClient::connect(&node.target(Some(operator.certified.files.clone())))
        .await
        .unwrap()
}
