//! `mayfly task`: the task of this machine's evidence; by id, an operator's view of any.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mayfly_client::{Failure, workload};
use mayfly_domain::{Intent, Reason, Secret, TaskId, TaskReason, UnixMillis};
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
#[command(after_help = "\
Examples:
  mayfly task start --intent deploy:payments --window 20m --reason \"release 1.4\"
  mayfly task start --intent deploy:payments --handle-file \"$RUNNER_TEMP/task\"")]
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
    /// Write a completion handle to this file, mode 0600: it can end this task and do nothing else
    #[arg(long, value_name = "FILE")]
    handle_file: Option<PathBuf>,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

/// End a task and everything that was minted for it
///
/// Without an id: the task of this job's evidence, whose key is removed too. With a completion handle, from
/// --handle-file or MAYFLY_COMPLETION_HANDLE: its task, without key or evidence, as a post step has neither. With an
/// id: any task, as an operator whom policy permits. Completing an ended task succeeds and says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly task complete
  mayfly task complete --handle-file \"$RUNNER_TEMP/task\"
  mayfly task complete gh-8123-1 --reason \"runner lost\"")]
pub(crate) struct Complete {
    /// The task, for an operator
    task: Option<TaskId>,
    /// Why; for an operator, required
    #[arg(long, value_name = "TEXT", requires = "task")]
    reason: Option<TaskReason>,
    /// The file that `mayfly task start --handle-file` wrote
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    handle_file: Option<PathBuf>,
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

/// The variable that holds a completion handle.
const HANDLE: &str = "MAYFLY_COMPLETION_HANDLE";
/// The largest file that a handle is read from, in octets.
const HANDLE_OCTETS_MAX: u64 = 4_096;

/// Writes a handle where only its owner may read it, all or nothing.
fn write_handle(path: &Path, handle: &Secret<String>) -> Result<(), Failure> {
    use std::io::Write as _;
    let no = |e: std::io::Error| unusable(path, &e);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(no)?;
    writeln!(file, "{}", handle.expose()).map_err(no)?;
    file.persist(path).map_err(|e| no(e.error))?;
    Ok(())
}

fn read_handle(path: &Path) -> Result<Secret<String>, Failure> {
    use std::io::Read as _;
    let no = |e: std::io::Error| unusable(path, &e);
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(no)?;
    file.take(HANDLE_OCTETS_MAX).read_to_string(&mut text).map_err(no)?;
    let handle = Secret::new(text.trim().to_owned());
    drop(Secret::new(text));
    Ok(handle)
}

fn unusable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::of(Reason::ConfigInvalid)
        .fact("file", path.display().to_string())
        .fact("problem", e.to_string())
        .next("name a file in a directory that this user may write to")
}

impl Complete {
    /// The handle that was given, in a file or in the environment.
    fn handle(&self, session: &Session) -> Result<Option<Secret<String>>, Failure> {
        match &self.handle_file {
            Some(path) => read_handle(path).map(Some),
            None => Ok(session.env.var(HANDLE).map(Secret::new)),
        }
    }

    async fn run(self, session: &Session) -> Result<Completed, Failure> {
        if let Some(task) = self.task {
            let reason = prompt::reason(self.reason)?.to_string();
            let call = pb::OperatorCompleteTaskRequest { id: task.to_string(), reason };
            let r = session.operator().await?.complete_task(call).await?;
            let task = r.task.unwrap_or_default().into();
            return Ok(Completed {
                task,
                already_ended: r.already_ended,
                request: r.request,
                audit: r.audit,
            });
        }
        if let Some(handle) = self.handle(session)? {
            let r = workload::complete_by_handle(&session.target()?, &handle, session.patience).await?;
            let task = r.task.unwrap_or_default().into();
            return Ok(Completed {
                task,
                already_ended: r.already_ended,
                request: r.request,
                audit: r.audit,
            });
        }
        let r = session.workload(&self.evidence).await?.complete_task().await?;
        let task = r.task.unwrap_or_default().into();
        Ok(Completed { task, already_ended: r.already_ended, request: r.request, audit: r.audit })
    }
}

impl Task {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Start(args) => {
                let client = session.workload(&args.evidence).await?;
                let reason = args.reason.and_then(|words| words.0);
                let window = args.window.map(|w| w.0);
                let handle = args.handle_file.is_some();
                let r = client.start_task(args.intent.as_ref(), reason.as_ref(), window, handle).await?;
                if let Some(path) = &args.handle_file {
                    let none = || Failure::of(Reason::Internal).fact("problem", "the broker gave no handle");
                    write_handle(path, &r.handle.ok_or_else(none)?)?;
                }
                let task = r.task.into();
                session.printer.show(&Started { task, joined: r.joined, request: r.request })?;
            }
            Self::Complete(args) => session.printer.show(&args.run(session).await?)?,
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
