//! Messages as they come from the network, up to the words of the domain: the envelope and what is in it, subjects,
//! page tokens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_domain::{TrustDomain, UnixMillis};
use mayfly_proto::v1;
use mayfly_server::convert;
use prost::Message as _;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(wire) = v1::Envelope::decode(bytes)
        && let Ok(envelope) = convert::envelope(wire)
    {
        if let Ok(mut wire) = convert::payload::<v1::MintRequest>(&envelope.payload) {
            let _ = convert::evidence(wire.evidence.take(), None, NOW);
            let _ = convert::mint(wire, &envelope.key);
        }
        if let Ok(wire) = convert::payload::<v1::RenewRequest>(&envelope.payload) {
            let _ = convert::renew(&wire, &envelope.key);
        }
    }
    if let Ok(wire) = v1::Subject::decode(bytes) {
        let _ = convert::subject(&wire, &TrustDomain::parse("acme.internal").unwrap());
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(Some(place)) = convert::cursor(text)
    {
        assert_eq!(convert::page_token(place), text.to_ascii_lowercase());
    }
});
