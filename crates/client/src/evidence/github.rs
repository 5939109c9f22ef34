//! The ID token service of GitHub Actions.
//!
//! The request token is sent to the URL that the runner gave and nowhere else: no redirect is followed, and
//! plain HTTP only to this machine (the stand-in of `mayfly dev`).

use std::sync::Arc;
use std::time::Duration;

use mayfly_domain::{Reason, Refusal, Secret, TrustDomain};
use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use crate::env::Env;
use crate::keys::KeyScope;

/// The variable with the URL of the service.
pub(super) const URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
/// The variable with the token for it.
pub(super) const TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in octets.
const ANSWER_OCTETS_MAX: usize = 32 * 1024;

/// The service as the runner describes it.
#[derive(Debug)]
pub struct Service {
    url: Url,
    token: Secret<String>,
    task: String,
}

#[derive(Deserialize)]
struct Answer {
    value: String,
}

impl Service {
    /// The service, where `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN` are set.
    pub(super) fn discover(env: &Env) -> Result<Option<Self>, Refusal> {
        let names = [URL, TOKEN];
        let [Some(url), Some(token)] = names.map(|name| env.var(name)) else { return Ok(None) };
        let no =
            |why: &str| Refusal::from(Reason::NoEvidence).fact("variable", names[0]).fact("problem", why);
        let url = Url::parse(&url).map_err(|_| no("is not a URL"))?;
        match url.scheme() {
            "https" => {}
            "http" if super::is_loopback(&url) => {}
            _ => return Err(no("must be https")),
        }
        let ids = ["GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB"];
        let task = ids.map(|name| env.var(name).unwrap_or_default()).join("\n");
        Ok(Some(Self { url, token: Secret::new(token), task }))
    }

    /// What the key of this job belongs to. Known before the first token, since that is made for the key.
    pub(super) fn scope(&self, trust_domain: &TrustDomain) -> KeyScope {
        KeyScope {
            trust_domain: trust_domain.clone(),
            issuer: format!("github-actions {}", self.url.authority()),
            task: self.task.clone(),
        }
    }

    /// A new token with this audience.
    pub(super) async fn token(&self, audience: &str) -> Result<String, Refusal> {
        let unavailable = |why: &str| Refusal::from(Reason::IssuerUnavailable).fact("problem", why);
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("audience", audience);
        let request = client(super::is_loopback(&url))?
            .get(url)
            .bearer_auth(self.token.expose())
            .header("accept", "application/json; api-version=2.0");
        // The error's own text names the URL, which holds ids of the run: only its kind is passed on.
        let mut answer = request
            .send()
            .await
            .map_err(|_| unavailable("the ID token service of GitHub Actions does not answer"))?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                return Err(Refusal::from(Reason::NoEvidence)
                    .fact("status", status.as_u16().to_string())
                    .fact(
                        "found",
                        "GitHub's ID token service refuses: add `permissions: id-token: write` to the job",
                    ));
            }
            status => {
                return Err(unavailable("GitHub's ID token service failed")
                    .fact("status", status.as_u16().to_string()));
            }
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| unavailable("the answer broke off"))? {
            if body.len() + chunk.len() > ANSWER_OCTETS_MAX {
                return Err(unavailable("the answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| unavailable("the answer is not as documented"))?;
        Ok(answer.value)
    }
}

fn client(loopback: bool) -> Result<reqwest::Client, Refusal> {
    let no = |e: &dyn std::fmt::Display| Refusal::new(Reason::Internal, e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&provider)).map_err(|e| no(&e))?;
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| no(&e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT);
    let builder = if loopback { builder.no_proxy() } else { builder };
    builder.build().map_err(|e| no(&e))
}
