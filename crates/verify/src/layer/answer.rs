//! What a refused request is answered: by HTTP as RFC 6750 and RFC 9449 say, by gRPC with `google.rpc.ErrorInfo`.
//!
//! It tells the stable reason, its meaning and the next step; of particulars only what is malformed in the request itself.

use std::collections::HashMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use mayfly_client::failure::{ERROR_DOMAIN, NEXT};
use mayfly_domain::reason::Status as Canonical;
use mayfly_domain::{Reason, Refusal};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A nonce for the next proof (RFC 9449, section 8.2).
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// The fact that says what is malformed.
const PROBLEM: &str = "problem";
/// What proofs may be signed with (RFC 9449, section 5.1).
const ALGORITHMS: &str = r#"algs="ES256 EdDSA""#;

/// What is wrong, in the terms of RFC 6750, section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Nothing was shown: no error, only the challenge.
    Nothing,
    /// The request is malformed.
    Request,
    /// The credential does not count, for this `error`.
    Credential(&'static str),
    /// The credential counts, but not for this.
    Scope,
    /// The credential counts, and policy says no.
    Policy,
    /// Nobody can say.
    Unknown,
}

impl Wrong {
    fn of(reason: Reason) -> Self {
        match reason {
            Reason::CredentialMissing => Self::Nothing,
            Reason::InputInvalid | Reason::TooLarge => Self::Request,
            Reason::ProofMissing | Reason::ProofInvalid | Reason::ProofReplayed => {
                Self::Credential("invalid_dpop_proof")
            }
            Reason::ProofNonce => Self::Credential("use_dpop_nonce"),
            Reason::TokenScope => Self::Scope,
            // What is said of the credential itself, though it is a rule that says so.
            Reason::TokenAudience | Reason::CertificateNotAllowed | Reason::LeaseOfAnother => {
                Self::Credential("invalid_token")
            }
            _ => match reason.status() {
                Canonical::PermissionDenied => Self::Policy,
                Canonical::Unavailable
                | Canonical::DeadlineExceeded
                | Canonical::Internal
                | Canonical::Aborted
                | Canonical::ResourceExhausted => Self::Unknown,
                _ => Self::Credential("invalid_token"),
            },
        }
    }

    fn code(self) -> Code {
        match self {
            Self::Nothing | Self::Request | Self::Credential(_) => Code::Unauthenticated,
            Self::Scope | Self::Policy => Code::PermissionDenied,
            Self::Unknown => Code::Unavailable,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Nothing | Self::Credential(_) => StatusCode::UNAUTHORIZED,
            Self::Request => StatusCode::BAD_REQUEST,
            Self::Scope | Self::Policy => StatusCode::FORBIDDEN,
            Self::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The challenge, where there is one.
    fn challenge(self, reason: Reason, scopes: &[&str]) -> Option<String> {
        let error = match self {
            Self::Nothing => return Some(format!("DPoP {ALGORITHMS}")),
            Self::Request => "invalid_request",
            Self::Credential(error) => error,
            Self::Scope => "insufficient_scope",
            Self::Policy | Self::Unknown => return None,
        };
        // Reasons, their meanings and scopes hold neither quotes nor backslashes.
        let mut out = format!(
            r#"DPoP error="{error}", error_description="{reason}: {}", {ALGORITHMS}"#,
            reason.meaning().replace(['"', '\\'], "'")
        );
        if self == Self::Scope {
            out.push_str(&format!(r#", scope="{}""#, scopes.join(" ")));
        }
        Some(out)
    }
}

/// The answer to a refused request. `nonce`: what the next proof must carry; `scopes`: what was demanded.
pub(super) fn refused(
    request: &HeaderMap,
    refusal: &Refusal,
    nonce: Option<&str>,
    scopes: &[&str],
) -> Response<Bytes> {
    let wrong = Wrong::of(refusal.reason);
    let mut response = if is_grpc(request) { grpc(wrong, refusal) } else { plain(wrong, refusal) };
    let headers = response.headers_mut();
    if let Some(challenge) = wrong.challenge(refusal.reason, scopes).and_then(value) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::from_str(nonce).ok()) {
        headers.insert(DPOP_NONCE, nonce);
    }
    response
}

fn value(text: String) -> Option<HeaderValue> {
    HeaderValue::try_from(text).ok()
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// What ends a gRPC stream whose credential died.
pub(super) fn trailers(refusal: &Refusal) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // What does not fit into a header is left out; the code always does.
    let _ = grpc_status(refusal).add_header(&mut trailers);
    trailers
}

/// The status of a refused gRPC call.
pub(super) fn grpc_status(refusal: &Refusal) -> Status {
    status(Wrong::of(refusal.reason), refusal)
}

fn grpc(wrong: Wrong, refusal: &Refusal) -> Response<Bytes> {
    status(wrong, refusal).into_http()
}

fn status(wrong: Wrong, refusal: &Refusal) -> Status {
    let reason = refusal.reason;
    let mut told = HashMap::from([(NEXT.to_owned(), reason.next().to_owned())]);
    if let Some(problem) = problem(wrong, refusal) {
        told.insert(PROBLEM.to_owned(), problem);
    }
    let mut details = ErrorDetails::with_error_info(reason.as_str(), ERROR_DOMAIN, told);
    if let Some(wait) = refusal.retry_after {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(wrong.code(), reason.meaning(), details)
}

/// What is malformed, in printable ASCII.
fn problem(wrong: Wrong, refusal: &Refusal) -> Option<String> {
    let (_, said) = refusal.facts.iter().find(|(name, _)| wrong == Wrong::Request && *name == PROBLEM)?;
    Some(said.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect())
}

fn plain(wrong: Wrong, refusal: &Refusal) -> Response<Bytes> {
    let reason = refusal.reason;
    // Nothing in these texts needs escaping but what `{:?}` escapes in the same way.
    let problem = problem(wrong, refusal).map_or_else(String::new, |p| format!(r#""{PROBLEM}":{p:?},"#));
    let told = format!(
        r#"{{"reason":{:?},"message":{:?},{problem}"next":{:?}}}"#,
        reason.as_str(),
        reason.meaning(),
        reason.next()
    );
    let mut response = Response::new(Bytes::from(told));
    *response.status_mut() = wrong.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mayfly_client::Failure;

    use super::*;

    fn http(reason: Reason) -> Response<Bytes> {
        refused(&HeaderMap::new(), &reason.into(), Some("n-1"), &["deploy:write"])
    }

    fn header(response: &Response<Bytes>, name: impl http::header::AsHeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn each_kind_of_refusal_has_its_status_and_its_challenge() {
        for (reason, status, challenge) in [
            (Reason::CredentialMissing, 401, r#"DPoP algs="ES256 EdDSA""#),
            (Reason::LeaseRevoked, 401, r#"DPoP error="invalid_token", error_description="LEASE_REVOKED: "#),
            (Reason::TokenAudience, 401, r#"DPoP error="invalid_token","#),
            (Reason::SignerWithdrawn, 401, r#"DPoP error="invalid_token","#),
            (Reason::ProofReplayed, 401, r#"DPoP error="invalid_dpop_proof","#),
            (Reason::ProofNonce, 401, r#"DPoP error="use_dpop_nonce","#),
            (Reason::InputInvalid, 400, r#"DPoP error="invalid_request","#),
            (Reason::TokenScope, 403, r#"DPoP error="insufficient_scope","#),
            (Reason::PolicyDenied, 403, ""),
            (Reason::StoreUnavailable, 503, ""),
            (Reason::BrokerUnreachable, 503, ""),
        ] {
            let response = http(reason);
            assert_eq!(response.status().as_u16(), status, "{reason}");
            let told = header(&response, WWW_AUTHENTICATE);
            assert!(
                told.starts_with(challenge) && told.is_empty() == challenge.is_empty(),
                "{reason}: {told}"
            );
            assert_eq!(header(&response, DPOP_NONCE), "n-1");
        }
        assert!(header(&http(Reason::TokenScope), WWW_AUTHENTICATE).ends_with(r#", scope="deploy:write""#));
    }

    #[test]
    fn every_reason_is_told_in_json_and_in_a_challenge_that_parses() {
        for reason in Reason::ALL {
            let response = http(*reason);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["reason"], reason.as_str());
            assert_eq!(body["next"], reason.next());
            let quotes = header(&response, WWW_AUTHENTICATE).matches('"').count();
            assert!(quotes.is_multiple_of(2), "{reason}");
        }
    }

    #[test]
    fn what_is_malformed_is_named_and_no_other_particulars_are() {
        let mut grpc = HeaderMap::new();
        grpc.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for (reason, expected) in
            [(Reason::InputInvalid, Some("a \"book\" of \\?")), (Reason::LeaseRevoked, None)]
        {
            let refusal = Refusal::from(reason).fact("problem", "a \"book\" of \\\u{7}").fact("other", "x");
            let response = refused(&HeaderMap::new(), &refusal, None, &[]);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body.get("problem").and_then(|p| p.as_str()), expected);
            assert_eq!(body.get("other"), None);
            let answer = refused(&grpc, &refusal, None, &[]);
            let failure = Failure::from(Status::from_header_map(answer.headers()).unwrap());
            let told = failure.facts.iter().find(|(name, _)| name == "problem").map(|(_, said)| &**said);
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_grpc_call_gets_a_status_that_clients_decode() {
        let mut request = HeaderMap::new();
        request.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        for (reason, code) in [
            (Reason::LeaseRevoked, Code::Unauthenticated),
            (Reason::CredentialMissing, Code::Unauthenticated),
            (Reason::TokenScope, Code::PermissionDenied),
            (Reason::StoreUnavailable, Code::Unavailable),
        ] {
            let refusal = Refusal::new(reason, "particulars").after(Duration::from_millis(1_500));
            let response = refused(&request, &refusal, None, &[]);
            assert_eq!(response.status(), StatusCode::OK);
            assert!(response.body().is_empty());
            let status = Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), code, "{reason}");
            let failure = Failure::from(status);
            assert!(failure.is(reason));
            assert_eq!(failure.next.as_ref(), reason.next());
            assert_eq!(failure.retry_after, Some(Duration::from_millis(1_500)));
            assert!(!format!("{failure:?}").contains("particulars"));
        }
    }
}
