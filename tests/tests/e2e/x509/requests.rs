//! Certificate requests and names that are refused, each with its reason; and those that are granted.

use mayfly_client::WorkloadKey;
use mayfly_proto::rpc;
use mayfly_proto::v1 as pb;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use super::Ground;
use crate::harness::{new_key, oidc, refused};

/// A request for this key, with names and whatever else.
fn csr(key: &WorkloadKey, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let der = PrivateKeyDer::from_pem_slice(key.pem().expose().as_bytes()).unwrap();
    csr_of(&KeyPair::try_from(&der).unwrap(), change)
}

fn csr_of(pair: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(pair).unwrap().der().to_vec()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

impl Ground {
    async fn ask(
        &self,
        change: impl FnOnce(&mut pb::MintRequest),
    ) -> Result<pb::MintResponse, mayfly_client::Failure> {
        let mut request = pb::MintRequest {
            evidence: Some(oidc(&self.job.evidence())),
            profile: "mesh".to_owned(),
            ..Default::default()
        };
        change(&mut request);
        let envelope = self.job.envelope(rpc::MINT, request.encode_to_vec()).await?;
        Ok(self.job.rpc.clone().mint(envelope).await?.into_inner())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_may_not_ask_for_is_refused_by_name() {
    let g = Ground::new().await;
    let key = &g.job.key;
    let stored = g.alice.stored().await;
    let mut broken = csr(key, |_| {});
    *broken.last_mut().unwrap() ^= 1;
    let uri = SanType::URI("spiffe://acme.internal/ci/other".try_into().unwrap());
    let unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
    let weak = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("garbage", vec![0x30, 3, 1, 2, 3], "CSR_MALFORMED"),
        ("too large", vec![0x30; 9_000], "CSR_MALFORMED"),
        ("a broken signature", broken, "CSR_SIGNATURE_INVALID"),
        ("another key", csr(&new_key(&g.site), |_| {}), "CSR_KEY_NOT_ALLOWED"),
        ("another algorithm", csr_of(&weak, |_| {}), "CSR_KEY_NOT_ALLOWED"),
        (
            "a CA",
            csr(key, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "CSR_EXTENSION_NOT_ALLOWED",
        ),
        (
            "an unknown extension",
            csr(key, |p| p.custom_extensions = vec![unknown]),
            "CSR_EXTENSION_NOT_ALLOWED",
        ),
        ("another's SPIFFE ID", csr(key, |p| p.subject_alt_names = vec![uri]), "NAME_NOT_ALLOWED"),
        ("a foreign name", csr(key, |p| p.subject_alt_names = vec![dns("bank.example")]), "NAME_NOT_ALLOWED"),
        ("a wildcard", csr(key, |p| p.subject_alt_names = vec![dns("*.load.svc")]), "NAME_NOT_ALLOWED"),
    ];
    for (what, csr, code) in cases {
        assert_eq!(refused(g.ask(|r| r.csr = csr).await), code, "{what}");
    }
    assert_eq!(refused(g.ask(|r| r.dns_names = vec!["*.load.svc".to_owned()]).await), "NAME_NOT_ALLOWED");
    assert_eq!(refused(g.ask(|r| r.dns_names = vec!["bank.example".to_owned()]).await), "NAME_NOT_ALLOWED");
    assert_eq!(refused(g.ask(|r| r.ip_addresses = vec!["10.0.0.1".to_owned()]).await), "NAME_NOT_ALLOWED");
    let many = vec!["1.load.svc".to_owned(); 40];
    assert_eq!(refused(g.ask(|r| r.dns_names = many).await), "TOO_LARGE");
    let token = |r: &mut pb::MintRequest| {
        r.profile = "load".to_owned();
        r.dns_names = vec!["1.load.svc".to_owned()];
    };
    assert_eq!(refused(g.ask(token).await), "KIND_MISMATCH");
    assert_eq!(g.alice.stored().await, stored, "nothing was stored");
    g.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_gets_the_names_that_it_asks_for_and_keeps_them() {
    let g = Ground::new().await;
    let wanted = csr(&g.job.key, |p| p.subject_alt_names = vec![dns("1.load.svc")]);
    let answer = g.ask(|r| r.csr = wanted.clone()).await.unwrap();
    assert_eq!(answer.names, ["1.load.svc"]);
    let service = crate::harness::Service::connect(&g.site, &g.node, &answer, &g.job.key).await;
    let renewed = service.renew(&g.job.key).await.unwrap();
    assert_eq!(renewed.names, ["1.load.svc"], "a renewal keeps its names");
    let more = csr(&g.job.key, |p| p.subject_alt_names = vec![dns("1.load.svc.cluster.local")]);
    let request = pb::RenewRequest {
        evidence: Some(oidc(&g.job.evidence())),
        lease: answer.lease.clone(),
        csr: more,
        ..Default::default()
    };
    let envelope = g.job.envelope(rpc::RENEW, request.encode_to_vec()).await.unwrap();
    let refusal = g.job.rpc.clone().renew(envelope).await.unwrap_err();
    assert_eq!(mayfly_client::Failure::from(refusal).code, "NAME_NOT_ALLOWED");
    let request = pb::RenewRequest { csr: wanted, ..request };
    let envelope = g.job.envelope(rpc::RENEW, request.encode_to_vec()).await.unwrap();
    g.job.rpc.clone().renew(envelope).await.unwrap();
    g.node.stop().await;
}
