//! Acceptors whose certificate's lease was found live a moment ago: an acceptor asks thousands of times a second,
//! and each question would otherwise ask the store twice.
//!
//! For acceptors only: what an operator may do is asked of the store at each call. What an acceptor asks *about* is
//! never remembered here. A revocation at this broker forgets everything before it is acknowledged; one at another
//! broker takes effect within [`FOR`].

use std::collections::HashMap;
use std::time::Duration;

use mayfly_domain::{CredentialId, Deadline, SpiffeId, Thumbprint, UnixMillis};
use parking_lot::Mutex;

use crate::staff::ClientCertificate;

/// How long an acceptor counts as live without being asked about.
const FOR: Duration = Duration::from_secs(1);
/// How many are remembered; more are asked about each time.
const MOST: usize = 4_096;

type Key = (CredentialId, SpiffeId, Thumbprint);

#[derive(Debug, Default)]
struct Known {
    until: HashMap<Key, Deadline>,
    /// Counts what made all be forgotten: a verdict that was asked for before is not remembered after it.
    epoch: u64,
}

/// The acceptors that were live a moment ago.
#[derive(Debug, Default)]
pub(crate) struct RecentAcceptors(Mutex<Known>);

/// When a question was put to the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked(u64);

impl RecentAcceptors {
    /// Whether this certificate was live a moment ago; else the mark to remember the store's answer by.
    pub(crate) fn ask(&self, certificate: &ClientCertificate) -> Result<(), Asked> {
        let known = self.0.lock();
        match known.until.get(&key(certificate)) {
            Some(until) if !until.has_passed() => Ok(()),
            _ => Err(Asked(known.epoch)),
        }
    }

    /// Remembers that it is live, never beyond its expiry.
    pub(crate) fn live(
        &self,
        certificate: &ClientCertificate,
        expires: UnixMillis,
        now: UnixMillis,
        asked: Asked,
    ) {
        let mut known = self.0.lock();
        if known.epoch != asked.0 {
            return;
        }
        if known.until.len() >= MOST {
            known.until.retain(|_, until| !until.has_passed());
        }
        if known.until.len() < MOST {
            let left = Duration::from_millis(expires.0.saturating_sub(now.0));
            known.until.insert(key(certificate), Deadline::after(left.min(FOR)));
        }
    }

    /// Forgets all, and what is being asked now.
    pub(crate) fn forget(&self) {
        let mut known = self.0.lock();
        known.until.clear();
        known.epoch += 1;
    }
}

fn key(certificate: &ClientCertificate) -> Key {
    (certificate.credential, certificate.id.clone(), certificate.key)
}

#[cfg(test)]
mod tests {
    use mayfly_domain::{LeaseId, TrustDomain};

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn certificate(key: u8) -> ClientCertificate {
        let domain = TrustDomain::parse("acme.internal").unwrap();
        ClientCertificate {
            id: SpiffeId::new(&domain, "/mayfly/acceptor/api").unwrap(),
            credential: CredentialId { lease: LeaseId::from_parts(NOW, &[7; 10]), counter: 0 },
            key: Thumbprint::from_bytes([key; 32]),
            role: mayfly_mint::Role::System,
            signer: mayfly_domain::SignerId::from_bytes([1; 16]),
        }
    }

    #[test]
    fn only_the_same_certificate_is_known_and_never_beyond_its_end() {
        let recent = RecentAcceptors::default();
        let asked = recent.ask(&certificate(1)).unwrap_err();
        recent.live(&certificate(1), NOW.plus(60_000), NOW, asked);
        assert!(recent.ask(&certificate(1)).is_ok());
        let asked = recent.ask(&certificate(2)).unwrap_err();
        recent.live(&certificate(2), NOW, NOW, asked);
        assert!(recent.ask(&certificate(2)).is_err(), "it has ended");
    }

    #[test]
    fn a_revocation_forgets_and_an_answer_from_before_it_is_not_remembered() {
        let recent = RecentAcceptors::default();
        let asked = recent.ask(&certificate(1)).unwrap_err();
        recent.live(&certificate(1), NOW.plus(60_000), NOW, asked);
        recent.forget();
        let later = recent.ask(&certificate(1)).unwrap_err();
        recent.live(&certificate(1), NOW.plus(60_000), NOW, asked);
        assert!(recent.ask(&certificate(1)).is_err(), "it was asked for before the revocation");
        recent.live(&certificate(1), NOW.plus(60_000), NOW, later);
        assert!(recent.ask(&certificate(1)).is_ok());
    }
}
