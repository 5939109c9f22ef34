//! Bad envelopes and nonces, and good ones shown again.

use mayfly_client::proof::envelope;
use mayfly_domain::TrustDomain;
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use prost::Message as _;

use super::{Ground, mint_request, send};
use crate::harness::{Site, Spec};

/// Another signature over the same octets: `n - s` for `s`, which is as good to every ECDSA verifier.
pub(super) fn malleated(signature: &[u8]) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (r, s) = signature.split_at(32);
    let mut borrow = false;
    let mut negated = [0; 32];
    for n in (0..32).rev() {
        let (one, first) = ORDER[n].overflowing_sub(s[n]);
        let (two, second) = one.overflowing_sub(u8::from(borrow));
        negated[n] = two;
        borrow = first || second;
    }
    [r, &negated].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_envelopes_and_nonces_get_their_reason_and_leave_nothing() {
    let ground = Ground::new().await;
    let (job, td) = (&ground.job, &ground.site.trust_domain);
    let good = job.evidence();
    let payload = mint_request(&good).encode_to_vec();
    let foreign = Site::embedded();
    let foreign_node = foreign.start("one").await;
    let foreign_job = foreign_node.job(&foreign, &Spec::default()).await;
    let nonce = async || job.nonce().await.unwrap();
    let made = |rpc: &str, nonce: Vec<u8>| envelope(&job.key, td, rpc, nonce, payload.clone()).unwrap();
    let fresh = made(rpc::MINT, nonce().await);
    let theirs = TrustDomain::parse("staging.internal").unwrap();
    let mut cut = nonce().await;
    cut.pop();
    let mut altered = nonce().await;
    altered[3] ^= 1;
    let large = vec![0; 25 * 1024];
    let other = ground.node.job(&ground.site, &Spec::default()).await;
    let bad = |key: pb::PublicKey| pb::Envelope { key: Some(key), ..fresh.clone() };
    let cases: Vec<(&str, pb::Envelope, &str)> = vec![
        ("for another call", made(rpc::RENEW, nonce().await), "ENVELOPE_SIGNATURE_INVALID"),
        ("for no call", made("", nonce().await), "ENVELOPE_SIGNATURE_INVALID"),
        (
            "for another trust domain",
            envelope(&job.key, &theirs, rpc::MINT, nonce().await, payload.clone()).unwrap(),
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        (
            "another payload",
            pb::Envelope { payload: mint_request("x").encode_to_vec(), ..fresh.clone() },
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        (
            "another nonce",
            pb::Envelope { nonce: nonce().await, ..fresh.clone() },
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        (
            "another's key",
            bad(envelope(&other.key, td, "", vec![], vec![]).unwrap().key.unwrap()),
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        ("no key", pb::Envelope { key: None, ..fresh.clone() }, "ENVELOPE_INVALID"),
        (
            "no algorithm",
            bad(pb::PublicKey { algorithm: 0, ..fresh.key.clone().unwrap() }),
            "ENVELOPE_INVALID",
        ),
        (
            "a key of another form",
            bad(pb::PublicKey { key: vec![4; 64], ..fresh.key.clone().unwrap() }),
            "ENVELOPE_INVALID",
        ),
        ("no signature", pb::Envelope { signature: vec![], ..fresh.clone() }, "ENVELOPE_INVALID"),
        ("a short signature", pb::Envelope { signature: vec![1; 63], ..fresh.clone() }, "ENVELOPE_INVALID"),
        (
            "a signature of zeros",
            pb::Envelope { signature: vec![0; 64], ..fresh.clone() },
            "ENVELOPE_SIGNATURE_INVALID",
        ),
        ("too large", envelope(&job.key, td, rpc::MINT, nonce().await, large).unwrap(), "TOO_LARGE"),
        (
            "not the call's message",
            envelope(&job.key, td, rpc::MINT, nonce().await, vec![0xff; 40]).unwrap(),
            "ENVELOPE_INVALID",
        ),
        ("no nonce", made(rpc::MINT, vec![]), "NONCE_INVALID"),
        ("a cut nonce", made(rpc::MINT, cut), "NONCE_INVALID"),
        ("an altered nonce", made(rpc::MINT, altered), "NONCE_INVALID"),
        ("a foreign nonce", made(rpc::MINT, foreign_job.nonce().await.unwrap()), "NONCE_INVALID"),
    ];
    let before = ground.alice.stored().await;
    let mut wrong = Vec::new();
    for (name, envelope, expected) in cases {
        let got = send(job, envelope, &good).await;
        if got.as_ref().err().map(String::as_str) != Some(expected) {
            wrong.push(format!("{name}: {:?}, not {expected}", got.map(|_| "minted")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let old = made(rpc::MINT, nonce().await);
    ground.clock.advance(60_001);
    assert_eq!(send(job, old, &good).await.unwrap_err(), "NONCE_EXPIRED");
    assert_eq!(ground.alice.stored().await, before, "a refused call leaves nothing");
    foreign_node.stop().await;
    ground.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_never_mints_again_whatever_became_of_its_lease() {
    let ground = Ground::new().await;
    let job = &ground.job;
    let acceptor = ground.node.acceptor("deploy-api").await;
    let evidence = job.evidence();

    let first = job.envelope(rpc::MINT, mint_request(&evidence).encode_to_vec()).await.unwrap();
    let released = send(job, first.clone(), &evidence).await.unwrap();
    assert_eq!(send(job, first.clone(), &evidence).await.unwrap_err(), "NONCE_USED", "while it lives");
    job.release(&released.lease).await.unwrap();
    assert_eq!(acceptor.lease(&released.lease).await.unwrap_err(), "LEASE_ENDED");
    let again = pb::Envelope { signature: malleated(&first.signature), ..first.clone() };
    let before = ground.alice.stored().await;
    assert_eq!(send(job, first, &evidence).await.unwrap_err(), "NONCE_USED", "after its release");
    assert_eq!(send(job, again, &evidence).await.unwrap_err(), "NONCE_USED", "in another signature");
    assert_eq!(ground.alice.stored().await, before);

    let short = pb::MintRequest { ttl_s: 2, ..mint_request(&evidence) };
    let envelope = job.envelope(rpc::MINT, short.encode_to_vec()).await.unwrap();
    let expired = send(job, envelope.clone(), &evidence).await.unwrap();
    ground.clock.advance(3_000);
    let why = acceptor.lease(&expired.lease).await.unwrap_err();
    assert!(["LEASE_EXPIRED", "LEASE_NOT_FOUND"].contains(&why.as_str()), "{why}");
    assert_eq!(send(job, envelope.clone(), &evidence).await.unwrap_err(), "NONCE_USED", "after its end");
    ground.clock.advance(60_000);
    assert_eq!(send(job, envelope, &evidence).await.unwrap_err(), "NONCE_EXPIRED");
    ground.node.stop().await;
}
