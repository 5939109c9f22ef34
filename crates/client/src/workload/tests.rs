use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::{ProfileName, Scopes, SystemClock};
use tokio::net::TcpListener;

use super::*;
use crate::fixture::Ca;
use crate::fixture::broker::{World, target};

async fn client(world: &World) -> Result<WorkloadClient, Failure> {
    let source = Source::File(world.token.clone());
    WorkloadClient::connect(&world.target, source, &world.home, Arc::new(SystemClock)).await
}

fn ask() -> Ask {
    Ask {
        profile: ProfileName::parse("payments-deploy").unwrap(),
        intent: None,
        reason: None,
        ttl: Some(Ttl::constant(60)),
        scopes: Scopes::default(),
    }
}

#[tokio::test]
async fn each_call_is_one_round_trip_with_a_nonce_of_its_own() {
    let world = World::new().await;
    let client = client(&world).await.unwrap();
    let minted = client.mint(&ask()).await.unwrap();
    assert_eq!(minted.token.expose(), "token-1");
    assert!(!format!("{minted:?}").contains("token-1"));
    client.start_task(None, None, None, false).await.unwrap();
    client.renew(LeaseId::from_bytes([1; 16]), None).await.unwrap();
    client.release(None).await.unwrap();
    client.task().await.unwrap();
    client.complete_task().await.unwrap();
    let script = world.broker.script();
    assert_eq!(script.nonces_asked, 1, "every later nonce came with an answer");
    let names: Vec<_> = script.calls.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [rpc::MINT, rpc::START_TASK, rpc::RENEW, rpc::RELEASE, rpc::GET_TASK, rpc::COMPLETE_TASK]
    );
    let mint = pb::MintRequest::decode(script.calls[0].1.as_slice()).unwrap();
    assert_eq!((mint.profile.as_str(), mint.ttl_s), ("payments-deploy", 60));
    assert!(mint.evidence.is_some());
}

#[tokio::test]
async fn a_refusal_comes_back_whole_and_only_what_helps_is_repeated() {
    let world = World::new().await;
    let client = client(&world).await.unwrap();
    world.refuse(&[Reason::Blocked]);
    let refused = client.mint(&ask()).await.unwrap_err();
    assert!(refused.is(Reason::Blocked));
    assert_eq!(refused.request.as_deref(), Some("r-9"));
    world.refuse(&[Reason::NonceExpired, Reason::RaceLost]);
    client.mint(&ask()).await.unwrap();
    assert_eq!(world.broker.script().calls.len(), 4);
}

#[tokio::test]
async fn a_patience_of_nothing_gives_up() {
    let world = World::new().await;
    let client = client(&world).await.unwrap().patience(Duration::from_millis(50));
    world.refuse(&[Reason::StoreUnavailable; 9]);
    let begun = tokio::time::Instant::now();
    assert!(client.mint(&ask()).await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn another_ca_or_trust_domain_or_nobody_is_no_broker() {
    let mut world = World::new().await;
    let port = world.target.url.port().unwrap();
    let good = world.target.clone();
    world.target = target(port, &Ca::new().issuing);
    let refused = client(&world).await.unwrap_err();
    assert!(refused.is(Reason::BrokerUntrusted), "{refused:?}");
    world.target =
        Target { trust_domain: Some(TrustDomain::parse("staging.internal").unwrap()), ..good.clone() };
    assert!(client(&world).await.unwrap_err().is(Reason::BrokerUntrusted));
    assert_eq!(world.broker.script().nonces_asked, 0, "nothing was said to it");
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut gone = good;
    gone.url.set_port(Some(free)).unwrap();
    let refused = channel::connect(&gone).await.unwrap_err();
    assert!(refused.is(Reason::BrokerUnreachable), "{refused:?}");
}

/// A stand-in for GitHub's token service whose every token is another one.
async fn token_service() -> Source {
    let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let answer = move || {
        let jti = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"jti":"{jti}","exp":4102444800}}"#));
        std::future::ready(format!(r#"{{"value":"e30.{claims}.c2ln"}}"#))
    };
    let app = axum::Router::new().fallback(answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let vars = [("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t")];
    Source::discover(None, &crate::env::Env::of(vars)).unwrap()
}

#[tokio::test]
async fn evidence_is_asked_for_anew_once_after_a_revocation_and_kept_otherwise() {
    let world = World::new().await;
    let connect =
        WorkloadClient::connect(&world.target, token_service().await, &world.home, Arc::new(SystemClock));
    let client = connect.await.unwrap();
    client.mint(&ask()).await.unwrap();
    client.mint(&ask()).await.unwrap();
    world.refuse(&[Reason::EvidencePredatesRevocation]);
    client.mint(&ask()).await.unwrap();
    world.refuse(&[Reason::EvidencePredatesRevocation; 2]);
    assert!(client.mint(&ask()).await.unwrap_err().is(Reason::EvidencePredatesRevocation));
    let shown: Vec<String> = world
        .broker
        .script()
        .calls
        .iter()
        .map(|(_, payload)| {
            let evidence = pb::MintRequest::decode(payload.as_slice()).unwrap().evidence.unwrap();
            let pb::evidence::Kind::OidcToken(token) = evidence.kind.unwrap() else { unreachable!() };
            Evidence::peek(token).unwrap().claim("jti").unwrap()
        })
        .collect();
    assert_eq!(shown, ["0", "0", "0", "1", "1", "2"]);
}

#[tokio::test]
async fn a_file_is_not_shown_again_after_a_revocation() {
    let world = World::new().await;
    let client = client(&world).await.unwrap();
    world.refuse(&[Reason::EvidencePredatesRevocation]);
    assert!(client.mint(&ask()).await.is_err());
    assert_eq!(world.broker.script().calls.len(), 1);
}

#[tokio::test]
async fn a_handle_completes_its_task_without_key_and_evidence() {
    let world = World::new().await;
    let started = client(&world).await.unwrap().start_task(None, None, None, true).await.unwrap();
    assert!(!format!("{started:?}").contains("mfc_secret"));
    let handle = started.handle.unwrap();
    complete_by_handle(&world.target, &handle, retry::CALL).await.unwrap();
    let wrong = Secret::new("mfc_other".to_owned());
    let refused = complete_by_handle(&world.target, &wrong, retry::CALL).await.unwrap_err();
    assert!(refused.is(Reason::HandleInvalid), "{refused:?}");
}

#[tokio::test]
async fn a_certificate_is_for_the_key_that_asked_and_no_token() {
    let world = World::new().await;
    let client = client(&world).await.unwrap();
    let svid = client.mint_certificate(&CertificateAsk::new(ProfileName::parse("x509-api").unwrap())).await;
    let svid = svid.unwrap();
    assert_eq!(svid.id.as_str(), crate::fixture::broker::WORKLOAD);
    assert_eq!(svid.chain_pem().matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(svid.bundle_pem().matches("BEGIN CERTIFICATE").count(), 1);
    assert!(svid.key_pem().expose().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!format!("{svid:?}").contains("PRIVATE"));
    let profile = ProfileName::parse("x509-api").unwrap();
    assert!(client.mint(&Ask { profile, ..ask() }).await.unwrap_err().is(Reason::KindMismatch));
    let token = CertificateAsk::new(ProfileName::parse("payments-deploy").unwrap());
    assert!(client.mint_certificate(&token).await.unwrap_err().is(Reason::KindMismatch));
}
