use super::*;
use crate::fixture::Ca;

const BROKER: &str = "spiffe://acme.internal/mayfly/broker/b1";

fn judge(
    pin: Pin,
    domain: Option<&str>,
    chain: &[&CertificateDer<'static>],
    host: &str,
) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = BrokerVerifier::new(pin, domain.map(|d| TrustDomain::parse(d).unwrap()), provider);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let rest: Vec<_> = chain[1..].iter().map(|c| (*c).clone()).collect();
    verifier.verify_server_cert(chain[0], &rest, &name, &[], UnixTime::now()).map(|_| ())
}

fn other(why: Untrusted) -> Error {
    why.into()
}

#[test]
fn a_broker_below_the_pinned_ca_is_accepted() {
    let ca = Ca::new();
    let (leaf, _) = ca.leaf(&[BROKER]);
    for host in ["127.0.0.1", "broker.example"] {
        judge(Pin::Anchors(vec![ca.root.clone()]), Some("acme.internal"), &[&leaf, &ca.issuing], host)
            .unwrap();
    }
    judge(Pin::Sha256(fingerprint(&ca.issuing)), None, &[&leaf, &ca.issuing], "127.0.0.1").unwrap();
    judge(Pin::Sha256(fingerprint(&ca.root)), None, &[&leaf, &ca.issuing, &ca.root], "127.0.0.1").unwrap();
}

#[test]
fn the_authority_of_workloads_never_makes_a_broker() {
    let ca = Ca::new();
    let leaf = ca.workload_leaf(&[BROKER]);
    let chain = [&leaf, &ca.workloads, &ca.issuing, &ca.root];
    for pin in [
        Pin::Anchors(vec![ca.root.clone()]),
        Pin::Sha256(fingerprint(&ca.root)),
        Pin::Anchors(vec![ca.workloads.clone(), ca.issuing.clone()]),
        Pin::Sha256(fingerprint(&ca.workloads)),
    ] {
        let e = judge(pin, Some("acme.internal"), &chain, "127.0.0.1").unwrap_err();
        assert_eq!(format!("{e:?}"), format!("{:?}", other(Untrusted::NotTheirAuthority)));
    }
    // The same leaf by the other authority is a broker's.
    let (leaf, _) = ca.leaf(&[BROKER]);
    let both = Pin::Anchors(vec![ca.workloads.clone(), ca.issuing.clone()]);
    judge(both, Some("acme.internal"), &[&leaf, &ca.issuing], "127.0.0.1").unwrap();
}

#[test]
fn a_chain_that_does_not_end_at_the_pin_is_refused() {
    let (ca, evil) = (Ca::new(), Ca::new());
    let (leaf, _) = evil.leaf(&[BROKER]);
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    let by_root = Pin::Anchors(vec![ca.root.clone()]);
    assert_eq!(judge(by_root, None, &[&leaf, &evil.issuing, &evil.root], "127.0.0.1"), Err(unknown.clone()));
    let by_digest = || Pin::Sha256(fingerprint(&ca.root));
    let bare = judge(by_digest(), None, &[&leaf, &evil.issuing, &evil.root], "127.0.0.1").unwrap_err();
    assert_eq!(format!("{bare:?}"), format!("{:?}", other(Untrusted::NotPinned)));
    // The pinned certificate beside a chain that it did not issue.
    assert_eq!(judge(by_digest(), None, &[&leaf, &evil.issuing, &ca.root], "127.0.0.1"), Err(unknown));
    // The pin of a leaf pins nothing: anybody could take a leaf for an anchor.
    assert!(judge(Pin::Sha256(fingerprint(&leaf)), None, &[&leaf, &evil.issuing], "127.0.0.1").is_err());
}

#[test]
fn only_a_brokers_certificate_for_this_host_and_trust_domain_will_do() {
    let ca = Ca::new();
    let pin = || Pin::Anchors(vec![ca.root.clone()]);
    for uris in [
        &[][..],
        &["spiffe://acme.internal/ci/payments"],
        &["spiffe://acme.internal/mayfly/operator/alice"],
        &["spiffe://staging.internal/mayfly/broker/b1"],
        &[BROKER, "spiffe://acme.internal/other"],
        &["https://acme.internal/mayfly/broker/b1"],
    ] {
        let (leaf, _) = ca.leaf(uris);
        let e = judge(pin(), Some("acme.internal"), &[&leaf, &ca.issuing], "127.0.0.1").unwrap_err();
        assert_eq!(format!("{e:?}"), format!("{:?}", other(Untrusted::NotABroker)), "{uris:?}");
    }
    let (leaf, _) = ca.leaf(&[BROKER]);
    let e = judge(pin(), None, &[&leaf, &ca.issuing], "elsewhere.example");
    assert_eq!(e, Err(Error::InvalidCertificate(CertificateError::NotValidForName)));
}

#[test]
fn fingerprints_are_read_with_and_without_colons() {
    let plain = "ab".repeat(32);
    let colons = vec!["AB"; 32].join(":");
    assert_eq!(Pin::from_sha256(&plain).unwrap(), Pin::Sha256([0xab; 32]));
    assert_eq!(Pin::from_sha256(&colons).unwrap(), Pin::Sha256([0xab; 32]));
    assert_eq!(Pin::Sha256([0xab; 32]).fingerprints(), [plain]);
    for bad in ["", "ab", &"ab".repeat(33), &"zz".repeat(32), &"a".repeat(63)] {
        assert!(Pin::from_sha256(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_ca_file_must_hold_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    assert_eq!(Pin::from_file(&path).unwrap_err().reason, Reason::ConfigInvalid);
    std::fs::write(&path, "nothing\n").unwrap();
    assert_eq!(Pin::from_file(&path).unwrap_err().reason, Reason::ConfigInvalid);
}
