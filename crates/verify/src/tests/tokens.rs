//! Tokens, proofs, and each refusal of what is bad about them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::{
    Clock as _, Fence, Generation, LeaseId, Observation, Owner, Pair, PublicKey, Reason, Subject, Thumbprint,
};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::broker::{Session, Site, at, fence, mark, soon, until};
use super::{GENERATION, NOW, WORKLOAD};
use crate::judged::Request;
use crate::verifier::Verifier;

pub(crate) const ISSUER: &str = "https://mayfly.acme.internal:8443";
pub(crate) const AUDIENCE: &str = "https://deploy.acme.internal";
const URL: &str = "https://deploy.acme.internal/releases";

/// A P-256 key that signs.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    pub(crate) public: PublicKey,
}

impl Key {
    pub(crate) fn new() -> Self {
        let rng = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &rng).unwrap();
        let public = PublicKey::new(mayfly_domain::KeyAlg::P256, pair.public_key().as_ref()).unwrap();
        Self { pair, public }
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        self.public.thumbprint()
    }

    fn signed(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token of these claims.
    pub(crate) fn token(&self, claims: &str) -> String {
        self.headed(&json!("ES256"), claims)
    }

    fn headed(&self, alg: &Value, claims: &str) -> String {
        let kid = self.thumbprint();
        self.signed(&format!(r#"{{"alg":{alg},"typ":"at+jwt","kid":"{kid}"}}"#), claims)
    }

    /// A DPoP proof of this key.
    pub(crate) fn proof(&self, token: &str, jti: &str, change: impl FnOnce(&mut Value)) -> String {
        let jwk: Value = serde_json::from_str(&self.public.canonical_jwk()).unwrap();
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
        let mut claims = json!({"jti": jti, "htm": "POST", "htu": URL, "iat": NOW.secs(), "ath": ath});
        change(&mut claims);
        self.signed(&header.to_string(), &claims.to_string())
    }
}

pub(crate) fn lease() -> LeaseId {
    LeaseId::from_parts(NOW, &[9; 10])
}

pub(crate) fn ancestor() -> LeaseId {
    LeaseId::from_parts(NOW, &[8; 10])
}

pub(crate) fn owner() -> Subject {
    Subject::Owner(Owner::parse("team:payments").unwrap())
}

pub(crate) fn observed(generation: Generation) -> Observation {
    let pairs = [owner(), super::everything()].map(|s| Pair { key: s.key(), fence: Fence::NONE });
    Observation::new(generation, pairs, [ancestor()]).unwrap()
}

/// The claims of a bearer token that is good for five minutes.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": WORKLOAD,
        "aud": AUDIENCE,
        "client_id": WORKLOAD,
        "iat": NOW.secs(),
        "exp": NOW.secs() + 300,
        "jti": format!("{}.0", lease()),
        "scope": "a:read b:write",
        "mf_own": ["team:payments"],
        "mf_task": "gh-77-1",
        "mf_int": "deploy:payments",
        "mf_obs": URL_SAFE_NO_PAD.encode(observed(GENERATION).encode()),
    })
}

pub(crate) fn with(name: &str, value: Value) -> String {
    let mut claims = claims();
    claims.as_object_mut().unwrap().insert(name.into(), value);
    claims.to_string()
}

pub(crate) fn bound_to(key: &Key) -> String {
    with("cnf", json!({"jkt": key.thumbprint().to_string()}))
}

pub(crate) fn request() -> Request<'static> {
    Request { method: "POST", url: URL, ..Request::default() }
}

pub(crate) fn why(verifier: &Verifier, token: &str) -> Option<Reason> {
    verifier.check_token(token, &request()).err().map(|refusal| refusal.reason)
}

async fn ready(key: &Key) -> (Site, Verifier, Session) {
    let mut site = Site::new().await;
    let (verifier, session) = site.fresh(&[&key.public]).await;
    (site, verifier, session)
}

#[tokio::test]
async fn a_good_token_is_accepted_again_and_again_and_says_who() {
    let key = Key::new();
    let (_site, verifier, _session) = ready(&key).await;
    let token = key.token(&claims().to_string());
    for _ in 0..3 {
        let judged = verifier.check_token(&token, &request()).unwrap();
        assert_eq!((judged.workload.as_str(), judged.credential.lease), (WORKLOAD, lease()));
        assert_eq!(judged.observation, Some(observed(GENERATION)));
    }
    assert_eq!(verifier.shared().tokens.len(), 1);
    assert_eq!(verifier.metrics().accepted(), 3);
    let demanding = Request { scopes: &["b:write", "a:read"], ..request() };
    verifier.check_token(&token, &demanding).unwrap();
    let refused = verifier.check_token(&token, &Request { scopes: &["a:read", "c"], ..request() });
    assert_eq!(refused.unwrap_err().reason, Reason::TokenScope);
}

#[tokio::test]
async fn each_bad_token_has_its_reason_first_and_again() {
    let (key, other) = (Key::new(), Key::new());
    let (_site, verifier, _session) = ready(&key).await;
    let good = claims().to_string();
    let mut without = claims();
    without.as_object_mut().unwrap().remove("mf_obs");
    let twice = |name: &str| good.replacen('{', &format!("{{\"{name}\":{},", claims()[name]), 1);
    let mut cases = vec![
        (Reason::TokenSignature, other.token(&good)),
        (Reason::TokenMalformed, key.headed(&json!("none"), &good)),
        (Reason::TokenMalformed, key.headed(&json!("HS256"), &good)),
        (Reason::TokenSignature, key.headed(&json!("EdDSA"), &good)),
        (Reason::TokenMalformed, key.token(&without.to_string())),
        (Reason::TokenMalformed, key.token(&twice("mf_obs"))),
        (Reason::TokenMalformed, key.token(&twice("aud"))),
        (Reason::TokenMalformed, key.token(&twice("exp"))),
        (Reason::TokenMalformed, key.token(&with("mf_obs", json!("AAAA")))),
        (Reason::TokenMalformed, key.token(&with("iss", json!("https://evil.internal")))),
        (Reason::TokenAudience, key.token(&with("aud", json!("https://ledger.acme.internal")))),
        (
            Reason::LeaseExpired,
            key.token(
                &with("exp", json!(NOW.secs()))
                    .replace(&format!("\"iat\":{}", NOW.secs()), &format!("\"iat\":{}", NOW.secs() - 9)),
            ),
        ),
    ];
    for generation in [
        Generation { number: GENERATION.number - 1, ..GENERATION },
        Generation { number: GENERATION.number + 1, ..GENERATION },
        Generation { id: mayfly_domain::GenerationId([5; 8]), ..GENERATION },
    ] {
        let octets = URL_SAFE_NO_PAD.encode(observed(generation).encode());
        cases.push((Reason::LeaseRevoked, key.token(&with("mf_obs", json!(octets)))));
    }
    for (reason, token) in &cases {
        for _ in 0..2 {
            assert_eq!(why(&verifier, token), Some(*reason), "{token}");
        }
        assert_eq!(verifier.metrics().accepted(), 0);
    }
    let long = format!("{}{}", key.token(&good), "A".repeat(20_000));
    assert_eq!(why(&verifier, &long), Some(Reason::TokenMalformed));
    // A known token with one character changed is another token.
    let token = key.token(&good);
    assert_eq!(why(&verifier, &token), None);
    for at in [0, 5, 60, token.len() - 50, token.len() - 3] {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        assert!(why(&verifier, std::str::from_utf8(&altered).unwrap()).is_some(), "{at}");
    }
}

#[tokio::test]
async fn a_known_token_is_refused_as_soon_as_it_is_revoked() {
    let key = Key::new();
    for change in
        [fence(owner().key(), 5), fence(super::everything().key(), 5), mark(lease()), mark(ancestor())]
    {
        let (_site, verifier, mut session) = ready(&key).await;
        let token = key.token(&claims().to_string());
        assert_eq!(why(&verifier, &token), None);
        session.events(at(8), &[change]).await;
        session.pinged(at(8)).await;
        assert_eq!(why(&verifier, &token), Some(Reason::LeaseRevoked), "{change:?}");
        assert!(verifier.is_fresh() && verifier.position() == at(8));
    }
    // What is about somebody else, and a block, which concerns mints alone.
    let (_site, verifier, mut session) = ready(&key).await;
    let token = key.token(&claims().to_string());
    let other = Subject::Owner(Owner::parse("team:other").unwrap()).key();
    session
        .events(at(8), &[fence(other, 5), fence(owner().key(), 0), mark(LeaseId::from_bytes([1; 16]))])
        .await;
    session.pinged(at(10)).await;
    assert_eq!(why(&verifier, &token), None);
}

#[tokio::test]
async fn a_token_of_a_withdrawn_key_is_refused_before_the_event_counts() {
    let (old, new) = (Key::new(), Key::new());
    let (_site, verifier, mut session) = ready(&old).await;
    let (first, second) = (old.token(&claims().to_string()), new.token(&claims().to_string()));
    assert_eq!(why(&verifier, &first), None);
    assert_eq!(why(&verifier, &second), Some(Reason::TokenSignature));
    session.keys(2, &[&old.public, &new.public], &[]).await;
    session.events(at(8), &[mayfly_domain::feed::Change::Keys { version: 2 }]).await;
    session.pinged(at(8)).await;
    assert_eq!((why(&verifier, &first), why(&verifier, &second)), (None, None));
    session.keys(3, &[&new.public], &[]).await;
    session.events(at(9), &[mayfly_domain::feed::Change::Keys { version: 3 }]).await;
    session.pinged(at(9)).await;
    assert_eq!((why(&verifier, &first), why(&verifier, &second)), (Some(Reason::TokenSignature), None));
    assert_eq!(verifier.shared().tokens.len(), 1, "what the old key signed is forgotten");
    // A broker that is behind brings no key back.
    session.keys(2, &[&old.public, &new.public], &[]).await;
    session.events(at(10), &[mark(LeaseId::from_bytes([1; 16]))]).await;
    session.pinged(at(10)).await;
    assert_eq!(why(&verifier, &first), Some(Reason::TokenSignature));
}

#[tokio::test]
async fn a_bound_token_needs_its_key() {
    let (key, holder, thief) = (Key::new(), Key::new(), Key::new());
    let (site, verifier, _session) = ready(&key).await;
    let token = key.token(&bound_to(&holder));
    let judge = |proof: Option<&str>, peer: Option<&Thumbprint>| {
        let request = Request { dpop: proof, peer, ..request() };
        verifier.check_token(&token, &request).err().map(|r| r.reason)
    };
    assert_eq!(judge(None, None), Some(Reason::ProofMissing));
    assert_eq!(judge(None, Some(&thief.thumbprint())), Some(Reason::ProofMissing));
    assert_eq!(judge(None, Some(&holder.thumbprint())), None);
    let proof = holder.proof(&token, "1", |_| ());
    assert_eq!(judge(Some(&proof), None), None);
    assert_eq!(judge(Some(&proof), None), Some(Reason::ProofReplayed));
    let bad: [(&str, Value); 4] = [
        ("htu", json!("https://deploy.acme.internal/other")),
        ("htm", json!("GET")),
        ("iat", json!(NOW.secs() - 61)),
        ("ath", json!("AAAA")),
    ];
    for (name, value) in bad {
        let proof = holder.proof(&token, "2", |claims| claims[name] = value);
        // A proof that came is judged, whatever key the connection has.
        assert_eq!(judge(Some(&proof), Some(&holder.thumbprint())), Some(Reason::ProofInvalid), "{name}");
    }
    assert_eq!(judge(Some(&thief.proof(&token, "3", |_| ())), None), Some(Reason::ProofInvalid));
    assert!(verifier.nonce().is_none());
    assert!(site.hands.now() == NOW);
}

#[tokio::test]
async fn a_demanded_nonce_is_demanded() {
    let (key, holder) = (Key::new(), Key::new());
    let mut site = Site::new().await;
    let (verifier, _session) = site.fresh_with(|b| b.demand_nonce(), &[&key.public]).await;
    let token = key.token(&bound_to(&holder));
    let judge = |jti: &str, nonce: Option<String>| {
        let proof = holder.proof(&token, jti, |claims| {
            if let Some(nonce) = nonce {
                claims["nonce"] = json!(nonce);
            }
            claims["iat"] = json!(site.hands.wall_now().secs());
        });
        let request = Request { dpop: Some(&proof), ..request() };
        verifier.check_token(&token, &request).err().map(|r| r.reason)
    };
    let nonce = verifier.nonce().unwrap();
    assert_eq!(judge("1", None), Some(Reason::ProofNonce));
    assert_eq!(judge("1", Some("AAAA".into())), Some(Reason::ProofNonce));
    assert_eq!(judge("1", Some(nonce.clone())), None);
    site.hands.set_wall(NOW.plus(122_000));
    assert_eq!(judge("2", Some(nonce)), Some(Reason::ProofNonce), "stale");
    assert_eq!(judge("2", verifier.nonce()), None);
}

#[tokio::test]
async fn what_was_used_is_told_with_a_ping() {
    let key = Key::new();
    let (_site, verifier, mut session) = ready(&key).await;
    let token = key.token(&claims().to_string());
    for _ in 0..3 {
        verifier.check_token(&token, &Request { scopes: &["a:read"], ..request() }).unwrap();
    }
    let told = soon(async {
        loop {
            let told = session.pinged(at(7)).await.usage;
            if !told.is_empty() {
                return told;
            }
        }
    })
    .await;
    let mut told: Vec<_> = told.iter().map(|u| (&*u.lease, &*u.intent, &*u.scope, u.uses)).collect();
    told.sort_unstable();
    let lease = lease().to_string();
    assert_eq!(told, [(&*lease, "", "a:read", 3), (&*lease, "deploy:payments", "", 3)]);
    let again = session.pinged(at(7)).await.usage;
    assert!(again.is_empty(), "told twice: {again:?}");
}

#[tokio::test]
async fn a_known_token_costs_no_allocation() {
    let (key, holder) = (Key::new(), Key::new());
    let (_site, verifier, mut session) = ready(&key).await;
    let (bearer, bound) = (key.token(&claims().to_string()), key.token(&bound_to(&holder)));
    let others: Vec<_> = (0..1_000).map(|n: u128| mark(LeaseId::from_bytes(n.to_be_bytes()))).collect();
    session.events(at(8), &others).await;
    session.pinged(at(1_007)).await;
    let peer = holder.thumbprint();
    let request = Request { peer: Some(&peer), scopes: &["a:read"], ..request() };
    let check = || {
        for token in [&bearer, &bound] {
            verifier.check_token(token, &request).unwrap();
        }
    };
    check();
    let made = allocation_counter::measure(|| (0..1_000).for_each(|_| check()));
    assert_eq!(made.count_total, 0);
    let made = allocation_counter::measure(|| drop(key.token("{}")));
    assert!(made.count_total > 0, "the counter counts");
    until(|| verifier.is_fresh()).await;
}
