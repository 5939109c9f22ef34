//! Real certificates of every kind of key, and every way to cheat with one.

mod claims;

use mayfly_attest::Claims;
use mayfly_domain::{Thumbprint, TrustDomain};
use mayfly_testkit::x509::{ForeignCa, Held, KeyKind, set_validity};
use proptest::prelude::*;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber,
};

use super::*;

const NOW: UnixMillis = UnixMillis::from_secs(1_790_000_000);
const HOUR: u64 = 3_600_000;
const KEY: Thumbprint = Thumbprint::from_bytes([7; 32]);

fn attestor(authorities: &[&ForeignCa]) -> X509Attestor {
    let attestor = X509Attestor::default();
    attestor
        .set_authorities(authorities.iter().map(|ca| read_authority(ca.pem().as_bytes()).unwrap()).collect());
    attestor
}

fn valid(params: &mut CertificateParams) {
    set_validity(params, NOW.minus(HOUR), NOW.plus(HOUR));
    params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0x1b]));
}

fn judge_at(
    attestor: &X509Attestor,
    held: &Held,
    at: UnixMillis,
    change: impl FnOnce(&mut X509Proof),
) -> Result<Verified, Refusal> {
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let challenge = Challenge { trust_domain: &domain, nonce: b"nonce", key: KEY };
    let mut proof = held.prove(&challenge);
    change(&mut proof);
    attestor.judge(&proof, &challenge, at)
}

fn judge(attestor: &X509Attestor, held: &Held) -> Result<Verified, Refusal> {
    judge_at(attestor, held, NOW, |_| {})
}

fn reason(result: Result<Verified, Refusal>) -> Reason {
    result.unwrap_err().reason
}

fn text<'a>(claims: &'a Claims, name: &str) -> &'a str {
    claims.get(name).and_then(|c| c.as_text()).unwrap_or("-")
}

#[test]
fn every_kind_of_key_proves_itself_with_every_scheme_that_fits() {
    for kind in KeyKind::ALL {
        let root = ForeignCa::new(kind, "root");
        let issuing = root.intermediate(KeyKind::P256, "issuing");
        let attestor = attestor(&[&root]);
        let held = issuing.issue(kind, valid);
        let domain = TrustDomain::parse("acme.internal").unwrap();
        let challenge = Challenge { trust_domain: &domain, nonce: b"nonce", key: KEY };
        for scheme in kind.schemes() {
            let proof = held.prove_with(*scheme, &challenge);
            let verified = attestor.judge(&proof, &challenge, NOW).unwrap();
            assert_eq!(verified.issuer, read_authority(root.pem().as_bytes()).unwrap().name);
            for other in KeyKind::ALL.into_iter().flat_map(|k| k.schemes()).filter(|s| *s != scheme) {
                let wrong = X509Proof { scheme: *other, ..proof.clone() };
                let refused = attestor.judge(&wrong, &challenge, NOW).unwrap_err();
                assert_eq!(refused.reason, Reason::EvidenceProof, "{kind:?} {scheme:#06x} as {other:#06x}");
            }
        }
        for unknown in [0, 0x0201, 0x0203, 0x0603, 0x0808, 0x0809, 0xffff] {
            let refused = judge_at(&attestor, &held, NOW, |p| p.scheme = unknown);
            assert_eq!(reason(refused), Reason::EvidenceProof);
        }
    }
}

#[test]
fn a_proof_is_for_one_call_and_key_and_trust_domain() {
    let ca = ForeignCa::new(KeyKind::P256, "root");
    let (held, other) = (ca.issue(KeyKind::P256, valid), ca.issue(KeyKind::P256, valid));
    let attestor = attestor(&[&ca]);
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let staging = TrustDomain::parse("staging.internal").unwrap();
    let good = Challenge { trust_domain: &domain, nonce: b"nonce", key: KEY };
    attestor.judge(&held.prove(&good), &good, NOW).unwrap();
    for (what, cheat) in [
        ("another call's nonce", held.prove(&Challenge { nonce: b"other", ..good })),
        ("another envelope's key", held.prove(&Challenge { key: Thumbprint::from_bytes([8; 32]), ..good })),
        ("another trust domain", held.prove(&Challenge { trust_domain: &staging, ..good })),
        ("another certificate's signature", X509Proof { chain: held.chain.clone(), ..other.prove(&good) }),
        ("another certificate's key", ca.issue(KeyKind::P256, valid).with_key_of(other).prove(&good)),
        ("no signature", X509Proof { signature: Vec::new(), ..held.prove(&good) }),
        (
            "a cut signature",
            X509Proof { signature: held.prove(&good).signature[..60].to_vec(), ..held.prove(&good) },
        ),
    ] {
        let refused = attestor.judge(&cheat, &good, NOW).unwrap_err();
        assert_eq!(refused.reason, Reason::EvidenceProof, "{what}");
    }
}

#[test]
fn only_chains_to_a_named_authority_hold() {
    let root = ForeignCa::new(KeyKind::P256, "root");
    let impostor = ForeignCa::new(KeyKind::P256, "root");
    let stranger = ForeignCa::new(KeyKind::P256, "stranger");
    let named = attestor(&[&stranger, &root]);
    for ca in [&impostor, &ForeignCa::new(KeyKind::P384, "elsewhere")] {
        let refused = judge(&named, &ca.issue(KeyKind::P256, valid)).unwrap_err();
        assert_eq!(refused.reason, Reason::EvidenceChain);
        assert_eq!(refused.facts[0].0, "issuer");
    }
    assert_eq!(
        reason(judge(&X509Attestor::default(), &root.issue(KeyKind::P256, valid))),
        Reason::IssuerUnknown
    );

    let held = root.intermediate(KeyKind::Ed25519, "issuing").issue(KeyKind::P256, valid);
    assert_eq!(held.chain.len(), 2);
    judge(&named, &held).unwrap();
    let without = judge_at(&named, &held, NOW, |p| p.chain.truncate(1));
    assert_eq!(reason(without), Reason::EvidenceChain, "the intermediate is missing");
    let false_one = impostor.intermediate(KeyKind::Ed25519, "issuing");
    let swapped = judge_at(&named, &held, NOW, |p| p.chain[1] = false_one.der().to_vec());
    assert_eq!(reason(swapped), Reason::EvidenceChain);
    judge_at(&named, &held, NOW, |p| p.chain.push(root.der().to_vec())).unwrap();

    // A rule may name an issuing authority alone: its siblings below the same root are nobody.
    let (one, other) = (root.intermediate(KeyKind::P256, "one"), root.intermediate(KeyKind::P256, "other"));
    let narrow = attestor(&[&one]);
    let verified = judge(&narrow, &one.issue(KeyKind::P256, valid)).unwrap();
    assert_eq!(verified.issuer, read_authority(one.pem().as_bytes()).unwrap().name);
    assert_eq!(reason(judge(&narrow, &other.issue(KeyKind::P256, valid))), Reason::EvidenceChain);
}

#[test]
fn chains_are_bounded() {
    let root = ForeignCa::new(KeyKind::P256, "root");
    let attestor = attestor(&[&root]);
    let held = root
        .intermediate(KeyKind::P256, "a")
        .intermediate(KeyKind::P256, "b")
        .intermediate(KeyKind::P256, "c")
        .issue(KeyKind::P256, valid);
    assert_eq!(held.chain.len(), CHAIN_MAX);
    judge(&attestor, &held).unwrap();
    let long = judge_at(&attestor, &held, NOW, |p| p.chain.push(root.der().to_vec()));
    assert_eq!(reason(long), Reason::TooLarge);
    let large = judge_at(&attestor, &held, NOW, |p| p.chain[1] = vec![0; OCTETS_MAX]);
    assert_eq!(reason(large), Reason::TooLarge);
    let signature = judge_at(&attestor, &held, NOW, |p| p.signature = vec![0; OCTETS_MAX]);
    assert_eq!(reason(signature), Reason::TooLarge);
    assert_eq!(reason(judge_at(&attestor, &held, NOW, |p| p.chain.clear())), Reason::EvidenceMalformed);
    assert_eq!(reason(judge_at(&attestor, &held, NOW, |p| p.chain[0].push(0))), Reason::EvidenceMalformed);
    assert_eq!(
        reason(judge_at(&attestor, &held, NOW, |p| p.chain[0] = b"MIIB".to_vec())),
        Reason::EvidenceMalformed
    );
}

#[test]
fn dates_count_with_the_skew() {
    let ca = ForeignCa::new(KeyKind::P256, "root");
    let attestor = attestor(&[&ca]);
    let held = ca.issue(KeyKind::P256, valid);
    let (from, until) = (NOW.minus(HOUR), NOW.plus(HOUR));
    let at = |at| judge_at(&attestor, &held, at, |_| {});
    for good in [from.minus(defaults::SKEW_MS), from, until, until.plus(defaults::SKEW_MS - 1)] {
        at(good).unwrap();
    }
    assert_eq!(reason(at(until.plus(defaults::SKEW_MS))), Reason::EvidenceExpired);
    assert_eq!(reason(at(from.minus(defaults::SKEW_MS + 1))), Reason::EvidenceNotYetValid);
}

#[test]
fn what_must_not_be_evidence() {
    let ca = ForeignCa::new(KeyKind::P256, "root");
    let attestor = attestor(&[&ca]);
    let issue = |change: fn(&mut CertificateParams)| {
        judge(
            &attestor,
            &ca.issue(KeyKind::P256, |params| {
                valid(params);
                change(params);
            }),
        )
    };
    let spiffe = |p: &mut CertificateParams, id: &str| {
        p.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let oid = &[2, 25, 1_946_157_831];
        p.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(oid, vec![5, 0])];
    };
    type Change = fn(&mut CertificateParams);
    let table: &[(&str, Change)] = &[
        ("an authority's certificate", |p| p.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ("a server's certificate", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ("a key for agreement alone", |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        ("an unknown critical extension", |p| {
            let mut critical = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 9], vec![5, 0]);
            critical.set_criticality(true);
            p.custom_extensions = vec![critical];
        }),
    ];
    for (what, change) in table {
        assert_eq!(reason(issue(*change)), Reason::EvidenceChain, "{what}");
    }
    issue(|p| p.extended_key_usages.clear()).unwrap();
    issue(|p| p.key_usages.clear()).unwrap();
    assert_eq!(
        reason(issue(|p| p.serial_number = Some(SerialNumber::from_slice(&[0])))),
        Reason::EvidenceMalformed
    );

    let mayfly = |id: &'static str| {
        judge(
            &attestor,
            &ca.issue(KeyKind::P256, |p| {
                valid(p);
                spiffe(p, id);
            }),
        )
    };
    assert_eq!(
        reason(mayfly("spiffe://acme.internal/ci")),
        Reason::EvidenceChain,
        "its lease would go unasked"
    );
    mayfly("spiffe://elsewhere.example/ci").unwrap();
}

#[test]
fn an_authority_whose_own_certificate_has_ended_vouches_for_nobody() {
    let ca = ForeignCa::new(KeyKind::P256, "root");
    let attestor = X509Attestor::default();
    let mut authority = read_authority(ca.pem().as_bytes()).unwrap();
    authority.expires = NOW;
    attestor.set_authorities(vec![authority]);
    let held = ca.issue(KeyKind::P256, valid);
    judge(&attestor, &held).unwrap();
    let later = judge_at(&attestor, &held, NOW.plus(defaults::SKEW_MS), |_| {});
    assert_eq!(reason(later), Reason::EvidenceChain);
}

#[test]
fn which_files_stand_for_an_authority() {
    let ca = ForeignCa::new(KeyKind::P256, "root");
    let (pem, other) = (ca.pem(), ForeignCa::new(KeyKind::P256, "root").pem());
    let one = read_authority(pem.as_bytes()).unwrap();
    assert_ne!(
        one.identity,
        read_authority(other.as_bytes()).unwrap().identity,
        "another key of the same name"
    );
    assert_eq!(read_authority(b""), Err(UnfitAuthority::Count(0)));
    assert_eq!(read_authority(format!("{pem}{other}").as_bytes()), Err(UnfitAuthority::Count(2)));
    let broken = pem.replace("MII", "MIJ");
    assert!(matches!(read_authority(broken.as_bytes()), Err(UnfitAuthority::Malformed(_))));
    let leaf = ca.issue(KeyKind::P256, valid);
    let leaf = mayfly_testkit::x509::pem(leaf.leaf());
    assert!(matches!(read_authority(leaf.as_bytes()), Err(UnfitAuthority::NotAuthority(_))));
}

fn sample() -> (X509Attestor, X509Proof) {
    let root = ForeignCa::new(KeyKind::P256, "root");
    let held = root.intermediate(KeyKind::P256, "issuing").issue(KeyKind::P256, |p| {
        valid(p);
        p.distinguished_name.push(DnType::CommonName, "device 7");
        p.subject_alt_names = vec![SanType::DnsName("d7.acme.internal".try_into().unwrap())];
    });
    let domain = TrustDomain::parse("acme.internal").unwrap();
    let challenge = Challenge { trust_domain: &domain, nonce: b"nonce", key: KEY };
    (attestor(&[&root]), held.prove(&challenge))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// No octet of the leaf or the signature can be another one.
    #[test]
    fn what_was_altered_is_refused(part in 0..2usize, at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        thread_local!(static SAMPLE: (X509Attestor, X509Proof) = sample());
        SAMPLE.with(|(attestor, proof)| {
            let domain = TrustDomain::parse("acme.internal").unwrap();
            let challenge = Challenge { trust_domain: &domain, nonce: b"nonce", key: KEY };
            let mut altered = proof.clone();
            let octets = if part == 0 { &mut altered.chain[0] } else { &mut altered.signature };
            let at = at.index(octets.len());
            octets[at] ^= flip;
            prop_assert!(attestor.judge(&altered, &challenge, NOW).is_err());
            Ok(())
        })?;
    }

    #[test]
    fn parsing_never_panics(chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)) {
        thread_local!(static ATTESTOR: X509Attestor = sample().0);
        let domain = TrustDomain::parse("acme.internal").unwrap();
        let challenge = Challenge { trust_domain: &domain, nonce: b"nonce", key: KEY };
        let proof = X509Proof { chain, scheme: 0x0403, signature: vec![1; 70] };
        let refused = ATTESTOR.with(|a| a.judge(&proof, &challenge, NOW).is_err());
        prop_assert!(refused);
    }
}
