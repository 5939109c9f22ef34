//! `WorkloadService`.

use mayfly_attest::envelope::Opened;
use mayfly_domain::{LeaseId, Refusal};
use mayfly_proto::v1::workload_service_server::WorkloadService;
use mayfly_proto::{rpc, v1};
use tonic::{Request, Response, Status};

use super::{Context, Shared, answer, context};
use crate::convert;

/// `WorkloadService` over a broker.
#[derive(Debug, Clone)]
pub struct Workloads(pub Shared);

impl Workloads {
    fn open(&self, rpc: &str, request: Request<v1::Envelope>) -> (Context, Result<Opened, Refusal>) {
        let context = context(&self.0, &request);
        let opened = convert::envelope(request.into_inner()).and_then(|e| self.0.open(rpc, e));
        (context, opened)
    }

    /// The nonce for the workload's next call; empty where the broker has just stopped serving.
    fn next_nonce(&self) -> Vec<u8> {
        self.0.nonce().map(|(nonce, _)| nonce).unwrap_or_default()
    }
}

#[tonic::async_trait]
impl WorkloadService for Workloads {
    type WatchBundleStream = tokio_stream::Pending<Result<v1::TrustBundle, Status>>;

    async fn complete_task_by_handle(
        &self,
        _: Request<v1::CompleteTaskByHandleRequest>,
    ) -> Result<Response<v1::CompleteTaskByHandleResponse>, Status> {
        Err(Status::unimplemented("CompleteTaskByHandle"))
    }

    async fn watch_bundle(
        &self,
        _: Request<v1::WatchBundleRequest>,
    ) -> Result<Response<Self::WatchBundleStream>, Status> {
        Err(Status::unimplemented("WatchBundle"))
    }

    async fn get_nonce(
        &self,
        request: Request<v1::GetNonceRequest>,
    ) -> Result<Response<v1::GetNonceResponse>, Status> {
        let context = context(&self.0, &request);
        let outcome = self.0.nonce().map(|(nonce, expires)| v1::GetNonceResponse {
            nonce,
            expires_ms: expires.0,
            trust_domain: self.0.settings().trust_domain.to_string(),
        });
        answer(&context, outcome)
    }

    async fn mint(&self, request: Request<v1::Envelope>) -> Result<Response<v1::MintResponse>, Status> {
        let (context, opened) = self.open(rpc::MINT, request);
        let outcome = async {
            let opened = opened?;
            let mut wire: v1::MintRequest = convert::payload(opened.payload())?;
            let evidence = convert::evidence(wire.evidence.take())?;
            let claimed = convert::claimed(&wire)?;
            let issued = self.0.mint(&context.call, &opened, &evidence, claimed).await?;
            Ok(convert::issued(issued, self.next_nonce(), context.call.request.to_string()))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn renew(&self, request: Request<v1::Envelope>) -> Result<Response<v1::MintResponse>, Status> {
        let (context, opened) = self.open(rpc::RENEW, request);
        let outcome = async {
            let opened = opened?;
            let wire: v1::RenewRequest = convert::payload(opened.payload())?;
            let evidence = convert::evidence(wire.evidence)?;
            let lease = LeaseId::parse(&wire.lease)?;
            let ttl = convert::ttl(wire.ttl_s)?;
            let issued = self.0.renew(&context.call, &opened, &evidence, lease, ttl).await?;
            Ok(convert::issued(issued, self.next_nonce(), context.call.request.to_string()))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn release(&self, request: Request<v1::Envelope>) -> Result<Response<v1::ReleaseResponse>, Status> {
        let (context, opened) = self.open(rpc::RELEASE, request);
        let outcome = async {
            let opened = opened?;
            let wire: v1::ReleaseRequest = convert::payload(opened.payload())?;
            let evidence = convert::evidence(wire.evidence)?;
            let lease = (!wire.lease.is_empty()).then(|| LeaseId::parse(&wire.lease)).transpose()?;
            let released = self.0.release(&context.call, &opened, &evidence, lease).await?;
            Ok(v1::ReleaseResponse {
                released: released.released,
                next_nonce: self.next_nonce(),
                request: context.call.request.to_string(),
                audit: convert::audit(released.audit),
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn start_task(
        &self,
        request: Request<v1::Envelope>,
    ) -> Result<Response<v1::StartTaskResponse>, Status> {
        let (context, opened) = self.open(rpc::START_TASK, request);
        let outcome = async {
            let opened = opened?;
            let wire: v1::StartTaskRequest = convert::payload(opened.payload())?;
            let evidence = convert::evidence(wire.evidence)?;
            let intent = convert::intent(&wire.intent)?;
            let reason = convert::reason(&wire.reason)?;
            let window = convert::ttl(wire.window_s)?;
            let started =
                self.0.start_task(&context.call, &opened, &evidence, intent, reason, window).await?;
            Ok(v1::StartTaskResponse {
                task: Some(convert::task(&started.task)),
                joined: started.joined,
                next_nonce: self.next_nonce(),
                request: context.call.request.to_string(),
                completion_handle: String::new(),
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn complete_task(
        &self,
        request: Request<v1::Envelope>,
    ) -> Result<Response<v1::CompleteTaskResponse>, Status> {
        let (context, opened) = self.open(rpc::COMPLETE_TASK, request);
        let outcome = async {
            let opened = opened?;
            let wire: v1::CompleteTaskRequest = convert::payload(opened.payload())?;
            let evidence = convert::evidence(wire.evidence)?;
            let completed = self.0.complete_task(&context.call, &opened, &evidence).await?;
            Ok(v1::CompleteTaskResponse {
                task: Some(convert::task(&completed.task)),
                already_ended: completed.already,
                next_nonce: self.next_nonce(),
                request: context.call.request.to_string(),
                audit: convert::audit(completed.audit),
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn get_task(
        &self,
        request: Request<v1::Envelope>,
    ) -> Result<Response<v1::GetTaskResponse>, Status> {
        let (context, opened) = self.open(rpc::GET_TASK, request);
        let outcome = async {
            let opened = opened?;
            let wire: v1::GetTaskRequest = convert::payload(opened.payload())?;
            let evidence = convert::evidence(wire.evidence)?;
            let (task, leases) = self.0.get_task(&context.call, &opened, &evidence).await?;
            Ok(v1::GetTaskResponse {
                task: Some(convert::task(&task)),
                leases: leases.iter().take(100).map(convert::lease).collect(),
                next_nonce: self.next_nonce(),
                request: context.call.request.to_string(),
            })
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }
}
