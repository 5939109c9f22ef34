//! `mayfly lease`: leases by filter or id; renewing and releasing one's own, revoking any.

use clap::{Args, Subcommand};
use mayfly_client::{Failure, OperatorClient};
use mayfly_domain::{LeaseId, TaskReason, UnixMillis, defaults};
use mayfly_proto::v1 as pb;
use serde::Serialize;

use super::barrier::WaitArgs;
use super::{mint, revoke};
use crate::args::Length;
use crate::output::{Human, View};
use crate::session::{EvidenceArgs, Outcome, Session};
use crate::subject::SubjectArgs;
use crate::views::{LeaseView, lease_rows};

/// List, show, renew, release or revoke leases
#[derive(Debug, Subcommand)]
pub(crate) enum Lease {
    List(List),
    Show(Show),
    Renew(Renew),
    Release(Release),
    Revoke(Revoke),
}

/// List leases
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly lease list --owner team:payments
  mayfly lease list --kind token --all --output json | jq -r '.leases[].lease'")]
pub(crate) struct List {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Only leases of this kind: token, x509, operator, acceptor, account
    #[arg(long)]
    kind: Option<String>,
    /// Ended leases too, as long as their records are kept
    #[arg(long)]
    ended: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "all")]
    limit: u32,
    /// All of them
    #[arg(long)]
    all: bool,
}

/// Show one lease
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The lease
    lease: LeaseId,
}

/// Renew a lease of this job's task
///
/// Needs the evidence and the key that minted it. The new token goes to standard output, as with `mint token`.
#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// The lease
    lease: LeaseId,
    /// How long the new token should live, at most; else the profile's default
    #[arg(long, value_name = "LENGTH")]
    ttl: Option<Length>,
    /// Have GitHub Actions mask the token in the job's log
    #[arg(long)]
    mask: bool,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

/// Give a lease of this job back; without an id, all that this job's key holds
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The lease
    lease: Option<LeaseId>,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

/// Revoke one lease
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mayfly lease revoke 0199b1c4-7e5c-7aa3-9f2e-0c6a51d2b9f0 --reason \"token in a log\"")]
pub(crate) struct Revoke {
    /// The lease
    lease: LeaseId,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
    /// A ticket
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// Revoke it although the broker has no record of it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    barrier: WaitArgs,
}

#[derive(Serialize)]
struct Listed {
    leases: Vec<LeaseView>,
    /// Whether there are more than were asked for.
    more: bool,
}

impl View for Listed {
    fn human(&self, now: UnixMillis) -> Human {
        lease_rows(&self.leases, now)
    }
}

#[derive(Serialize)]
struct Released {
    released: u32,
    request: String,
    audit: String,
}

impl View for Released {
    fn human(&self, _: UnixMillis) -> Human {
        Human::Fields(vec![
            ("released", self.released.to_string()),
            ("request", self.request.clone()),
            ("audit", self.audit.clone()),
        ])
    }
}

async fn list(client: &OperatorClient, args: &List) -> Result<Listed, Failure> {
    let mut leases = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = args.limit.saturating_sub(u32::try_from(leases.len()).unwrap_or(u32::MAX));
        let page_size = if args.all { defaults::LIST_PAGE_MAX } else { left.min(defaults::LIST_PAGE_MAX) };
        if page_size == 0 {
            return Ok(Listed { leases, more: true });
        }
        let call = pb::ListLeasesRequest {
            subject: args.subject.subject(),
            kind: args.kind.clone().unwrap_or_default(),
            ended: args.ended,
            page_size,
            page_token: std::mem::take(&mut page_token),
        };
        let page = client.list_leases(call).await?;
        leases.extend(page.leases.into_iter().map(LeaseView::from));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(Listed { leases, more: false });
        }
    }
}

impl Lease {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(args) => {
                let listed = list(&session.operator().await?, &args).await?;
                session.printer.show(&listed)?;
                if listed.more {
                    session.printer.note("there are more: --all, or a larger --limit, shows them");
                }
            }
            Self::Show(args) => {
                let call = pb::GetLeaseRequest { id: args.lease.to_string() };
                session.printer.show(&LeaseView::from(session.operator().await?.get_lease(call).await?))?;
            }
            Self::Renew(args) => {
                let client = session.workload(&args.evidence).await?;
                let renewed = client.renew(args.lease, args.ttl.map(|l| l.0)).await?;
                return mint::show(&renewed, args.mask, session);
            }
            Self::Release(args) => {
                let r = session.workload(&args.evidence).await?.release(args.lease).await?;
                session.printer.show(&Released {
                    released: r.released,
                    request: r.request,
                    audit: r.audit,
                })?;
            }
            Self::Revoke(args) => {
                let Revoke { lease, reason, ticket, force, barrier } = args;
                return revoke::lease(lease, force, reason, ticket, &barrier, session).await;
            }
        }
        Ok(0)
    }
}
