//! A store whose clock was ahead and went back.

use std::sync::Arc;

use mayfly_domain::Reason;

use super::site::*;
use crate::*;

#[tokio::test]
async fn a_store_whose_clock_was_ahead_is_a_new_generation_once() {
    let site = Site::new().await;
    let (one, two) = (site.broker("one").await, site.broker("two").await);
    let (alice, worker) = (one.operator("alice").await, Worker::payments("1"));
    let issued = one.mint(&worker, &site.token(&worker), deploy()).await.unwrap();
    one.block(&alice, owner("team:payments"), None).await;
    site.store.tamper(|view| {
        view.forgot = true;
        view.gates.clear();
    });
    let refused = one.mint(&worker, &site.token(&worker), deploy()).await;
    assert_eq!(why(refused), Reason::GenerationChanged);
    assert_eq!(one.standing(), Standing::Settling);
    for node in [&one, &two, &one] {
        node.broker.look().await;
        assert_eq!((node.standing(), node.number()), (Standing::Serving, 2));
    }
    let api = two.acceptor("deploy-api").await;
    assert_eq!(two.check(&api, &worker, &issued).await, Err(Reason::LeaseRevoked));
    let refused = two.mint(&worker, &site.token(&worker), deploy()).await;
    assert_eq!(why(refused), Reason::Blocked, "what it forgot comes from a copy");

    // A broker that has no copy yet does not take it over as it is either.
    site.store.tamper(|view| view.forgot = true);
    let fresh = site.node("three", Arc::new(site.store.another()), |_| ()).await;
    fresh.broker.look().await;
    assert_eq!((fresh.standing(), fresh.number()), (Standing::Serving, 3));
}
