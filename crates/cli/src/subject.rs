//! What a revocation or a block names, on the command line: exactly one dimension and its value.

use clap::Args;
use mayfly_domain::{IntegrationName, Owner, ProfileName, SpiffeId, TaskId};
use mayfly_proto::v1 as pb;

/// One dimension and its value.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct SubjectArgs {
    /// One workload, by its SPIFFE ID
    #[arg(long, value_name = "SPIFFE-ID")]
    workload: Option<SpiffeId>,
    /// One owner, such as `team:payments`
    #[arg(long, value_name = "KIND:NAME")]
    owner: Option<Owner>,
    /// One task
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,
    /// One profile
    #[arg(long, value_name = "NAME")]
    profile: Option<ProfileName>,
    /// One integration
    #[arg(long, value_name = "NAME")]
    integration: Option<IntegrationName>,
    /// Every workload of the trust domain
    #[arg(long)]
    pub(crate) everything: bool,
}

impl SubjectArgs {
    /// The subject as the wire has it; none where none was named.
    pub(crate) fn subject(&self) -> Option<pb::Subject> {
        let named = |dimension: pb::Dimension, value: &dyn std::fmt::Display| {
            Some(pb::Subject { dimension: dimension.into(), value: value.to_string() })
        };
        match self {
            Self { workload: Some(v), .. } => named(pb::Dimension::Workload, v),
            Self { owner: Some(v), .. } => named(pb::Dimension::Owner, v),
            Self { task: Some(v), .. } => named(pb::Dimension::Task, v),
            Self { profile: Some(v), .. } => named(pb::Dimension::Profile, v),
            Self { integration: Some(v), .. } => named(pb::Dimension::Integration, v),
            Self { everything: true, .. } => named(pb::Dimension::Everything, &""),
            _ => None,
        }
    }

    /// Whether it reaches so far that a person must say whether to block.
    pub(crate) const fn is_wide(&self) -> bool {
        self.owner.is_some() || self.integration.is_some() || self.everything
    }
}

/// A subject in words.
pub(crate) fn words(subject: &pb::Subject) -> String {
    let dimension = match subject.dimension() {
        pb::Dimension::Workload => "workload",
        pb::Dimension::Owner => "owner",
        pb::Dimension::Task => "task",
        pb::Dimension::Profile => "profile",
        pb::Dimension::Integration => "integration",
        pb::Dimension::Everything => return "everything".to_owned(),
        pb::Dimension::Unspecified => "unknown",
    };
    format!("{dimension} {}", subject.value)
}
