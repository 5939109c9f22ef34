use std::process::Command;

use proptest::prelude::*;
use rcgen::string::Ia5String;
use rcgen::{
    Attribute, BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, OtherNameValue, SanType,
};

use super::*;
use crate::testing::key_pair;
use crate::x509::extension as mayfly;

/// A request with what `change` asks for, in DER, and its key.
fn made(alg: KeyAlg, change: impl FnOnce(&mut CertificateParams)) -> (Vec<u8>, PublicKey) {
    let (pair, key) = key_pair(alg);
    let mut params = CertificateParams::default();
    change(&mut params);
    (params.serialize_request(&pair).unwrap().der().to_vec(), key)
}

fn text(text: &str) -> Ia5String {
    Ia5String::try_from(text).unwrap()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(text(name))
}

fn facts(refusal: &Refusal) -> String {
    refusal.facts.iter().map(|(name, value)| format!("{name}={value}; ")).collect()
}

#[test]
fn a_request_asks_for_names_and_usages() {
    for alg in [KeyAlg::P256, KeyAlg::Ed25519] {
        let (der, key) = made(alg, |_| ());
        assert_eq!(read(&der, &key).unwrap(), Wishes::default());
        let (der, key) = made(alg, |p| {
            p.subject_alt_names = vec![
                dns("Ledger.payments.svc"),
                SanType::URI(text("spiffe://acme.internal/svc/ledger")),
                SanType::IpAddress("10.1.2.3".parse().unwrap()),
                dns("ledger.payments.svc"),
                SanType::IpAddress("fd00::1".parse().unwrap()),
            ];
            p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            p.is_ca = IsCa::ExplicitNoCa;
        });
        let wishes = read(&der, &key).unwrap();
        let names: Vec<String> = wishes.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["ledger.payments.svc", "10.1.2.3", "fd00::1"]);
        assert!(wishes.server && !wishes.client);
        let own = SpiffeId::parse("spiffe://acme.internal/svc/ledger").unwrap();
        wishes.fits(&own, false, true).unwrap();
        wishes.fits(&own, true, true).unwrap();
        let usage = wishes.fits(&own, true, false).unwrap_err();
        assert_eq!(usage.reason, Reason::CsrExtension);
        assert!(facts(&usage).contains("extendedKeyUsage serverAuth"), "{usage:?}");
        let other = SpiffeId::parse("spiffe://acme.internal/svc/other").unwrap();
        assert_eq!(wishes.fits(&other, true, true).unwrap_err().reason, Reason::NameNotAllowed);
    }
}

#[test]
fn what_is_never_granted_is_refused_by_name() {
    use Reason::{CsrExtension, CsrMalformed, NameNotAllowed};
    type Change = fn(&mut CertificateParams);
    let cases: [(Reason, &str, Change); 22] = [
        (CsrExtension, "basicConstraints CA:TRUE", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        (CsrExtension, "basicConstraints CA:TRUE", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
        (CsrExtension, "keyUsage", |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        (CsrExtension, "Key Encipherment", |p| {
            p.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        }),
        (CsrExtension, "extendedKeyUsage", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        (CsrExtension, "extendedKeyUsage", |p| {
            p.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::CodeSigning];
        }),
        (CsrExtension, "1.3.6.1.4.1.99999.1", |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 99999, 1])];
        }),
        // Its own extension is the broker's to write.
        (CsrExtension, "extension=2.25.1946157831", |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(&mayfly::OID, vec![5, 0])];
        }),
        (CsrExtension, "extension=critical 1.2.3.4", |p| {
            let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            unknown.set_criticality(true);
            p.custom_extensions = vec![unknown];
        }),
        // nameConstraints, which x509-parser knows and no workload gets.
        (CsrExtension, "2.5.29.30", |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 30], vec![0x30, 0])];
        }),
        (CsrMalformed, "2.5.29.17 in it is malformed", |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x31, 0])];
        }),
        (CsrMalformed, "2.5.29.37 is in it twice", |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let again = vec![0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
            p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], again)];
        }),
        (NameNotAllowed, "name=alice@acme.internal; problem=e-mail", |p| {
            p.subject_alt_names = vec![SanType::Rfc822Name(text("alice@acme.internal"))];
        }),
        (NameNotAllowed, "name=*.payments.svc; problem=DNS", |p| {
            p.subject_alt_names = vec![dns("*.payments.svc")]
        }),
        (NameNotAllowed, "name=a_b; problem=DNS", |p| p.subject_alt_names = vec![dns("a_b")]),
        (NameNotAllowed, "name=10.0.0.1; problem=DNS", |p| p.subject_alt_names = vec![dns("10.0.0.1")]),
        (NameNotAllowed, "name=https://a.b/c; problem=URI", |p| {
            p.subject_alt_names = vec![SanType::URI(text("https://a.b/c"))];
        }),
        (NameNotAllowed, "is not the only one", |p| {
            p.subject_alt_names = ["spiffe://a/b", "spiffe://a/c"].map(|id| SanType::URI(text(id))).to_vec();
        }),
        (NameNotAllowed, "problem=other name", |p| {
            let value = OtherNameValue::Utf8String("x".into());
            p.subject_alt_names = vec![SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311], value))];
        }),
        (NameNotAllowed, "name=0.0.0.0; problem=address", |p| {
            p.subject_alt_names = vec![SanType::IpAddress("0.0.0.0".parse().unwrap())];
        }),
        (CsrMalformed, "more than 16 names", |p| {
            p.subject_alt_names = (0..17).map(|n| dns(&format!("n{n}.svc"))).collect();
        }),
        (CsrMalformed, "more than 16 names", |p| p.subject_alt_names = vec![dns("a.svc"); 18]),
    ];
    for (reason, expected, change) in cases {
        let (der, key) = made(KeyAlg::P256, change);
        let refusal = read(&der, &key).expect_err(expected);
        assert_eq!(refusal.reason, reason, "{expected}: {refusal:?}");
        assert!(facts(&refusal).contains(expected), "{expected}: {refusal:?}");
    }
}

#[test]
fn attributes_are_refused_by_name_and_extensions_asked_for_once() {
    let (pair, key) = key_pair(KeyAlg::P256);
    let mut params = CertificateParams::default();
    let request = |params: &CertificateParams, oid: &'static [u64], values: Vec<u8>| {
        let attribute = Attribute { oid, values };
        params.serialize_request_with_attributes(&pair, vec![attribute]).unwrap().der().to_vec()
    };
    let password = request(&params, &[1, 2, 840, 113549, 1, 9, 7], vec![0x31, 3, 0x0c, 1, b'x']);
    let refusal = read(&password, &key).unwrap_err();
    assert_eq!(refusal.reason, Reason::CsrExtension);
    assert!(facts(&refusal).contains("attribute 1.2.840.113549.1.9.7"), "{refusal:?}");

    params.subject_alt_names = vec![dns("a.svc")];
    const EXTENSIONS: &[u64] = &[1, 2, 840, 113549, 1, 9, 14];
    let empty: Vec<u8> = vec![0x31, 2, 0x30, 0];
    assert_eq!(read(&request(&params, EXTENSIONS, empty), &key).unwrap_err().reason, Reason::CsrMalformed);
    params.subject_alt_names.clear();
    // A second value, and octets behind the only one.
    for values in [vec![0x31, 4, 0x30, 0, 0x30, 0], vec![0x31, 4, 0x30, 0, 5, 0], vec![0x31, 0]] {
        let refusal = read(&request(&params, EXTENSIONS, values), &key).unwrap_err();
        assert_eq!(refusal.reason, Reason::CsrMalformed, "{refusal:?}");
    }
}

#[test]
fn only_the_calls_key_signs() {
    let (der, key) = made(KeyAlg::P256, |p| p.subject_alt_names = vec![dns("a.svc")]);
    let (_, other) = key_pair(KeyAlg::P256);
    let (_, ed25519) = key_pair(KeyAlg::Ed25519);
    for wrong in [&other, &ed25519] {
        let refusal = read(&der, wrong).unwrap_err();
        assert_eq!(refusal.reason, Reason::CsrKey);
        assert!(facts(&refusal).contains("not the one that signed the call"), "{refusal:?}");
    }
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let weak = CertificateParams::default().serialize_request(&p384).unwrap();
    let refusal = read(weak.der(), &key).unwrap_err();
    assert_eq!(refusal.reason, Reason::CsrKey);
    assert!(facts(&refusal).contains("neither P-256 nor Ed25519"), "{refusal:?}");

    let mut broken = der.clone();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(read(&broken, &key).unwrap_err().reason, Reason::CsrSignature);
    // The names are what is signed.
    let at = der.windows(5).position(|w| w == b"a.svc").unwrap();
    let mut renamed = der.clone();
    renamed[at] = b'b';
    assert_eq!(read(&renamed, &key).unwrap_err().reason, Reason::CsrSignature);
    // ecdsa-with-SHA384 by the same curve.
    let at = der.windows(8).position(|w| w == [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]).unwrap();
    let mut sha384 = der.clone();
    sha384[at + 7] = 3;
    let refusal = read(&sha384, &key).unwrap_err();
    assert_eq!(refusal.reason, Reason::CsrSignature);
    assert!(facts(&refusal).contains("1.2.840.10045.4.3.3"), "{refusal:?}");
}

#[test]
fn forms_that_are_none_are_refused() {
    let (der, key) = made(KeyAlg::P256, |_| ());
    let trailing: Vec<u8> = der.iter().copied().chain([0, 0]).collect();
    let refusal = read(&trailing, &key).unwrap_err();
    assert_eq!(refusal.reason, Reason::CsrMalformed);
    assert!(facts(&refusal).contains("2 octets follow it"));
    for cut in 0..der.len() {
        assert_eq!(read(&der[..cut], &key).unwrap_err().reason, Reason::CsrMalformed, "{cut}");
    }
    let refusal = read(&vec![0x30; CSR_OCTETS_MAX + 1], &key).unwrap_err();
    assert_eq!(refusal.reason, Reason::CsrMalformed);
    assert!(facts(&refusal).contains("at most 8192"), "{refusal:?}");
}

/// Requests as people make them.
#[test]
fn openssls_requests_are_read() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("csr.der");
    let file = dir.path().join("key.pem");
    let make = |newkey: &[&str], more: &[&str]| {
        let run = |arguments: &[&str]| {
            let done = Command::new("openssl").args(arguments).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            done.stdout
        };
        let (path, key) = (out.to_str().unwrap(), file.to_str().unwrap());
        run(&[&["genpkey", "-out", key][..], newkey].concat());
        run(&[&["req", "-new", "-key", key, "-subj", "/CN=anything", "-outform", "DER", "-out", path], more]
            .concat());
        let spki = run(&["pkey", "-in", key, "-pubout", "-outform", "DER"]);
        (std::fs::read(&out).unwrap(), spki)
    };
    let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let ed25519 = ["-algorithm", "ED25519"];
    let names = ["-addext", "subjectAltName=DNS:a.svc,IP:10.0.0.1,URI:spiffe://acme.internal/a"];
    for newkey in [&p256[..], &ed25519] {
        let (der, spki) = make(newkey, &names);
        let wishes = read(&der, &public_key(&spki).unwrap()).unwrap();
        assert_eq!(wishes.names.len(), 2);
        assert_eq!(wishes.id.unwrap().as_str(), "spiffe://acme.internal/a");
    }
    let (der, spki) = make(&p256, &["-addext", "basicConstraints=critical,CA:TRUE"]);
    let key = public_key(&spki).unwrap();
    assert!(facts(&read(&der, &key).unwrap_err()).contains("CA:TRUE"));
    for (newkey, problem) in [
        (&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..], "RSA"),
        (&["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], "neither P-256"),
        (
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"],
            "neither",
        ),
    ] {
        let refusal = read(&make(newkey, &[]).0, &key).unwrap_err();
        assert_eq!(refusal.reason, Reason::CsrKey);
        assert!(facts(&refusal).contains(problem), "{problem}: {refusal:?}");
    }
}

/// A request with these attributes and a good signature.
fn signed(attributes: &[u8]) -> (Vec<u8>, PublicKey) {
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = PublicKey::new(KeyAlg::Ed25519, ring::signature::KeyPair::public_key(&pair).as_ref()).unwrap();
    let info = yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_u8(0);
            w.next().write_sequence(|_| ());
            w.next().write_der(&spki::der(&key));
            w.next().write_tagged_implicit(yasna::Tag::context(0), |w| {
                w.write_sequence(|w| w.next().write_der(attributes));
            });
        });
    });
    let signature = pair.sign(&info);
    let der = yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_der(&info);
            w.next().write_sequence(|w| {
                w.next().write_oid(&yasna::models::ObjectIdentifier::from_slice(&ED25519));
            });
            w.next().write_bitvec_bytes(signature.as_ref(), 512);
        });
    });
    (der, key)
}

/// `extensionRequest` for subjectAltName with the DNS name `a.svc`, and for extendedKeyUsage clientAuth.
const ATTRIBUTES: &[u8] = &[
    0x30, 0x36, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e, 0x31, 0x29, 0x30, 0x27,
    0x30, 0x10, 0x06, 0x03, 0x55, 0x1d, 0x11, 0x04, 0x09, 0x30, 0x07, 0x82, 0x05, 0x61, 0x2e, 0x73, 0x76,
    0x63, 0x30, 0x13, 0x06, 0x03, 0x55, 0x1d, 0x25, 0x04, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01,
    0x05, 0x05, 0x07, 0x03, 0x02,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever a caller signs: what is read is a few good names, and what is not is named.
    #[test]
    fn whatever_is_signed_is_read_or_named(at in 0..ATTRIBUTES.len(), octets in proptest::collection::vec(any::<u8>(), 0..3)) {
        let mut attributes = ATTRIBUTES.to_vec();
        attributes.splice(at..(at + octets.len()).min(ATTRIBUTES.len()), octets);
        let (der, key) = signed(&attributes);
        match read(&der, &key) {
            Ok(wishes) => prop_assert!(wishes.names.iter().all(|n| San::parse(&n.to_string()).as_ref() == Ok(n))),
            Err(refusal) => prop_assert!(!refusal.facts.is_empty(), "{refusal:?}"),
        }
    }
}

#[test]
fn attributes_are_read_as_they_stand() {
    let (der, key) = signed(ATTRIBUTES);
    let wishes = read(&der, &key).unwrap();
    assert_eq!(wishes.names, [San::dns("a.svc").unwrap()]);
    assert!(wishes.client && !wishes.server);
}

proptest! {
    #[test]
    fn any_octets_are_read_without_a_panic(der in proptest::collection::vec(any::<u8>(), 0..256)) {
        let (_, key) = key_pair(KeyAlg::Ed25519);
        prop_assert!(read(&der, &key).is_err());
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A signature covers what is asked for, and the rest has one form.
    #[test]
    fn no_changed_request_is_accepted(at: usize, octet: u8) {
        let (der, key) = made(KeyAlg::Ed25519, |p| p.subject_alt_names = vec![dns("a.svc")]);
        let mut changed = der.clone();
        let at = at % der.len();
        changed[at] = octet;
        if changed != der {
            prop_assert!(read(&changed, &key).is_err(), "{at}: {octet}");
        }
    }
}
