//! Signing keys and issuing CAs over two brokers on one Redis: rotated under load, and withdrawn.

mod load;
mod withdrawn;

use mayfly_client::Failure;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::rotate_key_request::Step;
use mayfly_testkit::redis::{RedisOptions, RedisServer};

use crate::harness::{Acceptor, Node, Operator, Site, until};
use load::Load;

/// Two brokers, who works on them, and who asks them.
struct Two {
    site: Site,
    nodes: [Node; 2],
    /// An acceptor at each.
    acceptors: [Acceptor; 2],
    alice: Operator,
    _redis: RedisServer,
}

impl Two {
    async fn new() -> Self {
        let redis = RedisServer::start(RedisOptions::default());
        let site = Site::on(&redis);
        let nodes = [site.start("one").await, site.start("two").await];
        let acceptors = [nodes[0].acceptor("load-api").await, nodes[1].acceptor("load-api").await];
        let alice = nodes[0].operator("alice").await;
        Self { site, nodes, acceptors, alice, _redis: redis }
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }

    /// The ids of the token keys.
    async fn kids(&self) -> Vec<String> {
        let listed = self.alice.client.list_keys(pb::ListKeysRequest {}).await.unwrap();
        listed.keys.into_iter().map(|key| key.kid).collect()
    }

    /// The ids of a role's CAs.
    async fn authorities(&self, role: pb::AuthorityRole) -> Vec<String> {
        let listed = self.alice.client.list_authorities(pb::ListAuthoritiesRequest {}).await.unwrap();
        listed.authorities.into_iter().filter(|a| a.role() == role).map(|a| a.id).collect()
    }

    async fn key(&self, step: Step, force: bool) -> Result<(), Failure> {
        let request = pb::RotateKeyRequest { step: step.into(), force, ..Default::default() };
        self.alice.client.rotate_key(request).await.map(drop)
    }

    async fn authority(&self, role: pb::AuthorityRole, step: Step) -> Result<(), Failure> {
        let request =
            pb::RotateAuthorityRequest { step: step.into(), role: role.into(), ..Default::default() };
        self.alice.client.rotate_authority(request).await.map(drop)
    }
}

/// Takes a step as often as it says that it is too early.
async fn patiently(early: &str, mut step: impl AsyncFnMut() -> Result<(), Failure>) {
    until(async || match step().await {
        Ok(()) => Some(()),
        Err(no) => {
            assert_eq!(no.code, early, "{no:?}");
            None
        }
    })
    .await;
}

const WORKLOAD: pb::AuthorityRole = pb::AuthorityRole::Workload;
const SYSTEM: pb::AuthorityRole = pb::AuthorityRole::System;

/// Every step of every rotation, with work before, between and after.
async fn rotate(two: &Two, load: &Load<'_>) {
    load.rounds(1).await;
    for role in [WORKLOAD, SYSTEM] {
        two.authority(role, Step::Prepare).await.unwrap();
        // Verifiers hear of a new CA before anybody has a certificate of it.
        load.anchors(2).await;
        load.rounds(1).await;
        patiently("RACE_LOST", async || two.authority(role, Step::Activate).await).await;
        load.rounds(1).await;
    }
    two.key(Step::Prepare, false).await.unwrap();
    load.rounds(1).await;
    patiently("RACE_LOST", async || two.key(Step::Activate, false).await).await;
    load.rounds(1).await;

    // What the old CA issued is renewed or ended by now; the old key's tokens are nobody's any more, which only their
    // users know.
    patiently("KEY_IN_USE", async || two.authority(WORKLOAD, Step::Retire).await).await;
    assert_eq!(two.key(Step::Retire, false).await.unwrap_err().code, "KEY_IN_USE");
    two.key(Step::Retire, true).await.unwrap();
    // People's certificates live.
    assert_eq!(two.authority(SYSTEM, Step::Retire).await.unwrap_err().code, "KEY_IN_USE");
    load.anchors(1).await;
    load.rounds(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_refuse_nobody() {
    let two = Two::new().await;
    let before = (two.kids().await, two.authorities(WORKLOAD).await);
    let load = Load::on(&two).await;
    tokio::select! {
        () = load.work() => panic!("the work has no end"),
        () = rotate(&two, &load) => {}
    }
    println!("rotations under load: {}, 0 refused", load.told());
    let after = (two.kids().await, two.authorities(WORKLOAD).await);
    assert_eq!((after.0.len(), after.1.len()), (1, 1), "{after:?}");
    assert!(before.0[0] != after.0[0] && before.1[0] != after.1[0], "{before:?} {after:?}");
    assert_eq!(two.authorities(SYSTEM).await.len(), 2);
    drop(load);
    two.stop().await;
}
