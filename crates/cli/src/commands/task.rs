//! `mayfly task`: the task of this machine's evidence; by id, an operator's view of any.

use clap::{Args, Subcommand};
use mayfly_domain::{Intent, TaskId, TaskReason, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;

use crate::args::{Length, Words};
use crate::output::{Human, View};
use crate::prompt;
use crate::session::{EvidenceArgs, Outcome, Session};
use crate::views::{LeaseView, TaskView, lease_rows};

/// Start, complete or show a task
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    Start(Start),
    Complete(Complete),
    Show(Show),
}

/// Open the task that this job's evidence names, or join it
///
/// Minting does this by itself; starting beforehand sets the window and the reason.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mayfly task start --intent deploy:payments --window 20m --reason \"release 1.4\""
)]
pub(crate) struct Start {
    /// What the task is for
    #[arg(long, value_name = "VERB:OBJECT")]
    intent: Option<Intent>,
    /// Why, in words for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<Words>,
    /// How long the task may last; else its rule's default
    #[arg(long, value_name = "LENGTH")]
    window: Option<Length>,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

/// End a task and everything that was minted for it
///
/// Without an id: the task of this job's evidence, whose key is removed too. With an id: any task, as an
/// operator whom policy permits. Completing an ended task succeeds and says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly task complete
  mayfly task complete gh-8123-1 --reason \"runner lost\"")]
pub(crate) struct Complete {
    /// The task, for an operator
    task: Option<TaskId>,
    /// Why; for an operator, required
    #[arg(long, value_name = "TEXT", requires = "task")]
    reason: Option<TaskReason>,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

/// Show a task
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The task, for an operator; else the task of this job's evidence, with its leases
    task: Option<TaskId>,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

#[derive(Serialize)]
struct Started {
    #[serde(flatten)]
    task: TaskView,
    joined: bool,
    request: String,
}

impl View for Started {
    fn human(&self, now: UnixMillis) -> Human {
        let how = if self.joined { "joined: it was open already" } else { "started" };
        Human::Parts(vec![(how, self.task.human(now))])
    }
}

#[derive(Serialize)]
struct Completed {
    #[serde(flatten)]
    task: TaskView,
    already_ended: bool,
    request: String,
    audit: String,
}

impl View for Completed {
    fn human(&self, now: UnixMillis) -> Human {
        let how = if self.already_ended { "it had ended already" } else { "completed" };
        Human::Parts(vec![(how, self.task.human(now))])
    }
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    task: TaskView,
    leases: Vec<LeaseView>,
}

impl View for Shown {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Parts(vec![("task", self.task.human(now)), ("leases", lease_rows(&self.leases, now))])
    }
}

impl Task {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Start(args) => {
                let client = session.workload(&args.evidence).await?;
                let reason = args.reason.and_then(|words| words.0);
                let window = args.window.map(|w| w.0);
                let r = client.start_task(args.intent.as_ref(), reason.as_ref(), window, false).await?;
                let task = r.task.into();
                session.printer.show(&Started { task, joined: r.joined, request: r.request })?;
            }
            Self::Complete(args) => {
                let done = match args.task {
                    Some(task) => {
                        let reason = prompt::reason(args.reason)?.to_string();
                        let call = pb::OperatorCompleteTaskRequest { id: task.to_string(), reason };
                        let r = session.operator().await?.complete_task(call).await?;
                        let task = r.task.unwrap_or_default().into();
                        Completed { task, already_ended: r.already_ended, request: r.request, audit: r.audit }
                    }
                    None => {
                        let r = session.workload(&args.evidence).await?.complete_task().await?;
                        let task = r.task.unwrap_or_default().into();
                        Completed { task, already_ended: r.already_ended, request: r.request, audit: r.audit }
                    }
                };
                session.printer.show(&done)?;
            }
            Self::Show(Show { task: Some(task), .. }) => {
                let call = pb::OperatorGetTaskRequest { id: task.to_string() };
                session.printer.show(&TaskView::from(session.operator().await?.get_task(call).await?))?;
            }
            Self::Show(args) => {
                let r = session.workload(&args.evidence).await?.task().await?;
                let leases = r.leases.into_iter().map(LeaseView::from).collect();
                session.printer.show(&Shown { task: r.task.unwrap_or_default().into(), leases })?;
            }
        }
        Ok(0)
    }
}
