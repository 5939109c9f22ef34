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

/// How long a barrier may take where the caller sets no limit: longer than any follower's bound.
const BARRIER: Duration = Duration::from_secs(20);
/// How long after its own time a barrier's last word may come.
const GRACE: Duration = Duration::from_secs(1);
/// Between a wait that broke off and the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Events of a broker.
#[derive(Debug)]
pub struct EventStream(tonic::Streaming<pb::WatchEvent>);

impl EventStream {
    /// The next event; none when the broker ends its work.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Result<Option<pb::WatchEvent>, Failure> {
        Ok(self.0.message().await?)
    }
}

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
    /// Who follows the feed.
    list_followers(ListFollowersRequest) -> ListFollowersResponse;
    /// What credentials of a profile were used for.
    get_usage(GetUsageRequest) -> GetUsageResponse;
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

    /// Waits until nobody decides without a change any more, or for `patience`: the last word says which. `told` hears
    /// how far it is. A wait that breaks off is begun again, at whichever broker answers.
    ///
    /// # Errors
    /// Why nothing is known of it. The change stands.
    pub async fn wait_barrier(
        &self,
        number: u64,
        generation: &str,
        patience: Option<Duration>,
        mut told: impl FnMut(&pb::BarrierProgress),
    ) -> Result<pb::BarrierProgress, Failure> {
        let deadline = Deadline::after(patience.unwrap_or(BARRIER));
        let mut last: Option<pb::BarrierProgress> = None;
        loop {
            let left = deadline.left();
            let timeout_ms = if patience.is_some() { left.as_millis().max(1) } else { 0 };
            let call = pb::WaitBarrierRequest {
                number,
                generation: generation.to_owned(),
                timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
            };
            let work = self.follow_barrier(call, |progress| {
                told(&progress);
                last = Some(progress);
            });
            let broken = match tokio::time::timeout(left + GRACE, work).await {
                Ok(Ok(())) => Failure::of(Reason::NotServing),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::of(Reason::Deadline),
            };
            let is_over = last.as_ref().is_some_and(|progress| progress.complete) || deadline.left() < PAUSE;
            match last {
                Some(progress) if is_over => return Ok(progress),
                _ if is_over || !broken.may_retry() => return Err(broken),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn follow_barrier(
        &self,
        call: pb::WaitBarrierRequest,
        mut told: impl FnMut(pb::BarrierProgress),
    ) -> Result<(), Failure> {
        let mut stream = self.rpc.clone().wait_barrier(call).await?.into_inner();
        while let Some(progress) = stream.message().await? {
            told(progress);
        }
        Ok(())
    }

    /// What the broker decides and hears of, as it happens.
    ///
    /// # Errors
    /// The refusal.
    pub async fn watch(&self) -> Result<EventStream, Failure> {
        Ok(EventStream(self.rpc.clone().watch(pb::WatchRequest {}).await?.into_inner()))
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
