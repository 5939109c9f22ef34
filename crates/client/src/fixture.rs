//! A made-up deployment, for this crate's tests: certificates, and a broker that is scripted.

pub(crate) mod broker;
pub(crate) mod clock;
pub(crate) mod workloads;

use mayfly_domain::oid;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A root, an issuing CA of brokers below it, and one of workloads.
pub(crate) struct Ca {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) issuing: CertificateDer<'static>,
    pub(crate) workloads: CertificateDer<'static>,
    workload_issuer: CertifiedIssuer<'static, KeyPair>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Ca {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca_params(), KeyPair::generate().unwrap()).unwrap();
        let mut params = ca_params();
        params.distinguished_name.push(rcgen::DnType::CommonName, "issuing");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let workload_issuer = CertifiedIssuer::signed_by(params.clone(), other, &root).unwrap();
        let mark = oid::SYSTEM_AUTHORITY.to_vec();
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::Other(mark));
        let issuer = CertifiedIssuer::signed_by(params, key, &root).unwrap();
        Self {
            root: root.der().clone(),
            issuing: issuer.der().clone(),
            workloads: workload_issuer.der().clone(),
            workload_issuer,
            issuer,
        }
    }

    /// As [`leaf`](Self::leaf), by the CA of workloads.
    pub(crate) fn workload_leaf(&self, uris: &[&str]) -> CertificateDer<'static> {
        sign(uris, &self.workload_issuer).0
    }

    /// A server's leaf for 127.0.0.1 and `broker.example` with these URIs.
    pub(crate) fn leaf(&self, uris: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        sign(uris, &self.issuer)
    }
}

fn sign(
    uris: &[&str],
    issuer: &CertifiedIssuer<'static, KeyPair>,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(["127.0.0.1".into(), "broker.example".into()]).unwrap();
    params.subject_alt_names.extend(uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    (cert.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}
