use mayfly_credential::extension;
use mayfly_domain::defaults::SKEW_MS;
use mayfly_domain::{CredentialId, KeyAlg, LeaseId, SignerId, SpiffeId};
use x509_parser::asn1_rs::Oid;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::testing::{NOW, key_pair, ring, x509_record};

fn reason(result: Result<IssuedCertificate, Refusal>) -> Option<Reason> {
    result.err().map(|e| e.reason)
}

#[test]
fn a_certificate_is_what_its_lease_says() {
    let ring = ring();
    let (_, key) = key_pair(KeyAlg::Ed25519);
    let record = x509_record(&ring, &key);
    let pointers =
        Pointers::new(Some("http://crl.acme.internal/w.crl"), Some("http://ocsp.acme.internal")).unwrap();
    let issued = issue(&ring, &record, &key, &pointers, NOW).unwrap();
    assert_eq!(issued.chain().len(), 2);
    assert_eq!(issued.expires(), record.expires);
    let (rest, leaf) = X509Certificate::from_der(&issued.chain()[0]).unwrap();
    assert!(rest.is_empty());
    assert_eq!(CredentialId::from_serial(leaf.raw_serial()).unwrap(), record.credential());
    assert_eq!(leaf.validity().not_after.timestamp(), record.expires.secs() as i64);
    assert_eq!(leaf.validity().not_before.timestamp(), NOW.minus(SKEW_MS).secs() as i64);
    assert_eq!(leaf.public_key().subject_public_key.as_ref(), key.as_bytes());
    // No host name, whatever the identity's last segment is.
    assert_eq!(leaf.subject().to_string(), "CN=/ci/payments/deploy");
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(!names.critical);
    assert_eq!(
        names.value.general_names,
        [
            GeneralName::URI("spiffe://acme.internal/ci/payments/deploy"),
            GeneralName::DNSName("deploy.payments.svc"),
            GeneralName::IPAddress(&[10, 1, 2, 3]),
        ]
    );
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.flags == 1);
    let basic = leaf.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca && basic.value.path_len_constraint.is_none());
    let (_, authority) = X509Certificate::from_der(ring.workload_authority().certificate()).unwrap();
    let mut key_ids = (None, None, None);
    for one in leaf.extensions() {
        match one.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                key_ids.0 = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::SubjectKeyIdentifier(id) => key_ids.1 = Some(id.0.to_vec()),
            ParsedExtension::CRLDistributionPoints(points) => {
                let Some(DistributionPointName::FullName(names)) = &points.points[0].distribution_point
                else {
                    panic!("no name");
                };
                assert_eq!(names[..], [GeneralName::URI("http://crl.acme.internal/w.crl")]);
            }
            ParsedExtension::AuthorityInfoAccess(access) => {
                assert_eq!(access.accessdescs[0].access_method.to_id_string(), "1.3.6.1.5.5.7.48.1");
                assert_eq!(
                    access.accessdescs[0].access_location,
                    GeneralName::URI("http://ocsp.acme.internal/")
                );
            }
            _ => {}
        }
    }
    for one in authority.extensions() {
        if let ParsedExtension::SubjectKeyIdentifier(id) = one.parsed_extension() {
            key_ids.2 = Some(id.0.to_vec());
        }
    }
    assert!(key_ids.1.is_some() && key_ids.0.is_some() && key_ids.0 == key_ids.2, "{key_ids:?}");
    let plain = issue(&ring, &record, &key, &Pointers::default(), NOW).unwrap();
    let (_, plain) = X509Certificate::from_der(&plain.chain()[0]).unwrap();
    assert_eq!(leaf.extensions().len(), plain.extensions().len() + 2);
    let ours = Oid::from(&extension::OID).unwrap();
    let own = plain.extensions().iter().filter(|e| e.oid == ours).collect::<Vec<_>>();
    assert!(own.len() == 1 && !own[0].critical);
    assert_eq!(extension::decode(own[0].value).unwrap(), record.observation);
}

#[test]
fn usages_are_the_leases() {
    let ring = ring();
    let (_, key) = key_pair(KeyAlg::P256);
    for (client, server) in [(true, false), (false, true), (true, true), (false, false)] {
        let mut record = x509_record(&ring, &key);
        let x509 = record.body.x509.as_mut().unwrap();
        (x509.client, x509.server) = (client, server);
        let issued = issue(&ring, &record, &key, &Pointers::default(), NOW);
        if !(client || server) {
            assert_eq!(reason(issued), Some(Reason::Internal));
            continue;
        }
        let issued = issued.unwrap();
        let (_, leaf) = X509Certificate::from_der(&issued.chain()[0]).unwrap();
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((usage.client_auth, usage.server_auth, usage.any), (client, server, false));
    }
}

#[test]
fn nothing_is_issued_beside_the_lease() {
    let ring = ring();
    let (_, key) = key_pair(KeyAlg::P256);
    let (_, other) = key_pair(KeyAlg::P256);
    let none = Pointers::default();
    let good = x509_record(&ring, &key);
    assert_eq!(reason(issue(&ring, &good, &key, &none, NOW)), None);
    assert_eq!(reason(issue(&ring, &good, &other, &none, NOW)), Some(Reason::CsrKey));
    let with = |change: &dyn Fn(&mut LeaseRecord)| {
        let mut record = good.clone();
        change(&mut record);
        reason(issue(&ring, &record, &key, &none, NOW))
    };
    for id in [
        "spiffe://acme.internal/mayfly/operator/alice",
        "spiffe://acme.internal/mayfly/broker/b-1",
        "spiffe://acme.internal/mayfly",
        "spiffe://evil.internal/ci/payments/deploy",
    ] {
        let refused = with(&|r| r.body.workload = SpiffeId::parse(id).unwrap());
        assert_eq!(refused, Some(Reason::Internal), "{id}");
    }
    for kind in
        [CredentialKind::Token, CredentialKind::Operator, CredentialKind::Acceptor, CredentialKind::Account]
    {
        assert_eq!(with(&|r| r.body.kind = kind), Some(Reason::Internal), "{kind:?}");
    }
    assert_eq!(with(&|r| r.body.x509 = None), Some(Reason::Internal));
    assert_eq!(with(&|r| r.expires = NOW.floor_secs()), Some(Reason::LeaseExpired));
    for first in [0, 0x80] {
        let refused = with(&|r| {
            let mut id = *r.id.as_bytes();
            id[0] = first;
            r.id = LeaseId::from_bytes(id);
        });
        assert_eq!(refused, Some(Reason::Internal), "{first}");
    }
    assert_eq!(with(&|r| r.signer = SignerId::from_bytes([1; 16])), Some(Reason::RaceLost));
}

#[test]
fn nothing_outlives_its_authority() {
    let ring = ring();
    let (_, key) = key_pair(KeyAlg::P256);
    let end = ring.workload_authority().expires();
    let mut record = x509_record(&ring, &key);
    record.expires = end.plus(60_000);
    let before = end.minus(10_000);
    let issued = issue(&ring, &record, &key, &Pointers::default(), before).unwrap();
    assert_eq!(issued.expires(), end);
    let (_, leaf) = X509Certificate::from_der(&issued.chain()[0]).unwrap();
    assert_eq!(leaf.validity().not_after.timestamp(), end.secs() as i64);
    let late = issue(&ring, &record, &key, &Pointers::default(), end);
    assert_eq!(reason(late), Some(Reason::SignerUnavailable));
}

#[test]
fn pointers_are_plain_http() {
    for bad in ["https://a.b/", "ldap://a", "a.b", "", "http://ä.b/", "file:///x"] {
        assert!(Pointers::new(Some(bad), None).is_err(), "{bad}");
        assert!(Pointers::new(None, Some(bad)).is_err(), "{bad}");
    }
    let long = format!("http://a/{}", "x".repeat(super::super::URL_OCTETS_MAX));
    assert!(Pointers::new(Some(&long), None).is_err());
}
