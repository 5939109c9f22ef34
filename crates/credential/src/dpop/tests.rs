use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::keys::jose_name;
use crate::testing::Key;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const URL: &str = "https://api.acme.internal/deploy?dry=1";
const TOKEN: &str = "header.claims.signature";

fn signer(alg: KeyAlg) -> Key {
    Key::new(alg)
}

fn header(signer: &Key) -> Value {
    let jwk: Value = serde_json::from_str(&signer.public().canonical_jwk()).unwrap();
    json!({"typ": "dpop+jwt", "alg": jose_name(signer.public().alg()), "jwk": jwk})
}

fn claims(jti: &str) -> Value {
    let ath = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, TOKEN.as_bytes()));
    json!({"jti": jti, "htm": "POST", "htu": "https://api.acme.internal/deploy", "iat": NOW.secs(), "ath": ath})
}

fn signed(signer: &Key, header: &str, claims: &str) -> String {
    signer.signed(header, claims)
}

fn judge(signer: &Key, proof: &str, window: &ReplayWindow, now: UnixMillis) -> Result<(), Reason> {
    demanding(signer, proof, window, now, None)
}

fn demanding(
    signer: &Key,
    proof: &str,
    window: &ReplayWindow,
    now: UnixMillis,
    nonces: Option<&Nonces>,
) -> Result<(), Reason> {
    let key = signer.public().thumbprint();
    let request = Presented { method: "POST", url: URL, token: TOKEN, key: &key, nonces };
    verify(proof, &request, window, now).map_err(|r| r.reason)
}

#[test]
fn a_demanded_nonce_must_be_there_and_not_be_stale() {
    let (signer, window) = (signer(KeyAlg::P256), ReplayWindow::default());
    let (nonces, other) = (Nonces::new(10_000).unwrap(), Nonces::new(10_000).unwrap());
    let with = |jti: &str, nonce: Option<Value>| {
        let mut claims = claims(jti);
        if let Some(nonce) = nonce {
            claims.as_object_mut().unwrap().insert("nonce".into(), nonce);
        }
        signed(&signer, &header(&signer).to_string(), &claims.to_string())
    };
    let judge = |proof: &str, now| demanding(&signer, proof, &window, now, Some(&nonces));
    let stale = nonces.give(NOW.minus(20_000));
    for bad in [None, Some(json!(stale)), Some(json!(other.give(NOW))), Some(json!("")), Some(Value::Null)] {
        assert_eq!(judge(&with("a", bad.clone()), NOW), Err(Reason::ProofNonce), "{bad:?}");
    }
    assert_eq!(judge(&with("a", Some(json!(7))), NOW), Err(Reason::ProofInvalid));
    assert!(window.is_empty(), "a refused proof took room");
    let good = with("a", Some(json!(nonces.give(NOW))));
    assert_eq!(judge(&good, NOW), Ok(()));
    assert_eq!(judge(&good, NOW), Err(Reason::ProofReplayed));
    for (proof, expected) in [(&good, Ok(())), (&with("c", None), Err(Reason::ProofNonce))] {
        assert_eq!(nonces.demand_in(proof, NOW).map_err(|r| r.reason), expected);
    }
    assert_eq!(nonces.demand_in("a.b.c", NOW).map_err(|r| r.reason), Err(Reason::ProofInvalid));
    // Where none is demanded, one that is there does not matter.
    assert_eq!(demanding(&signer, &with("b", Some(json!(stale))), &window, NOW, None), Ok(()));
}

#[test]
fn a_good_proof_is_accepted_once() {
    for alg in [KeyAlg::P256, KeyAlg::Ed25519] {
        let (signer, window) = (signer(alg), ReplayWindow::default());
        let proof = signed(&signer, &header(&signer).to_string(), &claims("a").to_string());
        assert_eq!(judge(&signer, &proof, &window, NOW), Ok(()));
        assert_eq!(judge(&signer, &proof, &window, NOW.plus(59_999)), Err(Reason::ProofReplayed));
        assert_eq!(judge(&signer, &proof, &window, NOW.plus(60_000)), Err(Reason::ProofInvalid));
    }
}

#[test]
fn each_wrong_member_is_refused() {
    let signer = signer(KeyAlg::P256);
    let with = |base: &Value, name: &str, value: Value| {
        let mut out = base.clone();
        out.as_object_mut().unwrap().insert(name.into(), value);
        out.to_string()
    };
    let without = |base: &Value, name: &str| {
        let mut out = base.clone();
        out.as_object_mut().unwrap().remove(name).unwrap();
        out.to_string()
    };
    let (h, c) = (header(&signer), claims("a"));
    let mut bad: Vec<(String, String)> = Vec::new();
    for (name, value) in [
        ("typ", json!("JWT")),
        ("typ", json!("DPoP+JWT ")),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("EdDSA")),
        ("crit", json!(["x"])),
        ("crit", Value::Null),
        ("jwk", json!({"kty": "oct", "k": "AAAA"})),
    ] {
        bad.push((with(&h, name, value), c.to_string()));
    }
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        for value in [json!("AA"), Value::Null] {
            bad.push((
                with(&h, "jwk", serde_json::from_str(&with(&h["jwk"], member, value)).unwrap()),
                c.to_string(),
            ));
        }
    }
    for (name, value) in [
        ("jti", json!("")),
        ("jti", json!("x".repeat(257))),
        ("jti", json!(7)),
        ("htm", json!("GET")),
        ("htm", json!("post")),
        ("htu", json!("https://api.acme.internal/other")),
        ("iat", json!(NOW.secs() - 60)),
        ("iat", json!(NOW.secs() + 31)),
        ("iat", json!(-1)),
        ("iat", json!("1800000000")),
        ("iat", json!(u64::MAX)),
        ("ath", json!("AA")),
        ("ath", json!(URL_SAFE_NO_PAD.encode([0; 32]))),
    ] {
        bad.push((h.to_string(), with(&c, name, value)));
    }
    for name in ["jti", "htm", "htu", "iat", "ath"] {
        bad.push((h.to_string(), without(&c, name)));
    }
    for name in ["typ", "alg", "jwk"] {
        bad.push((without(&h, name), c.to_string()));
    }
    bad.push((h.to_string(), c.to_string().replacen('{', r#"{"htm":"POST","#, 1)));
    bad.push((h.to_string().replacen('{', r#"{"typ":"dpop+jwt","#, 1), c.to_string()));
    let window = ReplayWindow::default();
    for (header, claims) in &bad {
        let proof = signed(&signer, header, claims);
        assert_eq!(judge(&signer, &proof, &window, NOW), Err(Reason::ProofInvalid), "{header} {claims}");
    }
    assert!(window.is_empty(), "a refused proof took room");
    let longest = with(&c, "jti", json!("x".repeat(256)));
    assert_eq!(judge(&signer, &signed(&signer, &h.to_string(), &longest), &window, NOW), Ok(()));
    let ahead = with(&claims("ahead"), "iat", json!(NOW.secs() + 30));
    assert_eq!(judge(&signer, &signed(&signer, &h.to_string(), &ahead), &window, NOW), Ok(()));
}

#[test]
fn another_key_or_signature_is_refused() {
    let (mine, thief, window) = (signer(KeyAlg::P256), signer(KeyAlg::P256), ReplayWindow::default());
    let stolen = signed(&thief, &header(&thief).to_string(), &claims("a").to_string());
    assert_eq!(judge(&mine, &stolen, &window, NOW), Err(Reason::ProofInvalid));
    let forged = signed(&thief, &header(&mine).to_string(), &claims("a").to_string());
    assert_eq!(judge(&mine, &forged, &window, NOW), Err(Reason::ProofInvalid));
    let long = signed(&mine, &header(&mine).to_string(), &claims(&"x".repeat(5000)).to_string());
    assert_eq!(judge(&mine, &long, &window, NOW), Err(Reason::ProofInvalid));
}

#[test]
fn targets_are_compared_normalised() {
    for (claimed, actual) in [
        ("https://a.example/x", "https://a.example/x"),
        ("HTTPS://A.Example/x", "https://a.example/x"),
        ("https://a.example:443/x", "https://a.example/x"),
        ("http://a.example:80", "http://a.example/"),
        ("https://a.example/x", "https://a.example/x?y=1#z"),
        ("https://a.example/y/../x", "https://a.example/x"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x"),
    ] {
        assert!(same_target(claimed, actual), "{claimed} {actual}");
    }
    for (claimed, actual) in [
        ("http://a.example/x", "https://a.example/x"),
        ("https://a.example:8443/x", "https://a.example/x"),
        ("https://b.example/x", "https://a.example/x"),
        ("https://a.example/X", "https://a.example/x"),
        ("https://a.example/x/", "https://a.example/x"),
        ("https://u:p@a.example/x", "https://a.example/x"),
        ("https://a.example@b.example/x", "https://b.example/x"),
        ("/x", "/x"),
        ("", ""),
        ("mailto:a@b", "mailto:a@b"),
    ] {
        assert!(!same_target(claimed, actual), "{claimed} {actual}");
    }
    let long = format!("https://a.example/{}", "x".repeat(2048));
    assert!(!same_target(&long, &long));
}

proptest! {
    #[test]
    fn no_text_upsets_the_parser(text in ".{0,200}", parts in prop::collection::vec("[A-Za-z0-9_.=-]{0,60}", 1..5)) {
        let (signer, window) = (signer(KeyAlg::Ed25519), ReplayWindow::new(1));
        prop_assert!(judge(&signer, &text, &window, NOW).is_err());
        prop_assert!(judge(&signer, &parts.join("."), &window, NOW).is_err());
    }

    #[test]
    fn no_altered_proof_is_accepted(at in 0usize..400, to in prop::sample::select(b"AQgw_-0.".to_vec())) {
        let (signer, window) = (signer(KeyAlg::Ed25519), ReplayWindow::default());
        let proof = signed(&signer, &header(&signer).to_string(), &claims("a").to_string());
        let mut altered = proof.clone().into_bytes();
        let at = at % altered.len();
        altered[at] = to;
        let altered = String::from_utf8(altered).unwrap();
        prop_assume!(altered != proof);
        prop_assert!(judge(&signer, &altered, &window, NOW).is_err());
    }
}
