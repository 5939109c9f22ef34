//! Our own access tokens and DPoP proofs, as a stranger would make them: nothing unsigned passes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_domain::{Thumbprint, TrustDomain, UnixMillis};
use mayfly_mint::{KeyRing, KeySet, Presented, ReplayWindow, TokenVerifier, dpop};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let domain = TrustDomain::parse("acme.internal").unwrap();
    KeyRing::new(&KeySet::init(&domain, NOW).unwrap()).unwrap()
});

fuzz_target!(|text: &str| {
    let verifier = TokenVerifier::new("https://mayfly.acme.internal");
    assert!(verifier.verify(&RING, text, NOW).is_err());
    let key = Thumbprint::from_bytes([7; 32]);
    let request = Presented { method: "GET", url: text, token: text, key: &key };
    assert!(dpop::verify(text, &request, &ReplayWindow::new(1), NOW).is_err());
});
