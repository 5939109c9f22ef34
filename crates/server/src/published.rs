//! What anybody may fetch over HTTPS: the token keys (JWKS), the root, and the bundle that verifies workloads.
//!
//! Read where they are kept at each request: a key that signs must never be missing here, even for a moment.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

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
pub struct Published(Arc<dyn Fn() -> Documents + Send + Sync>);

impl Published {
    /// Publishes what `source` gives at each request.
    pub fn new(source: impl Fn() -> Documents + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
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

async fn jwks(State(published): State<Published>) -> impl IntoResponse {
    let body = (published.0)().jwks;
    ([(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=60")], body)
}

async fn ca_pem(State(published): State<Published>) -> impl IntoResponse {
    let body = (published.0)().ca_pem;
    ([(CONTENT_TYPE, "application/pem-certificate-chain"), (CACHE_CONTROL, "public, max-age=60")], body)
}

async fn bundle(State(published): State<Published>) -> impl IntoResponse {
    let body = (published.0)().bundle;
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=60")], body)
}
