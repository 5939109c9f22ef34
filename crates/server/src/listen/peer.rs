//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use mayfly_credential::ClientCertificate;
use mayfly_domain::{SpiffeId, UnixMillis};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The other end of a connection, as extension of each of its requests.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, where it showed one, as the authority that issued it is trusted for: a workload's, or an
    /// operator's, acceptor's or broker's. Whether its lease is still live is for each call to ask.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Closes the connection.
    pub connection: ConnectionHandle,
}

impl Peer {
    /// The operator, acceptor or broker that calls, by a verified certificate.
    pub fn system(&self) -> Option<&SpiffeId> {
        match self.certificate.as_deref() {
            Some(ClientCertificate::System(certificate)) => Some(&certificate.id),
            Some(ClientCertificate::Workload(_)) | None => None,
        }
    }

    /// Until when its certificate is valid. A connection may outlive it by moments: calls look at it too.
    pub(crate) fn expires(&self) -> Option<UnixMillis> {
        self.certificate.as_deref().map(|certificate| match certificate {
            ClientCertificate::System(certificate) => certificate.expires,
            ClientCertificate::Workload(certificate) => certificate.expires,
        })
    }
}

/// The most calls of one connection that wait for changes at once. No address has connections enough to take all places
/// with them.
const WAITING_MAX: usize = 8;

/// One connection, as its calls know it: closes it, and counts those of its calls that wait for changes.
#[derive(Debug, Clone)]
pub struct ConnectionHandle {
    close: CancellationToken,
    waiting: Arc<Semaphore>,
}

impl Default for ConnectionHandle {
    fn default() -> Self {
        Self { close: CancellationToken::default(), waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

impl ConnectionHandle {
    /// Closes the connection at once; its open streams break.
    pub fn close(&self) {
        self.close.cancel();
    }

    /// A place for one more call that waits for changes; none where the connection has as many as it may have.
    pub(crate) fn wait(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }

    pub(super) async fn closed(&self) {
        self.close.cancelled().await;
    }
}
