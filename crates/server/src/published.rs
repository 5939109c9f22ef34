//! What anybody may fetch over HTTPS: the token keys (JWKS), the root, and the bundle that verifies workloads.
//!
//! Read where they are kept at each request: a key that signs must never be missing here, even for a moment.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use mayfly_domain::Refusal;

/// The documents in force.
#[derive(Debug, Clone)]
pub struct Documents {
    /// A JWK Set (RFC 7517 section 5).
    pub jwks: Bytes,
    /// The CA certificates, PEM.
    pub ca_pem: Bytes,
    /// What verifies workloads' certificates, in SPIFFE's format (SPIFFE Trust Domain and Bundle section 4).
    pub bundle: Bytes,
}

/// Publishes what a source has in force.
#[derive(Clone)]
pub struct Published {
    source: Arc<dyn Fn() -> Documents + Send + Sync>,
    fresh: Arc<dyn Fn() -> Result<(), Refusal> + Send + Sync>,
}

impl Published {
    /// Publishes what `source` gives at each request; the keys only while `fresh` refuses nothing: a broker that could
    /// have missed the withdrawal of a key must not vouch for it.
    pub fn new(
        source: impl Fn() -> Documents + Send + Sync + 'static,
        fresh: impl Fn() -> Result<(), Refusal> + Send + Sync + 'static,
    ) -> Self {
        Self { source: Arc::new(source), fresh: Arc::new(fresh) }
    }

    fn keys(&self, kind: &'static str, body: impl FnOnce(Documents) -> Bytes) -> Response {
        match (self.fresh)() {
            Ok(()) => document(kind, body((self.source)())),
            Err(refusal) => unavailable(&refusal),
        }
    }

    /// The routes `/.well-known/jwks.json`, `/v1/ca.pem` and `/v1/bundle.json`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/.well-known/jwks.json", get(jwks))
            .route("/v1/ca.pem", get(ca_pem))
            .route("/v1/bundle.json", get(bundle))
            .with_state(self.clone())
    }
}

async fn jwks(State(published): State<Published>) -> Response {
    published.keys("application/jwk-set+json", |documents| documents.jwks)
}

async fn ca_pem(State(published): State<Published>) -> Response {
    document("application/pem-certificate-chain", (published.source)().ca_pem)
}

async fn bundle(State(published): State<Published>) -> Response {
    published.keys("application/json", |documents| documents.bundle)
}

fn document(kind: &'static str, body: Bytes) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=60")], body).into_response()
}

/// 503 (RFC 9110 section 15.6.4), never to be kept.
fn unavailable(refusal: &Refusal) -> Response {
    let wait = refusal.retry_after.map_or(1, |wait| wait.as_secs().max(1));
    let body = serde_json::json!({ "reason": refusal.reason.as_str(), "message": refusal.reason.meaning() });
    let heads = [
        (CONTENT_TYPE, "application/json".to_owned()),
        (CACHE_CONTROL, "no-store".to_owned()),
        (RETRY_AFTER, wait.to_string()),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, heads, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use mayfly_domain::Reason;

    use super::*;

    #[tokio::test]
    async fn keys_are_published_only_while_nothing_could_have_been_missed() {
        let documents =
            || Documents { jwks: Bytes::from_static(b"{}"), ca_pem: Bytes::new(), bundle: Bytes::new() };
        let stale = Published::new(documents, || Err(Reason::BrokerNotFresh.into()));
        for response in [jwks(State(stale.clone())).await, bundle(State(stale.clone())).await] {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(
                (&response.headers()[RETRY_AFTER], &response.headers()[CACHE_CONTROL]),
                (&"1".parse().unwrap(), &"no-store".parse().unwrap())
            );
        }
        assert_eq!(ca_pem(State(stale)).await.status(), StatusCode::OK, "the root is pinned, not withdrawn");
        let fresh = Published::new(documents, || Ok(()));
        assert_eq!(jwks(State(fresh)).await.status(), StatusCode::OK);
    }
}
