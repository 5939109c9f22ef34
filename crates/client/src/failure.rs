//! A call that did not succeed, as the caller may know it: decoded from `google.rpc`, or found on this side.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::time::Duration;

use mayfly_domain::text::is_deceptive;
use mayfly_domain::{Reason, Refusal};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::channel::Unconnected;

/// What a broker's TLS says of a certificate that it does not accept.
const ALERTS: [&str; 7] = [
    "alert: BadCertificate",
    "alert: UnsupportedCertificate",
    "alert: CertificateRevoked",
    "alert: CertificateExpired",
    "alert: CertificateUnknown",
    "alert: UnknownCA",
    "alert: AccessDenied",
];

/// The domain of Mayfly's `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "mayfly";
/// The metadata key of the request id.
pub const REQUEST: &str = "request";
/// The metadata key of the next step.
pub const NEXT: &str = "next";

/// Why a call failed: the four parts that a person sees, and whether to try again.
///
/// Every text is bounded and free of control and bidirectional characters, whatever the other side sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// The stable code of the reason, kept as it came where this version does not know it.
    pub code: Cow<'static, str>,
    /// The reason, where this version knows it.
    pub reason: Option<Reason>,
    /// What it means, in one sentence.
    pub message: Box<str>,
    /// Facts, in the order of their names.
    pub facts: Vec<(String, String)>,
    /// The id of the request, by which an operator finds it.
    pub request: Option<Box<str>>,
    /// What to do.
    pub next: Box<str>,
    /// How long to wait before trying again, where the broker said so.
    pub retry_after: Option<Duration>,
    /// The exit code of the command line.
    pub exit_code: u8,
}

impl Failure {
    /// Adds a fact.
    #[must_use]
    pub fn fact(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.facts.push((clean(name, 64), clean(value.as_ref(), 1_024)));
        self
    }

    /// Replaces the next step.
    #[must_use]
    pub fn next(mut self, next: impl AsRef<str>) -> Self {
        self.next = clean(next.as_ref(), 1_024).into();
        self
    }

    /// Whether it is for this reason.
    pub fn is(&self, reason: Reason) -> bool {
        self.reason == Some(reason)
    }

    /// Whether the same call may be tried again without anybody changing anything: for a quota only where the
    /// broker said how long to wait.
    pub fn may_retry(&self) -> bool {
        match self.reason {
            Some(Reason::QuotaLeases | Reason::QuotaRate | Reason::RateLimited) => self.retry_after.is_some(),
            Some(reason) => reason.retry(),
            None => self.retry_after.is_some(),
        }
    }

    /// The failure for a reason of the broker's list that was found on this side.
    pub fn of(reason: Reason) -> Self {
        Self {
            code: Cow::Borrowed(reason.as_str()),
            reason: Some(reason),
            message: reason.meaning().into(),
            facts: Vec::new(),
            request: None,
            next: reason.next().into(),
            retry_after: None,
            exit_code: reason.exit_code(),
        }
    }

    fn decode(status: &Status) -> Option<Self> {
        let details = status.get_error_details();
        let info = details.error_info().filter(|i| i.domain == ERROR_DOMAIN)?;
        let mut out = match Reason::parse(&info.reason) {
            Some(reason) => Self::of(reason),
            None => Self {
                code: Cow::Owned(clean(&info.reason, 64)),
                reason: None,
                message: clean(status.message(), 512).into(),
                facts: Vec::new(),
                request: None,
                next: Box::default(),
                retry_after: None,
                exit_code: exit_code(status.code()),
            },
        };
        let mut facts: Vec<_> = info.metadata.iter().take(32).collect();
        facts.sort();
        for (name, value) in facts {
            match name.as_str() {
                REQUEST => out.request = Some(clean(value, 64).into()),
                NEXT => out.next = clean(value, 1_024).into(),
                _ => out.facts.push((clean(name, 64), clean(value, 1_024))),
            }
        }
        out.retry_after = details.retry_info().and_then(|r| r.retry_delay);
        Some(out)
    }
}

/// The exit code for a reason that only a newer broker knows.
fn exit_code(code: Code) -> u8 {
    match code {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => 2,
        Code::Unauthenticated | Code::PermissionDenied => 3,
        Code::NotFound => 4,
        Code::FailedPrecondition => 5,
        Code::ResourceExhausted => 6,
        _ => 7,
    }
}

/// Text of another machine, made safe for a terminal and cut to `max` characters.
pub fn clean(text: &str, max: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(max) {
        if is_deceptive(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::of(reason)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let mut out = Self::of(refusal.reason);
        for (name, value) in &refusal.facts {
            out = out.fact(name, value);
        }
        out.retry_after = refusal.retry_after;
        out
    }
}

impl From<mayfly_domain::Invalid> for Failure {
    fn from(e: mayfly_domain::Invalid) -> Self {
        Refusal::from(e).into()
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(decoded) = Self::decode(&status) {
            return decoded;
        }
        if let Some(broken) = status.source().and_then(Unconnected::within) {
            return broken.into();
        }
        let detail = clean(status.message(), 256);
        match status.code() {
            Code::Unknown if status.source().is_some_and(|e| e.is::<tonic::transport::Error>()) => {
                let why = deepest(&status).map(ToString::to_string).unwrap_or(detail);
                // TLS 1.3 tells a client only after the handshake that its certificate was refused, and the
                // transport keeps of that alert (RFC 8446, section 6.2) nothing but its text.
                let refused = ALERTS.iter().any(|alert| why.contains(alert));
                let reason = if refused { Reason::CertificateNotAllowed } else { Reason::BrokerUnreachable };
                Self::of(reason).fact("detail", why)
            }
            Code::Unavailable => Self::of(Reason::BrokerUnreachable).fact("detail", detail),
            // A deadline that passed on this side is reported by the transport as a cancellation.
            Code::DeadlineExceeded | Code::Cancelled => Self::of(Reason::Deadline),
            Code::Unimplemented => Self::of(Reason::InputInvalid)
                .fact("problem", "the broker does not know this call")
                .next("use a broker and a client of the same version"),
            Code::ResourceExhausted | Code::OutOfRange => Self::of(Reason::TooLarge).fact("detail", detail),
            code => Self::of(Reason::Internal).fact("status", format!("{code:?}")).fact("detail", detail),
        }
    }
}

/// The first cause of what a transport says.
fn deepest(status: &Status) -> Option<&(dyn StdError + 'static)> {
    let mut at = status.source()?;
    while let Some(below) = at.source() {
        at = below;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(reason: &str, wait: Option<u64>, meta: &[(&str, &str)]) -> Failure {
        let meta: HashMap<String, String> =
            meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, ERROR_DOMAIN, meta);
        if let Some(ms) = wait {
            details.set_retry_info(Some(Duration::from_millis(ms)));
        }
        Status::with_error_details(Code::PermissionDenied, "said", details).into()
    }

    #[test]
    fn a_refusal_keeps_its_parts() {
        let f = refused(
            "NO_TRUST_RULE",
            Some(250),
            &[("request", "r-1"), ("next", "ask"), ("issuer", "https://i\u{1b}[31m"), ("a", "b")],
        );
        assert!(f.is(Reason::NoTrustRule));
        assert_eq!((f.request.as_deref(), f.next.as_ref(), f.exit_code), (Some("r-1"), "ask", 3));
        assert_eq!(f.retry_after, Some(Duration::from_millis(250)));
        assert_eq!(f.facts[0], ("a".into(), "b".into()));
        assert_eq!(f.facts[1].1, "https://i\\u{1b}[31m");
    }

    #[test]
    fn a_newer_brokers_reason_keeps_its_code() {
        let f = refused("SOMETHING_NEW", None, &[]);
        assert_eq!(
            (f.code.as_ref(), f.reason, f.exit_code, f.message.as_ref()),
            ("SOMETHING_NEW", None, 3, "said")
        );
        assert!(!f.may_retry());
    }

    #[test]
    fn a_quota_is_retried_only_when_told_how_long() {
        assert!(!refused("QUOTA_RATE", None, &[]).may_retry());
        assert!(refused("QUOTA_RATE", Some(10), &[]).may_retry());
        assert!(refused("STORE_UNAVAILABLE", None, &[]).may_retry());
        assert!(!refused("BLOCKED", None, &[]).may_retry());
    }

    #[test]
    fn a_status_without_details_is_still_one_of_the_reasons() {
        for (status, reason) in [
            (Status::unavailable("x"), Reason::BrokerUnreachable),
            (Status::deadline_exceeded("x"), Reason::Deadline),
            (Status::cancelled("Timeout expired"), Reason::Deadline),
            (Status::unimplemented("x"), Reason::InputInvalid),
            (Status::internal("x"), Reason::Internal),
        ] {
            assert!(Failure::from(status).is(reason), "{reason}");
        }
    }
}
