//! A made-up deployment, for this crate's tests: certificates, and a broker that is scripted.

pub(crate) mod broker;
pub(crate) mod clock;
pub(crate) mod workloads;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A root and an issuing CA below it.
pub(crate) struct Ca {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) issuing: CertificateDer<'static>,
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
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
        Self { root: root.der().clone(), issuing: issuer.der().clone(), issuer }
    }

    /// A server's leaf for 127.0.0.1 and `broker.example` with these URIs.
    pub(crate) fn leaf(&self, uris: &[&str]) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(["127.0.0.1".into(), "broker.example".into()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        (cert.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }
}
