//! Keys and authorities that one broker withdraws or replaces: the other knows at its next call, and nobody is refused
//! over what was only replaced.

use mayfly_client::channel;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use crate::harness::{Acceptor, Job, Node, Operator, Service, Site, load_spec, refused};

/// Two brokers on one store, and everybody connected to the second while the first one changes the keys.
pub(super) struct Pair {
    pub(super) site: Site,
    pub(super) one: Node,
    pub(super) two: Node,
    pub(super) job: Job,
    pub(super) alice: Operator,
    pub(super) mesh: Acceptor,
    pub(super) load: Acceptor,
}

impl Pair {
    pub(super) async fn new(redis: &RedisServer) -> Self {
        let site = Site::on(redis);
        let (one, two) = (site.start("one").await, site.start("two").await);
        let job = two.job(&site, &load_spec("1", "1")).await;
        let alice = one.operator("alice").await;
        let (mesh, load) = (two.acceptor("mesh-api").await, two.acceptor("load-api").await);
        Self { site, one, two, job, alice, mesh, load }
    }

    pub(super) async fn accepts(&self, leaf: &[u8]) -> Result<(), String> {
        let credential = Some(pb::check_request::Credential::Certificate(leaf.to_vec()));
        self.mesh.ask(pb::CheckRequest { credential, ..Default::default() }).await
    }

    pub(super) async fn stop(self) {
        self.one.stop().await;
        self.two.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_withdrawn_authority_issued_is_refused_at_the_other_broker_at_once() {
    let redis = RedisServer::start(RedisOptions::default());
    let p = Pair::new(&redis).await;
    let answer = p.job.mint("mesh", "use:mesh").await.unwrap();
    let service = Service::connect(&p.site, &p.two, &answer, &p.job.key).await;
    service.renew(&p.job.key).await.unwrap();
    assert_eq!(p.accepts(&service.leaf).await, Ok(()));

    let all = p.alice.client.list_authorities(pb::ListAuthoritiesRequest {}).await.unwrap().authorities;
    let workload = all.iter().find(|a| a.role() == pb::AuthorityRole::Workload).unwrap();
    let revoke = pb::RevokeAuthorityRequest {
        id: workload.id.clone(),
        reason: "stolen".to_owned(),
        ..Default::default()
    };
    p.alice.client.revoke_authority(revoke).await.unwrap();
    assert_eq!(refused(service.renew(&p.job.key).await), "SIGNER_WITHDRAWN");
    assert_eq!(refused(service.mint(&p.job.key, "load", "use:load").await), "SIGNER_WITHDRAWN");
    assert!(p.accepts(&service.leaf).await.is_err());
    // It opens no connection any more, either: neither broker knows its authority.
    let target = p.two.target(Some(service.files.clone()));
    if let Ok(channel) = channel::connect(&target).await {
        let mut rpc = WorkloadServiceClient::new(channel);
        rpc.get_nonce(pb::GetNonceRequest {}).await.unwrap_err();
    }
    let fresh = p.job.mint("mesh", "use:mesh").await.unwrap();
    assert_eq!(p.accepts(&fresh.certificates[0]).await, Ok(()));
    Service::connect(&p.site, &p.two, &fresh, &p.job.key).await.renew(&p.job.key).await.unwrap();
    p.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_key_that_was_put_in_place_a_moment_ago_is_accepted_and_a_withdrawn_ones_is_not() {
    let redis = RedisServer::start(RedisOptions::default());
    let p = Pair::new(&redis).await;
    let old = p.job.mint("load", "use:load").await.unwrap().credential;
    assert_eq!(p.load.token(&old, p.job.proof(&old)).await, Ok(()));
    let keys = p.alice.client.list_keys(pb::ListKeysRequest {}).await.unwrap().keys;
    let kid = keys.iter().find(|key| key.state == "active").unwrap().kid.clone();
    let revoke = pb::RevokeKeyRequest { kid, reason: "stolen".to_owned(), ..Default::default() };
    p.alice.client.revoke_key(revoke).await.unwrap();
    // The first broker signs with a key that the second has never seen.
    let at_one = p.one.job(&p.site, &load_spec("1", "1")).await;
    let new = at_one.mint("load", "use:load").await.unwrap().credential;
    assert_eq!(p.load.token(&new, at_one.proof(&new)).await, Ok(()));
    assert!(p.load.token(&old, p.job.proof(&old)).await.is_err());
    p.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_certificate_goes_with_its_authority() {
    let redis = RedisServer::start(RedisOptions::default());
    let p = Pair::new(&redis).await;
    let at_two = p.two.operator("alice").await;
    at_two.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    let all = p.alice.client.list_authorities(pb::ListAuthoritiesRequest {}).await.unwrap().authorities;
    let system = all.iter().find(|a| a.role() == pb::AuthorityRole::System).unwrap();
    let revoke = pb::RevokeAuthorityRequest {
        id: system.id.clone(),
        reason: "stolen".to_owned(),
        ..Default::default()
    };
    p.alice.client.revoke_authority(revoke).await.unwrap();
    assert_eq!(refused(at_two.client.get_status(pb::GetStatusRequest {}).await), "SIGNER_WITHDRAWN");
    let credential = Some(pb::check_request::Credential::Lease(at_two.certified.lease.to_string()));
    let question = pb::CheckRequest { credential, ..Default::default() };
    assert_eq!(p.mesh.ask(question).await.unwrap_err(), "SIGNER_WITHDRAWN", "the acceptor's went too");
    // Whoever can open the seal gets another, and both brokers serve by the new authority.
    let again = p.two.operator("alice").await;
    again.client.get_status(pb::GetStatusRequest {}).await.unwrap();
    p.stop().await;
}
