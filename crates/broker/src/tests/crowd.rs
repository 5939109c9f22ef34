//! Ten thousand acceptors that want to follow at once, as after a failure of everything.

use std::time::Duration;

use futures::future::join_all;
use mayfly_domain::{Reason, Refusal};
use tokio::time::Instant;

use super::followers::{certificate, start};
use super::site::*;
use crate::*;

const CROWD: usize = 10_000;
/// As many as the broker takes: all places of one acceptor, and some of another.
const PLACES: usize = 1_500;
/// What each that comes may cost while all come, and what one that stays costs, at most, in octets.
const COMES: u64 = 10 * 1024;
const STAYS: i64 = 16 * 1024;
/// Longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a follower is told until its table is complete.
async fn complete(follows: &mut Follows) {
    while !matches!(follows.next().await.unwrap(), Told::SnapshotEnd(_)) {}
}

/// All come at once; those who found a place have their whole snapshot, the others' refusals are returned.
async fn storm(node: &Node, certificates: &[ClientCertificate; 2]) -> (Vec<Follows>, Vec<Refusal>) {
    let broker = &node.broker;
    let seats = certificates
        .iter()
        .cycle()
        .take(CROWD)
        .map(|certificate| async move { broker.seat(&node.call(), Some(certificate)).await });
    let (seats, refused): (Vec<_>, Vec<_>) = join_all(seats).await.into_iter().partition(Result::is_ok);
    let follows = seats.into_iter().enumerate().map(|(n, seat)| async move {
        let mut start = start(1);
        start.follower[8..].copy_from_slice(&n.to_be_bytes());
        let mut follows = broker.follows(seat.unwrap(), &start).await.unwrap();
        complete(&mut follows).await;
        follows
    });
    let pings = async {
        loop {
            broker.ping_all().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        follows = join_all(follows) => (follows, refused.into_iter().map(|r| r.err().unwrap()).collect()),
        () = pings => unreachable!(),
    }
}

#[test]
fn ten_thousand_that_come_at_once_are_served_or_told_when_to_come_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (site, node, certificates) = runtime.block_on(async {
        let site = Site::new().await;
        let node = site.broker_with("one", |settings| settings.feed.followers = PLACES).await;
        let operator = node.operator("alice").await;
        let certificates = [certificate(&node, "deploy-api").await, certificate(&node, "ledger-api").await];
        for n in 0..50 {
            node.revoke(&operator, owner(&format!("team:t{n}"))).await;
        }
        node.broker.catch_up().await;
        (site, node, certificates)
    });
    let mut came = None;
    let used = allocation_counter::measure(|| {
        came = Some(runtime.block_on(async {
            let begun = Instant::now();
            let (follows, refused) = storm(&node, &certificates).await;
            (follows, refused, begun.elapsed())
        }));
    });
    let (follows, refused, took) = came.unwrap();
    assert_eq!((follows.len(), refused.len()), (PLACES, CROWD - PLACES));
    assert_eq!(node.broker.feed().followers(), PLACES);
    for refusal in &refused {
        assert_eq!(refusal.reason, Reason::Overloaded);
        assert!(refusal.retry_after.is_some_and(|wait| wait >= Duration::from_secs(1)), "{refusal}");
    }
    // Each of them in the record would be a flood of its own.
    assert!(node.audited_as("follow").is_empty());
    let (comes, stays) = (used.bytes_max / CROWD as u64, used.bytes_current / PLACES as i64);
    assert!(
        comes < COMES && stays < STAYS,
        "{comes} octets for each that comes, {stays} for each that stays"
    );
    assert!(took < PATIENCE, "{took:?}");

    // Whoever leaves makes room.
    drop(follows);
    assert_eq!(node.broker.feed().followers(), 0);
    let call = node.call();
    runtime.block_on(node.broker.seat(&call, Some(&certificates[1]))).unwrap();
    drop(site);
}
