use mayfly_domain::KeyAlg;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{ISSUER, Key, NOW, claims};

fn keys(key: &Key) -> TokenKeys {
    TokenKeys::new([key.public().clone()])
}

fn header(key: &Key) -> String {
    keys(key).iter().next().unwrap().header().to_owned()
}

fn good(key: &Key) -> String {
    key.signed_as(&header(key), &claims().to_string())
}

fn judge(key: &Key, token: &str, now: UnixMillis) -> Result<VerifiedToken, Reason> {
    TokenVerifier::new(ISSUER).verify(&keys(key), token, now).map_err(|r| r.reason)
}

#[test]
fn a_good_token_says_what_was_signed_until_its_second() {
    for alg in [KeyAlg::P256, KeyAlg::Ed25519] {
        let key = Key::new(alg);
        let token = good(&key);
        let read = judge(&key, &token, NOW).unwrap();
        assert_eq!(read.workload.as_str(), claims()["sub"]);
        assert_eq!(read.scopes.joined(), "a:read b:write");
        assert_eq!(read.observation, crate::testing::observation());
        assert_eq!(read.signer, key.public().thumbprint().into());
        assert!(judge(&key, &token, read.expires.minus(1)).is_ok());
        assert_eq!(judge(&key, &token, read.expires), Err(Reason::LeaseExpired));
        assert!(TokenVerifier::new(ISSUER).knows_key(&keys(&key), &token));
        assert!(!TokenVerifier::new(ISSUER).knows_key(&keys(&Key::new(alg)), &token));
    }
}

#[test]
fn each_wrong_claim_is_refused_even_when_signed() {
    let key = Key::new(KeyAlg::P256);
    let (header, good) = (header(&key), claims());
    let judge = |claims: &str| judge(&key, &key.signed_as(&header, claims), NOW);
    judge(&good.to_string()).unwrap();
    for (name, value) in [
        ("iss", json!("https://mayfly.acme.internal:8443/")),
        ("iss", json!("https://mayfly.evil.internal:8443")),
        ("sub", json!("spiffe://acme.internal/other")),
        ("sub", json!("payments")),
        ("aud", json!(["https://deploy.acme.internal"])),
        ("aud", json!("")),
        ("exp", json!(NOW.secs() as f64 + 0.5)),
        ("exp", json!("1")),
        ("exp", json!(-1)),
        ("iat", json!(NOW.secs() + 300)),
        ("jti", json!("x")),
        ("jti", json!("00000000-0000-0000-0000-000000000000.01")),
        ("scope", json!("a  b")),
        ("scope", json!("")),
        ("cnf", json!({"jkt": "x"})),
        ("cnf", json!({"jwk": {}})),
        ("mf_own", json!([])),
        ("mf_own", json!("team:payments")),
        ("mf_task", json!("..")),
        ("mf_int", json!("deploy")),
        ("mf_obs", json!("AA")),
        ("nbf", json!(1)),
    ] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().insert(name.into(), value.clone());
        assert_eq!(judge(&claims.to_string()), Err(Reason::TokenMalformed), "{name} {value}");
    }
    for name in
        ["iss", "sub", "aud", "client_id", "iat", "exp", "jti", "mf_own", "mf_task", "mf_int", "mf_obs"]
    {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name).unwrap();
        assert_eq!(judge(&claims.to_string()), Err(Reason::TokenMalformed), "without {name}");
        let twice = good.to_string().replacen('{', &format!("{{\"{name}\":{},", good[name]), 1);
        assert_eq!(judge(&twice), Err(Reason::TokenMalformed), "{name} twice");
    }
    assert_eq!(judge(&format!("{good} x")), Err(Reason::TokenMalformed), "something after");
}

#[test]
fn other_headers_and_signatures_are_refused() {
    let key = Key::new(KeyAlg::P256);
    let token = good(&key);
    let claims = claims().to_string();
    let kid = key.public().thumbprint().to_string();
    for header in [
        json!({"alg": "none", "typ": "at+jwt", "kid": kid}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": kid}),
        json!({"alg": "ES256", "typ": "JWT", "kid": kid}),
        json!({"alg": "ES256", "typ": "dpop+jwt", "kid": kid}),
        json!({"alg": "ES256", "kid": kid}),
        json!({"alg": "ES256", "typ": "at+jwt", "kid": "short"}),
        json!({"alg": "ES256", "typ": "at+jwt", "kid": kid, "crit": ["x"]}),
        json!({"alg": "ES256", "typ": "at+jwt", "kid": kid, "jwk": {}}),
    ] {
        let forged = key.signed(&header.to_string(), &claims);
        assert_eq!(judge(&key, &forged, NOW), Err(Reason::TokenMalformed), "{header}");
    }
    let other_alg = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}).to_string();
    let forged = key.signed(&other_alg, &claims);
    assert_eq!(judge(&key, &forged, NOW), Err(Reason::TokenSignature));
    let foreign = good(&Key::new(KeyAlg::P256));
    assert_eq!(judge(&key, &foreign, NOW), Err(Reason::TokenSignature));
    let long = format!("{token}{}", "A".repeat(TOKEN_OCTETS_MAX));
    assert_eq!(judge(&key, &long, NOW), Err(Reason::TokenMalformed));
    for (n, _) in token.match_indices('.') {
        assert_eq!(judge(&key, &token[..n], NOW), Err(Reason::TokenMalformed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_upsets_the_parser(text in ".{0,200}", parts in prop::collection::vec("[A-Za-z0-9_.=-]{0,60}", 1..5)) {
        let key = Key::new(KeyAlg::Ed25519);
        prop_assert!(judge(&key, &text, NOW).is_err());
        prop_assert!(judge(&key, &parts.join("."), NOW).is_err());
    }

    #[test]
    fn signed_nonsense_is_refused(claims in ".{0,120}") {
        let key = Key::new(KeyAlg::Ed25519);
        prop_assert!(judge(&key, &key.signed_as(&header(&key), &claims), NOW).is_err());
    }

    #[test]
    fn no_altered_token_is_accepted(at in 0usize..2000, to in prop::sample::select(b"AQgw_-0.".to_vec())) {
        let key = Key::new(KeyAlg::Ed25519);
        let token = good(&key);
        let mut altered = token.clone().into_bytes();
        let at = at % altered.len();
        altered[at] = to;
        let altered = String::from_utf8(altered).unwrap();
        prop_assume!(altered != token);
        prop_assert!(judge(&key, &altered, NOW).is_err());
    }
}
