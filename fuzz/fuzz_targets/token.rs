//! Our own access tokens, JWKS documents and DPoP proofs, as a stranger would make them: nothing unsigned passes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_credential::{Nonces, Presented, ReplayWindow, TokenKeys, TokenVerifier, dpop};
use mayfly_domain::{Thumbprint, TrustDomain, UnixMillis};
use mayfly_mint::{Custody, KeyRing, KeySet};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let custody = Custody::sealed();
    KeyRing::new(&KeySet::init(&domain, &custody, NOW).unwrap(), &custody).unwrap()
});

static NONCES: LazyLock<Nonces> = LazyLock::new(|| Nonces::new(Nonces::LIFE_MS).unwrap());

fuzz_target!(|text: &str| {
    let verifier = TokenVerifier::new("https://mayfly.acme.internal");
    assert!(verifier.verify(RING.verify_keys(), text, NOW).is_err());
    let key = Thumbprint::from_bytes([7; 32]);
    for nonces in [None, Some(&*NONCES)] {
        let request = Presented { method: "GET", url: text, token: text, key: &key, nonces };
        assert!(dpop::verify(text, &request, &ReplayWindow::new(1), NOW).is_err());
    }
    // A document that is read is one that we would write.
    if let Ok(keys) = TokenKeys::from_jwks(text.as_bytes()) {
        assert_eq!(TokenKeys::from_jwks(&keys.jwks()).unwrap(), keys);
    }
});
