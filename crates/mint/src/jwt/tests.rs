use mayfly_domain::KeyAlg;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::custody::Custody;
use crate::keyset::Live;
use crate::testing::{ISSUER, NOW, key_set, record, ring};

fn minted(ring: &KeyRing, record: &LeaseRecord) -> String {
    Minter::new(ISSUER).sign(ring, record, NOW).unwrap().compact().expose().clone()
}

fn judge(ring: &KeyRing, token: &str, now: UnixMillis) -> Result<VerifiedToken, Reason> {
    TokenVerifier::new(ISSUER).verify(ring, token, now).map_err(|r| r.reason)
}

fn part(token: &str, n: usize) -> Value {
    serde_json::from_slice(&decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap()
}

/// A token with these parts, signed by the ring's key.
fn signed(ring: &KeyRing, header: &str, claims: &str) -> String {
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(ring.signer().sign(input.as_bytes()).unwrap());
    format!("{input}.{signature}")
}

#[test]
fn a_token_has_the_claims_of_rfc_9068_and_ours() {
    let (ring, record) = (ring(), record());
    let token = minted(&ring, &record);
    assert_eq!(part(&token, 0), json!({"alg": "ES256", "typ": "at+jwt", "kid": ring.signer().kid()}));
    assert_eq!(
        part(&token, 1),
        json!({
            "iss": ISSUER,
            "sub": "spiffe://acme.internal/ci/payments/deploy",
            "aud": "https://deploy.acme.internal",
            "client_id": "spiffe://acme.internal/ci/payments/deploy",
            "iat": NOW.secs(),
            "exp": NOW.secs() + 300,
            "jti": format!("{}.2", record.id),
            "scope": "a:read b:write",
            "cnf": {"jkt": record.body.key.to_string()},
            "mf_own": ["team:payments"],
            "mf_task": "gh-77-1",
            "mf_int": "deploy:payments",
            "mf_obs": URL_SAFE_NO_PAD.encode(record.observation.encode()),
        })
    );
    let verified = judge(&ring, &token, NOW).unwrap();
    assert_eq!(verified.id, record.credential());
    assert_eq!(verified.observation, record.observation);
    assert_eq!(verified.key, Some(record.body.key));
    assert_eq!(verified.scopes, record.body.scopes);
    assert_eq!(verified.expires, record.expires);
}

#[test]
fn bearer_tokens_have_no_key_and_empty_scopes_no_claim() {
    let (ring, mut record) = (ring(), record());
    record.body.binding = Binding::Bearer;
    record.body.scopes = Scopes::default();
    let token = minted(&ring, &record);
    assert!(part(&token, 1).get("cnf").is_none() && part(&token, 1).get("scope").is_none());
    assert_eq!(judge(&ring, &token, NOW).unwrap().key, None);
}

#[test]
fn a_token_ends_at_its_second_without_any_skew() {
    let (ring, mut record) = (ring(), record());
    record.expires = UnixMillis(record.expires.0 + 999);
    let token = minted(&ring, &record);
    let end = record.expires.floor_secs();
    assert_eq!(judge(&ring, &token, end.minus(1)).unwrap().expires, end);
    assert_eq!(judge(&ring, &token, end), Err(Reason::LeaseExpired));
    record.expires = UnixMillis(NOW.floor_secs().0 + 900);
    let none_left = Minter::new(ISSUER).sign(&ring, &record, NOW).map_err(|r| r.reason);
    assert_eq!(none_left.unwrap_err(), Reason::LeaseExpired);
}

#[test]
fn only_a_tokens_lease_gives_a_token() {
    let ring = ring();
    for spoil in [
        (|r: &mut LeaseRecord| r.body.kind = CredentialKind::Operator) as fn(&mut LeaseRecord),
        |r| r.body.audience = None,
        |r| r.body.task = None,
        |r| r.body.intent = None,
    ] {
        let mut record = record();
        spoil(&mut record);
        let refused = Minter::new(ISSUER).sign(&ring, &record, NOW);
        assert_eq!(refused.unwrap_err().reason, Reason::Internal);
    }
}

#[test]
fn rotation_refuses_no_token_until_its_key_is_gone() {
    let set = key_set();
    let first = KeyRing::new(&set, &Custody::sealed()).unwrap();
    let token = minted(&first, &record());
    let set = set.prepare(Some(KeyAlg::Ed25519), &Custody::sealed(), NOW).unwrap();
    judge(&KeyRing::new(&set, &Custody::sealed()).unwrap(), &token, NOW).unwrap();
    let set = set.activate(NOW).unwrap();
    let second = KeyRing::new(&set, &Custody::sealed()).unwrap();
    judge(&second, &token, NOW).unwrap();
    let newer = minted(&second, &record());
    assert_eq!(part(&newer, 0)["alg"], "EdDSA");
    judge(&second, &newer, NOW).unwrap();
    assert_eq!(judge(&first, &newer, NOW), Err(Reason::TokenSignature), "an unknown key");
    let set = set.retire(NOW, Live::Refuse).unwrap();
    assert_eq!(
        judge(&KeyRing::new(&set, &Custody::sealed()).unwrap(), &token, NOW),
        Err(Reason::TokenSignature)
    );
}

#[test]
fn each_wrong_claim_is_refused_even_when_signed() {
    let ring = ring();
    let token = minted(&ring, &record());
    let (header, good) = (token.split('.').next().unwrap(), part(&token, 1));
    let judge = |claims: &str| judge(&ring, &signed(&ring, header, claims), NOW);
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
    let ring = ring();
    let token = minted(&ring, &record());
    let claims = part(&token, 1).to_string();
    let kid = ring.signer().kid();
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
        let forged = signed(&ring, &URL_SAFE_NO_PAD.encode(header.to_string()), &claims);
        assert_eq!(judge(&ring, &forged, NOW), Err(Reason::TokenMalformed), "{header}");
    }
    let other_alg = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}).to_string();
    let forged = signed(&ring, &URL_SAFE_NO_PAD.encode(other_alg), &claims);
    assert_eq!(judge(&ring, &forged, NOW), Err(Reason::TokenSignature));
    let foreign = minted(&crate::testing::ring(), &record());
    assert_eq!(judge(&ring, &foreign, NOW), Err(Reason::TokenSignature));
    let long = format!("{token}{}", "A".repeat(TOKEN_OCTETS_MAX));
    assert_eq!(judge(&ring, &long, NOW), Err(Reason::TokenMalformed));
    for (n, _) in token.match_indices('.') {
        assert_eq!(judge(&ring, &token[..n], NOW), Err(Reason::TokenMalformed));
    }
}

#[test]
fn a_token_is_never_printed() {
    let token = Minter::new(ISSUER).sign(&ring(), &record(), NOW).unwrap();
    let shown = format!("{token:?}");
    for part in token.compact().expose().split('.') {
        assert!(!shown.contains(part));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_upsets_the_parser(text in ".{0,200}", parts in prop::collection::vec("[A-Za-z0-9_.=-]{0,60}", 1..5)) {
        let ring = ring();
        prop_assert!(judge(&ring, &text, NOW).is_err());
        prop_assert!(judge(&ring, &parts.join("."), NOW).is_err());
    }

    #[test]
    fn signed_nonsense_is_refused(claims in ".{0,120}") {
        let ring = ring();
        let header = ring.signer_header().to_owned();
        prop_assert!(judge(&ring, &signed(&ring, &header, &claims), NOW).is_err());
    }

    #[test]
    fn no_altered_token_is_accepted(at in 0usize..2000, to in prop::sample::select(b"AQgw_-0.".to_vec())) {
        let ring = ring();
        let token = minted(&ring, &record());
        let mut altered = token.clone().into_bytes();
        let at = at % altered.len();
        altered[at] = to;
        let altered = String::from_utf8(altered).unwrap();
        prop_assume!(altered != token);
        prop_assert!(judge(&ring, &altered, NOW).is_err());
    }
}
