//! Who may follow, and for how long: the acceptor's certificate and what policy says of it, looked at again and again
//! by what this broker hears itself.

use std::sync::Arc;

use mayfly_audit::Kind;
use mayfly_domain::{CredentialKind, Reason, Refusal};
use mayfly_lease::LeaseRecord;
use mayfly_lease::feed::FollowerId;
use mayfly_policy::AcceptorPrincipal;
use tokio::sync::Semaphore;

use super::places::Place;
use super::state::Mark;
use crate::broker::{Broker, Running};
use crate::call::Call;
use crate::staff::{Acceptor, AcceptorEntry, ClientCertificate};

/// A place for one follower.
pub struct Seat {
    acceptor: Acceptor,
    call: Call,
    certificate: ClientCertificate,
    lease: LeaseRecord,
    place: Place,
    entry: AcceptorEntry,
    /// What it was permitted by, and where the feed stood when its lease was judged last.
    permitted: Arc<Running>,
    judged: Mark,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat").field("acceptor", &self.acceptor.name).finish_non_exhaustive()
    }
}

impl Broker {
    /// A place for a follower of this acceptor, where its certificate's lease is live, policy permits it and there is
    /// one.
    ///
    /// # Errors
    /// `CERTIFICATE_REQUIRED`, `CERTIFICATE_NOT_ALLOWED`, `FOLLOW_NOT_ALLOWED`, `OVERLOADED`, or the store's refusal.
    pub async fn seat(&self, call: &Call, certificate: Option<&ClientCertificate>) -> Result<Seat, Refusal> {
        let timer = self.timer("follow");
        let mut record = self.record(call, Kind::Follow);
        let outcome = async {
            self.standing().borrow().serving()?;
            let certificate = certificate.ok_or(Reason::CertificateRequired)?.clone();
            let acceptor = self.named_acceptor(&certificate)?;
            record.acceptor = Some(acceptor.name.clone());
            // First of all: whatever comes at once, no more than have a place cost the store a look.
            let place = self.feed().places.take(&acceptor.name)?;
            let judged = *self.feed().marks.borrow();
            let lease = self.live_staff(&certificate, CredentialKind::Acceptor).await?;
            let (permitted, entry) = self.may_follow(call, &acceptor, &certificate)?;
            Ok(Seat { acceptor, call: *call, certificate, lease, place, entry, permitted, judged })
        }
        .await;
        if let Err(refusal) = &outcome {
            self.deny(record, refusal).await;
        }
        self.count(timer, outcome.as_ref().err());
        outcome
    }

    fn may_follow(
        &self,
        call: &Call,
        acceptor: &Acceptor,
        certificate: &ClientCertificate,
    ) -> Result<(Arc<Running>, AcceptorEntry), Refusal> {
        let running = self.running_now();
        let gone = || Refusal::new(Reason::CertificateNotAllowed, "the acceptor is configured no more");
        let entry = running.acceptors.get(&acceptor.name).ok_or_else(gone)?.clone();
        running.engine.follow(&AcceptorPrincipal {
            name: acceptor.name.clone(),
            owner: entry.owner.clone(),
            peer: call.peer,
            key: certificate.key.to_string(),
            at: self.clock().now(),
        })?;
        Ok((running, entry))
    }
}

impl Seat {
    /// The acceptor.
    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    pub(super) fn entry(&self) -> &AcceptorEntry {
        &self.entry
    }

    pub(super) fn sending(&self) -> Arc<Semaphore> {
        self.place.sending.clone()
    }

    /// The id under which a follower of this acceptor is registered: no other acceptor's can be the same, whatever it
    /// says.
    pub(super) fn follower_id(&self, said: &[u8; 16]) -> Result<FollowerId, Refusal> {
        if *said == [0; 16] {
            return Err(mayfly_domain::Invalid::new("follower", "", "must be 16 random octets").into());
        }
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(b"mayfly follower v1\0");
        hash.update(said);
        hash.update(self.acceptor.name.as_str().as_bytes());
        let digest = hash.finish();
        let id = digest.as_ref().first_chunk::<16>().ok_or(Reason::Internal)?;
        Ok(FollowerId(*id))
    }

    /// Whether it may still follow.
    ///
    /// # Errors
    /// `CERTIFICATE_NOT_ALLOWED`, `SIGNER_WITHDRAWN`, `FOLLOW_NOT_ALLOWED`.
    pub(super) fn still(&mut self, broker: &Broker) -> Result<(), Refusal> {
        if broker.clock().now() >= self.lease.expires {
            return Err(ended(Reason::LeaseExpired));
        }
        if !Arc::ptr_eq(&self.permitted, &*broker.running()) {
            let (permitted, entry) = broker.may_follow(&self.call, &self.acceptor, &self.certificate)?;
            if entry != self.entry {
                // What it was told at its beginning holds no more.
                return Err(Refusal::new(Reason::RaceLost, "the acceptor's entry changed"));
            }
            self.permitted = permitted;
        }
        let mark = *broker.feed().marks.borrow();
        if mark != self.judged {
            let judged = broker.feed().state.read().judge(self.lease.id, &self.lease.observation);
            if let Some(Err(dead)) = judged {
                tracing::info!(acceptor = %self.acceptor.name, %dead, "an acceptor follows no more");
                return Err(ended(Reason::LeaseRevoked));
            }
            let keys = broker.keys_now();
            if ![self.certificate.signer, self.lease.signer].iter().all(|signer| keys.knows(signer)) {
                return Err(Reason::SignerWithdrawn.into());
            }
            self.judged = mark;
        }
        Ok(())
    }
}

fn ended(why: Reason) -> Refusal {
    Refusal::new(Reason::CertificateNotAllowed, why.meaning()).fact("lease", why.as_str())
}
