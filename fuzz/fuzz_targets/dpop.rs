//! DPoP proofs that are signed with the right key and say anything: what is accepted is for this request, and once.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use mayfly_credential::{Presented, ReplayWindow, dpop};
use mayfly_domain::{KeyAlg, PublicKey, Reason, UnixMillis};
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const TOKEN: &str = "the.access.token";

static KEY: LazyLock<(Ed25519KeyPair, PublicKey)> = LazyLock::new(|| {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = PublicKey::new(KeyAlg::Ed25519, pair.public_key().as_ref()).unwrap();
    (pair, public)
});

fn signed(header: &[u8], claims: &[u8]) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = KEY.0.sign(input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

fuzz_target!(|input: (Option<&[u8]>, &[u8], &str, &str)| {
    let (header, claims, method, url) = input;
    let x = URL_SAFE_NO_PAD.encode(KEY.0.public_key().as_ref());
    let usual =
        format!(r#"{{"typ":"dpop+jwt","alg":"EdDSA","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}}}"#);
    let proof = signed(header.unwrap_or(usual.as_bytes()), claims);
    let thumbprint = KEY.1.thumbprint();
    let request = Presented { method, url, token: TOKEN, key: &thumbprint, nonces: None };
    let window = ReplayWindow::new(4);
    if dpop::verify(&proof, &request, &window, NOW).is_ok() {
        let said: serde_json::Value = serde_json::from_slice(claims).unwrap();
        assert_eq!(said["htm"], method);
        let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, TOKEN.as_bytes()));
        assert_eq!(said["ath"], ath.as_str());
        let iat = said["iat"].as_u64().unwrap();
        assert!(iat.abs_diff(NOW.secs()) <= 61, "{iat}");
        let again = dpop::verify(&proof, &request, &window, NOW).unwrap_err();
        assert_eq!(again.reason, Reason::ProofReplayed);
        let other = Presented { token: "another.access.token", ..request };
        assert!(dpop::verify(&proof, &other, &ReplayWindow::new(4), NOW).is_err());
    }
});
