//! What anybody may fetch over HTTPS: the token keys (JWKS) and the CA bundle.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

/// The documents in force. Clones publish the same.
#[derive(Debug, Clone)]
pub struct Published(Arc<Documents>);

#[derive(Debug)]
struct Documents {
    jwks: ArcSwap<Bytes>,
    ca_pem: ArcSwap<Bytes>,
}

impl Published {
    /// Publishes a JWK Set (RFC 7517 section 5) and the PEM of the CA certificates.
    pub fn new(jwks: String, ca_pem: String) -> Self {
        Self(Arc::new(Documents {
            jwks: ArcSwap::from_pointee(Bytes::from(jwks)),
            ca_pem: ArcSwap::from_pointee(Bytes::from(ca_pem)),
        }))
    }

    /// Publishes another JWK Set.
    pub fn set_jwks(&self, jwks: String) {
        self.0.jwks.store(Arc::new(Bytes::from(jwks)));
    }

    /// Publishes other CA certificates.
    pub fn set_ca_pem(&self, ca_pem: String) {
        self.0.ca_pem.store(Arc::new(Bytes::from(ca_pem)));
    }

    /// The routes `/.well-known/jwks.json` and `/v1/ca.pem`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/.well-known/jwks.json", get(jwks))
            .route("/v1/ca.pem", get(ca_pem))
            .with_state(self.clone())
    }
}

async fn jwks(State(published): State<Published>) -> impl IntoResponse {
    let body = Bytes::clone(&published.0.jwks.load());
    ([(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=60")], body)
}

async fn ca_pem(State(published): State<Published>) -> impl IntoResponse {
    let body = Bytes::clone(&published.0.ca_pem.load());
    ([(CONTENT_TYPE, "application/pem-certificate-chain"), (CACHE_CONTROL, "public, max-age=60")], body)
}
