//! `mayfly ca`: the issuing CAs, their rotation, a company's root above them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use mayfly_client::Failure;
use mayfly_domain::{Reason, TaskReason, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;

use super::key::{home, signed};
use crate::output::{Human, Moment, Printer, Table, View};
use crate::prompt;
use crate::session::{Outcome, Session};

/// The largest file with a CA's chain that is read, in octets.
const CHAIN_OCTETS_MAX: u64 = 64 * 1024;

/// List, rotate, withdraw and certify the issuing CAs
///
/// One CA issues to workloads, another to brokers, operators and acceptors. A new one is prepared (published, not
/// used), activated once every live broker has it, and the old one retired when no certificate of it lives.
#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// List the CAs, with the leases that each has issued
    List,
    Csr(Csr),
    Import(Import),
    Rotate(Rotate),
    Revoke(Revoke),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Issues to workloads
    Workload,
    /// Issues to brokers, operators and acceptors
    System,
}

impl From<Role> for pb::AuthorityRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Workload => Self::Workload,
            Role::System => Self::System,
        }
    }
}

/// Write a certificate request for an issuing CA's key
///
/// For a company's CA to sign; `mayfly ca import` puts what comes back in place. The private key stays where it is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly ca csr --role workload >workload-ca.csr")]
pub(crate) struct Csr {
    /// Which CA
    #[arg(long, value_enum, default_value = "workload")]
    role: Role,
}

/// Put the certificate that a company's CA made of a request in place
///
/// It must be a CA of path length 0 for the key of the request, outlive nothing above it, and carry no URI name
/// constraint.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly ca import --role workload signed.pem")]
pub(crate) struct Import {
    /// Which CA
    #[arg(long, value_enum, default_value = "workload")]
    role: Role,
    /// The CA's certificate, then its parents up to the company's root, PEM
    chain: PathBuf,
}

/// Prepare a CA, and activate it once every live broker has it
///
/// Without an option: both steps. With --retire: the last step, which removes CAs whose certificates have all ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly ca rotate                              a new CA issues; the old one is still trusted
  mayfly ca rotate --retire                     when no certificate of the old one lives
  mayfly ca rotate --role system --prepare")]
pub(crate) struct Rotate {
    /// Which CA
    #[arg(long, value_enum, default_value = "workload")]
    role: Role,
    /// Only publish a new one
    #[arg(long, conflicts_with_all = ["activate", "retire"])]
    prepare: bool,
    /// Only let the prepared one issue
    #[arg(long, conflicts_with = "retire")]
    activate: bool,
    /// Remove what nothing needs any more
    #[arg(long)]
    retire: bool,
    /// Remove only this one
    #[arg(long, value_name = "ID", requires = "retire", allow_hyphen_values = true)]
    id: Option<String>,
    /// Remove it although certificates of it live: those are refused from then on
    #[arg(long, requires = "retire")]
    force: bool,
}

/// Withdraw a stolen CA at once
///
/// It leaves the bundle in the same step, and everything that it issued is refused by every online check and by every
/// verifier that follows the bundle. An active CA is replaced by a new one. Once a system CA is withdrawn, operators and
/// acceptors whom it certified, you among them, need new certificates: `mayfly operator issue` on a broker's host.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly ca revoke ID --reason \"host taken over\" --ticket SEC-42")]
pub(crate) struct Revoke {
    /// The CA, as `mayfly ca list` shows it
    #[arg(allow_hyphen_values = true)]
    id: String,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
    /// A ticket
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// Do not ask a person whether it is really meant
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct AuthorityView {
    id: String,
    role: &'static str,
    state: String,
    since: Moment,
    expires: Moment,
    subject: String,
    issuer: String,
    algorithm: String,
    module: bool,
    live_leases: u64,
    last_ends: Moment,
}

impl From<pb::Authority> for AuthorityView {
    fn from(a: pb::Authority) -> Self {
        let role = match a.role() {
            pb::AuthorityRole::Workload => "workload",
            pb::AuthorityRole::System => "system",
            pb::AuthorityRole::Unspecified => "unknown",
        };
        Self {
            role,
            id: a.id,
            state: a.state,
            since: Moment(a.since_ms),
            expires: Moment(a.expires_ms),
            subject: a.subject,
            issuer: a.issuer,
            algorithm: a.algorithm,
            module: a.module,
            live_leases: a.live_leases,
            last_ends: Moment(a.last_ends_ms),
        }
    }
}

#[derive(Serialize)]
struct Authorities {
    authorities: Vec<AuthorityView>,
}

impl Authorities {
    fn of(all: Vec<pb::Authority>) -> Self {
        Self { authorities: all.into_iter().map(AuthorityView::from).collect() }
    }
}

impl View for Authorities {
    fn human(&self, now: UnixMillis) -> Human {
        let row = |a: &AuthorityView| {
            [
                a.id.clone(),
                a.role.to_owned(),
                a.state.clone(),
                a.algorithm.clone(),
                a.expires.distance(now),
                a.issuer.clone(),
                home(a.module).to_owned(),
                signed(a.live_leases, a.last_ends, now),
            ]
        };
        let headers = ["ca", "role", "state", "algorithm", "expires", "issuer", "key", "live leases"];
        Human::Rows(Table::new(headers, self.authorities.iter().map(row), "no issuing CAs"))
    }
}

#[derive(Serialize)]
struct Request {
    id: String,
    csr_pem: String,
    request: String,
}

impl View for Request {
    fn human(&self, _: UnixMillis) -> Human {
        Human::Fields(vec![("key", self.id.clone()), ("request", self.request.clone())])
    }
}

#[derive(Serialize)]
struct Imported {
    #[serde(flatten)]
    authorities: Authorities,
    request: String,
}

impl View for Imported {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Parts(vec![("imported", self.authorities.human(now))])
    }
}

#[derive(Serialize)]
struct Withdrawn {
    #[serde(flatten)]
    authorities: Authorities,
    acknowledged: Moment,
    request: String,
    audit: String,
}

impl View for Withdrawn {
    fn human(&self, now: UnixMillis) -> Human {
        let told = vec![
            ("acknowledged", self.acknowledged.human(now)),
            ("request", self.request.clone()),
            ("audit", self.audit.clone()),
        ];
        Human::Parts(vec![("withdrawn", Human::Fields(told)), ("CAs", self.authorities.human(now))])
    }
}

impl Csr {
    async fn run(self, session: &Session) -> Outcome {
        let role = pb::AuthorityRole::from(self.role).into();
        let r = session.operator().await?.get_authority_csr(pb::GetAuthorityCsrRequest { role }).await?;
        let view = Request { id: r.id, csr_pem: r.csr_pem, request: r.request };
        if session.printer.is_json() {
            session.printer.show(&view)?;
        } else {
            session.printer.aside(&view);
            Printer::write(&view.csr_pem)?;
        }
        Ok(0)
    }
}

impl Import {
    fn read(&self) -> Result<String, Failure> {
        use std::io::Read as _;
        let no = |e: std::io::Error| {
            Failure::of(Reason::InputInvalid)
                .fact("file", self.chain.display().to_string())
                .fact("problem", e.to_string())
        };
        let mut text = String::new();
        let file = std::fs::File::open(&self.chain).map_err(no)?;
        // One octet more than the broker takes, so that it refuses what is too large.
        file.take(CHAIN_OCTETS_MAX + 1).read_to_string(&mut text).map_err(no)?;
        Ok(text)
    }

    async fn run(self, session: &Session) -> Outcome {
        let role = pb::AuthorityRole::from(self.role).into();
        let call = pb::ImportAuthorityRequest { role, chain_pem: self.read()? };
        let r = session.operator().await?.import_authority(call).await?;
        let authorities = Authorities::of(r.authority.into_iter().collect());
        session.printer.show(&Imported { authorities, request: r.request })?;
        Ok(0)
    }
}

impl Rotate {
    async fn run(self, session: &Session) -> Outcome {
        use pb::rotate_key_request::Step;
        let step = match (self.prepare, self.activate, self.retire) {
            (true, ..) => Step::Prepare,
            (_, true, _) => Step::Activate,
            (.., true) => Step::Retire,
            _ => Step::Unspecified,
        };
        let call = pb::RotateAuthorityRequest {
            step: step.into(),
            role: pb::AuthorityRole::from(self.role).into(),
            id: self.id.unwrap_or_default(),
            force: self.force,
        };
        let r = session.operator().await?.rotate_authority(call).await;
        let r = r.map_err(|failure| super::key::not_listed(failure, "mayfly ca list"))?;
        session.printer.show(&Authorities::of(r.authorities))?;
        session.printer.note(&format!("request {}", r.request));
        Ok(0)
    }
}

impl Revoke {
    async fn run(self, session: &Session) -> Outcome {
        prompt::confirmed(&format!("Withdraw the CA {} and refuse all that it issued?", self.id), self.yes)?;
        let reason = prompt::reason(self.reason)?.to_string();
        let call =
            pb::RevokeAuthorityRequest { id: self.id, reason, ticket: self.ticket.unwrap_or_default() };
        let r = session.operator().await?.revoke_authority(call).await;
        let r = r.map_err(|failure| super::key::not_listed(failure, "mayfly ca list"))?;
        session.printer.show(&Withdrawn {
            authorities: Authorities::of(r.authorities),
            acknowledged: Moment(r.acknowledged_ms),
            request: r.request,
            audit: r.audit,
        })?;
        Ok(0)
    }
}

impl Ca {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List => {
                let r = session.operator().await?.list_authorities(pb::ListAuthoritiesRequest {}).await?;
                session.printer.show(&Authorities::of(r.authorities))?;
                Ok(0)
            }
            Self::Csr(args) => args.run(session).await,
            Self::Import(args) => args.run(session).await,
            Self::Rotate(args) => args.run(session).await,
            Self::Revoke(args) => args.run(session).await,
        }
    }
}
