//! The thinnest whole path: evidence to token, check, revoke by owner, refused.

use std::sync::Arc;

use mayfly_client::workload::Ask;
use mayfly_client::{Env, KeyHome, Source, WorkloadClient};
use mayfly_domain::{Intent, LeaseId, ProfileName, Scopes, SystemClock};

use crate::harness::{Site, Spec, owner, refused};
use crate::support::dev::{self, DevBroker};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_becomes_a_token_that_is_accepted_until_its_owner_is_revoked() {
    let site = Site::embedded();
    let node = site.start("one").await;
    let job = node.job(&site, &Spec::default()).await;
    let acceptor = node.acceptor("deploy-api").await;
    let alice = node.operator("alice").await;

    let minted = job.mint("payments-deploy", "deploy:payments").await.unwrap();
    assert_eq!(acceptor.lease(&minted.lease).await, Ok(()));
    assert_eq!(acceptor.token(&minted.credential, job.proof(&minted.credential)).await, Ok(()));

    let done = alice.revoke(owner("team:payments"), false).await.unwrap();
    assert!(done.fence > 0 && done.audit == "written", "{done:?}");
    assert_eq!(acceptor.lease(&minted.lease).await.unwrap_err(), "LEASE_REVOKED");
    let proof = job.proof(&minted.credential);
    assert_eq!(acceptor.token(&minted.credential, proof).await.unwrap_err(), "LEASE_REVOKED");

    let again = job.mint("payments-deploy", "deploy:payments").await.unwrap();
    assert_eq!(acceptor.lease(&again.lease).await, Ok(()), "new evidence mints again");
    alice.revoke(owner("team:payments"), true).await.unwrap();
    assert_eq!(refused(job.mint("payments-deploy", "deploy:payments").await), "BLOCKED");
    node.stop().await;
}

/// `mayfly dev` with the workload's own client, its evidence found as in a GitHub job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_development_broker_serves_a_job_that_finds_its_evidence_by_itself() {
    let broker = DevBroker::start().await;
    let env = Env::of(broker.github_env(&Spec::default()));
    let dir = tempfile::tempdir().unwrap();
    let home = KeyHome::at(dir.path().join("keys")).unwrap();
    let source = Source::discover(None, &env).unwrap();
    let job = WorkloadClient::connect(&broker.anyone(), source, &home, Arc::new(SystemClock)).await.unwrap();
    let ask = Ask {
        profile: ProfileName::parse("payments-deploy").unwrap(),
        intent: Some(Intent::parse("deploy:payments").unwrap()),
        reason: None,
        ttl: None,
        scopes: Scopes::default(),
    };
    let minted = job.mint(&ask).await.unwrap();
    let renewed = job.renew(LeaseId::parse(&minted.lease).unwrap(), None).await.unwrap();
    assert_eq!(minted.lease, renewed.lease);
    assert_eq!(job.task().await.unwrap().leases.len(), 1);

    let acceptor = broker.acceptor("deploy-api").await;
    assert_eq!(dev::refused(&acceptor, &minted.lease).await, None);
    assert!(!job.complete_task().await.unwrap().already_ended);
    let ended = dev::refused(&acceptor, &minted.lease).await.unwrap();
    // The task's fence refuses at once; the sweep behind it then gives the lease its own end.
    assert!(["LEASE_REVOKED", "LEASE_ENDED"].contains(&ended.as_str()), "{ended}");
    broker.stop().await;
}
