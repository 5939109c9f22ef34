//! gRPC and HTTPS on one port, told apart by content type, with what every call goes through: its id, its
//! deadline, its limits and its metrics.
//!
//! Knows no service. What changes something runs to its end even when its caller hangs up. A request is read
//! whole before it takes a place in its lane, so that no slow caller keeps one from another. Answers that go on are few
//! for each connection, so that no caller keeps them from all others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{Deadline, Reason, Refusal, defaults};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use crate::config::Limits;
use crate::deadline::{CallDeadline, allowed};
use crate::lanes::{Call, Lane};
use crate::limits::{Caller, Limiter};
use crate::listen::Peer;
use crate::status::{reason, status};
use crate::telemetry::Metrics;
use mayfly_broker::RequestId;

/// The most that a call's one message takes on the wire: gRPC puts 5 octets in front of it.
const REQUEST_OCTETS_MAX: usize = defaults::MESSAGE_OCTETS_MAX + 5;

/// How long a call waits whose connection has as many waiting calls as it may have.
const WAITING_WAIT: Duration = Duration::from_secs(5);

/// What a listener serves. Clones serve the same.
///
/// A handler finds [`Peer`], [`RequestId`] and [`CallDeadline`] among its request's extensions.
#[derive(Debug, Clone)]
pub struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    grpc: Router,
    web: Router,
    limiter: Limiter,
    call_timeout: Duration,
    metrics: Metrics,
    clock: SharedClock,
    work: TaskTracker,
}

impl App {
    /// Serves `grpc` to callers that speak it and `web` to all others.
    pub fn new(
        grpc: Routes,
        web: Router,
        limits: &Limits,
        call_timeout: Duration,
        metrics: Metrics,
        clock: SharedClock,
    ) -> Self {
        Self(Arc::new(Inner {
            grpc: grpc.prepare().into_axum_router(),
            web,
            limiter: Limiter::new(limits),
            call_timeout,
            metrics,
            clock,
            work: TaskTracker::new(),
        }))
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.0.clock
    }

    /// Waits for the calls that go on without their callers.
    pub(crate) async fn finished(&self) {
        self.0.work.close();
        self.0.work.wait().await;
    }

    /// Answers one call.
    pub(crate) async fn call(&self, peer: &Peer, mut request: Request<Body>) -> Response<Body> {
        let started = Instant::now();
        let call = Call::of(request.uri().path());
        let id = RequestId::new(self.0.clock.now());
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(id);
        if is_grpc(&request) {
            let answered = self.grpc(call, peer, request).await;
            let response = answered.unwrap_or_else(|refusal| status(&refusal, id).into_http());
            let (code, refused) = outcome(&response);
            self.0.metrics.call(call, code, refused, started.elapsed());
            tracing::debug!(method = call.method, request = %id, code = ?code, reason = ?refused, "answered a call");
            response
        } else {
            let answered = self.web(peer, request).await;
            let refused = answered.as_ref().err().map(|refusal| refusal.reason);
            let code = if refused.is_some() { Code::ResourceExhausted } else { Code::Ok };
            self.0.metrics.call(call, code, refused, started.elapsed());
            answered.unwrap_or_else(|refusal| too_many(&refusal, id))
        }
    }

    async fn grpc(&self, call: Call, peer: &Peer, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let time = allowed(request.headers(), self.0.call_timeout)?;
        if time.is_zero() {
            return Err(Reason::Deadline.into());
        }
        let (deadline, until) = (Deadline::after(time), Instant::now() + time);
        self.0.limiter.rate(call.lane, caller(peer))?;
        let mut request = if call.is_streamed() {
            request
        } else {
            timeout_at(until, whole(request)).await.map_err(|_| Reason::Deadline)??
        };
        let waiting = match call.waits() {
            true => Some(peer.connection.wait().ok_or_else(many_wait)?),
            false => None,
        };
        let permit = self.0.limiter.place(call.lane)?;
        request.extensions_mut().insert(CallDeadline(deadline));
        let work = self.0.grpc.clone().oneshot(request);
        let answered = match call.lane {
            Lane::Check => timeout_at(until, work).await.map(Ok),
            Lane::End | Lane::Mint => {
                let work = self.0.work.spawn(async move {
                    let _permit = permit;
                    work.await
                });
                timeout_at(until, work).await
            }
        };
        match answered {
            Ok(Ok(Ok(response))) => Ok(match waiting {
                Some(place) => response.map(|body| held(body, place)),
                None => response,
            }),
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(e)) => {
                tracing::error!(method = call.method, error = %e, "a call's work ended abnormally");
                Err(Reason::Internal.into())
            }
            Err(_) => Err(Reason::Deadline.into()),
        }
    }

    async fn web(&self, peer: &Peer, request: Request<Body>) -> Result<Response<Body>, Refusal> {
        let _permit = self.0.limiter.admit(Lane::Check, caller(peer))?;
        match tokio::time::timeout(self.0.call_timeout, self.0.web.clone().oneshot(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(never)) => match never {},
            Err(_) => Err(Reason::Deadline.into()),
        }
    }
}

fn many_wait() -> Refusal {
    Refusal::new(Reason::Overloaded, "as many calls of the connection wait as may").after(WAITING_WAIT)
}

/// A body that keeps its call's place until it has ended.
fn held(body: Body, place: OwnedSemaphorePermit) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &place;
        frame
    }))
}

/// Reads a request to its end.
async fn whole(request: Request<Body>) -> Result<Request<Body>, Refusal> {
    let (head, body) = request.into_parts();
    let read = Limited::new(body, REQUEST_OCTETS_MAX).collect().await.map_err(|e| {
        if e.is::<LengthLimitError>() {
            let limit = format!("{} octets", defaults::MESSAGE_OCTETS_MAX);
            Refusal::new(Reason::TooLarge, "the request").fact("limit", limit)
        } else {
            Refusal::new(Reason::InputInvalid, format!("the request broke off: {e}"))
        }
    })?;
    Ok(Request::from_parts(head, Body::from(read.to_bytes())))
}

fn caller(peer: &Peer) -> Caller<'_> {
    // A workload's certificate gives no rate of its own: its calls count as those of the address that they come from,
    // with or without one.
    match peer.system() {
        Some(id) => Caller::Identity(id),
        None => Caller::Address(SocketAddr::ip(&peer.address)),
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// The code and reason of an answer whose status is in its head: every refusal's is.
fn outcome<B>(response: &Response<B>) -> (Code, Option<Reason>) {
    match response.extensions().get::<Status>() {
        Some(told) => (told.code(), reason(told)),
        None => (Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code()), None),
    }
}

fn too_many(refusal: &Refusal, id: RequestId) -> Response<Body> {
    let code = match refusal.reason {
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = serde_json::json!({
        "reason": refusal.reason.as_str(),
        "message": refusal.reason.meaning(),
        "request": id.to_string(),
        "next": refusal.reason.next(),
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().saturating_add(1)));
    }
    response
}
