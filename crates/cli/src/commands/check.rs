//! `mayfly check`: whether a credential should be accepted now, as an acceptor asks.

use clap::Args;
use mayfly_domain::{LeaseId, Reason, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;
use url::Url;

use super::proof::token;
use crate::output::{Human, Moment, View};
use crate::session::{Outcome, Session};

/// Ask whether a credential should be accepted now
///
/// Needs a context with an acceptor's certificate. Without a lease the token is read from MAYFLY_TOKEN, else
/// from standard input. Exit code 0: accept; anything else: refuse.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly check 0199b1c4-7e5c-7aa3-9f2e-0c6a51d2b9f0
  echo \"$TOKEN\" | mayfly check --dpop \"$PROOF\" --method POST --url https://deploy.acme.internal/run")]
pub(crate) struct Check {
    /// A lease whose token and proof were verified already
    #[arg(conflicts_with_all = ["dpop", "method", "url"])]
    lease: Option<LeaseId>,
    /// The DPoP proof that came with the token
    #[arg(long, value_name = "PROOF", requires_all = ["method", "url"])]
    dpop: Option<String>,
    /// The method of the request that the proof is for
    #[arg(long)]
    method: Option<String>,
    /// The URL of the request that the proof is for
    #[arg(long)]
    url: Option<Url>,
}

#[derive(Serialize)]
struct Verdict {
    accepted: bool,
    reason: String,
    lease: String,
    workload: String,
    owners: Vec<String>,
    task: String,
    intent: String,
    profile: String,
    scopes: Vec<String>,
    expires: Moment,
    request: String,
}

impl View for Verdict {
    fn human(&self, now: UnixMillis) -> Human {
        let verdict = if self.accepted { "accepted" } else { "refused" };
        Human::Fields(vec![
            ("verdict", verdict.to_owned()),
            ("reason", self.reason.clone()),
            ("lease", self.lease.clone()),
            ("workload", self.workload.clone()),
            ("owners", self.owners.join(", ")),
            ("task", self.task.clone()),
            ("intent", self.intent.clone()),
            ("profile", self.profile.clone()),
            ("scopes", self.scopes.join(" ")),
            ("expires", self.expires.human(now)),
            ("request", self.request.clone()),
        ])
    }
}

impl Verdict {
    /// Zero to accept; a refusal has the code of its reason, and never zero.
    fn exit_code(&self) -> u8 {
        match Reason::parse(&self.reason) {
            _ if self.accepted => 0,
            Some(reason) => reason.exit_code(),
            None => 3,
        }
    }
}

impl From<pb::CheckResponse> for Verdict {
    fn from(r: pb::CheckResponse) -> Self {
        Self {
            accepted: r.accepted,
            reason: r.reason,
            lease: r.lease,
            workload: r.workload,
            owners: r.owners,
            task: r.task,
            intent: r.intent,
            profile: r.profile,
            scopes: r.scopes,
            expires: Moment(r.expires_ms),
            request: r.request,
        }
    }
}

impl Check {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let credential = match self.lease {
            Some(lease) => pb::check_request::Credential::Lease(lease.to_string()),
            None => pb::check_request::Credential::Token(token(session)?.expose().clone()),
        };
        let request = pb::CheckRequest {
            credential: Some(credential),
            dpop: self.dpop.unwrap_or_default(),
            method: self.method.unwrap_or_default(),
            url: self.url.map(String::from).unwrap_or_default(),
            context: None,
        };
        let verdict = Verdict::from(session.acceptor().await?.check(request).await?);
        session.printer.show(&verdict)?;
        Ok(verdict.exit_code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_never_exit_code_zero() {
        let code = |accepted, reason: &str| {
            Verdict::from(pb::CheckResponse { accepted, reason: reason.into(), ..Default::default() })
                .exit_code()
        };
        assert_eq!(code(true, ""), 0);
        assert_eq!(code(false, "LEASE_REVOKED"), 5);
        assert_eq!(code(false, "PROOF_MISSING"), 3);
        assert_eq!(code(false, "SOMETHING_NEW"), 3);
        assert_eq!(code(false, ""), 3);
    }
}
