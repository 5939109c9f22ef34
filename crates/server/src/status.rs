//! The one map from refusals to gRPC statuses.
//!
//! The caller learns the stable reason, its meaning, the request id, the next step and the refusal's public
//! facts; the detail is for operators and must never pass through here.

use std::collections::HashMap;

use mayfly_domain::reason::Status as Canonical;
use mayfly_domain::{Reason, Refusal};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use mayfly_broker::RequestId;

/// The domain of every `google.rpc.ErrorInfo` that a broker sends.
pub const DOMAIN: &str = "mayfly";
/// The key of the request id in the info's metadata.
pub const META_REQUEST: &str = "request";
/// The key of the next step.
pub const META_NEXT: &str = "next";

/// The status that tells a caller of a refusal.
pub fn status(refusal: &Refusal, request: RequestId) -> Status {
    let request = request.to_string();
    let mut metadata: HashMap<String, String> =
        refusal.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    metadata.insert(META_NEXT.to_owned(), refusal.reason.next().replace("REQUEST-ID", &request));
    metadata.insert(META_REQUEST.to_owned(), request);
    let mut details = ErrorDetails::with_error_info(refusal.reason.as_str(), DOMAIN, metadata);
    if let Some(wait) = refusal.retry_after {
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(code(refusal.reason), refusal.reason.meaning(), details)
}

/// The canonical code of a reason.
pub fn code(reason: Reason) -> Code {
    match reason.status() {
        Canonical::InvalidArgument => Code::InvalidArgument,
        Canonical::Unauthenticated => Code::Unauthenticated,
        Canonical::PermissionDenied => Code::PermissionDenied,
        Canonical::NotFound => Code::NotFound,
        Canonical::FailedPrecondition => Code::FailedPrecondition,
        Canonical::Aborted => Code::Aborted,
        Canonical::ResourceExhausted => Code::ResourceExhausted,
        Canonical::Unavailable => Code::Unavailable,
        Canonical::DeadlineExceeded => Code::DeadlineExceeded,
        Canonical::Internal => Code::Internal,
    }
}

/// The reason that a status carries, where it is one of ours.
pub fn reason(status: &Status) -> Option<Reason> {
    let info = status.get_details_error_info()?;
    if info.domain == DOMAIN { Reason::parse(&info.reason) } else { None }
}

/// What a status of another broker's service told.
pub(crate) fn refusal(status: &Status) -> Refusal {
    let reason = reason(status).unwrap_or(Reason::BrokerUnreachable);
    let problem = status.get_details_error_info().and_then(|info| info.metadata.get("problem").cloned());
    let refusal = Refusal::new(reason, status.message());
    match problem {
        Some(problem) => refusal.fact("problem", problem),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mayfly_domain::UnixMillis;

    use super::*;

    fn id() -> RequestId {
        RequestId::new(UnixMillis(1_800_000_000_000))
    }

    #[test]
    fn every_reason_is_told_with_its_meaning_and_next_step() {
        for reason in Reason::ALL {
            let id = id();
            let refusal =
                Refusal::new(*reason, "the particulars of hunter2").fact("issuer", "https://i.example");
            let told = status(&refusal, id);
            assert_ne!(told.code(), Code::Ok);
            assert_ne!(told.code(), Code::Unknown);
            assert_eq!(told.message(), reason.meaning());
            let info = told.get_details_error_info().unwrap();
            assert_eq!((info.domain.as_str(), info.reason.as_str()), ("mayfly", reason.as_str()));
            assert_eq!(info.metadata["issuer"], "https://i.example");
            assert_eq!(info.metadata["request"], id.to_string());
            assert!(!info.metadata["next"].is_empty() && !info.metadata["next"].contains("REQUEST-ID"));
            assert_eq!(super::reason(&told), Some(*reason));
            assert!(told.get_details_retry_info().is_none());
        }
    }

    #[test]
    fn the_detail_stays_inside() {
        let refusal = Refusal::new(Reason::NoTrustRule, "rule payments: ref is hunter2");
        let told = status(&refusal, id());
        let response = told.clone().into_http::<String>();
        let headers = format!("{:?} {}", response.headers(), String::from_utf8_lossy(told.details()));
        assert!(!headers.contains("hunter2"), "{headers}");
        assert!(
            told.get_details_error_info().unwrap().metadata["next"]
                .starts_with("ask an operator to run: mayfly why 0")
        );
    }

    #[test]
    fn a_wait_is_told_exactly() {
        let told = status(&Refusal::from(Reason::QuotaRate).after(Duration::from_millis(1_250)), id());
        assert_eq!(told.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(1_250)));
    }

    #[test]
    fn a_fact_does_not_replace_the_request_or_the_next_step() {
        let id = id();
        let told =
            status(&Refusal::from(Reason::Blocked).fact("request", "forged").fact("next", "forged"), id);
        let info = told.get_details_error_info().unwrap();
        assert_eq!(info.metadata["request"], id.to_string());
        assert_ne!(info.metadata["next"], "forged");
    }
}
