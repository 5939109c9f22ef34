//! The issuer's HTTP face: its keys, and the endpoint from which a GitHub Actions job asks for its tokens.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use mayfly_domain::time::SharedClock;
use serde_json::{Value, json};

use crate::{JobTokens, StandIn};

#[derive(Debug)]
struct Face {
    issuer: Arc<StandIn>,
    tokens: JobTokens,
    clock: SharedClock,
}

/// Serves `GET /jwks` and `GET /token?audience=…`. The latter is what `ACTIONS_ID_TOKEN_REQUEST_URL` names: it
/// wants `Authorization: bearer` with a token of [`JobTokens`] and answers `{"value": TOKEN}`.
pub fn router(issuer: Arc<StandIn>, tokens: JobTokens, clock: SharedClock) -> Router {
    let face = Face { issuer, tokens, clock };
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
    let job = shown.and_then(|(_, token)| face.tokens.job(token)).ok_or(StatusCode::UNAUTHORIZED)?;
    let query = query.unwrap_or_default();
    let asked = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "audience");
    let audience = match asked {
        Some((_, audience)) => audience.into_owned(),
        None => format!("https://github.com/{}", job.organisation.0),
    };
    let token = face.issuer.github_token(&job, &audience, face.clock.now());
    token.map(|value| Json(json!({ "value": value }))).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use mayfly_domain::SystemClock;
    use tower::ServiceExt as _;

    use super::*;
    use crate::Job;

    #[tokio::test]
    async fn a_job_gets_its_token_only_with_its_request_token() {
        let key = StandIn::generate().unwrap();
        let asked = JobTokens::new(&key).token(&Job { run_id: "7".to_owned(), ..Job::default() });
        let router =
            router(Arc::new(StandIn::new(&key).unwrap()), JobTokens::new(&key), Arc::new(SystemClock));
        let ask = async |authorization: String| {
            let request = axum::http::Request::get("/token?api-version=2.0&audience=acme.internal%23k")
                .header(header::AUTHORIZATION, authorization)
                .body(axum::body::Body::empty())
                .unwrap();
            router.clone().oneshot(request).await.unwrap()
        };
        assert_eq!(ask("bearer wrong".to_owned()).await.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(ask(format!("basic {asked}")).await.status(), StatusCode::UNAUTHORIZED);
        let answer = ask(format!("Bearer {asked}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body = axum::body::to_bytes(answer.into_body(), 16_384).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let payload = body["value"].as_str().unwrap().split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!((&claims["aud"], &claims["run_id"]), (&json!("acme.internal#k"), &json!("7")));
    }
}
