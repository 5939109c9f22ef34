use std::time::Duration;

use mayfly_credential::spki::public_key;
use mayfly_domain::{CredentialId, CredentialKind, KeyAlg, PublicKey, Reason, Ttl};
use mayfly_lease::LeaseRecord;
use rustls_pki_types::{PrivateKeyDer, UnixTime, pem::PemObject as _};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::*;
use crate::custody::Custody;
use crate::keyring::KeyRing;
use crate::signer::{MemorySigner, Signer as _};
use crate::testing::{NOW, key_pair, key_set, record, ring};

mod foreign;
mod verify;

fn spki(alg: KeyAlg) -> (Vec<u8>, PublicKey) {
    let (pair, key) = key_pair(alg);
    (pair.subject_public_key_info(), key)
}

fn staff(ring: &KeyRing, kind: CredentialKind, name: &str, alg: KeyAlg) -> (IssuedCertificate, LeaseRecord) {
    let (spki, key) = spki(alg);
    let mut record = record();
    record.body.kind = kind;
    record.body.workload = SpiffeId::parse(&format!("spiffe://acme.internal/mayfly/{name}")).unwrap();
    record.body.key = key.thumbprint();
    (staff::issue(ring, &record, &spki, NOW).unwrap(), record)
}

fn verified(
    anchor: &CertificateDer<'_>,
    chain: &[CertificateDer<'_>],
    usage: KeyUsage,
    at: UnixMillis,
) -> Result<(), webpki::Error> {
    let leaf = EndEntityCert::try_from(&chain[0])?;
    let anchors = [anchor_from_trusted_cert(anchor)?];
    let at = UnixTime::since_unix_epoch(Duration::from_millis(at.0));
    let algs = [webpki::ring::ECDSA_P256_SHA256];
    leaf.verify_for_usage(&algs, &anchors, &chain[1..], at, usage, None, None).map(|_| ())
}

#[test]
fn staff_certificates_are_for_clients_only_and_end_with_the_lease() {
    let ring = ring();
    for (kind, name) in
        [(CredentialKind::Operator, "operator/alice"), (CredentialKind::Acceptor, "acceptor/deploy-api")]
    {
        for alg in [KeyAlg::P256, KeyAlg::Ed25519] {
            let (issued, record) = staff(&ring, kind, name, alg);
            // The system authority itself is the only anchor of the operators' verifier.
            for anchor in [ring.root(), ring.system_authority().certificate()] {
                verified(anchor, issued.chain(), KeyUsage::client_auth(), NOW).unwrap();
                verified(anchor, issued.chain(), KeyUsage::server_auth(), NOW).unwrap_err();
            }
            verified(ring.workload_authority().certificate(), issued.chain(), KeyUsage::client_auth(), NOW)
                .unwrap_err();
            let before = NOW.minus(SKEW_MS + 2_000);
            verified(ring.root(), issued.chain(), KeyUsage::client_auth(), before).unwrap_err();
            let after = record.expires.plus(1_000);
            verified(ring.root(), issued.chain(), KeyUsage::client_auth(), after).unwrap_err();

            let (_, leaf) = X509Certificate::from_der(&issued.chain()[0]).unwrap();
            let id = CredentialId::from_serial(leaf.raw_serial()).unwrap();
            assert_eq!(id, record.credential());
            let names = leaf.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names, [GeneralName::URI(record.body.workload.as_str())]);
            assert_eq!(leaf.validity().not_after.timestamp(), record.expires.secs() as i64);
            assert!(!leaf.is_ca());
        }
    }
}

#[test]
fn a_lease_of_another_kind_name_or_key_gives_no_certificate() {
    let ring = ring();
    let (good_spki, key) = spki(KeyAlg::P256);
    let with = |kind, id: &str, key: &PublicKey| {
        let mut record = record();
        record.body.kind = kind;
        record.body.workload = SpiffeId::parse(id).unwrap();
        record.body.key = key.thumbprint();
        staff::issue(&ring, &record, &good_spki, NOW).map(|_| ()).map_err(|r| r.reason)
    };
    let operator = "spiffe://acme.internal/mayfly/operator/alice";
    assert_eq!(with(CredentialKind::Operator, operator, &key), Ok(()));
    let (_, other) = spki(KeyAlg::P256);
    assert_eq!(with(CredentialKind::Operator, operator, &other), Err(Reason::Internal));
    for (kind, id) in [
        (CredentialKind::Token, operator),
        (CredentialKind::Account, operator),
        (CredentialKind::Acceptor, operator),
        (CredentialKind::Operator, "spiffe://acme.internal/mayfly/acceptor/alice"),
        (CredentialKind::Operator, "spiffe://acme.internal/mayfly/broker/alice"),
        (CredentialKind::Operator, "spiffe://acme.internal/mayfly/operator/a/b"),
        (CredentialKind::Operator, "spiffe://evil.internal/mayfly/operator/alice"),
        (CredentialKind::Operator, "spiffe://acme.internal/ci/payments"),
    ] {
        assert_eq!(with(kind, id, &key), Err(Reason::Internal), "{kind:?} {id}");
    }
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    for bad in [vec![], vec![0; 91], vec![0x30; 600], p384.subject_public_key_info()] {
        assert_eq!(public_key(&bad).unwrap_err().reason, Reason::InputInvalid);
    }
    let trailing: Vec<u8> = good_spki.iter().copied().chain([0]).collect();
    assert_eq!(public_key(&trailing).unwrap_err().reason, Reason::InputInvalid);
}

#[test]
fn a_broker_serves_under_its_names() {
    let ring = ring();
    let names = [
        ServerName::parse("Mayfly.acme.internal"),
        ServerName::parse("[::1]"),
        ServerName::parse("127.0.0.1"),
    ];
    let broker = broker_identity(&ring, "b-1", &names, Ttl::constant(3_600), NOW).unwrap();
    assert_eq!(broker.id.as_str(), "spiffe://acme.internal/mayfly/broker/b-1");
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        verified(ring.root(), &broker.chain, usage, NOW).unwrap();
    }
    let leaf = EndEntityCert::try_from(&broker.chain[0]).unwrap();
    for name in ["mayfly.acme.internal", "::1", "127.0.0.1"] {
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        leaf.verify_is_valid_for_subject_name(&name).unwrap();
    }
    let other = rustls_pki_types::ServerName::try_from("other.acme.internal").unwrap();
    leaf.verify_is_valid_for_subject_name(&other).unwrap_err();
    let private = match &broker.key {
        PrivateKeyDer::Pkcs8(key) => mayfly_domain::SecretBytes::new(key.secret_pkcs8_der().to_vec()),
        _ => panic!("not PKCS #8"),
    };
    let signer = MemorySigner::from_pkcs8(KeyAlg::P256, &private).unwrap();
    let (_, parsed) = X509Certificate::from_der(&broker.chain[0]).unwrap();
    assert_eq!(parsed.public_key().subject_public_key.as_ref(), signer.public_key().as_bytes());
    assert!(format!("{broker:?}").contains("elided"));
    for bad in ["a/b", "", "..", "a b"] {
        assert!(broker_identity(&ring, bad, &[], Ttl::constant(60), NOW).is_err(), "{bad}");
    }
}

#[test]
fn the_authorities_are_in_their_final_form() {
    let set = key_set();
    let ring = KeyRing::new(&set, &Custody::sealed()).unwrap();
    for (der, path_len) in [
        (ring.root(), 1),
        (ring.workload_authority().certificate(), 0),
        (ring.system_authority().certificate(), 0),
    ] {
        let (_, ca) = X509Certificate::from_der(der).unwrap();
        let basic = ca.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca);
        assert_eq!(basic.value.path_len_constraint, Some(path_len));
        let usage = ca.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        assert!(ca.name_constraints().unwrap().is_none());
        let names = ca.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::URI("spiffe://acme.internal")]);
        let eku = ca.extended_key_usage().unwrap();
        assert_eq!(eku.is_none(), path_len == 1);
        if let Some(eku) = eku {
            assert!(eku.value.client_auth && eku.value.server_auth && !eku.value.any);
        }
    }
    let parsed = CertificateDer::from_pem_slice(ring.ca_pem()).unwrap();
    assert_eq!(&parsed, ring.root());
    // Two trust domains of one name share nothing.
    let other = crate::testing::ring();
    let (issued, _) = staff(&other, CredentialKind::Operator, "operator/alice", KeyAlg::P256);
    verified(ring.root(), issued.chain(), KeyUsage::client_auth(), NOW).unwrap_err();
}
