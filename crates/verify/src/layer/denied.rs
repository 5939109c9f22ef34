//! What a handler that refuses by itself answers: the same as the layer does.

use http::HeaderMap;
use mayfly_domain::{Invalid, Refusal};

use super::answer;

/// A refusal as the answer of an axum handler, or as a gRPC status. It tells the reason, its meaning and the next step, and of
/// particulars only what is malformed in the request itself.
#[derive(Debug, Clone)]
pub struct Denied(pub Refusal);

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<Invalid> for Denied {
    fn from(invalid: Invalid) -> Self {
        Self(invalid.into())
    }
}

impl axum_core::response::IntoResponse for Denied {
    fn into_response(self) -> axum_core::response::Response {
        let scopes = self.0.facts.iter().filter(|(name, _)| *name == "scopes");
        let scopes: Vec<&str> = scopes.map(|(_, value)| value.as_str()).collect();
        answer::refused(&HeaderMap::new(), &self.0, None, &scopes).map(Into::into)
    }
}

impl From<Denied> for tonic::Status {
    fn from(denied: Denied) -> Self {
        answer::grpc_status(&denied.0)
    }
}

#[cfg(test)]
mod tests {
    use axum_core::response::IntoResponse as _;
    use http::header::WWW_AUTHENTICATE;
    use mayfly_client::Failure;
    use mayfly_domain::Reason;

    use super::*;

    #[test]
    fn a_handler_refuses_as_the_layer_does() {
        let lacks = Refusal::from(Reason::TokenScope).fact("scopes", "ledger:read ledger:write");
        let answer = Denied::from(lacks).into_response();
        assert_eq!(answer.status(), 403);
        let challenge = answer.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.ends_with(r#", scope="ledger:read ledger:write""#), "{challenge}");
        let malformed = Denied::from(Invalid::new("resource", "x", "is none")).into_response();
        assert_eq!(malformed.status(), 400);
        let status = tonic::Status::from(Denied::from(Refusal::from(Reason::OutsideIntent)));
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert!(Failure::from(status).is(Reason::OutsideIntent));
    }
}
