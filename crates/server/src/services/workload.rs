//! `WorkloadService`.

use mayfly_attest::Evidence;
use mayfly_attest::envelope::Opened;
use mayfly_broker::Issued;
use mayfly_domain::{LeaseId, Refusal, Secret};
use mayfly_proto::v1::workload_service_server::WorkloadService;
use mayfly_proto::{rpc, v1};
use tonic::{Request, Response, Status};

use super::watch::{Bundles, Watchers};
use super::{Context, Shared, answer, context};
use crate::convert;

/// `WorkloadService` over a broker.
#[derive(Debug, Clone)]
pub struct Workloads(Shared, Watchers);

impl Workloads {
    /// Serves `broker`.
    pub fn new(broker: Shared) -> Self {
        Self(broker, Watchers::default())
    }

    fn evidence(&self, context: &Context, wire: Option<v1::Evidence>) -> Result<Evidence, Refusal> {
        convert::evidence(wire, context.peer.as_deref(), self.0.clock().now())
    }

    /// The answer of a mint or renewal, with a handle for its task where one is asked for.
    fn issued(&self, context: &Context, issued: Issued, with_handle: bool) -> v1::MintResponse {
        let task = issued.task.as_ref().filter(|_| with_handle);
        let handle = task.map(|task| self.0.completion_handle(task));
        let mut out = convert::issued(issued, handle, context.call.request.to_string());
        out.next_nonce = self.next_nonce();
        out
    }

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
    type WatchBundleStream = Bundles;

    async fn complete_task_by_handle(
        &self,
        request: Request<v1::CompleteTaskByHandleRequest>,
    ) -> Result<Response<v1::CompleteTaskByHandleResponse>, Status> {
        let context = context(&self.0, &request);
        let handle = Secret::new(request.into_inner().handle);
        let outcome = self.0.complete_by_handle(&context.call, &handle).await;
        let outcome = outcome.map(|completed| v1::CompleteTaskByHandleResponse {
            task: Some(convert::task(&completed.task)),
            already_ended: completed.already,
            request: context.call.request.to_string(),
            audit: convert::audit(completed.audit),
        });
        answer(&context, outcome)
    }

    async fn watch_bundle(
        &self,
        request: Request<v1::WatchBundleRequest>,
    ) -> Result<Response<Self::WatchBundleStream>, Status> {
        let context = context(&self.0, &request);
        answer(&context, self.1.watch(&self.0))
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
            let evidence = self.evidence(&context, wire.evidence.take())?;
            let with_handle = wire.completion_handle;
            let input = convert::mint(wire, opened.key())?;
            let issued = self.0.mint(&context.call, &opened, &evidence, input).await?;
            Ok(self.issued(&context, issued, with_handle))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn renew(&self, request: Request<v1::Envelope>) -> Result<Response<v1::MintResponse>, Status> {
        let (context, opened) = self.open(rpc::RENEW, request);
        let outcome = async {
            let opened = opened?;
            let mut wire: v1::RenewRequest = convert::payload(opened.payload())?;
            let evidence = self.evidence(&context, wire.evidence.take())?;
            let input = convert::renew(&wire, opened.key())?;
            let issued = self.0.renew(&context.call, &opened, &evidence, input).await?;
            Ok(self.issued(&context, issued, false))
        };
        let outcome = outcome.await;
        answer(&context, outcome)
    }

    async fn release(&self, request: Request<v1::Envelope>) -> Result<Response<v1::ReleaseResponse>, Status> {
        let (context, opened) = self.open(rpc::RELEASE, request);
        let outcome = async {
            let opened = opened?;
            let wire: v1::ReleaseRequest = convert::payload(opened.payload())?;
            let evidence = self.evidence(&context, wire.evidence)?;
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
            let evidence = self.evidence(&context, wire.evidence)?;
            let intent = convert::intent(&wire.intent)?;
            let reason = convert::reason(&wire.reason)?;
            let window = convert::ttl(wire.window_s)?;
            let started =
                self.0.start_task(&context.call, &opened, &evidence, intent, reason, window).await?;
            let handle = wire.completion_handle.then(|| self.0.completion_handle(&started.task));
            Ok(v1::StartTaskResponse {
                task: Some(convert::task(&started.task)),
                joined: started.joined,
                next_nonce: self.next_nonce(),
                request: context.call.request.to_string(),
                completion_handle: handle.map(|handle| handle.expose().clone()).unwrap_or_default(),
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
            let evidence = self.evidence(&context, wire.evidence)?;
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
            let evidence = self.evidence(&context, wire.evidence)?;
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
