//! An authority that issues: its key behind the `Signer` port, in the form in which rcgen signs certificates.
//!
//! Must never hold private octets itself, or sign by another way than the port.

use std::sync::Arc;

use mayfly_domain::{KeyAlg, SignerId, UnixMillis};
use rcgen::{Issuer, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::CertificateDer;

use crate::authority::AuthorityError;
use crate::signer::Signer;

/// What an authority issues to. A verifier's anchors are those of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Workloads.
    Workload,
    /// Brokers, operators and acceptors.
    System,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Workload, Self::System];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::System => "system",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An authority's key, wherever it is kept, as rcgen wants it.
#[derive(Debug, Clone)]
pub struct AuthorityKey(Arc<dyn Signer>);

impl AuthorityKey {
    /// Signs with `signer`.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self(signer)
    }

    /// The signer behind it.
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.0
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.0.alg() {
            KeyAlg::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyAlg::Ed25519 => &rcgen::PKCS_ED25519,
        }
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(match self.0.alg() {
            KeyAlg::P256 => ecdsa_der(&signature),
            KeyAlg::Ed25519 => signature,
        })
    }
}

/// `r || s` as X.509 has it: `SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279 section 2.2.3).
fn ecdsa_der(fixed: &[u8]) -> Vec<u8> {
    let (r, s) = fixed.split_at_checked(fixed.len() / 2).unwrap_or_default();
    let mut body = Vec::with_capacity(72);
    for number in [r, s] {
        let zeros = number.iter().take_while(|b| **b == 0).count();
        let digits = number.get(zeros..).unwrap_or_default();
        // An integer is signed: a first octet with its top bit set, or none at all, takes a zero before it.
        let pad = digits.first().is_none_or(|b| b & 0x80 != 0);
        // 33 octets at most, so that each length is one octet.
        body.extend([2, u8::try_from(digits.len() + usize::from(pad)).unwrap_or(u8::MAX)]);
        if pad {
            body.push(0);
        }
        body.extend_from_slice(digits);
    }
    let mut out = Vec::with_capacity(body.len() + 2);
    out.extend([0x30, u8::try_from(body.len()).unwrap_or(u8::MAX)]);
    out.extend(body);
    out
}

/// An authority that can sign, with the certificates that verifiers want to see.
#[derive(Debug)]
pub struct IssuingAuthority {
    id: SignerId,
    role: Role,
    issuer: Issuer<'static, AuthorityKey>,
    certificate: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    both: Vec<CertificateDer<'static>>,
    expires: UnixMillis,
}

impl IssuingAuthority {
    /// An authority by its key, the root's certificate for it and what was imported for it.
    ///
    /// # Errors
    /// [`AuthorityError`] where the certificate is none.
    pub(crate) fn new(
        role: Role,
        signer: Arc<dyn Signer>,
        own: &CertificateDer<'static>,
        imported: &[CertificateDer<'static>],
        root: &CertificateDer<'static>,
    ) -> Result<Self, AuthorityError> {
        let id = SignerId::from(signer.public_key().thumbprint());
        let presented = imported.first().unwrap_or(own);
        // The anchor that verifiers trust ends with our own certificate: what it issues outlives neither.
        let expires = not_after(presented)?.min(not_after(own)?);
        let issuer = Issuer::from_ca_cert_der(own, AuthorityKey::new(signer))?;
        let certificate = presented.clone();
        let parents = imported.split_last().map_or(&[][..], |(_, below)| below.get(1..).unwrap_or_default());
        let chain: Vec<_> = std::iter::once(presented).chain(parents).cloned().collect();
        let mut both = chain.clone();
        both.extend(imported.last().cloned());
        if !imported.is_empty() {
            both.push(own.clone());
        }
        both.push(root.clone());
        Ok(Self { id, role, issuer, certificate, chain, both, expires })
    }

    /// Its key's id, as leases remember who signed.
    pub fn id(&self) -> SignerId {
        self.id
    }

    /// What it issues to.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What rcgen signs with. A key that can't sign now gives `rcgen::Error::RemoteKeyError`, which becomes
    /// `SIGNER_UNAVAILABLE` by way of [`AuthorityError`].
    pub fn issuer(&self) -> &Issuer<'static, AuthorityKey> {
        &self.issuer
    }

    /// The certificate that its holders present.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a holder sends after its own certificate: the authority's certificate and what stands between that
    /// and a root, never the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What a broker sends after its own certificate: as [`chain`](Self::chain), then every other way up and the
    /// roots. A client that pins a root by its fingerprint knows it only when it sees it, and one that pinned our
    /// root goes on when a company's was put above.
    pub fn every_chain(&self) -> &[CertificateDer<'static>] {
        &self.both
    }

    /// The end of its certificate: nothing that it issues may outlive it.
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }

    /// Whether signing may block for long: the key is in a module.
    pub fn blocks(&self) -> bool {
        self.issuer.key().signer().blocks()
    }
}

/// A certificate's `notAfter`.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Result<UnixMillis, AuthorityError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|e| AuthorityError::Invalid(e.to_string()))?;
    let secs = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
    Ok(UnixMillis::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::MemorySigner;

    #[test]
    fn a_signature_in_der_verifies_as_the_fixed_one_does() {
        let pkcs8 = MemorySigner::generate_pkcs8(KeyAlg::P256).unwrap();
        let signer = Arc::new(MemorySigner::from_pkcs8(KeyAlg::P256, &pkcs8).unwrap());
        let key = AuthorityKey::new(signer.clone());
        let verifier = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            signer.public_key().as_bytes(),
        );
        // Enough of them to meet short and padded integers.
        for n in 0..600_u32 {
            let message = n.to_be_bytes();
            verifier.verify(&message, &SigningKey::sign(&key, &message).unwrap()).unwrap();
        }
        assert_eq!(ecdsa_der(&[0, 0, 0, 1]), [0x30, 6, 2, 1, 0, 2, 1, 1]);
    }
}
