//! Certificates for servers that tests start: a fresh authority and one leaf for the loopback address.
//! Mayfly's own certificates are never made here.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A server's certificate, its key and the authority that signed it, all PEM.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The authority's certificate.
    pub ca_pem: String,
    /// The leaf, for `127.0.0.1` and `localhost`.
    pub cert_pem: String,
    /// The leaf's PKCS#8 key.
    pub key_pem: String,
}

impl ServerTls {
    /// Makes a new authority and a leaf below it.
    pub fn loopback() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
        ca.distinguished_name.push(DnType::CommonName, "test authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let cert_pem = leaf.signed_by(&key, &issuer).unwrap().pem();
        Self { ca_pem, cert_pem, key_pem: key.serialize_pem() }
    }
}
