//! Who follows: pings are stored with what was applied, and say where the feed stood.

use std::collections::BTreeSet;

use mayfly_domain::Dimension;
use mayfly_domain::feed::Epoch;
use mayfly_lease::feed::{FollowerId, FollowerKind, FollowerPing, Followers};

use super::World;

/// The ping of follower `n` of this store, of an acceptor with a bound of 5 s.
fn ping(w: &World, n: u16, applied: u64) -> FollowerPing {
    let [a, b] = n.to_be_bytes();
    FollowerPing {
        id: FollowerId([a, b, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]),
        kind: FollowerKind::Acceptor,
        name: format!("payments-{n}"),
        broker: "broker-a".to_owned(),
        bound_ms: 5_000,
        reuse_ms: 0,
        applied,
        epoch: Epoch(w.store.identity()),
    }
}

fn names(followers: &Followers) -> BTreeSet<&str> {
    followers.all.iter().map(|seen| seen.ping.name.as_str()).collect()
}

/// The first registers, each is stored whole with the store's time, and is answered with where the feed stands.
pub async fn a_ping_says_where_the_feed_stands(mut w: World) {
    let other = w.another().await;
    assert!(w.store.followers_behind(u64::MAX).await.unwrap().all.is_empty());
    let broker = FollowerPing { kind: FollowerKind::Broker, reuse_ms: 250, ..ping(&w, 2, 0) };
    let pings = [ping(&w, 1, 0), broker.clone()];
    let registered = w.store.ping(&pings).await.unwrap();
    assert_eq!(registered.position, w.store.feed_position().await.unwrap());
    assert_eq!(registered.at, w.now());
    let seen = other.followers_behind(1).await.unwrap();
    assert_eq!((seen.now, seen.all.len()), (w.now(), 2));
    assert!(pings.iter().all(|ping| seen.all.iter().any(|s| s.ping == *ping && s.at == w.now())));

    w.revoke(Dimension::Owner, 1).await;
    let second = w.revoke(Dimension::Owner, 1).await.changes;
    w.clock.advance(1_000);
    let ponged = other.ping(&[ping(&w, 1, second)]).await.unwrap();
    assert_eq!((ponged.position.number, ponged.at), (second, w.now()));
    let all = w.store.followers_behind(u64::MAX).await.unwrap();
    let first = all.all.iter().find(|seen| seen.ping.id == pings[0].id).unwrap();
    assert_eq!((first.at, first.ping.applied), (w.now(), second));
    let last = all.all.iter().find(|seen| seen.ping.id == broker.id).unwrap();
    assert_eq!((last.at, &last.ping), (registered.at, &broker), "the other is as it was");
}

/// A barrier asks for those alone that have not applied its number.
pub async fn only_those_behind_are_named(w: World) {
    for _ in 0..3 {
        w.revoke(Dimension::Owner, 1).await;
    }
    let pings: Vec<_> = [0, 1, 2, 3].map(|n| ping(&w, n, n.into())).into();
    w.store.ping(&pings).await.unwrap();
    let behind = async |number| w.store.followers_behind(number).await.unwrap();
    assert!(behind(0).await.all.is_empty());
    assert_eq!(names(&behind(1).await), BTreeSet::from(["payments-0"]));
    assert_eq!(names(&behind(3).await), BTreeSet::from(["payments-0", "payments-1", "payments-2"]));
    assert_eq!(behind(u64::MAX).await.all.len(), 4);
    w.store.ping(&[ping(&w, 0, 3)]).await.unwrap();
    assert_eq!(names(&behind(2).await), BTreeSet::from(["payments-1"]));
    assert_eq!(w.store.ping(&[]).await.unwrap().position.number, 3);
}

/// A number of a server that is gone may stand for something else; one ahead of the feed is none of ours.
pub async fn a_number_of_another_epoch_counts_as_none(w: World) {
    let number = w.revoke(Dimension::Owner, 1).await.changes;
    let mut gone = ping(&w, 1, number);
    gone.epoch.0[0] ^= 1;
    w.store.ping(&[gone, ping(&w, 2, number + 1), ping(&w, 3, number)]).await.unwrap();
    let behind = w.store.followers_behind(number).await.unwrap();
    assert_eq!(names(&behind), BTreeSet::from(["payments-1", "payments-2"]));
    assert!(behind.all.iter().all(|seen| seen.ping.applied == 0));
}

/// By its good-bye, or by a silence of much more than its bound; barriers see it until then.
pub async fn a_follower_is_forgotten(w: World) {
    w.store.ping(&[ping(&w, 1, 0), ping(&w, 2, 0), ping(&w, 3, 0)]).await.unwrap();
    w.store.forget_follower(ping(&w, 2, 0).id).await.unwrap();
    w.store.forget_follower(ping(&w, 9, 0).id).await.unwrap();
    assert_eq!(w.store.followers_behind(1).await.unwrap().all.len(), 2);
    w.clock.advance(5_000 + 59_000);
    w.store.ping(&[ping(&w, 3, 0)]).await.unwrap();
    let silent = w.store.followers_behind(1).await.unwrap();
    assert_eq!(names(&silent), BTreeSet::from(["payments-1", "payments-3"]));
    w.clock.advance(1_000);
    assert_eq!(names(&w.store.followers_behind(1).await.unwrap()), BTreeSet::from(["payments-3"]));
    w.store.ping(&[ping(&w, 1, 0)]).await.unwrap();
    assert_eq!(w.store.followers_behind(1).await.unwrap().all.len(), 2, "it comes back whole");
}

/// One write for all that wait, however many; what was acknowledged is there after a restart.
pub async fn many_pings_are_one_durable_write(mut w: World) {
    let number = w.revoke(Dimension::Owner, 1).await.changes;
    let pings: Vec<_> = (0..2_500).map(|n| ping(&w, n, number * u64::from(n % 2))).collect();
    assert_eq!(w.store.ping(&pings).await.unwrap().position.number, number);
    w.restart().await;
    let all = w.store.followers_behind(u64::MAX).await.unwrap();
    assert_eq!(all.all.len(), 2_500);
    let ids: BTreeSet<_> = all.all.iter().map(|seen| seen.ping.id).collect();
    assert_eq!(ids.len(), 2_500);
    assert_eq!(w.store.followers_behind(number).await.unwrap().all.len(), 1_250);
}
