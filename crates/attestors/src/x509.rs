//! Certificates of foreign authorities as evidence, each with a proof of its key (RFC 5280; schemes of RFC 8446
//! section 4.2.3).
//!
//! Order: size, form, dates, chain, proof. The chain leads to one of the authorities that trust rules name and to
//! nothing else. The certificate is known by what its authority signed, never by the signature, which has
//! other forms that verify too. Nothing of a certificate is put into a refusal but its issuer's name.

mod authority;
mod claims;
mod name;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use mayfly_attest::{Attestor, Authority, Challenge, Evidence, Judged, Verified, X509Proof};
use mayfly_domain::text::shown;
use mayfly_domain::{Reason, Refusal, TrustDomain, UnixMillis, defaults};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, ring};

pub use authority::{UnfitAuthority, read_authority};
use claims::Leaf;

/// The kind of attestation.
pub const KIND: &str = "x509";

/// The most certificates of one chain, the leaf included.
pub const CHAIN_MAX: usize = 4;
/// The most octets of a chain and its proof.
pub const OCTETS_MAX: usize = 16 * 1024;

/// What the signatures of a chain may be made with.
const CHAIN_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
    ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// What a proof's scheme is verified with: the one algorithm that it names.
fn proof_algorithm(scheme: u16) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    Some(match scheme {
        0x0401 => ring::RSA_PKCS1_2048_8192_SHA256,
        0x0501 => ring::RSA_PKCS1_2048_8192_SHA384,
        0x0601 => ring::RSA_PKCS1_2048_8192_SHA512,
        0x0403 => ring::ECDSA_P256_SHA256,
        0x0503 => ring::ECDSA_P384_SHA384,
        0x0804 => ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        0x0805 => ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        0x0806 => ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        0x0807 => ring::ED25519,
        _ => return None,
    })
}

/// The authorities, and beside each, in the same order, the form in which chains are built to it.
#[derive(Debug, Default)]
struct Trusted {
    authorities: Vec<Authority>,
    anchors: Vec<TrustAnchor<'static>>,
}

/// Verifies certificates of the authorities that trust rules name.
#[derive(Debug, Default)]
pub struct X509Attestor {
    trusted: ArcSwap<Trusted>,
}

impl X509Attestor {
    /// Replaces the authorities by those that the rules name. Before the first time there is none.
    pub fn set_authorities(&self, authorities: Vec<Authority>) {
        self.trusted.store(Arc::new(Trusted::of(authorities)));
    }

    fn judge(
        &self,
        proof: &X509Proof,
        challenge: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Verified, Refusal> {
        let octets: usize = proof.chain.iter().map(Vec::len).sum();
        if octets.saturating_add(proof.signature.len()) > OCTETS_MAX {
            return Err(too_large(format!("{} KiB", OCTETS_MAX / 1024)));
        }
        let verified = self.trusted.load().chained(&proof.chain, challenge.trust_domain, now)?;
        prove(proof, challenge)?;
        Ok(verified)
    }
}

fn too_large(limit: String) -> Refusal {
    Refusal::new(Reason::TooLarge, "the certificate chain").fact("limit", limit)
}

impl Trusted {
    fn of(authorities: Vec<Authority>) -> Self {
        let mut trusted = Self::default();
        for authority in authorities {
            match authority::anchor(&authority.certificate) {
                Ok(anchor) => {
                    trusted.authorities.push(authority);
                    trusted.anchors.push(anchor);
                }
                Err(e) => tracing::error!(authority = authority.name, error = %e, "authority left out"),
            }
        }
        trusted
    }

    /// What the leaf of a chain says, where the chain holds now.
    fn chained(
        &self,
        chain: &[Vec<u8>],
        trust_domain: &TrustDomain,
        now: UnixMillis,
    ) -> Result<Verified, Refusal> {
        if chain.len() > CHAIN_MAX {
            return Err(too_large(format!("{CHAIN_MAX} certificates")));
        }
        let Some((der, between)) = chain.split_first() else {
            return Err(Refusal::new(Reason::EvidenceMalformed, "no certificate"));
        };
        if self.anchors.is_empty() {
            return Err(Refusal::new(Reason::IssuerUnknown, "no trust rule names an authority"));
        }
        let leaf = Leaf::parse(der)?;
        leaf.dates(now)?;
        leaf.fit(trust_domain)?;
        let authority = self.authority(der, between, leaf.within(now)).map_err(|e| unchained(&e, &leaf))?;
        if now >= authority.expires.plus(defaults::SKEW_MS) {
            // Path validation looks at no date of an anchor; the file that the rule names still has an end.
            let detail = format!("the certificate of the authority `{}` has expired", authority.name);
            return Err(Refusal::new(Reason::EvidenceChain, detail));
        }
        leaf.verified(authority.name.clone())
    }

    fn authority(&self, der: &[u8], between: &[Vec<u8>], at: UnixTime) -> Result<&Authority, webpki::Error> {
        let certificate = CertificateDer::from(der);
        let between: Vec<CertificateDer<'_>> =
            between.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let entity = EndEntityCert::try_from(&certificate)?;
        let usage = KeyUsage::client_auth();
        let path =
            entity.verify_for_usage(CHAIN_ALGORITHMS, &self.anchors, &between, at, usage, None, None)?;
        let place = self.anchors.iter().position(|anchor| anchor == path.anchor());
        place.and_then(|n| self.authorities.get(n)).ok_or(webpki::Error::UnknownIssuer)
    }
}

/// Verifies that the leaf's key signed for this call.
fn prove(proof: &X509Proof, challenge: &Challenge<'_>) -> Result<(), Refusal> {
    let no = |detail: String| Refusal::new(Reason::EvidenceProof, detail);
    let leaf = proof.chain.first().map(Vec::as_slice).unwrap_or_default();
    let certificate = CertificateDer::from(leaf);
    let entity = EndEntityCert::try_from(&certificate).map_err(|e| no(e.to_string()))?;
    let algorithm = proof_algorithm(proof.scheme)
        .ok_or_else(|| no(format!("the scheme {:#06x} is not one that is known", proof.scheme)))?;
    entity.verify_signature(algorithm, &challenge.x509_input(leaf), &proof.signature).map_err(|e| match e {
        webpki::Error::InvalidSignatureForPublicKey => {
            no("another key, call or certificate was signed".into())
        }
        other => no(format!("the scheme {:#06x} does not fit the key: {other}", proof.scheme)),
    })
}

/// Why a chain does not hold; the issuer's name is the caller's own word.
fn unchained(error: &webpki::Error, leaf: &Leaf<'_>) -> Refusal {
    use webpki::Error;
    let reason = match error {
        Error::CertExpired { .. } => Reason::EvidenceExpired,
        Error::CertNotValidYet { .. } => Reason::EvidenceNotYetValid,
        Error::BadDer
        | Error::BadDerTime
        | Error::TrailingData(_)
        | Error::MalformedExtensions
        | Error::InvalidSerialNumber
        | Error::InvalidCertValidity
        | Error::UnsupportedCertVersion => Reason::EvidenceMalformed,
        _ => Reason::EvidenceChain,
    };
    let issuer = shown(&leaf.issuer());
    Refusal::new(reason, format!("{error:?}; issuer `{issuer}`")).fact("issuer", issuer)
}

fn unix_time(at: UnixMillis) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(at.secs()))
}

#[async_trait]
impl Attestor for X509Attestor {
    async fn verify(
        &self,
        evidence: &Evidence,
        challenge: &Challenge<'_>,
        now: UnixMillis,
    ) -> Result<Judged, Refusal> {
        match evidence {
            Evidence::X509(proof) => self.judge(proof, challenge, now).map(Judged::Foreign),
            Evidence::Oidc(_) | Evidence::Join(_) | Evidence::Mtls(_) => {
                Err(Refusal::new(Reason::EvidenceMalformed, "not a certificate with its proof"))
            }
        }
    }
}

/// What must not be mistaken for attestation.
pub mod danger {
    use mayfly_attest::{Authority, Claims, Verified};
    use mayfly_domain::{Refusal, TrustDomain, UnixMillis};

    use super::Trusted;
    use super::claims::Leaf;

    /// Judges a chain, the leaf first, whose key nobody proved: to explain to an operator which rules would match.
    ///
    /// # Errors
    /// Those of the attestor, but for the proof's.
    pub fn unproven(
        authorities: Vec<Authority>,
        chain: &[Vec<u8>],
        trust_domain: &TrustDomain,
        now: UnixMillis,
    ) -> Result<Verified, Refusal> {
        Trusted::of(authorities).chained(chain, trust_domain, now)
    }

    /// Reads a certificate as if somebody vouched for it.
    ///
    /// # Errors
    /// `EVIDENCE_MALFORMED`.
    pub fn unverified(der: &[u8]) -> Result<Claims, Refusal> {
        Ok(Leaf::parse(der)?.verified(String::new())?.claims)
    }
}

#[cfg(test)]
mod tests;
