//! A certificate with its key and lease: an X.509-SVID, as services and files take it.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::{LeaseId, Reason, Secret, SpiffeId, UnixMillis};
use mayfly_proto::v1 as pb;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;

use crate::bundle::Bundle;
use crate::failure::Failure;
use crate::keys::WorkloadKey;
use crate::pem;
use crate::workload::handle;

/// The most certificates that an answer may hold.
const CHAIN_MAX: usize = 8;

/// A certificate, its key, and what the broker said of them. `Debug` shows no key and no handle.
pub struct Svid {
    /// Who it is.
    pub id: SpiffeId,
    /// Its lease.
    pub lease: LeaseId,
    /// The leaf, then what is above it, the root left out.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: Arc<WorkloadKey>,
    /// What verifies its peers, as it was when it was made.
    pub bundle: Arc<Bundle>,
    /// When it came, by this machine's clock.
    pub issued: UnixMillis,
    /// When it ends, whatever happens.
    pub expires: UnixMillis,
    /// Until when its lease may be renewed.
    pub renewable_until: UnixMillis,
    /// How long before its end the profile wants it renewed at the latest; zero: no wish.
    pub outage_budget: Duration,
    /// DNS names and addresses beside the SPIFFE ID.
    pub names: Vec<String>,
    /// The task that it belongs to.
    pub task: Option<pb::Task>,
    /// The handle that completes the task, where one was asked for.
    pub handle: Option<Secret<String>>,
    /// The request's id.
    pub request: String,
    /// What the broker warns of.
    pub warnings: Vec<String>,
    certified: Arc<CertifiedKey>,
}

impl Svid {
    /// Takes an answer whose certificate was made for `key`.
    ///
    /// # Errors
    /// `KIND_MISMATCH` where it is no certificate; `INTERNAL` where it is not for this key, or incomplete.
    pub(crate) fn new(
        answer: pb::MintResponse,
        key: Arc<WorkloadKey>,
        now: UnixMillis,
    ) -> Result<Self, Failure> {
        if answer.certificates.is_empty() {
            let kind = Failure::of(Reason::KindMismatch).fact("kind", &answer.kind);
            return Err(kind.fact("lease", &answer.lease));
        }
        let no = |why: &str| Failure::of(Reason::Internal).fact("problem", why);
        if answer.certificates.len() > CHAIN_MAX {
            return Err(no("the answer holds more certificates than can be right"));
        }
        let chain: Vec<_> = answer.certificates.into_iter().map(CertificateDer::from).collect();
        let certified = CertifiedKey::new(chain.clone(), key.signing_key()?);
        certified.keys_match().map_err(|_| no("the certificate is not for the key that asked"))?;
        let bundle = answer.bundle.ok_or_else(|| no("no trust bundle came with the certificate"))?;
        Ok(Self {
            id: SpiffeId::parse(&answer.workload)?,
            lease: LeaseId::parse(&answer.lease)?,
            chain,
            key,
            bundle: Arc::new(bundle.try_into()?),
            issued: now,
            expires: UnixMillis(answer.expires_ms),
            renewable_until: UnixMillis(answer.renewable_until_ms),
            outage_budget: Duration::from_secs(answer.outage_budget_s.into()),
            names: answer.names,
            task: answer.task,
            handle: handle(answer.completion_handle),
            request: answer.request,
            warnings: answer.warnings,
            certified: Arc::new(certified),
        })
    }

    /// `tls.crt`: the leaf and what is above it, PEM.
    pub fn chain_pem(&self) -> String {
        pem::certificates(self.chain.iter().map(AsRef::as_ref))
    }

    /// `tls.key`: the private key, PKCS#8 as PEM.
    pub fn key_pem(&self) -> Secret<String> {
        self.key.pem()
    }

    /// `ca.crt`: the anchors that verify peers, PEM.
    pub fn bundle_pem(&self) -> String {
        self.bundle.anchors_pem()
    }

    /// How long the certificate is good from its first moment to its last, in milliseconds.
    pub(crate) fn life(&self) -> Option<u64> {
        let (_, leaf) = x509_parser::parse_x509_certificate(self.chain.first()?).ok()?;
        let validity = leaf.validity();
        let seconds = validity.not_after.timestamp().checked_sub(validity.not_before.timestamp())?;
        u64::try_from(seconds).ok().map(|s| s.saturating_mul(1_000))
    }

    /// The chain and key as rustls presents them.
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid")
            .field("id", &self.id)
            .field("lease", &self.lease)
            .field("key", &self.key)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
