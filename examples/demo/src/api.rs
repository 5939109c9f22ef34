//! A small service that accepts Mayfly's tokens: it asks the broker about each request, with the request's DPoP
//! proof. It must never decide by itself, and never serve where there is no answer.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use mayfly_client::{AcceptorClient, Target};
use mayfly_proto::v1 as pb;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::stage::Wrong;

const DPOP: HeaderName = HeaderName::from_static("dpop");

#[derive(Debug)]
struct Service {
    broker: AcceptorClient,
    origin: String,
}

/// Starts the service on loopback; gives the URL at which it deploys.
pub(crate) async fn serve(broker: &Target) -> Result<Url, Wrong> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| Wrong::of("listen", e))?;
    let origin = format!("http://{}", listener.local_addr().map_err(|e| Wrong::of("listen", e))?);
    let url = Url::parse(&format!("{origin}/v1/deployments")).map_err(|e| Wrong::of("url", e))?;
    let service = Service { broker: AcceptorClient::connect(broker).await?, origin };
    let router = Router::new().route("/v1/deployments", post(deploy)).with_state(Arc::new(service));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}

async fn deploy(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let value = |name: &HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let token = value(&header::AUTHORIZATION).strip_prefix("DPoP ").unwrap_or_default();
    let request = pb::CheckRequest {
        credential: Some(pb::check_request::Credential::Token(token.to_owned())),
        dpop: value(&DPOP).to_owned(),
        method: method.to_string(),
        url: format!("{}{}", service.origin, uri.path()),
        ..Default::default()
    };
    match service.broker.check(request).await {
        Ok(answer) if answer.accepted => (StatusCode::CREATED, answer.workload),
        Ok(answer) => (StatusCode::UNAUTHORIZED, answer.reason),
        Err(failure) => (StatusCode::SERVICE_UNAVAILABLE, failure.code.into_owned()),
    }
}

/// A connection to the service.
#[derive(Debug)]
pub(crate) struct Caller {
    connection: SendRequest<Empty<Bytes>>,
    url: Url,
}

impl Caller {
    pub(crate) async fn connect(url: &Url) -> Result<Self, Wrong> {
        let no = |e: &dyn std::fmt::Display| Wrong::of("the service", e);
        let address = url.socket_addrs(|| None).map_err(|e| no(&e))?;
        let stream = TcpStream::connect(address.as_slice()).await.map_err(|e| no(&e))?;
        let (connection, io) = handshake(TokioIo::new(stream)).await.map_err(|e| no(&e))?;
        tokio::spawn(io);
        Ok(Self { connection, url: url.clone() })
    }

    /// Calls the service; gives the workload that it served, or why it refused.
    pub(crate) async fn call(
        &mut self,
        token: &str,
        proof: Option<&str>,
    ) -> Result<Result<String, String>, Wrong> {
        let no = |e: &dyn std::fmt::Display| Wrong::of("the service", e);
        let mut request = hyper::Request::post(self.url.path())
            .header(header::HOST, self.url.authority())
            .header(header::AUTHORIZATION, format!("DPoP {token}"));
        if let Some(proof) = proof {
            request = request.header(DPOP, proof);
        }
        let request = request.body(Empty::new()).map_err(|e| no(&e))?;
        self.connection.ready().await.map_err(|e| no(&e))?;
        let answer = self.connection.send_request(request).await.map_err(|e| no(&e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| no(&e))?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(if status == StatusCode::CREATED { Ok(body) } else { Err(body) })
    }
}
