//! Certificates of foreign authorities as evidence: the message, the chain, the authority's file. No panic, and a chain
//! that holds leads to the one authority that is named.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_attest::Authority;
use mayfly_attestors::x509::{danger, read_authority};
use mayfly_domain::{TrustDomain, UnixMillis};
use mayfly_proto::v1;
use prost::Message as _;

static NAMED: LazyLock<Authority> =
    LazyLock::new(|| read_authority(include_bytes!("../seeds/x509/authority.pem")).unwrap());

/// Within the life of the seeds.
const NOW: UnixMillis = UnixMillis::from_secs(2_000_000_000);

fuzz_target!(|bytes: &[u8]| {
    let _ = read_authority(bytes);
    if let Ok(claims) = danger::unverified(bytes) {
        for always in ["id", "serial", "subject", "fingerprint", "spki_sha256", "not_after"] {
            assert!(claims.get(always).and_then(|c| c.as_text()).is_some(), "{always}");
        }
    }
    let domain = TrustDomain::parse("acme.internal").unwrap();
    for chain in
        [v1::X509Proof::decode(bytes).map(|wire| wire.chain).unwrap_or_default(), vec![bytes.to_vec()]]
    {
        if let Ok(verified) = danger::unproven(vec![NAMED.clone()], &chain, &domain, NOW) {
            assert_eq!(verified.issuer, NAMED.name);
            assert!(verified.holder.is_some() && verified.issued_at <= verified.expires);
        }
    }
});
