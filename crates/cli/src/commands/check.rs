//! `mayfly check`: whether a credential should be accepted now, as an acceptor asks.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use mayfly_client::Failure;
use mayfly_domain::{LeaseId, Reason, Scope, UnixMillis};
use mayfly_proto::v1 as pb;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use url::Url;

use super::proof::token;
use crate::output::{Human, Moment, View};
use crate::session::{Outcome, Session};

/// Ask whether a credential should be accepted now
///
/// Needs a context with an acceptor's certificate. Without a lease or a certificate the token is read from
/// MAYFLY_TOKEN, else from standard input. With an action, policies judge the request too. Exit code 0: accept; anything else: refuse.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly check 0199b1c4-7e5c-7aa3-9f2e-0c6a51d2b9f0
  echo \"$TOKEN\" | mayfly check --dpop \"$PROOF\" --method POST --url https://deploy.acme.internal/run
  mayfly check --certificate tls.crt
  mayfly check 0199b1c4-7e5c-7aa3-9f2e-0c6a51d2b9f0 --scope ledger:read \\
      --action 'Ledger::Action::\"GET /entries\"' --resource 'Ledger::Book::\"2027\"' --source 10.1.2.3")]
pub(crate) struct Check {
    /// A lease whose token and proof were verified already
    #[arg(conflicts_with = "dpop")]
    lease: Option<LeaseId>,
    /// A workload's certificate whose key was seen proven: a PEM file, the leaf first
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lease", "dpop"])]
    certificate: Option<PathBuf>,
    /// The DPoP proof that came with the token
    #[arg(long, value_name = "PROOF", requires_all = ["method", "url"])]
    dpop: Option<String>,
    /// The method of the request, as in the proof
    #[arg(long)]
    method: Option<String>,
    /// The URL of the request, as in the proof
    #[arg(long)]
    url: Option<Url>,
    /// What the request does: a Cedar action of the acceptor's schema
    #[arg(long, requires = "resource")]
    action: Option<String>,
    /// What it does it to: a Cedar entity
    #[arg(long, value_name = "ENTITY", requires = "action")]
    resource: Option<String>,
    /// Where the request came from
    #[arg(long, value_name = "ADDRESS")]
    source: Option<IpAddr>,
    /// A scope that the request needs; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observed: Vec<String>,
    reuse_ms: u32,
    request: String,
}

impl View for Verdict {
    fn human(&self, now: UnixMillis) -> Human {
        let verdict = if self.accepted { "accepted" } else { "refused" };
        let reason = Reason::parse(&self.reason).filter(|_| !self.accepted);
        Human::Fields(vec![
            ("verdict", verdict.to_owned()),
            ("reason", self.reason.clone()),
            ("means", reason.map_or_else(String::new, |r| r.meaning().to_owned())),
            ("lease", self.lease.clone()),
            ("workload", self.workload.clone()),
            ("owners", self.owners.join(", ")),
            ("task", self.task.clone()),
            ("intent", self.intent.clone()),
            ("profile", self.profile.clone()),
            ("scopes", self.scopes.join(" ")),
            ("expires", self.expires.human(now)),
            ("observed", self.observed.join(" ")),
            ("request", self.request.clone()),
            ("next", reason.map_or_else(String::new, |r| r.next().to_owned())),
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
            observed: r.observed,
            reuse_ms: r.reuse_ms,
            request: r.request,
        }
    }
}

impl Check {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let credential = match (self.lease, &self.certificate) {
            (Some(lease), _) => pb::check_request::Credential::Lease(lease.to_string()),
            (None, Some(file)) => pb::check_request::Credential::Certificate(leaf(file)?),
            (None, None) => pb::check_request::Credential::Token(token(session)?.expose().clone()),
        };
        let context = pb::RequestContext {
            action: self.action.unwrap_or_default(),
            resource: self.resource.unwrap_or_default(),
            source: self.source.map(|s| s.to_string()).unwrap_or_default(),
            scopes: self.scopes.iter().map(ToString::to_string).collect(),
        };
        let request = pb::CheckRequest {
            credential: Some(credential),
            dpop: self.dpop.unwrap_or_default(),
            method: self.method.unwrap_or_default(),
            url: self.url.map(String::from).unwrap_or_default(),
            context: (context != pb::RequestContext::default()).then_some(context),
            ..Default::default()
        };
        let verdict = Verdict::from(session.acceptor().await?.check(request).await?);
        session.printer.show(&verdict)?;
        Ok(verdict.exit_code())
    }
}

/// The first certificate of a PEM file, in DER.
fn leaf(file: &Path) -> Result<Vec<u8>, Failure> {
    let no = |why: String| {
        Failure::of(Reason::InputInvalid).fact("file", file.display().to_string()).fact("problem", why)
    };
    let pem = std::fs::read(file).map_err(|e| no(e.to_string()))?;
    CertificateDer::from_pem_slice(&pem).map(|der| der.to_vec()).map_err(|e| no(e.to_string()))
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
