//! Real tokens with real signatures against every kind of bad input.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::Secret;
use mayfly_testkit::issuer::{Alg, GITHUB_ISSUER, Job, SigningKey, StandInIssuer, github_claims};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::keys::StaticKeys;

const NOW: UnixMillis = UnixMillis::from_secs(1_790_000_000);

/// RSA keys are slow to make: one issuer of each algorithm for all tests.
static RSA: LazyLock<StandInIssuer> =
    LazyLock::new(|| StandInIssuer::with_keys(vec![SigningKey::generate(Alg::Rs256, "rsa-1")]));

fn issuer(algorithms: &[Algorithm]) -> Issuer {
    Issuer { url: GITHUB_ISSUER.into(), jwks_uri: None, jwks_host: None, algorithms: algorithms.to_vec() }
}

fn attestor_of(jwks: &Value, algorithms: &[Algorithm]) -> OidcAttestor {
    let source = StaticKeys::new([(GITHUB_ISSUER, jwks.to_string())]).unwrap();
    let attestor = OidcAttestor::new(Arc::new(source));
    attestor.set_issuers(vec![issuer(algorithms)]);
    attestor
}

async fn at(attestor: &OidcAttestor, token: &str, now: UnixMillis) -> Result<Verified, Reason> {
    let evidence = Evidence::Oidc(Secret::new(token.to_owned()));
    let trust_domain = mayfly_domain::TrustDomain::parse("acme.internal").unwrap();
    let key = mayfly_domain::Thumbprint::from_bytes([0; 32]);
    let challenge = mayfly_attest::Challenge { trust_domain: &trust_domain, nonce: b"", key };
    let result = match Attestor::verify(attestor, &evidence, &challenge, now).await {
        Ok(mayfly_attest::Judged::Foreign(verified)) => Ok(verified),
        Ok(mayfly_attest::Judged::Known(_)) => unreachable!("a token names nobody of ours"),
        Err(refusal) => Err(refusal),
    };
    result.map_err(|e| {
        let texts = format!("{e:?}");
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!texts.contains(part), "a refusal shows a part of its token");
        }
        e.reason
    })
}

async fn verify(attestor: &OidcAttestor, token: &str) -> Result<Verified, Reason> {
    at(attestor, token, NOW).await
}

fn claims(changes: &[(&str, Value)]) -> String {
    let mut job = Job::default();
    for (name, value) in changes {
        job = job.claim(name, value.clone());
    }
    Value::Object(github_claims(&job, "aud", NOW)).to_string()
}

fn header(alg: &str) -> String {
    json!({ "alg": alg, "kid": "ci-1" }).to_string()
}

#[tokio::test]
async fn every_algorithm_verifies_and_no_other_key_does() {
    for alg in Alg::ALL {
        let issuer = StandInIssuer::with_keys(vec![SigningKey::generate(alg, "k")]);
        let token = issuer.github_token(&Job::default(), "aud", NOW);
        let verified = verify(&attestor_of(&issuer.jwks(), &[]), &token).await.unwrap();
        assert_eq!((verified.issuer.as_str(), verified.audience.as_str()), (GITHUB_ISSUER, "aud"));
        assert_eq!(verified.expires, verified.issued_at.plus(300_000));
        let other = StandInIssuer::with_keys(vec![SigningKey::generate(alg, "k")]);
        let refused = verify(&attestor_of(&other.jwks(), &[]), &token).await;
        assert_eq!(refused.unwrap_err(), Reason::EvidenceSignature, "{alg:?}");
    }
}

#[tokio::test]
async fn the_key_says_which_algorithm() {
    let ec = StandInIssuer::new();
    let attestor = attestor_of(&ec.jwks(), &[]);
    for alg in ["none", "None", "HS256", "HS512", "ES512", "RS1", "", "es256"] {
        let token = ec.sign_raw(&header(alg), &claims(&[]));
        assert_eq!(verify(&attestor, &token).await.unwrap_err(), Reason::EvidenceAlgorithm, "{alg}");
    }
    for alg in ["RS256", "PS512", "ES384", "EdDSA"] {
        let token = ec.sign_raw(&header(alg), &claims(&[]));
        assert_eq!(verify(&attestor, &token).await.unwrap_err(), Reason::EvidenceAlgorithm, "{alg}");
    }
    let rsa = attestor_of(&RSA.jwks(), &[]);
    for alg in ["RS384", "RS512", "PS256"] {
        let token = RSA.sign_raw(&json!({ "alg": alg, "kid": "rsa-1" }).to_string(), &claims(&[]));
        let refused = verify(&rsa, &token).await.unwrap_err();
        assert_eq!(refused, Reason::EvidenceAlgorithm, "{alg}, where the key says RS256");
    }
    let unsigned =
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims(&[])));
    assert_eq!(verify(&attestor, &unsigned).await.unwrap_err(), Reason::EvidenceAlgorithm);
}

#[tokio::test]
async fn hmac_with_the_public_rsa_key_is_refused() {
    let jwks = RSA.jwks();
    let n = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["n"].as_str().unwrap()).unwrap();
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"rsa-1"}"#),
        URL_SAFE_NO_PAD.encode(claims(&[]))
    );
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &n), input.as_bytes());
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(verify(&attestor_of(&jwks, &[]), &token).await.unwrap_err(), Reason::EvidenceAlgorithm);
}

#[tokio::test]
async fn an_rsa_key_without_an_algorithm_allows_rs256_and_what_is_configured() {
    let mut jwks = RSA.jwks();
    jwks["keys"][0].as_object_mut().unwrap().remove("alg");
    let token = RSA.github_token(&Job::default(), "aud", NOW);
    verify(&attestor_of(&jwks, &[]), &token).await.unwrap();
    verify(&attestor_of(&jwks, &[Algorithm::Rs256]), &token).await.unwrap();
    let refused = verify(&attestor_of(&jwks, &[Algorithm::Ps256]), &token).await;
    assert_eq!(refused.unwrap_err(), Reason::EvidenceAlgorithm);
    let as_pss = RSA.sign_raw(r#"{"alg":"PS256","kid":"rsa-1"}"#, &claims(&[]));
    let not_allowed = verify(&attestor_of(&jwks, &[]), &as_pss).await;
    assert_eq!(not_allowed.unwrap_err(), Reason::EvidenceAlgorithm);
    let allowed = verify(&attestor_of(&jwks, &[Algorithm::Ps256]), &as_pss).await;
    assert_eq!(allowed.unwrap_err(), Reason::EvidenceSignature, "it was signed with PKCS #1 padding");
}

#[tokio::test]
async fn the_key_id_must_be_one_of_the_issuers() {
    let two = StandInIssuer::with_keys(vec![
        SigningKey::generate(Alg::Es256, "ci-1"),
        SigningKey::generate(Alg::Es256, "ci-2"),
    ]);
    let attestor = attestor_of(&two.jwks(), &[]);
    verify(&attestor, &two.sign_raw(&header("ES256"), &claims(&[]))).await.unwrap();
    for header in [
        r#"{"alg":"ES256","kid":"ci-2"}"#,
        r#"{"alg":"ES256","kid":"ci-3"}"#,
        r#"{"alg":"ES256","kid":"CI-1"}"#,
        r#"{"alg":"ES256"}"#,
    ] {
        let refused = verify(&attestor, &two.sign_raw(header, &claims(&[]))).await;
        assert_eq!(refused.unwrap_err(), Reason::EvidenceSignature, "{header}");
    }
    let one = StandInIssuer::new();
    let token = one.sign_raw(r#"{"alg":"ES256"}"#, &claims(&[]));
    verify(&attestor_of(&one.jwks(), &[]), &token).await.unwrap();
}

#[tokio::test]
async fn claims_that_are_missing_or_wrong() {
    let issuer = StandInIssuer::new();
    let attestor = attestor_of(&issuer.jwks(), &[]);
    let s = NOW.secs();
    let table: &[(&str, Value, Reason)] = &[
        ("iss", Value::Null, Reason::EvidenceClaims),
        ("iss", json!(["https://token.actions.githubusercontent.com"]), Reason::EvidenceClaims),
        ("iss", json!("https://token.actions.githubusercontent.com/"), Reason::IssuerUnknown),
        ("iss", json!("https://evil.example"), Reason::IssuerUnknown),
        ("sub", Value::Null, Reason::EvidenceClaims),
        ("sub", json!(""), Reason::EvidenceClaims),
        ("sub", json!(7), Reason::EvidenceClaims),
        ("aud", Value::Null, Reason::EvidenceAudience),
        ("aud", json!([]), Reason::EvidenceAudience),
        ("aud", json!(["aud", "aud"]), Reason::EvidenceAudience),
        ("aud", json!(["aud", "other"]), Reason::EvidenceAudience),
        ("aud", json!(["aud", 1]), Reason::EvidenceAudience),
        ("aud", json!({"a": "aud"}), Reason::EvidenceAudience),
        ("aud", json!(""), Reason::EvidenceAudience),
        ("exp", Value::Null, Reason::EvidenceClaims),
        ("exp", json!("1790000300"), Reason::EvidenceClaims),
        ("exp", json!(1_790_000_300.5), Reason::EvidenceClaims),
        ("exp", json!(-1), Reason::EvidenceClaims),
        ("exp", json!(u64::MAX), Reason::EvidenceClaims),
        ("exp", json!(s), Reason::EvidenceClaims),
        ("iat", Value::Null, Reason::EvidenceClaims),
        ("iat", json!(true), Reason::EvidenceClaims),
        ("iat", json!(s + 31), Reason::EvidenceNotYetValid),
        ("nbf", json!(s + 31), Reason::EvidenceNotYetValid),
        ("nbf", json!("soon"), Reason::EvidenceClaims),
        ("jti", json!(7), Reason::EvidenceClaims),
        ("jti", json!(""), Reason::EvidenceClaims),
    ];
    for (name, value, reason) in table {
        let token = issuer.sign_raw(&header("ES256"), &claims(&[(name, value.clone())]));
        assert_eq!(verify(&attestor, &token).await.unwrap_err(), *reason, "{name} {value}");
    }
    for (name, value) in
        [("aud", json!(["aud"])), ("iat", json!(s + 30)), ("nbf", Value::Null), ("jti", Value::Null)]
    {
        let token = issuer.sign_raw(&header("ES256"), &claims(&[(name, value)]));
        verify(&attestor, &token).await.unwrap();
    }
}

#[tokio::test]
async fn evidence_ends_with_its_expiry_and_the_skew() {
    let issuer = StandInIssuer::new();
    let attestor = attestor_of(&issuer.jwks(), &[]);
    let token = issuer.github_token(&Job::default(), "aud", NOW);
    let end = NOW.plus(300_000 + defaults::SKEW_MS);
    at(&attestor, &token, UnixMillis(end.0 - 1)).await.unwrap();
    assert_eq!(
        at(&attestor, &token, end).await.unwrap_err(),
        Reason::EvidenceExpired,
        "also when it was seen"
    );
    let fresh = attestor_of(&issuer.jwks(), &[]);
    assert_eq!(at(&fresh, &token, end).await.unwrap_err(), Reason::EvidenceExpired);
    at(&attestor, &token, NOW.minus(defaults::SKEW_MS)).await.unwrap();
    let early = at(&attestor, &token, NOW.minus(defaults::SKEW_MS + 1)).await;
    assert_eq!(early.unwrap_err(), Reason::EvidenceNotYetValid);
}

#[tokio::test]
async fn malformed_tokens() {
    let issuer = StandInIssuer::new();
    let attestor = attestor_of(&issuer.jwks(), &[]);
    let good = issuer.sign_raw(&header("ES256"), &claims(&[]));
    let twice = claims(&[]).replacen('{', r#"{"sub":"x","#, 1);
    let nested = claims(&[]).replacen('{', r#"{"x":{"a":1,"a":2},"#, 1);
    let (input, signature) = good.rsplit_once('.').unwrap();
    // 64 octets leave four spare bits in the last of 86 characters.
    let spare = signature.trim_end_matches(['A', 'Q', 'g', 'w']);
    let other_last = format!("{input}.{spare}{}", "B".repeat(signature.len() - spare.len()));
    for (what, bad) in [
        ("a member twice", issuer.sign_raw(&header("ES256"), &twice)),
        ("a nested member twice", issuer.sign_raw(&header("ES256"), &nested)),
        ("crit", issuer.sign_raw(r#"{"alg":"ES256","kid":"ci-1","crit":["x"],"x":1}"#, &claims(&[]))),
        ("another kind", issuer.sign_raw(r#"{"alg":"ES256","kid":"ci-1","typ":"at+jwt"}"#, &claims(&[]))),
        ("padding", format!("{good}=")),
        ("spare bits", other_last),
        ("white space", format!("{good}\n")),
        ("four parts", format!("{good}.")),
        ("two parts", input.to_owned()),
        ("nothing", String::new()),
    ] {
        assert_eq!(verify(&attestor, &bad).await.unwrap_err(), Reason::EvidenceMalformed, "{what}");
    }
    let large = issuer.sign_raw(&header("ES256"), &claims(&[("x", json!("x".repeat(16_384)))]));
    assert_eq!(verify(&attestor, &large).await.unwrap_err(), Reason::TooLarge);
    let cut = format!("{input}.{}", URL_SAFE_NO_PAD.encode([1; 63]));
    assert_eq!(verify(&attestor, &cut).await.unwrap_err(), Reason::EvidenceSignature);
}

/// `s` and `n - s` are both signatures of the same octets: the token stays the same evidence.
#[tokio::test]
async fn a_malleated_signature_is_the_same_evidence() {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let issuer = StandInIssuer::new();
    let attestor = attestor_of(&issuer.jwks(), &[]);
    let token = issuer.github_token(&Job::default(), "aud", NOW);
    let (input, signature) = token.rsplit_once('.').unwrap();
    let mut octets = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for n in (0..32).rev() {
        let difference = i16::from(ORDER[n]) - i16::from(octets[32 + n]) - borrow;
        borrow = i16::from(difference < 0);
        octets[32 + n] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let malleated = format!("{input}.{}", URL_SAFE_NO_PAD.encode(octets));
    assert_ne!(malleated, token);
    let (one, two) = (verify(&attestor, &token).await.unwrap(), verify(&attestor, &malleated).await.unwrap());
    assert_eq!((one.hash, one.alias), (two.hash, two.alias));
}

#[tokio::test]
async fn the_alias_is_of_issuer_and_jti() {
    let issuer = StandInIssuer::new();
    let attestor = attestor_of(&issuer.jwks(), &[]);
    let token = |jti: Value, run: &str| {
        issuer.sign_raw(&header("ES256"), &claims(&[("jti", jti), ("run_id", json!(run))]))
    };
    let a = verify(&attestor, &token(json!("one"), "1")).await.unwrap();
    let b = verify(&attestor, &token(json!("one"), "2")).await.unwrap();
    let c = verify(&attestor, &token(json!("two"), "1")).await.unwrap();
    assert!(a.alias.is_some() && a.alias == b.alias && a.alias != c.alias && a.hash != b.hash);
    assert_eq!(verify(&attestor, &token(Value::Null, "1")).await.unwrap().alias, None);
}

/// Keys that are replaced by others when a newer set is asked for.
struct Rotating {
    now: Mutex<Arc<KeySet>>,
    next: Mutex<Option<Arc<KeySet>>>,
    asked: AtomicUsize,
}

#[async_trait]
impl KeySource for Rotating {
    async fn keys(&self, _: &Issuer) -> Result<Arc<KeySet>, Refusal> {
        Ok(Arc::clone(&self.now.lock()))
    }

    async fn newer(&self, _: &Issuer, _: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let next = self.next.lock().take()?;
        *self.now.lock() = Arc::clone(&next);
        Some(next)
    }

    fn watch(&self, _: &[Issuer]) {}
}

#[tokio::test]
async fn an_unknown_key_id_asks_for_newer_keys_and_a_removed_key_ends_what_it_verified() {
    let set = |issuer: &StandInIssuer| Arc::new(KeySet::parse(issuer.jwks().to_string().as_bytes()).unwrap());
    let old = StandInIssuer::with_keys(vec![SigningKey::generate(Alg::EdDsa, "old")]);
    let new = StandInIssuer::with_keys(vec![SigningKey::generate(Alg::EdDsa, "new")]);
    let source = Arc::new(Rotating {
        now: Mutex::new(set(&old)),
        next: Mutex::new(Some(set(&new))),
        asked: AtomicUsize::new(0),
    });
    let attestor = OidcAttestor::new(source.clone());
    attestor.set_issuers(vec![issuer(&[])]);
    let (first, second) =
        (old.github_token(&Job::default(), "aud", NOW), new.github_token(&Job::default(), "aud", NOW));
    verify(&attestor, &first).await.unwrap();
    verify(&attestor, &first).await.unwrap();
    assert_eq!(source.asked.load(Ordering::SeqCst), 0);
    verify(&attestor, &second).await.unwrap();
    assert_eq!(source.asked.load(Ordering::SeqCst), 1);
    assert_eq!(verify(&attestor, &first).await.unwrap_err(), Reason::EvidenceSignature);
    attestor.set_issuers(vec![]);
    assert_eq!(verify(&attestor, &second).await.unwrap_err(), Reason::IssuerUnknown);
}

#[test]
fn what_is_remembered_is_bounded() {
    let issuer = StandInIssuer::new();
    let token = issuer.github_token(&Job::default(), "aud", NOW);
    let read = Read::from(&jws::parse(&token).unwrap()).unwrap();
    let keys = Arc::new(KeySet::parse(issuer.jwks().to_string().as_bytes()).unwrap());
    let recent = Recent::default();
    for n in 0..20_000 {
        recent.put(TokenDigest::of(&n.to_string()), Seen { read: read.clone(), keys: Arc::clone(&keys) });
    }
    let kept = (0..20_000).filter(|n| recent.get(&TokenDigest::of(&n.to_string())).is_some()).count();
    assert!((1..=4_096).contains(&kept), "{kept}");
    assert!(Arc::strong_count(&keys) <= 4_097);
    recent.clear();
    assert_eq!(Arc::strong_count(&keys), 1);
}

#[test]
fn reading_without_verifying_is_for_explanations() {
    let issuer = StandInIssuer::new();
    let token = issuer.github_token(&Job::default(), "aud", NOW);
    assert_eq!(danger::unverified(&token).unwrap().issuer, GITHUB_ISSUER);
    assert!(danger::unverified("x").is_err());
}
