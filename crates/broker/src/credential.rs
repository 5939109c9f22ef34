//! The credentials that leave: made for a lease that stands, confirmed, audited, and only then given out.

use std::sync::Arc;

use mayfly_audit::Record;
use mayfly_domain::{CredentialKind, PublicKey, Reason, Refusal, SignerId, Ttl};
use mayfly_lease::proof::Parts;
use mayfly_lease::{LeaseRecord, Pending, Reserved, TaskRecord};
use mayfly_mint::{AccessToken, Bundle, IssuedCertificate, KeyRing, x509};

use crate::broker::Broker;

/// What was made.
#[derive(Debug)]
pub enum Made {
    /// An access token.
    Token(AccessToken),
    /// A certificate, with what verifies its kind.
    Certificate(IssuedCertificate, Arc<Bundle>),
}

/// A minted or renewed credential, ready to be sent.
#[derive(Debug)]
pub struct Issued {
    /// The credential.
    pub made: Made,
    /// Its lease.
    pub record: LeaseRecord,
    /// Its task, for a mint.
    pub task: Option<TaskRecord>,
    /// Warnings for the workload (80 % of a quota).
    pub warnings: Vec<String>,
    /// How often the evidence has changed its key by now, where this call changed it.
    pub superseded: Option<u8>,
    /// How long before its end the profile wants it renewed at the latest.
    pub outage_budget: Option<Ttl>,
}

impl Issued {
    /// The token, where it is one.
    pub fn token(&self) -> Option<&AccessToken> {
        match &self.made {
            Made::Token(token) => Some(token),
            Made::Certificate(..) => None,
        }
    }

    /// The certificate, where it is one.
    pub fn certificate(&self) -> Option<&IssuedCertificate> {
        match &self.made {
            Made::Token(_) => None,
            Made::Certificate(certificate, _) => Some(certificate),
        }
    }
}

/// What one credential is made with.
#[derive(Debug)]
pub(crate) struct Work {
    /// The keys of this call.
    pub(crate) keys: Arc<KeyRing>,
    /// Which of them signs, as its lease was told.
    pub(crate) signer: SignerId,
    /// The holder's key.
    pub(crate) key: PublicKey,
    /// The profile's wish.
    pub(crate) outage_budget: Option<Ttl>,
}

impl Broker {
    /// Makes the credential of a lease and confirms it.
    pub(crate) async fn issue(
        &self,
        record: &mut Record,
        reserved: Reserved,
        work: Work,
    ) -> Result<Issued, Refusal> {
        self.still_signs(&reserved, work.signer).await?;
        let now = self.clock().now();
        let Work { keys, key, outage_budget, .. } = work;
        match reserved.record().body.kind {
            CredentialKind::X509 => {
                let bundle = keys.bundle().clone();
                let pointers = self.settings().pointers.clone();
                let slow = keys.workload_authority().blocks();
                let make = move || x509::workload_certificate(&keys, reserved, &key, &pointers, now);
                let parts = self.leave(record, made(slow, make).await?).await?;
                Ok(issued(parts, outage_budget, |made| Made::Certificate(made, bundle)))
            }
            _ => {
                let minter = self.minter().clone();
                let slow = keys.signer().blocks();
                let parts = self.leave(record, made(slow, move || minter.token(&keys, reserved, now)).await?);
                Ok(issued(parts.await?, outage_budget, Made::Token))
            }
        }
    }

    /// Refuses to sign with what another broker has withdrawn, as the lease's own step in the store showed. A key that
    /// was only replaced still signs what has its name already: nobody is refused over a rotation.
    pub(crate) async fn still_signs(&self, reserved: &Reserved, signer: SignerId) -> Result<(), Refusal> {
        if self.keys_since(reserved.keys_version()).await?.knows(&signer) {
            return Ok(());
        }
        Err(Refusal::new(Reason::RaceLost, "the signing key was withdrawn meanwhile").after(RETRY))
    }

    /// The last steps before a credential leaves: its lease is confirmed, its audit record written. Where either
    /// can't be, nothing leaves.
    async fn leave<C>(&self, record: &mut Record, pending: Pending<C>) -> Result<Parts<C>, Refusal> {
        let confirmed = self.leases().confirm(pending).await?;
        let lease = confirmed.record();
        record.lease = Some(lease.id);
        record.counter = Some(lease.counter);
        record.credential = Some(lease.body.kind);
        record.expires_ms = Some(lease.expires);
        record.audience.clone_from(&lease.body.audience);
        record.scopes = Some(lease.body.scopes.clone());
        record.task.clone_from(&lease.body.task);
        if let Some(times) = confirmed.superseded() {
            self.meter().misuse(true);
            tracing::warn!(lease = %lease.id, times, "evidence was taken over by another key");
            record.detail = format!("evidence taken over by another key, {times} of 3");
        }
        self.audit().record(record.clone()).await?;
        Ok(confirmed.into_parts())
    }
}

/// Signs here, or where waiting hurts nobody when the key is in a module.
pub(crate) async fn made<C: Send + 'static>(
    slow: bool,
    make: impl FnOnce() -> Result<Pending<C>, Refusal> + Send + 'static,
) -> Result<Pending<C>, Refusal> {
    if !slow {
        return make();
    }
    let done = tokio::task::spawn_blocking(make).await;
    done.map_err(|e| Refusal::new(Reason::Internal, format!("signing ended abnormally: {e}")))?
}

fn issued<C>(parts: Parts<C>, outage_budget: Option<Ttl>, made: impl FnOnce(C) -> Made) -> Issued {
    Issued {
        made: made(parts.credential),
        record: parts.record,
        task: parts.task,
        warnings: parts.warnings,
        superseded: parts.superseded,
        outage_budget,
    }
}

/// How long a caller waits before it tries again with the next key.
const RETRY: std::time::Duration = std::time::Duration::from_millis(50);
