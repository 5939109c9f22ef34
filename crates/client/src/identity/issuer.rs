//! Where certificates come from: a broker, by first evidence or by the certificate itself.

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::Deadline;
use mayfly_domain::time::SharedClock;
use rustls::sign::SingleCertAndKey;

use crate::channel;
use crate::context::Target;
use crate::evidence::Source;
use crate::failure::Failure;
use crate::keys::{KeyHome, WorkloadKey};
use crate::retry::until;
use crate::svid::Svid;
use crate::workload::{CertificateAsk, Line, WorkloadClient};

/// Gives certificates.
pub(super) trait Issuer: Send {
    /// One for first evidence.
    fn first(&mut self, patience: Duration) -> impl Future<Output = Result<Svid, Failure>> + Send;

    /// One for the certificate that is held, over a connection of its own: the handshake proves the lease's key.
    fn renew(
        &mut self,
        held: &Svid,
        patience: Duration,
    ) -> impl Future<Output = Result<Svid, Failure>> + Send;

    /// Whether first evidence may be another one later.
    fn evidence_may_change(&self) -> bool;
}

/// A broker.
#[derive(Debug)]
pub(super) struct AtBroker {
    pub(super) target: Target,
    /// Without a certificate.
    pub(super) line: Line,
    pub(super) source: Arc<Source>,
    pub(super) ask: CertificateAsk,
    pub(super) home: Option<KeyHome>,
    pub(super) keep_key: bool,
    pub(super) clock: SharedClock,
    /// The key to which first evidence belongs, where it belongs to one.
    pub(super) first_key: Option<Arc<WorkloadKey>>,
    /// The key of a renewal whose answer did not come: the lease may have it already.
    pub(super) next_key: Option<Arc<WorkloadKey>>,
}

impl AtBroker {
    fn key(&mut self) -> Result<Arc<WorkloadKey>, Failure> {
        if let Some(home) = &self.home {
            return Ok(Arc::new(home.key(&self.source.scope(&self.line.trust_domain)?)?));
        }
        if let Some(key) = &self.first_key {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(WorkloadKey::generate()?);
        if self.source.binds_first_key() {
            self.first_key = Some(Arc::clone(&key));
        }
        Ok(key)
    }

    fn client(&self, line: Line, source: Arc<Source>, key: Arc<WorkloadKey>) -> WorkloadClient {
        WorkloadClient::over(line, source, key, Arc::clone(&self.clock))
    }
}

impl Issuer for AtBroker {
    async fn first(&mut self, patience: Duration) -> Result<Svid, Failure> {
        let key = self.key()?;
        let client = self.client(self.line.clone(), Arc::clone(&self.source), key).patience(patience);
        let svid = client.mint_certificate(&self.ask).await?;
        self.next_key = None;
        Ok(svid)
    }

    async fn renew(&mut self, held: &Svid, patience: Duration) -> Result<Svid, Failure> {
        let deadline = Deadline::after(patience);
        let key = match (self.keep_key, self.next_key.take()) {
            (true, _) => Arc::clone(&held.key),
            (false, Some(key)) => key,
            (false, None) => Arc::new(WorkloadKey::generate()?),
        };
        self.next_key = Some(Arc::clone(&key));
        let shown = Arc::new(SingleCertAndKey::from(Arc::clone(held.certified())));
        let channel = until(deadline, |_| channel::connect_as(&self.target, shown.clone())).await?;
        let source = Arc::new(Source::Live(held.id.clone()));
        let client = self.client(self.line.over(channel.into()), source, key).patience(deadline.left());
        let svid = client.renew_certificate(held.lease, self.ask.ttl).await?;
        self.next_key = None;
        Ok(svid)
    }

    fn evidence_may_change(&self) -> bool {
        self.source.may_change()
    }
}
