//! The issuer's HTTP face: the key set, and the endpoint from which a GitHub Actions job asks for its token.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use mayfly_domain::time::SharedClock;
use serde_json::{Value, json};

use super::{Job, StandInIssuer};

#[derive(Debug)]
struct Face {
    issuer: Arc<StandInIssuer>,
    clock: SharedClock,
    job: Job,
    request_token: String,
}

/// Serves `GET /jwks` and `GET /token?audience=…`. The latter is what `ACTIONS_ID_TOKEN_REQUEST_URL` names: it
/// wants `Authorization: bearer` with `request_token` (`ACTIONS_ID_TOKEN_REQUEST_TOKEN`) and answers
/// `{"value": TOKEN}` with a token of `job`.
pub fn router(issuer: Arc<StandInIssuer>, clock: SharedClock, job: Job, request_token: &str) -> Router {
    let face = Face { issuer, clock, job, request_token: request_token.to_owned() };
    Router::new().route("/jwks", get(jwks)).route("/token", get(token)).with_state(Arc::new(face))
}

async fn jwks(State(face): State<Arc<Face>>) -> Json<Value> {
    Json(face.issuer.jwks())
}

async fn token(
    State(face): State<Arc<Face>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let shown = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let shown = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if shown.is_none_or(|(_, token)| token != face.request_token) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let query = query.unwrap_or_default();
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "audience");
    let audience = match asked {
        Some((_, audience)) => audience.into_owned(),
        None => format!("https://github.com/{}", face.job.organisation.0),
    };
    Ok(Json(json!({ "value": face.issuer.github_token(&face.job, &audience, face.clock.now()) })))
}
