//! Tokens of foreign issuers, and their keys: strict JSON, one encoding, no panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_attestors::jwks::KeySet;
use mayfly_attestors::oidc::danger::unverified;
use mayfly_attestors::{json, jws};

fuzz_target!(|bytes: &[u8]| {
    let _ = KeySet::parse(bytes);
    if json::object(bytes).is_ok() {
        // Whatever we take for an object, everybody else does too.
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).unwrap().is_object());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(parsed) = jws::parse(text) {
        assert!(text.starts_with(parsed.signing_input));
    }
    let _ = unverified(text);
});
