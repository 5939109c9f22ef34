//! `mayfly revoke`: ends everything that a subject covers.
//!
//! A revocation that reaches far says whether it blocks: a person is asked, a program must have said it.

use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use mayfly_client::{Failure, OperatorClient};
use mayfly_domain::{LeaseId, Reason, TaskReason, UnixMillis};
use mayfly_proto::v1 as pb;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;

use super::barrier::{BarrierView, WaitArgs};
use crate::args::Length;
use crate::output::{Human, Moment, View};
use crate::prompt;
use crate::session::{Outcome, Session};
use crate::subject::{SubjectArgs, words};
use crate::views::{ExposureView, LeaseView, lease_rows};

/// How often a sweep is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

/// End every lease of a workload, owner, task, profile or integration
///
/// From the acknowledgement on no check at a broker accepts what it covers. The command then waits until every
/// acceptor that decides by itself has the revocation or may not decide any more; exit code 8 where it stopped waiting
/// before, with their names. A workload comes back only with new evidence; --block keeps it out.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly revoke --task gh-8123-1 --reason \"wrong branch\"
  mayfly revoke --owner team:payments --block --for 24h --reason \"laptop stolen\" --ticket SEC-42
  mayfly revoke --integration k8s-prod --dry-run
  mayfly revoke --task gh-8123-1 --reason \"wrong branch\" --wait-for 2s
  mayfly revoke --everything --no-block --reason \"drill\"
  mayfly revoke show rev_0199b1c47e5c7aa39f2e0c6a51d2b9f0")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Revoke {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
    /// A ticket
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// Refuse new credentials too, from the same step on
    #[arg(long, conflicts_with = "no_block")]
    block: bool,
    /// Let new evidence mint again
    #[arg(long)]
    no_block: bool,
    /// How long the block stands; else until it is lifted
    #[arg(long = "for", value_name = "LENGTH", requires = "block")]
    block_for: Option<Length>,
    /// Count and list what it would end; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Act on a name that nothing knows
    #[arg(long)]
    force: bool,
    /// Do not ask a person whether everything, or oneself, is really meant
    #[arg(long)]
    yes: bool,
    /// Wait until the sweep has ended every record (on a terminal it is watched by itself)
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    barrier: WaitArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how far a revocation's sweep is
    Show {
        /// The revocation, `rev_...`
        revocation: String,
    },
}

#[derive(Serialize)]
struct Shown {
    revocation: String,
    subject: String,
    lease: String,
    reason: String,
    author: String,
    ticket: String,
    since: Moment,
    exposure: Option<ExposureView>,
    sweep: Swept,
}

impl From<pb::Revocation> for Shown {
    fn from(r: pb::Revocation) -> Self {
        Self {
            sweep: Swept::from(&r),
            subject: r.subject.as_ref().map(words).unwrap_or_default(),
            revocation: r.id,
            lease: r.lease,
            reason: r.reason,
            author: r.author,
            ticket: r.ticket,
            since: Moment(r.since_ms),
            exposure: r.exposure.map(ExposureView::from),
        }
    }
}

impl View for Shown {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Fields(vec![
            ("revocation", self.revocation.clone()),
            ("subject", self.subject.clone()),
            ("lease", self.lease.clone()),
            ("reason", self.reason.clone()),
            ("author", self.author.clone()),
            ("ticket", self.ticket.clone()),
            ("since", self.since.human(now)),
            ("covers", self.exposure.as_ref().map(|e| e.words(None, now)).unwrap_or_default()),
            ("sweep", self.sweep.words()),
        ])
    }
}

#[derive(Serialize)]
struct Revoked {
    revocation: String,
    acknowledged: Moment,
    /// The number of its event in the feed, and the generation in which it counts.
    number: u64,
    generation: String,
    exposure: Option<ExposureView>,
    /// What became of the wait for followers; none where nobody waited.
    barrier: Option<BarrierView>,
    warnings: Vec<String>,
    request: String,
    audit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    swept: Option<Swept>,
}

#[derive(Serialize)]
struct Swept {
    done: bool,
    ended: u64,
    undone: u64,
    undo_pending: u64,
}

impl From<&pb::Revocation> for Swept {
    fn from(r: &pb::Revocation) -> Self {
        Self { done: r.done, ended: r.ended, undone: r.undone, undo_pending: r.undo_pending }
    }
}

impl Swept {
    fn words(&self) -> String {
        let state = if self.done { "done" } else { "going on" };
        format!("{state}: {} ended, {} undone, {} to undo", self.ended, self.undone, self.undo_pending)
    }
}

impl View for Revoked {
    fn human(&self, now: UnixMillis) -> Human {
        let swept = self.swept.as_ref().map(Swept::words);
        let complete = self.barrier.as_ref().map(|barrier| barrier.complete);
        let mut fields = vec![
            ("revocation", self.revocation.clone()),
            ("acknowledged", self.acknowledged.human(now)),
            ("covers", self.exposure.as_ref().map(|e| e.words(complete, now)).unwrap_or_default()),
            ("barrier", self.barrier.as_ref().map(BarrierView::words).unwrap_or_default()),
            ("next", self.barrier.as_ref().and_then(BarrierView::next).unwrap_or_default()),
            ("sweep", swept.unwrap_or_default()),
        ];
        fields.extend(self.warnings.iter().map(|warning| ("warning", warning.clone())));
        fields.extend([("request", self.request.clone()), ("audit", self.audit.clone())]);
        Human::Fields(fields)
    }
}

#[derive(Serialize)]
struct WouldEnd {
    dry_run: bool,
    exposure: Option<ExposureView>,
    leases: Vec<LeaseView>,
}

impl View for WouldEnd {
    fn human(&self, now: UnixMillis) -> Human {
        let count = self.exposure.as_ref().and_then(ExposureView::total);
        let count = count.map_or_else(|| "counted by the sweep only".to_owned(), |n| n.to_string());
        Human::Parts(vec![
            ("nothing was changed", Human::Fields(vec![("would end", count)])),
            ("the first of them", lease_rows(&self.leases, now)),
        ])
    }
}

/// Revokes one lease.
pub(crate) async fn lease(
    lease: LeaseId,
    force: bool,
    reason: Option<TaskReason>,
    ticket: Option<String>,
    barrier: &WaitArgs,
    session: &Session,
) -> Outcome {
    let call = pb::RevokeRequest {
        what: Some(pb::revoke_request::What::Lease(lease.to_string())),
        reason: prompt::reason(reason)?.to_string(),
        ticket: ticket.unwrap_or_default(),
        force,
        ..Default::default()
    };
    let client = session.operator().await?;
    let answer = client.revoke(call).await?;
    let waited = barrier.wait(&client, &answer).await;
    shown(answer, waited, None, session)
}

/// Shows what was done; the exit code is the barrier's.
fn shown(
    answer: pb::RevokeResponse,
    barrier: Option<BarrierView>,
    followed: Option<pb::Revocation>,
    session: &Session,
) -> Outcome {
    let code = barrier.as_ref().map_or(0, BarrierView::exit_code);
    session.printer.show(&revoked(answer, barrier, followed))?;
    Ok(code)
}

fn revoked(
    answer: pb::RevokeResponse,
    barrier: Option<BarrierView>,
    followed: Option<pb::Revocation>,
) -> Revoked {
    let swept = followed.as_ref().map(Swept::from);
    let counted = |exposure: &pb::Exposure| exposure.counted;
    let exposure = answer.exposure.filter(counted).or(followed.and_then(|r| r.exposure)).or(answer.exposure);
    Revoked {
        revocation: answer.revocation,
        acknowledged: Moment(answer.acknowledged_ms),
        number: answer.number,
        generation: answer.generation,
        exposure: exposure.map(ExposureView::from),
        barrier,
        warnings: answer.warnings,
        request: answer.request,
        audit: answer.audit,
        swept,
    }
}

impl Revoke {
    /// Whether it blocks; where it reaches far, only a person or an explicit word decides.
    fn blocks(&self, can_ask: bool, ask: impl FnOnce() -> Result<bool, Failure>) -> Result<bool, Failure> {
        match (self.block, self.no_block) {
            (true, _) => Ok(true),
            (_, true) => Ok(false),
            _ if !self.subject.is_wide() => Ok(false),
            _ if can_ask => ask(),
            _ => Err(Failure::of(Reason::ConfirmationNeeded)),
        }
    }

    pub(crate) async fn run(self, session: &Session) -> Outcome {
        if let Some(Command::Show { revocation }) = self.command {
            let call = pb::GetRevocationRequest { revocation };
            session.printer.show(&Shown::from(session.operator().await?.get_revocation(call).await?))?;
            return Ok(0);
        }
        let subject = self.subject.subject().ok_or_else(|| {
            Failure::of(Reason::InputInvalid).fact("problem", "nothing to revoke was named").next(
                "name one of --workload, --owner, --task, --profile, --integration, --everything; for one lease: mayfly lease revoke ID",
            )
        })?;
        let name = words(&subject);
        let mut call = pb::RevokeRequest {
            what: Some(pb::revoke_request::What::Subject(subject)),
            ticket: self.ticket.clone().unwrap_or_default(),
            dry_run: self.dry_run,
            force: self.force,
            ..Default::default()
        };
        if self.dry_run {
            call.block = self.block;
            call.reason = self.reason.as_ref().map_or_else(|| "dry run".to_owned(), ToString::to_string);
            let answer = session.operator().await?.revoke(call).await.map_err(unknown)?;
            let leases = answer.sample.into_iter().map(LeaseView::from).collect();
            let exposure = answer.exposure.map(ExposureView::from);
            session.printer.show(&WouldEnd { dry_run: true, exposure, leases })?;
            return Ok(0);
        }
        call.block = self.blocks(prompt::can_ask(), || prompt::block(&name))?;
        call.block_for_s = self.block_for.map(|l| l.0.as_secs()).unwrap_or_default();
        call.reason = prompt::reason(self.reason.clone())?.to_string();
        if self.subject.everything {
            prompt::confirmed("End the credentials of every workload of the trust domain?", self.yes)?;
        }
        if call.block && is_own(&name, session) {
            prompt::confirmed(
                "This is you: your certificate ends, and you get no new one. Go on?",
                self.yes,
            )?;
        }
        let client = session.operator().await?;
        let answer = client.revoke(call).await.map_err(unknown)?;
        let waited = self.barrier.wait(&client, &answer).await;
        let watch = self.wait || (prompt::can_ask() && !session.printer.is_json());
        let swept = if watch { follow(&client, &answer.revocation).await.map(Some) } else { Ok(None) };
        match swept {
            Ok(swept) => shown(answer, waited, swept, session),
            // What was done is told all the same.
            Err(why) => shown(answer, waited, None, session)
                .and_then(|code| if self.wait { Err(why) } else { Ok(code) }),
        }
    }
}

/// The next step where nothing knows the name that was given, which may be right all the same.
pub(super) fn unknown(failure: Failure) -> Failure {
    if failure.is(Reason::NotFound) {
        return failure.next("check the name; `--force` acts on a name that nothing knows");
    }
    failure
}

/// Whether a subject in words is the operator of the session's certificate.
fn is_own(name: &str, session: &Session) -> bool {
    let identity = session.target().ok().and_then(|target| target.identity);
    let leaf = identity.and_then(|(certificate, _)| CertificateDer::from_pem_file(certificate).ok());
    let id = leaf.and_then(|leaf| mayfly_client::mtls::peer_id(&leaf));
    let operator = id.as_ref().and_then(|id| id.path().strip_prefix("/mayfly/operator/"));
    operator.is_some_and(|operator| name == format!("owner user:{operator}"))
}

/// Watches a sweep, with a running count on a terminal.
async fn follow(client: &OperatorClient, revocation: &str) -> Result<pb::Revocation, Failure> {
    let style =
        ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.set_message("acknowledged; sweeping");
    loop {
        let call = pb::GetRevocationRequest { revocation: revocation.to_owned() };
        let revocation = client.get_revocation(call).await?;
        bar.set_message(format!("acknowledged; the sweep is {}", Swept::from(&revocation).words()));
        bar.tick();
        if revocation.done {
            bar.finish_and_clear();
            return Ok(revocation);
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{self, Cli};

    fn parsed(line: &str) -> Revoke {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            args::Command::Revoke(revoke) => *revoke,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wide_revocation_says_whether_it_blocks() {
        let blocks = |line: &str, can_ask| parsed(line).blocks(can_ask, || Ok(true)).map_err(|f| f.exit_code);
        for wide in ["--owner team:payments", "--integration k8s-prod", "--everything"] {
            let line = format!("mayfly revoke {wide}");
            assert_eq!(blocks(&line, false), Err(2), "{line}");
            assert_eq!(blocks(&line, true), Ok(true), "{line}: the person said so");
            assert_eq!(blocks(&format!("{line} --block"), false), Ok(true));
            assert_eq!(blocks(&format!("{line} --no-block"), false), Ok(false));
        }
        for narrow in ["--task gh-1-1", "--profile p", "--workload spiffe://a.b/c"] {
            assert_eq!(blocks(&format!("mayfly revoke {narrow}"), false), Ok(false));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "mayfly revoke --owner team:a --task t",
            "mayfly revoke --task t --block --no-block",
            "mayfly revoke --task t --for 1h",
            "mayfly revoke --task t --block --for 0s",
            "mayfly revoke --owner payments",
            "mayfly revoke --task t --no-wait --wait-for 2s",
            "mayfly revoke --task t --wait-for 0s",
        ] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
