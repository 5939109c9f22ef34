//! The checks: what a request shows is verified, or known from before; whether its lease lives is judged each time.
//!
//! Must never take what was known for what is so.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mayfly_credential::{Presented, Usage, VerifiedToken, WorkloadCertificate, dpop};
use mayfly_domain::defaults::TOKEN_OCTETS_MAX;
use mayfly_domain::follow::Dead;
use mayfly_domain::{Reason, Refusal, Scopes, Thumbprint};
use rustls_pki_types::CertificateDer;

use crate::cache::{Cache, Entry};
use crate::judged::{Judged, Kind, Request};
use crate::known::Known;
use crate::table::Verdict;
use crate::verifier::Shared;

/// The longest certificate that is looked at, in octets.
const CERTIFICATE_OCTETS_MAX: usize = 16 * 1024;

impl Shared {
    pub(crate) fn token(&self, token: &str, request: &Request<'_>) -> Result<Arc<Judged>, Refusal> {
        let entry = self.shown(token, request)?;
        self.judge(&entry.judged)?;
        count(&entry, request.scopes);
        Ok(Arc::clone(&entry.judged))
    }

    /// Verifies what the request shows; whether the lease lives is another question.
    fn shown(&self, token: &str, request: &Request<'_>) -> Result<Arc<Entry>, Refusal> {
        if token.len() > TOKEN_OCTETS_MAX {
            return Err(Refusal::new(Reason::TokenMalformed, "longer than any token"));
        }
        let known = self.known.load();
        let entry = match self.tokens.get(token.as_bytes()) {
            Some(entry) if entry.epoch == known.epoch => entry,
            _ => self.new_token(&known, token)?,
        };
        let judged = &entry.judged;
        if !judged.audience.as_ref().is_some_and(|audience| known.takes(audience)) {
            return Err(Reason::TokenAudience.into());
        }
        grants(&judged.scopes, request.scopes)?;
        self.bound(token, judged, request)?;
        Ok(entry)
    }

    fn new_token(&self, known: &Known, token: &str) -> Result<Arc<Entry>, Refusal> {
        let (Some(keys), Some(terms)) = (&known.keys, &known.terms) else {
            return Err(Reason::AcceptorNotFresh.into());
        };
        let now = self.clock.now();
        let verified = terms.tokens.verify(&keys.tokens, token, now);
        let verified = verified.map_err(|refusal| match refusal.reason {
            // It may be of a key that could not be told.
            Reason::TokenSignature if !self.is_fresh() => Reason::AcceptorNotFresh.into(),
            _ => refusal,
        })?;
        Ok(self.remember(&self.tokens, token.as_bytes(), of_token(verified), known.epoch))
    }

    pub(crate) fn certificate(&self, leaf: &[u8], usage: Usage) -> Result<Arc<Judged>, Refusal> {
        if leaf.len() > CERTIFICATE_OCTETS_MAX {
            return Err(Refusal::new(Reason::CertificateNotAllowed, "longer than any certificate"));
        }
        let known = self.known.load();
        let (Some(keys), Some(terms)) = (&known.keys, &known.terms) else {
            return Err(Reason::AcceptorNotFresh.into());
        };
        if !terms.certificates {
            return Err(Reason::TokenAudience.into());
        }
        let [clients, servers] = &self.certificates;
        let cache = match usage {
            Usage::Client => clients,
            Usage::Server => servers,
        };
        let entry = match cache.get(leaf) {
            Some(entry) if entry.epoch == known.epoch => entry,
            _ => {
                let chain = [CertificateDer::from(leaf)];
                let verified = keys.anchors.workload_chain(&chain, usage, self.clock.now());
                let verified = verified.map_err(|mut refusal| {
                    match refusal.reason {
                        // What is told of evidence elsewhere is told of a lease here.
                        Reason::EvidenceExpired => refusal.reason = Reason::LeaseExpired,
                        Reason::CertificateNotAllowed if !self.is_fresh() => {
                            return Reason::AcceptorNotFresh.into();
                        }
                        _ => {}
                    }
                    refusal
                })?;
                self.remember(cache, leaf, of_certificate(verified), known.epoch)
            }
        };
        self.judge(&entry.judged)?;
        Ok(Arc::clone(&entry.judged))
    }

    fn remember(&self, cache: &Cache, octets: &[u8], judged: Judged, epoch: u64) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(octets, judged, epoch));
        for gone in cache.insert(&entry) {
            self.usage.collect(&gone);
        }
        entry
    }

    /// What binds the token to this request.
    fn bound(&self, token: &str, judged: &Judged, request: &Request<'_>) -> Result<(), Refusal> {
        let Some(key) = &judged.key else { return Ok(()) };
        match (request.dpop, request.peer) {
            (Some(proof), _) => {
                let nonces = self.nonces.as_ref();
                let presented = Presented { method: request.method, url: request.url, token, key, nonces };
                dpop::verify(proof, &presented, &self.window, self.clock.now())
            }
            (None, Some(peer)) if peer == key => Ok(()),
            (None, Some(_)) => {
                Err(Refusal::new(Reason::ProofMissing, "no proof, and the connection's key is another"))
            }
            (None, None) => Err(Reason::ProofMissing.into()),
        }
    }

    pub(crate) fn judge(&self, judged: &Judged) -> Result<(), Refusal> {
        let (Some(observation), Some(signer)) = (&judged.observation, &judged.signer) else {
            return Err(Refusal::new(Reason::AcceptorNotFresh, "only a broker has judged it"));
        };
        let state = self.state.load();
        let (verdict, is_known) = state.judge(
            judged.credential.lease,
            observation,
            judged.expires,
            || self.known.load().knows(signer),
            || self.clock.now(),
            || self.boot.now(),
        );
        match verdict {
            Verdict::NotFresh => Err(Reason::AcceptorNotFresh.into()),
            Verdict::Expired => Err(Reason::LeaseExpired.into()),
            Verdict::Dead(dead) => Err(revoked(dead)),
            Verdict::Lives if !is_known => Err(Reason::SignerWithdrawn.into()),
            Verdict::Lives => Ok(()),
        }
    }

    /// Whether the table or the keys say that a credential is dead, however fresh they are.
    ///
    /// # Errors
    /// Why it is.
    pub(crate) fn dead(&self, judged: &Judged) -> Result<(), Reason> {
        let (Some(observation), Some(signer)) = (&judged.observation, &judged.signer) else {
            return Err(Reason::AcceptorNotFresh);
        };
        if self.state.load().dead(judged.credential.lease, observation).is_some() {
            return Err(Reason::LeaseRevoked);
        }
        if self.known.load().knows(signer) { Ok(()) } else { Err(Reason::SignerWithdrawn) }
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.boot.now() < self.state.load().fresh_until()
    }

    /// Whether the nonce of a proof is one of ours, where that is demanded; whoever asks a broker has it verified.
    pub(crate) fn nonce_is_good(&self, proof: Option<&str>) -> Result<(), Refusal> {
        match (&self.nonces, proof) {
            (Some(nonces), Some(proof)) => nonces.demand_in(proof, self.clock.now()),
            _ => Ok(()),
        }
    }
}

fn revoked(dead: Dead) -> Refusal {
    Refusal::new(Reason::LeaseRevoked, dead.to_string())
}

pub(crate) fn grants(granted: &Scopes, demanded: &[&str]) -> Result<(), Refusal> {
    let lacks = |scope: &&&str| !granted.iter().any(|granted| granted.as_str() == **scope);
    match demanded.iter().find(lacks) {
        Some(scope) => Err(Refusal::from(Reason::TokenScope).fact("scope", *scope)),
        None => Ok(()),
    }
}

fn count(entry: &Entry, demanded: &[&str]) {
    let mut counters = entry.uses.iter();
    if let Some(intent) = counters.next() {
        intent.fetch_add(1, Ordering::Relaxed);
    }
    for (scope, counter) in entry.judged.scopes.iter().zip(counters) {
        if demanded.contains(&scope.as_str()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn of_token(token: VerifiedToken) -> Judged {
    Judged {
        kind: Kind::Token,
        credential: token.id,
        workload: token.workload,
        owners: Some(token.owners),
        task: Some(token.task),
        intent: Some(token.intent),
        profile: None,
        scopes: token.scopes,
        audience: Some(token.audience),
        expires: token.expires,
        observation: Some(token.observation),
        key: token.key,
        signer: Some(token.signer),
    }
}

fn of_certificate(certificate: WorkloadCertificate) -> Judged {
    Judged {
        kind: Kind::Certificate,
        credential: certificate.credential,
        workload: certificate.id,
        owners: None,
        task: None,
        intent: None,
        profile: None,
        scopes: Scopes::default(),
        audience: None,
        expires: certificate.expires,
        observation: Some(certificate.observation),
        key: Some(certificate.key),
        signer: Some(certificate.signer),
    }
}

/// The thumbprint of a certificate's key, whoever issued it: what a TLS client has proven in its handshake.
///
/// # Errors
/// [`Reason::CertificateNotAllowed`] where it is no certificate, or its key neither P-256 nor Ed25519.
pub fn key_of(leaf: &[u8]) -> Result<Thumbprint, Refusal> {
    mayfly_credential::certificate::key_of(&CertificateDer::from(leaf))
}
