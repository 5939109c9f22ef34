//! What verifies workloads' certificates: the anchors of the live issuing CAs, and nothing above them.
//!
//! The root certifies operators and brokers too; it must never become an anchor for a workload.

use mayfly_domain::{Reason, TrustDomain};
use mayfly_proto::v1 as pb;
use rustls_pki_types::CertificateDer;

use crate::failure::Failure;
use crate::pem;

/// The most anchors, and the most roots, that a bundle may hold.
const ANCHORS_MAX: usize = 64;

/// The trust bundle of a trust domain, as its broker sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Grows with each change of the keys.
    pub version: u64,
    /// Whose.
    pub trust_domain: TrustDomain,
    /// For each issuing CA of workloads, a self-signed certificate of its key.
    pub workload_anchors: Vec<CertificateDer<'static>>,
    /// The root, or the company's: to show, never to verify a workload by.
    pub roots: Vec<CertificateDer<'static>>,
    /// The JWKS document.
    pub jwks: Vec<u8>,
}

impl Bundle {
    /// The workload anchors, PEM: what a verifier of workloads is given as its CA file.
    pub fn anchors_pem(&self) -> String {
        pem::certificates(self.workload_anchors.iter().map(AsRef::as_ref))
    }
}

impl TryFrom<pb::TrustBundle> for Bundle {
    type Error = Failure;

    fn try_from(sent: pb::TrustBundle) -> Result<Self, Failure> {
        let no = |why: &str| Failure::of(Reason::Internal).fact("problem", why);
        if sent.workload_anchors.len() > ANCHORS_MAX || sent.roots.len() > ANCHORS_MAX {
            return Err(no("the trust bundle holds more certificates than can be right"));
        }
        let anchors: Vec<_> = sent.workload_anchors.into_iter().map(CertificateDer::from).collect();
        if anchors.iter().any(|der| webpki::anchor_from_trusted_cert(der).is_err()) {
            return Err(no("an anchor of the trust bundle is no certificate"));
        }
        Ok(Self {
            version: sent.version,
            trust_domain: TrustDomain::parse(&sent.trust_domain)?,
            workload_anchors: anchors,
            roots: sent.roots.into_iter().map(CertificateDer::from).collect(),
            jwks: sent.jwks,
        })
    }
}
