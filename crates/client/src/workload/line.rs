//! The line to a broker: its channel, its trust domain, and the next call's nonce.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mayfly_domain::{Deadline, Reason, TrustDomain, defaults};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::workload_service_client::WorkloadServiceClient;
use tonic::Request;

use super::Rpc;
use crate::channel;
use crate::context::Target;
use crate::failure::Failure;
use crate::grpc::RotatingChannel;
use crate::retry::until;

/// How long a nonce is used after it came, so that it is still young when it arrives.
const NONCE_USE: Duration = Duration::from_millis(defaults::NONCE_LIFE_MS - 15_000);

/// The nonce for the next call: of the broker's store, not of a connection, so several lines may share it.
#[derive(Debug, Default)]
pub(crate) struct Nonces(Mutex<Option<(Vec<u8>, Deadline)>>);

impl Nonces {
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.filter(|(_, good_until)| !good_until.has_passed()).map(|(octets, _)| octets)
    }

    pub(super) fn keep(&self, nonce: Vec<u8>) {
        if !nonce.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((nonce, Deadline::after(NONCE_USE)));
        }
    }
}

/// A channel to a broker whose trust domain is known.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(super) rpc: Rpc,
    pub(super) channel: RotatingChannel,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) nonces: Arc<Nonces>,
}

impl Line {
    /// Connects and asks for the first nonce, which names the trust domain.
    pub(crate) async fn connect(target: &Target, patience: Duration) -> Result<Self, Failure> {
        let deadline = Deadline::after(patience);
        let channel = until(deadline, |_| channel::connect(target)).await?;
        let channel = RotatingChannel::from(channel);
        let rpc = rpc(channel.clone());
        let first = until(deadline, |left| nonce(rpc.clone(), left)).await?;
        let trust_domain = TrustDomain::parse(&first.trust_domain)?;
        if target.trust_domain.as_ref().is_some_and(|ours| *ours != trust_domain) {
            return Err(Failure::of(Reason::BrokerUntrusted).fact("trust domain", trust_domain.as_str()));
        }
        let nonces = Arc::new(Nonces::default());
        nonces.keep(first.nonce);
        Ok(Self { rpc, channel, trust_domain, nonces })
    }

    /// The same broker over another channel.
    pub(crate) fn over(&self, channel: RotatingChannel) -> Self {
        Self { rpc: rpc(channel.clone()), channel, ..self.clone() }
    }

    /// The trust bundle, now and at each change.
    pub(crate) async fn watch_bundle(&self) -> Result<tonic::Streaming<pb::TrustBundle>, Failure> {
        Ok(self.rpc.clone().watch_bundle(pb::WatchBundleRequest {}).await?.into_inner())
    }

    pub(super) async fn nonce(&self, left: Duration) -> Result<Vec<u8>, Failure> {
        match self.nonces.take() {
            Some(octets) => Ok(octets),
            None => Ok(nonce(self.rpc.clone(), left).await?.nonce),
        }
    }
}

fn rpc(channel: RotatingChannel) -> Rpc {
    WorkloadServiceClient::new(channel).max_decoding_message_size(channel::ANSWER_OCTETS_MAX)
}

async fn nonce(mut rpc: Rpc, left: Duration) -> Result<pb::GetNonceResponse, Failure> {
    let mut request = Request::new(pb::GetNonceRequest {});
    request.set_timeout(left);
    Ok(rpc.get_nonce(request).await?.into_inner())
}
