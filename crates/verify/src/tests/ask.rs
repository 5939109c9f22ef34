//! Past the bound: refused, or asked.

use mayfly_domain::Reason;
use mayfly_proto::v1::check_request::Credential;

use super::WORKLOAD;
use super::broker::{BOUND_MS, Site};
use super::tokens::{AUDIENCE, Key, bound_to, claims, lease, request, with};
use crate::builder::PastBound;
use crate::judged::Request;

#[tokio::test]
async fn who_asks_gets_a_brokers_word_for_each_request() {
    let (key, holder) = (Key::new(), Key::new());
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let asking = |b: crate::Builder| b.past_bound(PastBound::AskOnline);
    let (verifier, _session) = site.fresh_with(asking, &[&key.public]).await;
    verifier.check_token_or_ask(&token, &request()).await.unwrap();
    assert!(site.checks.lock().await.is_empty(), "fresh, and yet asked");
    site.hands.boot_passes(BOUND_MS);
    let local = verifier.check_token(&token, &request()).unwrap_err();
    assert_eq!(local.reason, Reason::AcceptorNotFresh);
    let judged = verifier.check_token_or_ask(&token, &request()).await.unwrap();
    assert_eq!((judged.workload.as_str(), judged.credential.lease), (WORKLOAD, lease()));
    // A guard has nothing to go by: nobody would tell it.
    assert!(verifier.guard(&judged).check().is_err());
    let refused = Request { url: "https://deploy.acme.internal/refused", ..request() };
    let refused = verifier.check_token_or_ask(&token, &refused).await.unwrap_err();
    assert_eq!(refused.reason, Reason::LeaseRevoked);
    let demanding = Request { scopes: &["b:write"], ..request() };
    let refused = verifier.check_token_or_ask(&token, &demanding).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TokenScope, "the broker says what it grants");
    let asked = std::mem::take(&mut *site.checks.lock().await);
    assert!(asked.iter().all(|check| check.credential == Some(Credential::Token(token.clone()))));
    assert_eq!((asked.len(), verifier.metrics().asked()), (3, 3));

    // The key of a connection is seen here and by nobody else. Keys may have been withdrawn since: it is asked about the
    // token, never about its lease alone.
    let bound = key.token(&bound_to(&holder));
    let (own, other) = (holder.thumbprint(), key.thumbprint());
    verifier.check_token_or_ask(&bound, &Request { peer: Some(&own), ..request() }).await.unwrap();
    let asked = std::mem::take(&mut *site.checks.lock().await);
    assert_eq!(asked[0].credential, Some(Credential::Token(bound.clone())));
    assert_eq!(asked[0].peer_key, own.to_string());
    let stolen = Request { peer: Some(&other), ..request() };
    assert_eq!(verifier.check_token_or_ask(&bound, &stolen).await.unwrap_err().reason, Reason::ProofMissing);
    // Also where the key that signed it can't have been told yet.
    let newer = Key::new().token(&bound_to(&holder));
    assert_eq!(verifier.check_token_or_ask(&newer, &stolen).await.unwrap_err().reason, Reason::ProofMissing);
    // What it is bound to, and for whom it is, are known of both.
    let proof = holder.proof(&bound, "1", |_| {});
    for shown in [Request { peer: Some(&own), ..request() }, Request { dpop: Some(&proof), ..request() }] {
        let judged = verifier.check_token_or_ask(&bound, &shown).await.unwrap();
        assert_eq!((judged.key, judged.audience.as_ref().map(|a| a.as_str())), (Some(own), Some(AUDIENCE)));
    }
    site.checks.lock().await.clear();
    // What is wrong in itself is not asked about.
    assert!(verifier.check_token_or_ask("a.b.c", &request()).await.is_err());
    assert!(site.checks.lock().await.is_empty());
}

#[tokio::test]
async fn who_refuses_asks_nobody() {
    let key = Key::new();
    let token = key.token(&claims().to_string());
    let mut site = Site::new().await;
    let (verifier, _session) = site.fresh(&[&key.public]).await;
    site.hands.boot_passes(BOUND_MS);
    let refused = verifier.check_token_or_ask(&token, &request()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::AcceptorNotFresh);
    assert!(site.checks.lock().await.is_empty());
}

#[tokio::test]
async fn who_asks_demands_its_nonce_all_the_same() {
    let (key, holder) = (Key::new(), Key::new());
    let mut site = Site::new().await;
    let asking = |b: crate::Builder| b.past_bound(PastBound::AskOnline).demand_nonce();
    let (verifier, session) = site.fresh_with(asking, &[&key.public]).await;
    drop(session);
    site.hands.boot_passes(BOUND_MS);
    // Of a key that this acceptor could not be told of yet.
    let token = Key::new().token(&bound_to(&holder));
    let judge = async |nonce: Option<String>| {
        let proof = holder.proof(&token, "1", |claims| {
            if let Some(nonce) = nonce {
                claims["nonce"] = nonce.into();
            }
        });
        let request = Request { dpop: Some(&proof), ..request() };
        verifier.check_token_or_ask(&token, &request).await.err().map(|r| r.reason)
    };
    assert_eq!(judge(None).await, Some(Reason::ProofNonce));
    assert!(site.checks.lock().await.is_empty());
    assert_eq!(judge(verifier.nonce()).await, None);
    assert_eq!(site.checks.lock().await.len(), 1);
}

#[tokio::test]
async fn who_asks_takes_tokens_of_its_own_audiences_alone() {
    let mut site = Site::new().await;
    let own = AUDIENCE.parse().unwrap();
    let verifier = site.builder().past_bound(PastBound::AskOnline).audiences([own]).start().unwrap();
    // It has not even been told the keys.
    let _session = site.session().await;
    let key = Key::new();
    let others = key.token(&with("aud", "https://other.acme.internal".into()));
    let refused = verifier.check_token_or_ask(&others, &request()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TokenAudience);
    assert!(site.checks.lock().await.is_empty());
    verifier.check_token_or_ask(&key.token(&claims().to_string()), &request()).await.unwrap();
}
