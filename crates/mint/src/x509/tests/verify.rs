//! What is issued here, read as `credential` reads it.

use mayfly_credential::spki::der;
use mayfly_credential::{Anchors, ClientCertificate, Usage, WorkloadCertificate, extension};
use mayfly_domain::{CredentialKind, KeyAlg, PublicKey, Reason, Refusal, SpiffeId, TrustDomain, Ttl};
use mayfly_lease::LeaseRecord;
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, SerialNumber};
use rustls_pki_types::CertificateDer;

use crate::authority::{set_validity, uri};
use crate::issuing::Role;
use crate::keyring::KeyRing;
use crate::testing::{NOW, domain, key_pair, record, ring, x509_record};
use crate::x509::spki::Subject;
use crate::x509::{Pointers, broker_identity, leaf, observed, sign, staff, workload};

fn workload_chain(ring: &KeyRing, record: &LeaseRecord, key: &PublicKey) -> Vec<CertificateDer<'static>> {
    workload::issue(ring, record, key, &Pointers::default(), NOW).unwrap().chain().to_vec()
}

fn operator_chain(ring: &KeyRing) -> Vec<CertificateDer<'static>> {
    let (_, key) = key_pair(KeyAlg::P256);
    let mut record = record();
    record.body.kind = CredentialKind::Operator;
    record.body.workload = SpiffeId::parse("spiffe://acme.internal/mayfly/operator/alice").unwrap();
    record.body.key = key.thumbprint();
    staff::issue(ring, &record, &der(&key), NOW).unwrap().chain().to_vec()
}

fn why<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (Reason, String) {
    let refusal = result.unwrap_err();
    (refusal.reason, refusal.detail)
}

#[test]
fn a_workloads_certificate_says_who_and_by_which_authority() {
    let ring = ring();
    let anchors = Anchors::clone(ring.verifier());
    for alg in [KeyAlg::P256, KeyAlg::Ed25519] {
        let (_, key) = key_pair(alg);
        let record = x509_record(&ring, &key);
        let chain = workload_chain(&ring, &record, &key);
        let expected = WorkloadCertificate {
            id: record.body.workload.clone(),
            credential: record.credential(),
            key: key.thumbprint(),
            observation: record.observation.clone(),
            signer: ring.workload_signer_id(),
            expires: record.expires,
        };
        for usage in [Usage::Client, Usage::Server] {
            assert_eq!(anchors.workload_chain(&chain, usage, NOW).unwrap(), expected);
            // The authority's certificate need not be sent: it is the anchor.
            assert_eq!(anchors.workload_chain(&chain[..1], usage, NOW).unwrap(), expected);
        }
        assert_eq!(
            anchors.client_chain(&chain, NOW).unwrap(),
            ClientCertificate::Workload(Box::new(expected))
        );
        let late = anchors.workload_chain(&chain, Usage::Client, record.expires.plus(1_000));
        assert_eq!(why(late).0, Reason::EvidenceExpired);
        let early = anchors.workload_chain(&chain, Usage::Client, NOW.minus(60_000));
        assert_eq!(why(early).0, Reason::EvidenceNotYetValid);
    }
    assert_eq!(anchors.trust_anchors().count(), 2);
    assert_eq!(why(anchors.workload_chain(&[], Usage::Client, NOW)).0, Reason::EvidenceMalformed);
    let noise = [CertificateDer::from(vec![0x30, 1, 0])];
    assert_eq!(why(anchors.workload_chain(&noise, Usage::Client, NOW)).0, Reason::EvidenceMalformed);
}

#[test]
fn each_usage_is_asked_for() {
    let ring = ring();
    let anchors = Anchors::clone(ring.verifier());
    let (_, key) = key_pair(KeyAlg::P256);
    for (client, server) in [(true, false), (false, true)] {
        let mut record = x509_record(&ring, &key);
        let x509 = record.body.x509.as_mut().unwrap();
        (x509.client, x509.server) = (client, server);
        let chain = workload_chain(&ring, &record, &key);
        assert_eq!(anchors.workload_chain(&chain, Usage::Client, NOW).is_ok(), client);
        assert_eq!(anchors.workload_chain(&chain, Usage::Server, NOW).is_ok(), server);
    }
}

#[test]
fn the_authority_of_the_kind_is_the_only_anchor() {
    let ring = ring();
    let anchors = Anchors::clone(ring.verifier());
    let (_, key) = key_pair(KeyAlg::P256);
    let workload = workload_chain(&ring, &x509_record(&ring, &key), &key);
    let operator = operator_chain(&ring);
    let names = [crate::ServerName::parse("localhost")];
    let broker = broker_identity(&ring, "b-1", &names, Ttl::constant(3_600), NOW).unwrap().chain;

    let read = anchors.system_chain(&operator, Usage::Client, NOW).unwrap();
    assert_eq!(read.id.path(), "/mayfly/operator/alice");
    assert!(read.credential().is_some());
    assert!(matches!(anchors.client_chain(&operator, NOW).unwrap(), ClientCertificate::System(_)));
    for usage in [Usage::Client, Usage::Server] {
        assert_eq!(anchors.system_chain(&broker, usage, NOW).unwrap().id.path(), "/mayfly/broker/b-1");
    }
    assert_eq!(why(anchors.system_chain(&operator, Usage::Server, NOW)).0, Reason::CertificateNotAllowed);
    for other in [&operator, &broker] {
        let refused = anchors.workload_chain(other, Usage::Client, NOW);
        assert_eq!(why(refused).0, Reason::CertificateNotAllowed);
    }
    // The chain above is there, and the root is the same: it is the wrong authority all the same.
    assert_eq!(why(anchors.system_chain(&workload, Usage::Client, NOW)).0, Reason::CertificateNotAllowed);
    let rooted = Anchors::new(&domain(), &[ring.root().clone()], &[]).unwrap();
    assert!(rooted.workload_chain(&workload, Usage::Client, NOW).is_err());

    // Another deployment of the same name, and another trust domain with the same keys.
    let twin = Anchors::clone(crate::testing::ring().verifier());
    assert!(twin.workload_chain(&workload, Usage::Client, NOW).is_err());
    assert!(twin.client_chain(&operator, NOW).is_err());
    let elsewhere = TrustDomain::parse("staging.acme.internal").unwrap();
    let elsewhere =
        Anchors::new(&elsewhere, ring.anchors(Role::Workload), ring.anchors(Role::System)).unwrap();
    let refused = elsewhere.workload_chain(&workload, Usage::Client, NOW);
    assert_eq!(why(refused), (Reason::CertificateNotAllowed, "it is of another trust domain".into()));
}

type Change<'a> = &'a dyn Fn(&mut CertificateParams);

/// What our own authority would never sign, signed by it.
#[test]
fn a_forged_leaf_of_the_right_authority_is_refused() {
    let ring = ring();
    let anchors = Anchors::clone(ring.verifier());
    let (_, key) = key_pair(KeyAlg::P256);
    let record = x509_record(&ring, &key);
    let forge = |change: &dyn Fn(&mut CertificateParams), at: &dyn Fn(&KeyRing) -> bool| {
        let id = SpiffeId::parse("spiffe://acme.internal/ci/payments/deploy").unwrap();
        let mut params = leaf(&id, "x", vec![ExtendedKeyUsagePurpose::ClientAuth]).unwrap();
        params.serial_number = Some(SerialNumber::from_slice(&record.credential().serial()));
        params.custom_extensions = vec![observed(&record.observation)];
        change(&mut params);
        let system = at(&ring);
        let authority = if system { ring.system_authority() } else { ring.workload_authority() };
        let issued = sign(authority, params, &Subject(&key), NOW, record.expires).unwrap();
        if system {
            anchors.system_chain(issued.chain(), Usage::Client, NOW).map(|_| ()).map_err(|r| r.detail)
        } else {
            anchors.workload_chain(issued.chain(), Usage::Client, NOW).map(|_| ()).map_err(|r| r.detail)
        }
    };
    let workload = |_: &KeyRing| false;
    assert_eq!(forge(&|_| (), &workload), Ok(()));
    let san = |text: &str| uri(text).unwrap();
    let reserved = san("spiffe://acme.internal/mayfly/operator/alice");
    let cases: [(&str, Change<'_>); 11] = [
        ("reserved identity", &|p| p.subject_alt_names = vec![reserved.clone()]),
        ("another trust domain", &|p| p.subject_alt_names = vec![san("spiffe://evil.internal/ci/x")]),
        ("exactly one SPIFFE ID", &|p| p.subject_alt_names.clear()),
        ("exactly one SPIFFE ID", &|p| p.subject_alt_names.push(san("spiffe://acme.internal/ci/y"))),
        ("exactly one SPIFFE ID", &|p| p.subject_alt_names = vec![san("https://acme.internal/ci/x")]),
        ("this end of a connection", &|p| p.extended_key_usages.clear()),
        ("not in it once", &|p| p.custom_extensions.clear()),
        ("not in it once", &|p| {
            let twice = observed(&record.observation);
            p.custom_extensions.push(twice);
        }),
        ("malformed", &|p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(&extension::OID, vec![5, 0])];
        }),
        ("no credential's", &|p| p.serial_number = Some(SerialNumber::from_slice(&[1; 19]))),
        ("CaUsedAsEndEntity", &|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0))),
    ];
    for (expected, change) in cases {
        let refused = forge(change, &workload).unwrap_err();
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    let system = |_: &KeyRing| true;
    assert!(forge(&|_| (), &system).unwrap_err().contains("a workload's identity"));
    assert_eq!(forge(&|p| p.subject_alt_names = vec![reserved.clone()], &system), Ok(()));
}

/// Two authorities of one name, as a rotation leaves them: each leaf is its own issuer's.
#[test]
fn authorities_of_one_name_are_told_apart_by_their_keys() {
    let (old, new) = (ring(), ring());
    let both = [&old, &new].map(|ring| ring.anchors(Role::Workload)[0].clone());
    let anchors = Anchors::new(&domain(), &both, &[]).unwrap();
    let (_, key) = key_pair(KeyAlg::P256);
    let read = |ring: &KeyRing, anchors: &Anchors| {
        let record = x509_record(ring, &key);
        anchors.workload_chain(&workload_chain(ring, &record, &key), Usage::Client, NOW).map(|c| c.signer)
    };
    let (first, second) = (read(&old, &anchors).unwrap(), read(&new, &anchors).unwrap());
    assert_ne!(first, second);
    assert_eq!(read(&old, old.verifier()).unwrap(), first);
    // A withdrawn authority's leaves are nobody's.
    let left = Anchors::new(&domain(), &both[1..], &[]).unwrap();
    assert!(read(&old, &left).is_err());
    assert_eq!(read(&new, &left).unwrap(), second);
}

#[test]
fn an_authority_of_another_algorithm_is_no_anchor() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params = CertificateParams::default();
    set_validity(&mut params, NOW, NOW.plus(1_000));
    let certificate: CertificateDer<'static> = params.self_signed(&pair).unwrap().into();
    assert!(Anchors::new(&domain(), &[certificate], &[]).is_err());
    assert!(Anchors::new(&domain(), &[CertificateDer::from(vec![1])], &[]).is_err());
}
