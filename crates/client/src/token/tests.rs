use mayfly_domain::{ProfileName, Scopes};

use super::*;
use crate::evidence::Source;
use crate::fixture::broker::World;
use crate::fixture::clock::Wall;

async fn source(world: &World) -> (Arc<Wall>, Arc<TokenSource>) {
    let wall = Arc::new(Wall::new());
    let evidence = Source::File(world.token.clone());
    let client = WorkloadClient::connect(&world.target, evidence, &world.home, wall.clone()).await.unwrap();
    let ask = Ask {
        profile: ProfileName::parse("payments-deploy").unwrap(),
        intent: None,
        reason: None,
        ttl: None,
        scopes: Scopes::default(),
    };
    (wall, Arc::new(TokenSource::new(Arc::new(client), ask)))
}

fn calls(world: &World) -> Vec<&'static str> {
    let script = world.broker.script();
    script.calls.iter().map(|(name, _)| name.rsplit('/').next().unwrap()).collect()
}

#[tokio::test]
async fn many_callers_are_one_flight() {
    let world = World::new().await;
    let (_, source) = source(&world).await;
    let waiting: Vec<_> = (0..16)
        .map(|_| {
            let source = Arc::clone(&source);
            tokio::spawn(async move { source.token().await.unwrap().token.expose().clone() })
        })
        .collect();
    for call in waiting {
        assert_eq!(call.await.unwrap(), "token-1");
    }
    assert_eq!(calls(&world), ["Mint"]);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_and_shown_as_long_as_it_is_good() {
    let world = World::new().await;
    let (wall, source) = source(&world).await;
    source.token().await.unwrap();
    wall.jump(300_000);
    source.token().await.unwrap();
    assert_eq!(calls(&world), ["Mint"], "half of its life");
    wall.jump(150_000);
    world.refuse(&[Reason::Blocked]);
    assert_eq!(
        source.token().await.unwrap().token.expose(),
        "token-1",
        "a refused renewal is no failure yet"
    );
    assert!(source.token().await.unwrap().token.expose().starts_with("renewed"));
    wall.jump(3_600_000);
    world.refuse(&[Reason::LeaseRevoked, Reason::Blocked]);
    assert!(source.token().await.unwrap_err().is(Reason::Blocked), "over, and no other");
    assert!(source.token().await.is_ok());
    source.forget();
    source.token().await.unwrap();
    assert_eq!(calls(&world), ["Mint", "Renew", "Renew", "Renew", "Mint", "Renew", "Mint"]);
}

#[tokio::test]
async fn a_bound_token_goes_with_a_proof_and_debug_shows_neither() {
    let world = World::new().await;
    let (_, source) = source(&world).await;
    let url = Url::parse("https://api.example/deploy").unwrap();
    let headers = source.headers("POST", &url).await.unwrap();
    assert_eq!(headers.authorization.expose(), "DPoP token-1");
    assert_eq!(headers.dpop.as_ref().unwrap().expose().split('.').count(), 3);
    let shown = format!("{headers:?} {source:?} {:?}", source.token().await.unwrap());
    assert!(!shown.contains("token-1"), "{shown}");
}
