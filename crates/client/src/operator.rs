//! An operator's calls. They need the certificate of an operator; each is safe to repeat, but for the rotation of a
//! key or CA and the making of a join token, which are tried once.

use std::time::Duration;

use mayfly_domain::{Deadline, Reason};
use mayfly_proto::v1 as pb;
use mayfly_proto::v1::operator_service_client::OperatorServiceClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::channel;
use crate::context::Target;
use crate::failure::Failure;
use crate::retry::{self, until};

type Rpc = OperatorServiceClient<Channel>;

/// An operator's client of one broker.
#[derive(Debug, Clone)]
pub struct OperatorClient {
    rpc: Rpc,
    patience: Duration,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident;)*) => {
        impl OperatorClient {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The refusal.
                pub async fn $name(&self, request: pb::$request) -> Result<pb::$answer, Failure> {
                    self.repeat(&request, |mut rpc, call| async move { rpc.$name(call).await }).await
                }
            )*
        }
    };
}

calls! {
    /// Ends one lease, or all that a subject covers.
    revoke(RevokeRequest) -> RevokeResponse;
    /// How far a revocation's sweep is.
    get_revocation(GetRevocationRequest) -> Revocation;
    /// Refuses new mints for a subject.
    set_block(SetBlockRequest) -> SetBlockResponse;
    /// Lifts a block; no credential comes back to life.
    lift_block(LiftBlockRequest) -> LiftBlockResponse;
    /// The blocks that stand.
    list_blocks(ListBlocksRequest) -> ListBlocksResponse;
    /// One page of leases.
    list_leases(ListLeasesRequest) -> ListLeasesResponse;
    /// One lease.
    get_lease(GetLeaseRequest) -> Lease;
    /// One task.
    get_task(OperatorGetTaskRequest) -> Task;
    /// Ends a task and everything that was minted for it.
    complete_task(OperatorCompleteTaskRequest) -> OperatorCompleteTaskResponse;
    /// How the broker and its store are.
    get_status(GetStatusRequest) -> GetStatusResponse;
    /// The audit records of one request.
    why(WhyRequest) -> WhyResponse;
    /// The signing keys.
    list_keys(ListKeysRequest) -> ListKeysResponse;
    /// Withdraws a token key at once.
    revoke_key(RevokeKeyRequest) -> RevokeKeyResponse;
    /// The issuing CAs.
    list_authorities(ListAuthoritiesRequest) -> ListAuthoritiesResponse;
    /// Withdraws an issuing CA at once.
    revoke_authority(RevokeAuthorityRequest) -> RevokeAuthorityResponse;
    /// A certificate request for an issuing CA's key.
    get_authority_csr(GetAuthorityCsrRequest) -> GetAuthorityCsrResponse;
    /// Puts a company's certificate for such a request in place.
    import_authority(ImportAuthorityRequest) -> ImportAuthorityResponse;
    /// The join tokens that are kept.
    list_join_tokens(ListJoinTokensRequest) -> ListJoinTokensResponse;
    /// Makes a join token useless.
    withdraw_join_token(WithdrawJoinTokenRequest) -> WithdrawJoinTokenResponse;
}

impl OperatorClient {
    /// Connects with the context's certificate.
    ///
    /// # Errors
    /// `CERTIFICATE_REQUIRED` where the context has none; else why there is no connection.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        if target.identity.is_none() {
            return Err(Failure::of(Reason::CertificateRequired).fact("context", &target.name));
        }
        let channel = channel::connect(target).await?;
        let rpc = OperatorServiceClient::new(channel).max_decoding_message_size(channel::ANSWER_OCTETS_MAX);
        Ok(Self { rpc, patience: retry::CALL })
    }

    /// How long each call may take, with what is tried again.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// One step of a key's rotation; never repeated by itself.
    ///
    /// # Errors
    /// The refusal.
    pub async fn rotate_key(&self, request: pb::RotateKeyRequest) -> Result<pb::RotateKeyResponse, Failure> {
        Ok(self.rpc.clone().rotate_key(self.once(request)).await?.into_inner())
    }

    /// One step of an issuing CA's rotation; never repeated by itself.
    ///
    /// # Errors
    /// The refusal.
    pub async fn rotate_authority(
        &self,
        request: pb::RotateAuthorityRequest,
    ) -> Result<pb::RotateAuthorityResponse, Failure> {
        Ok(self.rpc.clone().rotate_authority(self.once(request)).await?.into_inner())
    }

    /// Makes a join token; never repeated by itself, since each call makes another one.
    ///
    /// # Errors
    /// The refusal.
    pub async fn create_join_token(
        &self,
        request: pb::CreateJoinTokenRequest,
    ) -> Result<pb::CreateJoinTokenResponse, Failure> {
        Ok(self.rpc.clone().create_join_token(self.once(request)).await?.into_inner())
    }

    fn once<Q>(&self, request: Q) -> Request<Q> {
        let mut call = Request::new(request);
        call.set_timeout(self.patience);
        call
    }

    async fn repeat<Q: Clone, R, F: Future<Output = Result<Response<R>, Status>>>(
        &self,
        request: &Q,
        send: impl Fn(Rpc, Request<Q>) -> F,
    ) -> Result<R, Failure> {
        until(Deadline::after(self.patience), |left| {
            let mut call = Request::new(request.clone());
            call.set_timeout(left);
            let sent = send(self.rpc.clone(), call);
            async { Ok(sent.await?.into_inner()) }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls are made from tasks that any thread runs.
    #[expect(dead_code, reason = "holds when it compiles")]
    fn a_call_may_move_between_threads(client: &OperatorClient) -> impl Send {
        client.revoke(pb::RevokeRequest::default())
    }
}
