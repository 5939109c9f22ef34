//! `mayfly block`: refusing new credentials.

use clap::{Args, Subcommand};
use mayfly_client::Failure;
use mayfly_domain::{Reason, TaskReason, UnixMillis};
use mayfly_proto::v1 as pb;
use serde::Serialize;

use super::revoke::unknown;
use crate::args::Length;
use crate::output::{Human, Moment, Table, View};
use crate::prompt;
use crate::session::{Outcome, Session};
use crate::subject::{SubjectArgs, words};

/// Refuse new credentials to a workload, owner, task, profile or integration
#[derive(Debug, Subcommand)]
pub(crate) enum Block {
    Set(Set),
    Lift(Lift),
    List(List),
}

/// Set a block; what is live stays live (`mayfly revoke --block` ends it too)
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  mayfly block set --owner user:gh-9932 --for 8h --reason \"on leave\"")]
pub(crate) struct Set {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
    /// How long it stands; else until it is lifted
    #[arg(long = "for", value_name = "LENGTH")]
    length: Option<Length>,
    /// Block a name that nothing knows
    #[arg(long)]
    force: bool,
}

/// Lift a block; no credential comes back to life
#[derive(Debug, Args)]
pub(crate) struct Lift {
    #[command(flatten)]
    subject: SubjectArgs,
    /// Why; it goes to the audit record (asked for on a terminal)
    #[arg(long, value_name = "TEXT")]
    reason: Option<TaskReason>,
}

/// List the blocks that stand
#[derive(Debug, Args)]
pub(crate) struct List {}

#[derive(Serialize)]
struct BlockView {
    subject: String,
    reason: String,
    author: String,
    since: Moment,
    until: Moment,
    version: u64,
}

impl From<pb::Block> for BlockView {
    fn from(b: pb::Block) -> Self {
        Self {
            subject: words(&b.subject.unwrap_or_default()),
            reason: b.reason,
            author: b.author,
            since: Moment(b.since_ms),
            until: Moment(b.until_ms),
            version: b.version,
        }
    }
}

impl BlockView {
    fn ends(&self, now: UnixMillis) -> String {
        match self.until {
            Moment(0) => "when lifted".to_owned(),
            until => until.distance(now),
        }
    }
}

#[derive(Serialize)]
struct Blocks {
    blocks: Vec<BlockView>,
}

impl View for Blocks {
    fn human(&self, now: UnixMillis) -> Human {
        let row = |b: &BlockView| {
            [b.subject.clone(), b.ends(now), b.since.distance(now), b.author.clone(), b.reason.clone()]
        };
        Human::Rows(Table::new(
            ["subject", "ends", "since", "author", "reason"],
            self.blocks.iter().map(row),
            "no blocks stand",
        ))
    }
}

#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    block: Option<BlockView>,
    warnings: Vec<String>,
    request: String,
    audit: String,
}

impl View for Changed {
    fn human(&self, now: UnixMillis) -> Human {
        let mut fields = Vec::new();
        match &self.block {
            Some(b) => fields.extend([("blocked", b.subject.clone()), ("ends", b.ends(now))]),
            None => fields.push(("lifted", "new evidence may mint again".to_owned())),
        }
        fields.extend(self.warnings.iter().map(|warning| ("warning", warning.clone())));
        fields.extend([("request", self.request.clone()), ("audit", self.audit.clone())]);
        Human::Fields(fields)
    }
}

fn named(subject: &SubjectArgs) -> Result<pb::Subject, Failure> {
    subject.subject().ok_or_else(|| {
        Failure::of(Reason::InputInvalid)
            .fact("problem", "nothing was named")
            .next("name one of --workload, --owner, --task, --profile, --integration, --everything")
    })
}

impl Block {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Set(args) => {
                let call = pb::SetBlockRequest {
                    subject: Some(named(&args.subject)?),
                    reason: prompt::reason(args.reason)?.to_string(),
                    for_s: args.length.map(|l| l.0.as_secs()).unwrap_or_default(),
                    force: args.force,
                };
                let r = session.operator().await?.set_block(call).await.map_err(unknown)?;
                let block = r.block.map(BlockView::from);
                session.printer.show(&Changed {
                    block,
                    warnings: r.warnings,
                    request: r.request,
                    audit: r.audit,
                })?;
            }
            Self::Lift(args) => {
                let call = pb::LiftBlockRequest {
                    subject: Some(named(&args.subject)?),
                    reason: prompt::reason(args.reason)?.to_string(),
                };
                let r = session.operator().await?.lift_block(call).await?;
                let (request, audit) = (r.request, r.audit);
                session.printer.show(&Changed { block: None, warnings: Vec::new(), request, audit })?;
            }
            Self::List(List {}) => {
                let r = session.operator().await?.list_blocks(pb::ListBlocksRequest {}).await?;
                let blocks = r.blocks.into_iter().map(BlockView::from).collect();
                session.printer.show(&Blocks { blocks })?;
            }
        }
        Ok(0)
    }
}
