//! Which keys are read and which are left out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn rsa(octets: usize) -> Value {
    json!({ "kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode(vec![0x80; octets]), "e": "AQAB" })
}

fn ec() -> Value {
    let part = URL_SAFE_NO_PAD.encode([1; 32]);
    json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": part, "y": part })
}

fn with(mut key: Value, name: &str, value: Value) -> Value {
    key[name] = value;
    key
}

fn parse(keys: &[Value]) -> Result<KeySet, Unreadable> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

#[test]
fn usable_keys_are_read() {
    for key in [
        rsa(256),
        rsa(1024),
        ec(),
        with(ec(), "use", json!("sig")),
        with(ec(), "key_ops", json!(["verify"])),
        with(ec(), "x5c", json!(["anything"])),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32]) }),
    ] {
        assert_eq!(parse(std::slice::from_ref(&key)).unwrap().keys.len(), 1, "{key}");
    }
    let leading_zero = [vec![0], vec![0x80; 256]].concat();
    let key = with(rsa(256), "n", json!(URL_SAFE_NO_PAD.encode(leading_zero)));
    assert_eq!(parse(&[key]).unwrap(), parse(&[rsa(256)]).unwrap());
}

#[test]
fn unusable_keys_are_left_out() {
    for key in [
        rsa(255),
        rsa(1025),
        with(rsa(256), "e", json!("AQAB=")),
        with(rsa(256), "d", json!("AQAB")),
        with(rsa(256), "use", json!("enc")),
        with(rsa(256), "alg", json!("RSA-OAEP")),
        with(ec(), "crv", json!("secp256k1")),
        with(ec(), "key_ops", json!(["sign"])),
        with(ec(), "x", json!("AQAB")),
        with(ec(), "alg", json!("HS256")),
        json!({ "kty": "oct", "k": "AQAB" }),
        json!({ "kty": "OKP", "crv": "X25519", "x": URL_SAFE_NO_PAD.encode([1; 32]) }),
        json!({}),
    ] {
        assert_eq!(parse(std::slice::from_ref(&key)), Err(Unreadable::Empty), "{key}");
        assert_eq!(parse(&[key, ec()]).unwrap().keys.len(), 1);
    }
}

#[test]
fn what_is_no_set() {
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(KeySet::parse(bad.as_bytes()), Err(Unreadable::Form), "{bad}");
    }
    assert_eq!(parse(&[]), Err(Unreadable::Empty));
    assert_eq!(parse(&vec![ec(); 65]), Err(Unreadable::TooMany));
}

proptest! {
    #[test]
    fn reading_never_panics(octets in any::<Vec<u8>>(), n in any::<Vec<u8>>(), e in any::<Vec<u8>>()) {
        let _ = KeySet::parse(&octets);
        let key = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e) });
        let _ = parse(&[key]);
    }
}
