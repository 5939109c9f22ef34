//! The peer of a connection that rests on its certificate.

use std::sync::Arc;

use mayfly_credential::Usage;
use mayfly_domain::Refusal;

use crate::guards::Guard;
use crate::judged::Judged;
use crate::verifier::Verifier;

/// The peer of a guarded connection: in the extensions of each request that a [`Server`](crate::Server) hands on.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Guard>);

impl Peer {
    /// Admits the peer whose handshake has shown this leaf (DER) and proven its key: it is checked, guarded, and
    /// checked again, so that nothing that came in between is missed. The guard lasts as long as a clone of this.
    ///
    /// # Errors
    /// Why it is not admitted.
    pub fn admit(verifier: &Verifier, leaf: &[u8], usage: Usage) -> Result<Self, Refusal> {
        let judged = verifier.check_certificate(leaf, usage)?;
        let guard = verifier.guard(&judged);
        guard.check()?;
        Ok(Self(Arc::new(guard)))
    }

    /// Who it is. A certificate says nothing of owners, tasks and scopes.
    pub fn judged(&self) -> &Arc<Judged> {
        self.0.judged()
    }

    /// Judges it again, now.
    ///
    /// # Errors
    /// Why it counts no more.
    pub fn check(&self) -> Result<(), Refusal> {
        self.0.check()
    }

    /// Waits until its time is over, and says why.
    pub async fn over(&self) -> Refusal {
        Refusal::new(self.0.ended().await.reason, "the guard of the connection ended")
    }
}

/// The leaf that a handshake has shown.
#[cfg(feature = "mtls")]
pub(crate) fn leaf(connection: &rustls::CommonState) -> Result<&[u8], Refusal> {
    let shown = connection.peer_certificates().and_then(<[_]>::first);
    shown
        .map(AsRef::as_ref)
        .ok_or_else(|| Refusal::new(mayfly_domain::Reason::CertificateRequired, "the peer showed none"))
}
