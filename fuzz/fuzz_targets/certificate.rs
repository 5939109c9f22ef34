//! Certificates as a stranger would make them, and Mayfly's extension in them: nothing that we did not sign passes,
//! and an extension has one form.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_credential::{Anchors, Usage, extension, spki};
use mayfly_domain::{TrustDomain, UnixMillis};
use mayfly_mint::{Custody, KeyRing, KeySet};
use rustls_pki_types::CertificateDer;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

static ANCHORS: LazyLock<Anchors> = LazyLock::new(|| {
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let custody = Custody::sealed();
    let ring = KeyRing::new(&KeySet::init(&domain, &custody, NOW).unwrap(), &custody).unwrap();
    Anchors::clone(ring.verifier())
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(observation) = extension::decode(bytes) {
        assert_eq!(extension::encode(&observation), bytes);
    }
    let chain = [CertificateDer::from(bytes)];
    assert!(ANCHORS.client_chain(&chain, NOW).is_err());
    for usage in [Usage::Client, Usage::Server] {
        assert!(ANCHORS.workload_chain(&chain, usage, NOW).is_err());
        assert!(ANCHORS.system_chain(&chain, usage, NOW).is_err());
    }
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let _ = Anchors::new(&domain, &[CertificateDer::from(bytes.to_vec())], &[]);
    if let Ok(key) = spki::public_key(bytes) {
        assert_eq!(spki::der(&key), bytes);
    }
});
