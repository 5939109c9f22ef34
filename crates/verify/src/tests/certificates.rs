//! Workloads' certificates: by the anchors of the issuing authorities, and judged by what they carry.

use mayfly_credential::{Usage, extension};
use mayfly_domain::{CredentialId, Generation, Observation, Reason};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use super::broker::{Session, Site, at, mark, soon};
use super::tokens::{Key, lease, observed};
use super::{GENERATION, WORKLOAD};
use crate::key_of;
use crate::verifier::Verifier;

/// An authority that issues to workloads.
struct Authority {
    anchor: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let anchor = params.self_signed(&key).unwrap().der().to_vec();
        Self { anchor, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, observation: &Observation, usages: &[ExtendedKeyUsagePurpose]) -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(WORKLOAD.try_into().unwrap())];
        params.extended_key_usages = usages.to_vec();
        params.is_ca = IsCa::ExplicitNoCa;
        let id = CredentialId { lease: lease(), counter: 3 };
        params.serial_number = Some(SerialNumber::from_slice(&id.serial()));
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&extension::OID, extension::encode(observation))];
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }
}

async fn ready(authority: &Authority) -> (Site, Verifier, Session) {
    let mut site = Site::new().await;
    let verifier = site.builder().start().unwrap();
    let mut session = site.session().await;
    session.accept().await;
    session.keys(1, &[&Key::new().public], std::slice::from_ref(&authority.anchor)).await;
    session.snapshot(at(7), &[]).await;
    session.pinged(at(7)).await;
    soon(verifier.ready()).await;
    (site, verifier, session)
}

fn why(verifier: &Verifier, leaf: &[u8], usage: Usage) -> Option<Reason> {
    verifier.check_certificate(leaf, usage).err().map(|refusal| refusal.reason)
}

#[tokio::test]
async fn a_certificate_is_judged_by_its_authority_and_what_it_carries() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_site, verifier, mut session) = ready(&authority).await;
    let client = [ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = authority.leaf(&observed(GENERATION), &client);
    for _ in 0..2 {
        let judged = verifier.check_certificate(&leaf, Usage::Client).unwrap();
        assert_eq!((judged.workload.as_str(), judged.credential.counter), (WORKLOAD, 3));
        assert_eq!(judged.key, Some(key_of(&leaf).unwrap()));
        // Known as a client's, and still no server's.
        assert_eq!(why(&verifier, &leaf, Usage::Server), Some(Reason::CertificateNotAllowed));
    }
    let elsewhere = other.leaf(&observed(GENERATION), &client);
    assert_eq!(why(&verifier, &elsewhere, Usage::Client), Some(Reason::CertificateNotAllowed));
    let generation = Generation { number: GENERATION.number + 1, ..GENERATION };
    let later = authority.leaf(&observed(generation), &client);
    assert_eq!(why(&verifier, &later, Usage::Client), Some(Reason::LeaseRevoked));
    assert_eq!(why(&verifier, &leaf[1..], Usage::Client), Some(Reason::EvidenceMalformed));
    assert_eq!(why(&verifier, &[0x30; 20_000], Usage::Client), Some(Reason::CertificateNotAllowed));
    let made = allocation_counter::measure(|| drop(verifier.check_certificate(&leaf, Usage::Client)));
    assert_eq!(made.count_total, 0);

    let guard = verifier.guard(&verifier.check_certificate(&leaf, Usage::Client).unwrap());
    session.events(at(8), &[mark(lease())]).await;
    assert_eq!(soon(guard.ended()).await.reason, Reason::LeaseRevoked);
    session.pinged(at(8)).await;
    assert_eq!(why(&verifier, &leaf, Usage::Client), Some(Reason::LeaseRevoked));
}

#[tokio::test]
async fn a_withdrawn_authority_takes_its_certificates_along() {
    let (old, new) = (Authority::new(), Authority::new());
    let (_site, verifier, mut session) = ready(&old).await;
    let usages = [ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = old.leaf(&observed(GENERATION), &usages);
    assert_eq!((why(&verifier, &leaf, Usage::Client), why(&verifier, &leaf, Usage::Server)), (None, None));
    session.keys(2, &[&Key::new().public], std::slice::from_ref(&new.anchor)).await;
    session.events(at(8), &[mayfly_domain::feed::Change::Keys { version: 2 }]).await;
    session.pinged(at(8)).await;
    for usage in [Usage::Client, Usage::Server] {
        assert_eq!(why(&verifier, &leaf, usage), Some(Reason::CertificateNotAllowed));
    }
    let newer = new.leaf(&observed(GENERATION), &usages);
    assert_eq!(why(&verifier, &newer, Usage::Server), None);
    let bundle = verifier.bundle().borrow().clone().unwrap();
    assert_eq!(bundle.workload_anchors[0].as_ref(), new.anchor);
}
