//! Two brokers on one Redis: what one does, the other knows.

use mayfly_client::channel;
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use mayfly_testkit::redis::{RedisOptions, RedisServer};
use prost::Message as _;

use crate::harness::{Acceptor, Site, load_spec, oidc, owner, refused};

/// Over TLS and with a user of its own, as a deployment has it.
fn redis() -> RedisServer {
    let user = Some(("mayfly".to_owned(), "a-password-of-the-test".to_owned()));
    RedisServer::start(RedisOptions { tls: true, user, ..RedisOptions::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_broker_mints_the_other_checks_lists_and_revokes() {
    let redis = redis();
    let site = Site::on(&redis);
    let (one, two) = (site.start("one").await, site.start("two").await);
    assert_eq!(one.broker.keys().jwks(), two.broker.keys().jwks(), "one set of keys");
    let mut job = one.job(&site, &load_spec("1", "1")).await;
    let alice = two.operator("alice").await;
    let at_two = two.acceptor("load-api").await;
    let at_one =
        Acceptor { client: at_two.at(&one).await, certified: two.acceptor("load-api").await.certified };

    let evidence = job.evidence();
    let minted = job.mint_with(&evidence, "load", "use:load", 0).await.unwrap();
    assert_eq!(at_two.token(&minted.credential, job.proof(&minted.credential)).await, Ok(()));
    assert_eq!(at_one.token(&minted.credential, job.proof(&minted.credential)).await, Ok(()));
    let listed = alice.leases(Some(owner("user:gh-1"))).await;
    assert_eq!(listed.iter().map(|lease| &lease.id).collect::<Vec<_>>(), [&minted.lease]);

    // A nonce is any broker's, and used up at all of them.
    let request = pb::MintRequest {
        evidence: Some(oidc(&evidence)),
        profile: "load".to_owned(),
        intent: "use:load".to_owned(),
        ..Default::default()
    };
    let envelope = job.envelope(rpc::MINT, request.encode_to_vec()).await.unwrap();
    job.go_to(&two.target(None)).await;
    let second = job.rpc.clone().mint(envelope.clone()).await.unwrap().into_inner();
    job.go_to(&one.target(None)).await;
    let replay = job.rpc.clone().mint(envelope).await.unwrap_err();
    assert_eq!(mayfly_client::Failure::from(replay).code, "NONCE_USED");

    alice.revoke(owner("user:gh-1"), false).await.unwrap();
    for lease in [&minted.lease, &second.lease] {
        assert_eq!(at_one.lease(lease).await.unwrap_err(), "LEASE_REVOKED");
        assert_eq!(at_two.lease(lease).await.unwrap_err(), "LEASE_REVOKED");
    }
    let late = job.mint_with(&evidence, "load", "use:load", 0).await;
    assert_eq!(refused(late), "EVIDENCE_PREDATES_REVOCATION");
    let fresh = job.mint("load", "use:load").await.unwrap();
    assert_eq!(at_two.lease(&fresh.lease).await, Ok(()));

    alice.revoke(owner("user:gh-1"), true).await.unwrap();
    assert_eq!(refused(job.mint("load", "use:load").await), "BLOCKED");
    let lift = pb::LiftBlockRequest { subject: Some(owner("user:gh-1")), reason: "test".to_owned() };
    alice.at(&one).await.lift_block(lift).await.unwrap();
    job.go_to(&two.target(None)).await;
    let last = job.mint("load", "use:load").await.unwrap();
    assert_eq!(
        at_one.lease(&fresh.lease).await.unwrap_err(),
        "LEASE_REVOKED",
        "a lifted block revives nothing"
    );
    assert!(!job.complete().await.unwrap().already_ended);
    assert!(at_one.lease(&last.lease).await.is_err());
    job.go_to(&one.target(None)).await;
    assert_eq!(refused(job.mint("load", "use:load").await), "TASK_ENDED");
    assert!(job.complete().await.unwrap().already_ended);

    // A certificate's lease ends everywhere too.
    let second = one.operator("alice").await;
    second.revoke_lease(&alice.certified.lease.to_string()).await.unwrap();
    assert_eq!(refused(alice.client.get_status(pb::GetStatusRequest {}).await), "CERTIFICATE_NOT_ALLOWED");
    one.stop().await;
    two.stop().await;
}

/// A rotation at one broker refuses nobody at the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_rotated_at_one_broker_is_known_at_the_other() {
    let redis = redis();
    let site = Site::on(&redis);
    let (one, two) = (site.start("one").await, site.start("two").await);
    let alice = one.operator("alice").await;
    let acceptor = two.acceptor("load-api").await;
    let mut job = one.job(&site, &load_spec("1", "1")).await;
    let before = job.mint("load", "use:load").await.unwrap().credential;
    let rotate = pb::RotateKeyRequest::default();
    let keys = alice.client.rotate_key(rotate).await.unwrap().keys;
    assert!(keys.len() >= 2, "{keys:?}");
    for target in [&one, &two] {
        job.rpc = pb::workload_service_client::WorkloadServiceClient::new(
            channel::connect(&target.target(None)).await.unwrap(),
        );
        let after = job.mint("load", "use:load").await.unwrap().credential;
        for token in [&before, &after] {
            assert_eq!(acceptor.token(token, job.proof(token)).await, Ok(()));
        }
    }
    one.stop().await;
    two.stop().await;
}
