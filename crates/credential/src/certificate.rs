//! Verification of Mayfly's own certificates, by the authority that issued them and never by the root above it: a
//! workload's certificate is nobody's operator, whatever its name, and no operator's is a workload.
//!
//! Chain, dates, usage, identity and Mayfly's extension; must never be taken for a check of the lease.

use std::time::Duration;

use mayfly_domain::{
    CredentialId, Observation, Reason, Refusal, SignerId, SpiffeId, Thumbprint, TrustDomain, UnixMillis,
};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::extension;
use crate::spki::public_key;

/// The algorithms of authorities' keys.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 2] =
    [webpki::ring::ECDSA_P256_SHA256, webpki::ring::ED25519];

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// A TLS client's.
    Client,
    /// A TLS server's.
    Server,
}

/// A workload's certificate that was verified; its lease was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadCertificate {
    /// Whose.
    pub id: SpiffeId,
    /// Its serial: lease and counter.
    pub credential: CredentialId,
    /// Its key.
    pub key: Thumbprint,
    /// What it carries.
    pub observation: Observation,
    /// The authority that issued it.
    pub signer: SignerId,
    /// Its `notAfter`. A connection may outlive it: calls look at it too.
    pub expires: UnixMillis,
}

/// The certificate of an operator, an acceptor or a broker that was verified; its lease was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemCertificate {
    /// Whose: a path below `/mayfly/`.
    pub id: SpiffeId,
    /// Its serial number, without leading zeros.
    pub serial: Vec<u8>,
    /// Its key.
    pub key: Thumbprint,
    /// The authority that issued it.
    pub signer: SignerId,
    /// Its `notAfter`.
    pub expires: UnixMillis,
}

impl SystemCertificate {
    /// The lease and counter that its serial number stands for; none for a broker's, which has no lease.
    pub fn credential(&self) -> Option<CredentialId> {
        CredentialId::from_serial(&self.serial).ok()
    }
}

/// The certificate of a client that may be either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A workload's.
    Workload(Box<WorkloadCertificate>),
    /// An operator's, an acceptor's or a broker's.
    System(Box<SystemCertificate>),
}

/// An authority that can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("can't be an anchor: {0}")]
pub struct BadAnchor(String);

/// The authorities that are trusted for one role.
#[derive(Debug, Clone, Default)]
struct Trusted {
    anchors: Vec<TrustAnchor<'static>>,
    signers: Vec<SignerId>,
}

impl Trusted {
    fn new(certificates: &[CertificateDer<'static>]) -> Result<Self, BadAnchor> {
        let bad = |e: &dyn std::fmt::Display| BadAnchor(e.to_string());
        let mut all = Self::default();
        for certificate in certificates {
            let anchor = anchor_from_trusted_cert(certificate).map_err(|e| bad(&e))?;
            let (_, read) = X509Certificate::from_der(certificate).map_err(|e| bad(&e))?;
            let key = public_key(read.public_key().raw).map_err(|e| bad(&e))?;
            all.anchors.push(anchor.to_owned());
            all.signers.push(key.thumbprint().into());
        }
        Ok(all)
    }

    /// The authority that issued a certificate, which no other certificate can stand for.
    fn issuer(&self, leaf: &CertificateDer<'_>, usage: Usage, now: UnixMillis) -> Result<SignerId, Error> {
        let leaf = EndEntityCert::try_from(leaf)?;
        let usage = match usage {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        };
        let at = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
        let path = leaf.verify_for_usage(&ALGORITHMS, &self.anchors, &[], at, usage, None, None)?;
        let found = self.anchors.iter().zip(&self.signers).find(|(a, _)| *a == path.anchor());
        found.map(|(_, signer)| *signer).ok_or(Error::UnknownIssuer)
    }
}

/// The authorities of a trust domain, by what they issue.
#[derive(Debug, Clone)]
pub struct Anchors {
    trust_domain: TrustDomain,
    workload: Trusted,
    system: Trusted,
}

impl Anchors {
    /// Trusts the given authorities, each by its own certificate or by its anchor.
    ///
    /// # Errors
    /// [`BadAnchor`] for one that is no certificate, or whose key is neither P-256 nor Ed25519.
    pub fn new(
        trust_domain: &TrustDomain,
        workload: &[CertificateDer<'static>],
        system: &[CertificateDer<'static>],
    ) -> Result<Self, BadAnchor> {
        Ok(Self {
            trust_domain: trust_domain.clone(),
            workload: Trusted::new(workload)?,
            system: Trusted::new(system)?,
        })
    }

    /// Whether what this authority issued to workloads still counts.
    pub fn knows_workload(&self, signer: &SignerId) -> bool {
        self.workload.signers.contains(signer)
    }

    /// Every authority, for a server's hint to its clients.
    pub fn trust_anchors(&self) -> impl Iterator<Item = &TrustAnchor<'static>> {
        self.workload.anchors.iter().chain(&self.system.anchors)
    }

    /// Verifies a workload's certificate, leaf first; what follows it is not looked at.
    ///
    /// # Errors
    /// [`Reason::EvidenceMalformed`], [`Reason::EvidenceExpired`], [`Reason::EvidenceNotYetValid`], else
    /// [`Reason::CertificateNotAllowed`], whose particulars say why.
    pub fn workload_chain(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixMillis,
    ) -> Result<WorkloadCertificate, Refusal> {
        let leaf = first(chain)?;
        let signer = self.workload.issuer(leaf, usage, now).map_err(refused)?;
        self.workload(leaf, usage, signer)
    }

    /// Verifies the certificate of an operator, an acceptor or a broker, leaf first; what follows it is not
    /// looked at.
    ///
    /// # Errors
    /// As [`Anchors::workload_chain`].
    pub fn system_chain(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Usage,
        now: UnixMillis,
    ) -> Result<SystemCertificate, Refusal> {
        let leaf = first(chain)?;
        let signer = self.system.issuer(leaf, usage, now).map_err(refused)?;
        self.system(leaf, usage, signer)
    }

    /// Verifies a client's certificate, leaf first, and says by which authority it is whose.
    ///
    /// # Errors
    /// As [`Anchors::workload_chain`].
    pub fn client_chain(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixMillis,
    ) -> Result<ClientCertificate, Refusal> {
        let leaf = first(chain)?;
        match self.workload.issuer(leaf, Usage::Client, now) {
            Ok(signer) => {
                let read = self.workload(leaf, Usage::Client, signer)?;
                Ok(ClientCertificate::Workload(Box::new(read)))
            }
            Err(Error::UnknownIssuer) => {
                let signer = self.system.issuer(leaf, Usage::Client, now).map_err(refused)?;
                Ok(ClientCertificate::System(Box::new(self.system(leaf, Usage::Client, signer)?)))
            }
            Err(e) => Err(refused(e)),
        }
    }

    fn workload(
        &self,
        leaf: &CertificateDer<'_>,
        usage: Usage,
        signer: SignerId,
    ) -> Result<WorkloadCertificate, Refusal> {
        let read = Read::of(leaf)?;
        let id = self.identity(&read, usage)?;
        if id.is_reserved() {
            return Err(not_allowed("a workload authority issued it for a reserved identity"));
        }
        let credential = CredentialId::from_serial(read.0.raw_serial())
            .map_err(|_| not_allowed("its serial number is no credential's"))?;
        Ok(WorkloadCertificate {
            id,
            credential,
            key: read.key()?,
            observation: read.observation()?,
            signer,
            expires: read.expires()?,
        })
    }

    fn system(
        &self,
        leaf: &CertificateDer<'_>,
        usage: Usage,
        signer: SignerId,
    ) -> Result<SystemCertificate, Refusal> {
        let read = Read::of(leaf)?;
        let id = self.identity(&read, usage)?;
        if !id.is_reserved() {
            return Err(not_allowed("a system authority issued it for a workload's identity"));
        }
        let serial = read.0.raw_serial();
        let zeros = serial.iter().take_while(|b| **b == 0).count();
        let serial = serial.get(zeros..).unwrap_or_default().to_vec();
        Ok(SystemCertificate { id, serial, key: read.key()?, signer, expires: read.expires()? })
    }

    /// The one SPIFFE ID (X509-SVID section 2), of this trust domain, in a certificate that states its usages and
    /// is no authority's (section 5.2).
    fn identity(&self, read: &Read<'_>, usage: Usage) -> Result<SpiffeId, Refusal> {
        let certificate = &read.0;
        // Absent usages would mean every usage.
        let usages = certificate.extended_key_usage().map_err(|_| malformed())?;
        let stated = usages.is_some_and(|stated| match usage {
            Usage::Client => stated.value.client_auth,
            Usage::Server => stated.value.server_auth,
        });
        if !stated || certificate.is_ca() {
            return Err(not_allowed("it is not meant for this end of a connection"));
        }
        let names = certificate.subject_alternative_name().map_err(|_| malformed())?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let id = match (uris.next(), uris.next()) {
            (Some(uri), None) => SpiffeId::parse(uri).ok(),
            _ => None,
        };
        let id = id.ok_or_else(|| not_allowed("it does not have exactly one SPIFFE ID"))?;
        if !id.is_in(&self.trust_domain) {
            return Err(not_allowed("it is of another trust domain"));
        }
        Ok(id)
    }
}

/// The thumbprint of a certificate's key, whoever issued it: what a TLS client has proven in its handshake.
///
/// # Errors
/// [`Reason::EvidenceMalformed`] where it is no certificate, [`Reason::CertificateNotAllowed`] where its key is neither
/// P-256 nor Ed25519.
pub fn key_of(leaf: &CertificateDer<'_>) -> Result<Thumbprint, Refusal> {
    Read::of(leaf)?.key()
}

/// A certificate that was read.
struct Read<'a>(X509Certificate<'a>);

impl<'a> Read<'a> {
    fn of(leaf: &'a CertificateDer<'_>) -> Result<Self, Refusal> {
        match X509Certificate::from_der(leaf) {
            Ok(([], certificate)) => Ok(Self(certificate)),
            _ => Err(malformed()),
        }
    }

    fn key(&self) -> Result<Thumbprint, Refusal> {
        let key = public_key(self.0.public_key().raw);
        Ok(key.map_err(|_| not_allowed("its key is neither P-256 nor Ed25519"))?.thumbprint())
    }

    fn expires(&self) -> Result<UnixMillis, Refusal> {
        let secs = u64::try_from(self.0.validity().not_after.timestamp()).map_err(|_| malformed())?;
        Ok(UnixMillis::from_secs(secs))
    }

    fn observation(&self) -> Result<Observation, Refusal> {
        let mut found = self.0.extensions().iter().filter(|e| extension::is(&e.oid));
        match (found.next(), found.next()) {
            (Some(one), None) => {
                extension::decode(one.value).map_err(|_| not_allowed("Mayfly's extension in it is malformed"))
            }
            _ => Err(not_allowed("Mayfly's extension is not in it once")),
        }
    }
}

fn first<'a, 'c>(chain: &'a [CertificateDer<'c>]) -> Result<&'a CertificateDer<'c>, Refusal> {
    chain.first().ok_or_else(malformed)
}

fn malformed() -> Refusal {
    Refusal::new(Reason::EvidenceMalformed, "the certificate is malformed")
}

fn not_allowed(why: &'static str) -> Refusal {
    Refusal::new(Reason::CertificateNotAllowed, why)
}

fn refused(error: Error) -> Refusal {
    let reason = match error {
        Error::CertExpired { .. } => Reason::EvidenceExpired,
        Error::CertNotValidYet { .. } => Reason::EvidenceNotYetValid,
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => Reason::EvidenceMalformed,
        _ => Reason::CertificateNotAllowed,
    };
    Refusal::new(reason, format!("the certificate's chain: {error}"))
}
