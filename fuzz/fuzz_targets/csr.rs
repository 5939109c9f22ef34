//! Certificate requests: as anybody may send them, and with a good signature around what anybody may ask for.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mayfly_domain::{KeyAlg, PublicKey, San, SpiffeId};
use mayfly_mint::x509::csr;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use yasna::{Tag, construct_der, models::ObjectIdentifier};

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

/// A request with these attributes, signed by [`PAIR`].
fn signed(attributes: &[u8]) -> Vec<u8> {
    let ed25519 = || ObjectIdentifier::from_slice(&[1, 3, 101, 112]);
    let info = construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_u8(0);
            w.next().write_sequence(|_| ());
            w.next().write_sequence(|w| {
                w.next().write_sequence(|w| w.next().write_oid(&ed25519()));
                w.next().write_bitvec_bytes(PAIR.public_key().as_ref(), 256);
            });
            w.next().write_tagged_implicit(Tag::context(0), |w| {
                w.write_sequence(|w| w.next().write_der(attributes))
            });
        });
    });
    let signature = PAIR.sign(&info);
    construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_der(&info);
            w.next().write_sequence(|w| w.next().write_oid(&ed25519()));
            w.next().write_bitvec_bytes(signature.as_ref(), 512);
        });
    })
}

fuzz_target!(|bytes: &[u8]| {
    let key = PublicKey::new(KeyAlg::Ed25519, PAIR.public_key().as_ref()).unwrap();
    let _ = csr::read(bytes, &key);
    match csr::read(&signed(bytes), &key) {
        Ok(wishes) => {
            assert!(wishes.names.len() <= 16);
            for (n, name) in wishes.names.iter().enumerate() {
                assert_eq!(San::parse(&name.to_string()).as_ref(), Ok(name));
                assert!(!wishes.names[..n].contains(name) && !name.to_string().contains('*'));
            }
            let other = SpiffeId::parse("spiffe://fuzz.internal/no/such/workload").unwrap();
            let harmless =
                wishes.id.as_ref().is_none_or(|id| *id == other) && !wishes.client && !wishes.server;
            assert_eq!(wishes.fits(&other, false, false).is_ok(), harmless);
        }
        Err(refusal) => assert!(!refusal.detail.is_empty() && !refusal.facts.is_empty(), "{refusal:?}"),
    }
});
