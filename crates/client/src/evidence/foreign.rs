//! A certificate of another CA as evidence: its own key signs for each call's nonce and key.
//!
//! The certificate's key signs that one input and nothing else, and never leaves its file and this process.

use std::io::Read as _;
use std::path::Path;

use mayfly_domain::envelope::x509_input;
use mayfly_domain::{Reason, Refusal, Thumbprint, TrustDomain};
use mayfly_proto::v1 as pb;
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use super::unreadable;

/// The most certificates that are shown: the leaf and its intermediates.
const CHAIN_MAX: usize = 4;
/// The largest file that is read, in octets.
const FILE_OCTETS_MAX: u64 = 64 * 1024;
/// The schemes that a broker verifies, the wanted one first.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];

/// A chain and the key of its leaf.
#[derive(Debug)]
pub(super) struct Certificate(CertifiedKey);

fn contents(path: &Path) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let file = std::fs::File::open(path).map_err(|e| unreadable(path, e))?;
    let mut pem = Zeroizing::new(Vec::new());
    file.take(FILE_OCTETS_MAX).read_to_end(&mut pem).map_err(|e| unreadable(path, e))?;
    Ok(pem)
}

impl Certificate {
    pub(super) fn read(chain: &Path, key: &Path) -> Result<Self, Refusal> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&contents(chain)?)
            .take(CHAIN_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|e| unreadable(chain, e))?;
        if certificates.is_empty() || certificates.len() > CHAIN_MAX {
            let found = certificates.len();
            return Err(unreadable(chain, format!("holds {found} certificates, not 1 to {CHAIN_MAX}")));
        }
        let der = PrivateKeyDer::from_pem_slice(&contents(key)?).map_err(|e| unreadable(key, e))?;
        let signing = rustls::crypto::ring::sign::any_supported_type(&der)
            .map_err(|_| unreadable(key, "is of a kind that can't sign here"))?;
        let certified = CertifiedKey::new(certificates, signing);
        match certified.keys_match() {
            Ok(()) => Ok(Self(certified)),
            Err(_) => Err(unreadable(key, format!("is not the key of {}", chain.display()))),
        }
    }

    /// Issuer, subject and names, as they stand in the leaf.
    pub(super) fn claims(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut claims = serde_json::Map::new();
        let Some(Ok((_, leaf))) = self.0.cert.first().map(|der| x509_parser::parse_x509_certificate(der))
        else {
            return claims;
        };
        let mut dns = Vec::new();
        let mut uris = Vec::new();
        if let Ok(Some(names)) = leaf.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns.push(serde_json::Value::from(*name)),
                    GeneralName::URI(uri) => uris.push(serde_json::Value::from(*uri)),
                    _ => {}
                }
            }
        }
        claims.insert("iss".to_owned(), leaf.issuer().to_string().into());
        claims.insert("sub".to_owned(), leaf.subject().to_string().into());
        claims.insert("exp".to_owned(), leaf.validity().not_after.timestamp().into());
        for (name, values) in [("dns", dns), ("uri", uris)] {
            if !values.is_empty() {
                claims.insert(name.to_owned(), values.into());
            }
        }
        claims
    }

    /// The proof for one call.
    pub(super) fn proof(
        &self,
        trust_domain: &TrustDomain,
        nonce: &[u8],
        key: &Thumbprint,
    ) -> Result<pb::X509Proof, Refusal> {
        let no = |why: &str| Refusal::from(Reason::NoEvidence).fact("problem", why);
        let leaf = self.0.cert.first().ok_or_else(|| no("the chain is empty"))?;
        let signer = self.0.key.choose_scheme(&SCHEMES).ok_or_else(|| {
            no("the certificate's key signs by none of ES256, ES384, Ed25519 and RSA-PSS with SHA-256")
        })?;
        let signature = signer
            .sign(&x509_input(trust_domain, nonce, key, leaf))
            .map_err(|_| no("the certificate's key does not sign"))?;
        let chain = self.0.cert.iter().map(|der| der.to_vec()).collect();
        Ok(pb::X509Proof { chain, scheme: u16::from(signer.scheme()).into(), signature })
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::WebPkiSupportedAlgorithms;
    use webpki::EndEntityCert;

    use super::*;
    use crate::fixture::Ca;
    use crate::pem;

    #[test]
    fn the_certificates_key_signs_for_one_call() {
        let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
        let (leaf, key) = ca.leaf(&["spiffe://partner.example/vm"]);
        let (chain_file, key_file) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        std::fs::write(&chain_file, pem::certificates([leaf.as_ref(), ca.issuing.as_ref()])).unwrap();
        std::fs::write(&key_file, pem::encode("PRIVATE KEY", key.secret_der())).unwrap();
        let certificate = Certificate::read(&chain_file, &key_file).unwrap();
        assert_eq!(certificate.claims()["uri"][0], "spiffe://partner.example/vm");
        let domain = TrustDomain::parse("acme.internal").unwrap();
        let ours = Thumbprint::from_bytes([7; 32]);
        let proof = certificate.proof(&domain, &[1; 61], &ours).unwrap();
        assert_eq!((proof.chain.len(), proof.scheme), (2, 0x0403));
        let algorithms: WebPkiSupportedAlgorithms =
            rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let scheme = SignatureScheme::from(u16::try_from(proof.scheme).unwrap());
        let (_, known) = algorithms.mapping.iter().find(|(s, _)| *s == scheme).unwrap();
        let verifies = |input: &[u8]| {
            let leaf = EndEntityCert::try_from(&leaf).unwrap();
            known.iter().any(|alg| leaf.verify_signature(*alg, input, &proof.signature).is_ok())
        };
        assert!(verifies(&x509_input(&domain, &[1; 61], &ours, &leaf)));
        assert!(!verifies(&x509_input(&domain, &[2; 61], &ours, &leaf)), "another nonce");
        // Another certificate's key is told before anything is sent.
        let (_, wrong) = ca.leaf(&[]);
        std::fs::write(&key_file, pem::encode("PRIVATE KEY", wrong.secret_der())).unwrap();
        let refused = Certificate::read(&chain_file, &key_file).unwrap_err();
        assert_eq!(refused.reason, Reason::NoEvidence);
        assert!(!format!("{certificate:?} {refused:?}").contains("PRIVATE"));
    }
}
