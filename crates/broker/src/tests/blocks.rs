//! Blocks: set, lifted, ended, listed, and copied before they are acknowledged.

use mayfly_domain::{Reason, Ttl};
use mayfly_lease::LeaseStore as _;

use super::site::*;
use crate::*;

#[tokio::test]
async fn a_block_refuses_mints_and_renewals_until_it_is_lifted_or_over() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, api) = (node.operator("alice").await, node.acceptor("deploy-api").await);
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    node.block(&alice, owner("team:payments"), None).await;
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::Blocked);
    assert_eq!(why(node.renew(&worker, &site.token(&worker), issued.record.id).await), Reason::Blocked);
    node.check(&api, &worker, &issued).await.unwrap();
    let listed = node.broker.blocks(&node.call(), &alice).await.unwrap();
    let block = listed[0].1.block.clone().unwrap();
    assert_eq!((listed.len(), block.author.as_str(), block.reason), (1, "alice", text("stolen")));

    node.lift(&alice, owner("team:payments")).await.unwrap();
    assert_eq!(why(node.lift(&alice, owner("team:payments")).await), Reason::BlockNotFound);
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();

    node.block(&alice, owner("team:payments"), Some(Ttl::parse("1m").unwrap())).await;
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::Blocked);
    site.clock.advance(60_000);
    assert!(node.broker.blocks(&node.call(), &alice).await.unwrap().is_empty());
    node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let audited: Vec<_> = node.audited_as("block").iter().map(|r| r["subject"]["value"].clone()).collect();
    assert_eq!(audited, ["team:payments", "team:payments"]);
    assert_eq!(node.audited_as("lift").len(), 2, "the refused one too");
}

#[tokio::test]
async fn only_whom_policy_permits_blocks_lifts_and_lists() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let mallory = node.operator("mallory").await;
    let named = Named { subject: owner("team:payments"), force: false };
    let input = BlockInput { named, reason: text("mine"), length: None };
    let refused = node.broker.set_block(&node.call(), &mallory, input).await;
    assert_eq!(why(refused), Reason::PolicyDenied);
    assert_eq!(why(node.lift(&mallory, owner("team:payments")).await), Reason::PolicyDenied);
    assert_eq!(why(node.broker.blocks(&node.call(), &mallory).await), Reason::PolicyDenied);
    assert!(site.store.tamper(|view| view.gates.is_empty()));
    assert_eq!(node.audited_as("block")[0]["reason"], "POLICY_DENIED");
}

#[tokio::test]
async fn another_brokers_change_reaches_the_copy() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let alice = one.operator("alice").await;
    one.block(&alice, owner("team:payments"), None).await;
    assert_eq!(one.copied().blocks.len(), 1, "before it is acknowledged");
    assert!(two.copied().blocks.is_empty());
    two.broker.look().await;
    assert_eq!(two.copied().blocks, one.copied().blocks);
    one.lift(&alice, owner("team:payments")).await.unwrap();
    two.broker.look().await;
    for node in [&one, &two] {
        let blocks = node.copied().blocks;
        assert_eq!(blocks.len(), 1, "the version of a lifted one is kept");
        assert_eq!(blocks[0].1.block, None);
    }
    site.clock.advance(31 * 86_400_000);
    let alice = one.operator("alice").await;
    one.block(&alice, owner("team:billing"), None).await;
    let named: Vec<_> = one.copied().blocks.into_iter().map(|(s, _)| s).collect();
    assert_eq!(named, [owner("team:billing")], "as long as a copy may bring it back");
}

#[tokio::test]
async fn a_copy_that_cant_be_written_is_said_and_never_stops_a_revocation() {
    let site = Site::new().await;
    let node = site.broker("one").await;
    let (alice, api) = (node.operator("alice").await, node.acceptor("deploy-api").await);
    let worker = Worker::payments("1");
    let issued = node.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    let in_the_way = node.state.join("copy.next");
    std::fs::create_dir(&in_the_way).unwrap();

    let named = || Named { subject: owner("team:payments"), force: true };
    let input = || BlockInput { named: named(), reason: text("stolen"), length: None };
    let refused = node.broker.set_block(&node.call(), &alice, input()).await;
    assert_eq!(why(refused), Reason::StoreUnavailable, "it would not outlive the store");
    let rotated = node.broker.rotate_keys(&node.call(), &alice, KeyStep::Prepare(None)).await;
    assert_eq!(why(rotated), Reason::StoreUnavailable);
    assert_eq!(why(node.mint(&worker, &site.token(&worker), deploy()).await), Reason::Blocked);

    node.broker.look().await;
    assert!(matches!(node.standing(), Standing::CopyBehind(_)), "{:?}", node.standing());
    let billing = Worker::billing("1042", "1");
    let refused = node.mint(&billing, &site.token(&billing), report()).await;
    assert_eq!(why(refused), Reason::StoreUnavailable, "what others block would not outlive the store here");
    node.revoke(&alice, owner("team:payments")).await;
    let both = RevokeInput::Subject { named: named(), block: Some(None) };
    let refused = node.broker.revoke(&node.call(), &alice, both, text("stolen"), None, false).await;
    assert_eq!(why(refused), Reason::StoreUnavailable);

    std::fs::remove_dir(&in_the_way).unwrap();
    node.broker.look().await;
    assert_eq!(node.standing(), Standing::Serving);
    assert_eq!(node.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked));
    assert_eq!(node.copied().blocks.len(), 1);
    assert_eq!(node.copied().changes, node.store.survey().await.unwrap().changes);
    node.broker.set_block(&node.call(), &alice, input()).await.unwrap();
}
