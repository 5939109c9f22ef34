//! An acceptor's calls: whether a credential should be accepted now.

use std::time::Duration;

use mayfly_domain::Reason;
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::acceptor_service_client::AcceptorServiceClient;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use crate::channel;
use crate::context::Target;
use crate::failure::Failure;

/// How long a check may take: somebody's request is waiting for it.
const CHECK: Duration = Duration::from_secs(5);

/// An acceptor's client of one broker.
#[derive(Debug, Clone)]
pub struct AcceptorClient(AcceptorServiceClient<Channel>);

impl AcceptorClient {
    /// Connects with the context's certificate.
    ///
    /// # Errors
    /// `CERTIFICATE_REQUIRED` where the context has none; else why there is no connection.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        if target.identity.is_none() {
            return Err(Failure::of(Reason::CertificateRequired).fact("context", &target.name));
        }
        Ok(Self::over(channel::connect(target).await?))
    }

    /// A client over a channel that was connected with an acceptor's certificate.
    pub fn over(channel: Channel) -> Self {
        Self(AcceptorServiceClient::new(channel).max_decoding_message_size(channel::ANSWER_OCTETS_MAX))
    }

    /// Follows the feed: `requests` begin with a start, then come the pings.
    ///
    /// # Errors
    /// Why it may not, or there is no connection.
    pub async fn follow(
        &self,
        requests: impl tonic::IntoStreamingRequest<Message = pb::FollowRequest>,
    ) -> Result<Streaming<pb::FollowResponse>, Failure> {
        Ok(self.0.clone().follow(requests).await?.into_inner())
    }

    /// Asks about one credential, once: a DPoP proof is spent by the first ask. Anything but an answer that says
    /// `accepted` means no.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn check(&self, request: pb::CheckRequest) -> Result<pb::CheckResponse, Failure> {
        let mut call = Request::new(request);
        call.set_timeout(CHECK);
        Ok(self.0.clone().check(call).await?.into_inner())
    }
}
