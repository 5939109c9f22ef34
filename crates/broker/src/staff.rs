//! Operators and acceptors: who they are by their certificates, and how they get them.

use std::sync::Arc;

use mayfly_audit::{Kind, Record};
use mayfly_credential::spki;
use mayfly_domain::{
    AcceptorName, Audience, CredentialId, CredentialKind, LeaseId, OperatorName, Owner, Owners, Reason,
    Refusal, SignerId, SpiffeId, Thumbprint, Ttl, UnixMillis, defaults,
};
use mayfly_lease::{CheckCommand, LeaseRecord, Reserved};
use mayfly_mint::{KeyRing, Role, x509};
use mayfly_policy::{Authorized, Operate, OperatorAction, OperatorPrincipal, Staff, StaffEntry, Target};

use crate::broker::Broker;
use crate::call::{Call, random};
use crate::credential::made;

/// An acceptor as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptorEntry {
    /// Who answers for it.
    pub owner: Owner,
    /// Whose tokens it may check.
    pub audiences: Vec<Audience>,
    /// Whether it may check workloads' certificates, which have no audience: it learns whose they are and nothing that
    /// their holders have not shown it.
    pub certificates: bool,
    /// How long it may reuse an answer for the same question, in ms.
    pub reuse_ms: u32,
}

/// A client certificate that the transport has verified by the authority that issued it.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// What its authority issues to: a workload's certificate is nobody's operator, whatever its name.
    pub role: Role,
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// Its serial: lease and counter.
    pub credential: CredentialId,
    /// Its key.
    pub key: Thumbprint,
    /// The authority that issued it.
    pub signer: SignerId,
}

/// An operator whose certificate's lease is live.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Its name.
    pub name: OperatorName,
    key: Thumbprint,
}

/// An acceptor whose certificate's lease is live.
#[derive(Debug, Clone)]
pub struct Acceptor {
    /// Its name.
    pub name: AcceptorName,
    /// What signed its certificate.
    pub(crate) signer: SignerId,
}

/// Whose certificate is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaffKind {
    /// An operator's.
    Operator(OperatorName),
    /// An acceptor's.
    Acceptor(AcceptorName),
}

/// A request for a certificate, by somebody who can open the seal.
#[derive(Debug, Clone)]
pub struct StaffRequest {
    /// Whose.
    pub kind: StaffKind,
    /// The public key, as `SubjectPublicKeyInfo` in DER.
    pub spki: Vec<u8>,
    /// The life; none: the default of the kind.
    pub ttl: Option<Ttl>,
}

/// An issued certificate.
#[derive(Debug, Clone)]
pub struct StaffIssued {
    /// The leaf, then its issuing CA, as PEM.
    pub certificate_pem: String,
    /// Its lease.
    pub lease: LeaseId,
    /// Its hard expiry.
    pub expires: UnixMillis,
}

const OPERATOR_PATH: &str = "/mayfly/operator/";
const ACCEPTOR_PATH: &str = "/mayfly/acceptor/";

impl Broker {
    /// Who calls, as an operator: a certificate of the right kind whose lease is live now.
    ///
    /// # Errors
    /// `CERTIFICATE_REQUIRED`, `CERTIFICATE_NOT_ALLOWED`, or the store's refusal.
    pub async fn operator(&self, certificate: Option<&ClientCertificate>) -> Result<Operator, Refusal> {
        let certificate = certificate.ok_or(Reason::CertificateRequired)?;
        let name = self.staff_name(certificate, OPERATOR_PATH)?;
        let name = OperatorName::parse(name).map_err(|_| Reason::CertificateNotAllowed)?;
        self.live_staff(certificate, CredentialKind::Operator).await?;
        Ok(Operator { name, key: certificate.key })
    }

    /// Who calls, as an acceptor: a certificate of the right kind, of a configured acceptor, whose lease is
    /// live now, or was within the last second and was not revoked at this broker since.
    ///
    /// # Errors
    /// `CERTIFICATE_REQUIRED`, `CERTIFICATE_NOT_ALLOWED`, or the store's refusal.
    pub async fn acceptor(&self, certificate: Option<&ClientCertificate>) -> Result<Acceptor, Refusal> {
        let certificate = certificate.ok_or(Reason::CertificateRequired)?;
        let acceptor = self.named_acceptor(certificate)?;
        if let Err(asked) = self.recent_acceptors().ask(certificate) {
            let record = self.live_staff(certificate, CredentialKind::Acceptor).await?;
            self.recent_acceptors().live(certificate, record.expires, self.clock().now(), asked);
        }
        Ok(acceptor)
    }

    /// Whose certificate it is, as an acceptor's of the configuration. Whether its lease is live is not asked.
    pub(crate) fn named_acceptor(&self, certificate: &ClientCertificate) -> Result<Acceptor, Refusal> {
        let name = self.staff_name(certificate, ACCEPTOR_PATH)?;
        let name = AcceptorName::parse(name).map_err(|_| Reason::CertificateNotAllowed)?;
        if !self.running().acceptors.contains_key(&name) {
            return Err(Refusal::new(
                Reason::CertificateNotAllowed,
                format!("no acceptor `{name}` is configured"),
            ));
        }
        Ok(Acceptor { name, signer: certificate.signer })
    }

    fn staff_name<'c>(&self, certificate: &'c ClientCertificate, prefix: &str) -> Result<&'c str, Refusal> {
        let of_ours = certificate.role == Role::System && certificate.id.is_in(&self.settings().trust_domain);
        certificate.id.path().strip_prefix(prefix).filter(|_| of_ours).ok_or_else(|| {
            Refusal::new(
                Reason::CertificateNotAllowed,
                format!("`{}` is not below `{prefix}`", certificate.id),
            )
        })
    }

    pub(crate) async fn live_staff(
        &self,
        certificate: &ClientCertificate,
        kind: CredentialKind,
    ) -> Result<LeaseRecord, Refusal> {
        let command = CheckCommand { id: certificate.credential.lease, observation: None };
        let checked = self.leases().store().check(&command).await.map_err(|e| {
            let refusal = self.refused(e);
            match refusal.reason.status() {
                mayfly_domain::reason::Status::Unavailable | mayfly_domain::reason::Status::Internal => {
                    refusal
                }
                // Its holder may know: it is revoked, or from before the store began anew.
                _ => Refusal::new(Reason::CertificateNotAllowed, refusal.to_string())
                    .fact("lease", refusal.reason.as_str()),
            }
        })?;
        let keys = self.keys_since(checked.keys_version).await?;
        if ![&certificate.signer, &checked.record.signer].into_iter().all(|signer| keys.knows(signer)) {
            return Err(Reason::SignerWithdrawn.into());
        }
        let record = checked.record;
        let matches = record.body.kind == kind
            && record.body.workload == certificate.id
            && record.body.key == certificate.key;
        if matches { Ok(record) } else { Err(Reason::CertificateNotAllowed.into()) }
    }

    /// Asks policy whether `operator` may do `action` on `target`.
    ///
    /// # Errors
    /// `POLICY_DENIED`, `CERTIFICATE_NOT_ALLOWED`.
    pub(crate) fn permit(
        &self,
        call: &Call,
        operator: &Operator,
        action: OperatorAction,
        target: Target,
    ) -> Result<Authorized<Operate>, Refusal> {
        let principal = OperatorPrincipal {
            name: operator.name.clone(),
            peer: call.peer,
            key: operator.key.to_string(),
            at: self.clock().now(),
        };
        self.running().engine.operate(&principal, action, target)
    }

    /// Issues an operator's or acceptor's certificate, leased. The caller has shown that it can open the
    /// seal.
    ///
    /// # Errors
    /// `NOT_FOUND` for a name that the configuration does not have; the key's or store's refusal.
    pub async fn issue_staff(&self, call: &Call, request: &StaffRequest) -> Result<StaffIssued, Refusal> {
        let timer = self.timer("certificate_issue");
        let mut record = self.record(
            call,
            match request.kind {
                StaffKind::Operator(_) => Kind::OperatorIssue,
                StaffKind::Acceptor(_) => Kind::AcceptorIssue,
            },
        );
        let outcome = self.issue_staff_audited(request, &mut record).await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    async fn issue_staff_audited(
        &self,
        request: &StaffRequest,
        record: &mut Record,
    ) -> Result<StaffIssued, Refusal> {
        self.serving()?;
        let authorized = self.staff_grant(request)?;
        let grant = authorized.grant();
        record.workload = Some(grant.identity.clone());
        record.owners = Some(grant.owners.clone());
        record.credential = Some(grant.kind);
        let key = spki::public_key(&request.spki)?.thumbprint();
        record.key = Some(key);
        let id = LeaseId::from_parts(self.clock().now(), &random());
        let keys = self.keys_now();
        let signer = keys.system_authority().id();
        let reserved = self.leases().reserve_staff(authorized, id, key, signer).await?;
        record.lease = Some(id);
        let issued = self.certify(request, keys, reserved, record).await;
        if issued.is_err() {
            self.abandon(id).await;
        }
        issued
    }

    async fn certify(
        &self,
        request: &StaffRequest,
        keys: Arc<KeyRing>,
        reserved: Reserved,
        record: &mut Record,
    ) -> Result<StaffIssued, Refusal> {
        let lease = reserved.record().id;
        self.still_signs(&reserved, keys.system_authority().id()).await?;
        let (spki, now) = (request.spki.clone(), self.clock().now());
        let slow = keys.system_authority().blocks();
        let pending = made(slow, move || x509::staff_certificate(&keys, reserved, &spki, now)).await?;
        let confirmed = self.leases().confirm(pending).await?;
        record.expires_ms = Some(confirmed.record().expires);
        self.audit().record(record.clone()).await?;
        let parts = confirmed.into_parts();
        Ok(StaffIssued {
            certificate_pem: parts.credential.chain_pem(),
            lease,
            expires: parts.credential.expires(),
        })
    }

    fn staff_grant(&self, request: &StaffRequest) -> Result<Authorized<Staff>, Refusal> {
        let running = self.running();
        let too_long = |max: Ttl| {
            Refusal::from(mayfly_domain::Invalid::new("ttl", "", format!("must be at most {max}")))
        };
        match &request.kind {
            StaffKind::Operator(name) => {
                let ttl = request.ttl.unwrap_or(defaults::OPERATOR_TTL);
                if ttl > defaults::OPERATOR_TTL_MAX {
                    return Err(too_long(defaults::OPERATOR_TTL_MAX));
                }
                running.engine.staff(StaffEntry::Operator(name), ttl)
            }
            StaffKind::Acceptor(name) => {
                let ttl = request.ttl.unwrap_or(defaults::ACCEPTOR_TTL);
                if ttl > defaults::ACCEPTOR_TTL {
                    return Err(too_long(defaults::ACCEPTOR_TTL));
                }
                let entry = running.acceptors.get(name).ok_or_else(|| {
                    Refusal::new(Reason::NotFound, format!("no acceptor `{name}` is configured"))
                })?;
                let owners = Owners::new([entry.owner.clone()])?;
                running.engine.staff(StaffEntry::Acceptor { name, owners }, ttl)
            }
        }
    }
}
