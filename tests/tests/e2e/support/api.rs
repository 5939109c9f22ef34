//! A small service that accepts Mayfly's tokens: it asks the broker about each request, with its DPoP proof.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use mayfly_client::AcceptorClient;
use mayfly_proto::v1 as pb;

/// The service's address and what it was asked.
pub(crate) struct Api {
    /// Its origin.
    pub(crate) origin: String,
    seen: Arc<Mutex<Vec<pb::CheckResponse>>>,
}

struct Service {
    acceptor: AcceptorClient,
    origin: String,
    then: StatusCode,
    seen: Arc<Mutex<Vec<pb::CheckResponse>>>,
}

impl Api {
    /// Serves on a free port and answers accepted requests with `then`.
    pub(crate) async fn serve(acceptor: AcceptorClient, then: StatusCode) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::default();
        let service = Service { acceptor, origin: origin.clone(), then, seen: Arc::clone(&seen) };
        let router = Router::new().fallback(answer).with_state(Arc::new(service));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { origin, seen }
    }

    /// The broker's answer about each request so far.
    pub(crate) fn seen(&self) -> Vec<pb::CheckResponse> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, String) {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let authorization = header("authorization");
    let Some(token) = authorization.strip_prefix("DPoP ") else {
        return (StatusCode::UNAUTHORIZED, "no token".to_owned());
    };
    let request = pb::CheckRequest {
        credential: Some(pb::check_request::Credential::Token(token.to_owned())),
        dpop: header("dpop"),
        method: method.to_string(),
        url: format!("{}{uri}", service.origin),
        ..Default::default()
    };
    match service.acceptor.check(request).await {
        Ok(verdict) => {
            service.seen.lock().unwrap().push(verdict.clone());
            if verdict.accepted {
                (service.then, format!("hello {}", verdict.workload))
            } else {
                (StatusCode::UNAUTHORIZED, verdict.reason)
            }
        }
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e:?}")),
    }
}
