//! Presets: what is known of an issuer's tokens, so that rules need not say it.
//!
//! Which claims are ids and which are names that somebody else can take over; how a token is bound to a
//! key; what a task is. A preset grants nothing: every rule has its own match.

mod github;
mod x509;

pub(crate) use github::names_form as github_sub_names;
pub use github::{GithubSub, parse_sub as parse_github_sub};
use mayfly_domain::{Ttl, defaults};

/// How evidence is bound to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// By its audience: `<audience>#<key thumbprint>`. A stolen copy is worth nothing.
    Audience,
    /// By first use: it belongs to the first key that presents it.
    FirstUse,
    /// By its own key, which signs for each call that shows it: a copy without that key is worth nothing.
    Proof,
}

impl Bind {
    /// The word that rules use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audience => "audience",
            Self::FirstUse => "first-use",
            Self::Proof => "proof",
        }
    }
}

/// What is known of an issuer's tokens.
#[derive(Debug, PartialEq, Eq)]
pub struct Preset {
    /// The name that rules use; empty for rules without a preset.
    pub name: &'static str,
    /// The issuer where the rule names none.
    pub issuer: Option<&'static str>,
    /// How its tokens are bound where the rule does not say.
    pub bind: Bind,
    /// Claims that name who runs the job and are never given to somebody else; a rule matches one exactly.
    pub anchors: &'static [&'static str],
    /// Claims that hold names which can be taken over, each with the ids that make it safe.
    pub names: &'static [(&'static str, &'static [&'static str])],
    /// Names that may stand in for an anchor where the rule allows names.
    pub name_anchors: &'static [&'static str],
    /// Ids that stand for many repositories or projects, each with those for one.
    pub broad: &'static [(&'static str, &'static [&'static str])],
    /// Anchors, and names that may stand for one, that a rule may match by how they start: an authority gives them
    /// out by a plan.
    pub starts: &'static [&'static str],
    /// Claims that a holder can change in its evidence: they are matched whole and never part of a template.
    pub match_only: &'static [&'static str],
    /// Claims that are hexadecimal digits.
    pub hex: &'static [&'static str],
    /// The longest life of its evidence where the rule does not say.
    pub evidence_life: Ttl,
    /// The longest life that a rule may say.
    pub evidence_life_max: Ttl,
    /// A task's window where the rule does not say, and the longest.
    pub window: (Ttl, Ttl),
    /// Templates of the task id of one job, the first whose claims are all there.
    pub task: &'static [&'static str],
    /// Template of the task id that the jobs of one run share.
    pub task_shared: Option<&'static str>,
    /// Every claim that its tokens are known to have; empty: unknown.
    pub claims: &'static [&'static str],
}

const GITHUB: Preset = Preset {
    name: "github-actions",
    issuer: Some("https://token.actions.githubusercontent.com"),
    bind: Bind::Audience,
    anchors: &["repository_id", "repository_owner_id", "enterprise_id"],
    names: &[
        ("sub", &["repository_id"]),
        ("repository", &["repository_id"]),
        ("repository_owner", &["repository_owner_id", "repository_id"]),
        ("enterprise", &["enterprise_id", "repository_owner_id", "repository_id"]),
        ("actor", &["actor_id"]),
        ("workflow_ref", &["repository_id"]),
        ("job_workflow_ref", &["repository_id", "repository_owner_id", "enterprise_id"]),
    ],
    name_anchors: &["repository", "repository_owner", "sub"],
    broad: &[
        ("repository_owner_id", &["repository_id", "repository"]),
        ("enterprise_id", &["repository_id", "repository"]),
    ],
    starts: &[],
    match_only: &[],
    hex: &[],
    evidence_life: defaults::EVIDENCE_LIFE_MAX,
    evidence_life_max: defaults::EVIDENCE_LIFE_LIMIT,
    window: (defaults::TASK_WINDOW, defaults::TASK_WINDOW_MAX),
    task: &["gh-{run_id}-{run_attempt}-{check_run_id}", "gh-{run_id}-{run_attempt}"],
    task_shared: Some("gh-{run_id}-{run_attempt}"),
    claims: &[
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "actor",
        "actor_id",
        "base_ref",
        "check_run_id",
        "enterprise",
        "enterprise_id",
        "environment",
        "environment_node_id",
        "event_name",
        "head_ref",
        "job_workflow_ref",
        "job_workflow_sha",
        "ref",
        "ref_protected",
        "ref_type",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "repository_visibility",
        "run_attempt",
        "run_id",
        "run_number",
        "runner_environment",
        "sha",
        "workflow",
        "workflow_ref",
        "workflow_sha",
    ],
};

const GITLAB: Preset = Preset {
    name: "gitlab",
    issuer: Some("https://gitlab.com"),
    bind: Bind::FirstUse,
    anchors: &["project_id", "namespace_id"],
    names: &[
        ("sub", &["project_id"]),
        ("project_path", &["project_id"]),
        ("namespace_path", &["namespace_id", "project_id"]),
        ("user_login", &["user_id"]),
        ("user_email", &["user_id"]),
        ("ci_config_ref_uri", &["project_id", "namespace_id"]),
    ],
    name_anchors: &["project_path", "namespace_path", "sub"],
    broad: &[("namespace_id", &["project_id", "project_path"])],
    starts: &[],
    match_only: &[],
    hex: &[],
    evidence_life: defaults::EVIDENCE_LIFE_MAX,
    evidence_life_max: defaults::EVIDENCE_LIFE_LIMIT,
    window: (defaults::TASK_WINDOW, defaults::TASK_WINDOW_MAX),
    task: &["gl-{job_id}"],
    task_shared: Some("gl-pipeline-{pipeline_id}"),
    claims: &[
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "ci_config_ref_uri",
        "ci_config_sha",
        "deployment_tier",
        "deployment_action",
        "environment",
        "environment_action",
        "environment_protected",
        "groups_direct",
        "job_config",
        "job_id",
        "job_namespace_id",
        "job_namespace_path",
        "job_project_id",
        "job_project_path",
        "job_source",
        "namespace_id",
        "namespace_path",
        "pipeline_id",
        "pipeline_source",
        "project_id",
        "project_path",
        "project_visibility",
        "ref",
        "ref_path",
        "ref_protected",
        "ref_type",
        "runner_environment",
        "runner_id",
        "sha",
        "user_access_level",
        "user_email",
        "user_id",
        "user_identities",
        "user_login",
    ],
};

const PLAIN: Preset = Preset {
    name: "",
    issuer: None,
    bind: Bind::FirstUse,
    anchors: &["sub"],
    names: &[],
    name_anchors: &[],
    broad: &[],
    starts: &[],
    match_only: &[],
    hex: &[],
    evidence_life: defaults::EVIDENCE_LIFE_MAX,
    evidence_life_max: defaults::EVIDENCE_LIFE_LIMIT,
    window: (defaults::TASK_WINDOW, defaults::TASK_WINDOW_MAX),
    task: &[],
    task_shared: None,
    claims: &[],
};

impl Preset {
    /// The presets that have a name.
    pub const ALL: [&'static Self; 3] = [&GITHUB, &GITLAB, &x509::X509];

    /// What holds for a rule without a preset: it names issuer and task itself and is anchored by `sub`.
    pub const PLAIN: &'static Self = &PLAIN;

    /// Finds a preset.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|p| p.name == name)
    }

    /// Whether its evidence is certificates, whose issuer is an authority.
    pub(crate) fn is_x509(&self) -> bool {
        self.bind == Bind::Proof
    }

    /// Whether its `sub` has GitHub's two forms.
    pub(crate) fn has_github_sub(&self) -> bool {
        self.name == GITHUB.name
    }

    /// The ids that make a name safe; none where the claim is not a name.
    pub(crate) fn ids_of(&self, claim: &str) -> Option<&'static [&'static str]> {
        self.names.iter().find(|(name, _)| *name == claim).map(|(_, ids)| *ids)
    }
}
