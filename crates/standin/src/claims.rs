//! The claim sets of real issuers, as their documentation lists them: GitHub's "OpenID Connect reference" and
//! GitLab's "OpenID Connect authentication using ID tokens". Values are the example configuration's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::UnixMillis;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value, json};

/// How long GitHub's and GitLab's tokens live where a job sets no timeout, in seconds.
pub const TOKEN_LIFE_S: u64 = 300;

/// The `iss` of GitHub Actions' tokens.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";
/// The `iss` of GitLab.com's ID tokens.
pub const GITLAB_ISSUER: &str = "https://gitlab.com";

/// What a job is about; the rest of its token follows from it. Overrides come last and win; one of `null`
/// removes the claim.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Job {
    /// Group or organisation, with its id.
    pub organisation: (String, String),
    /// Repository or project below it, with its id.
    pub repository: (String, String),
    /// The person who set it off, with the id.
    pub actor: (String, String),
    /// The run (GitHub) or pipeline (GitLab).
    pub run_id: String,
    /// The attempt at the run.
    pub run_attempt: String,
    /// The job's own id: `check_run_id` (GitHub), `job_id` (GitLab).
    pub job_id: String,
    /// The fully qualified git ref.
    pub git_ref: String,
    /// The environment that it deploys to, if any.
    pub environment: Option<String>,
    /// How long its token lives, in seconds.
    pub life_s: u64,
    /// Claims to set, or with `null` to remove, after all others.
    pub overrides: Map<String, Value>,
}

impl Default for Job {
    fn default() -> Self {
        let named = |name: &str, id: &str| (name.to_owned(), id.to_owned());
        Self {
            organisation: named("acme", "481516"),
            repository: named("payments", "2342108"),
            actor: named("alice", "1001"),
            run_id: "9876543210".to_owned(),
            run_attempt: "1".to_owned(),
            job_id: "55501".to_owned(),
            git_ref: "refs/tags/v1.4.0".to_owned(),
            environment: Some("production".to_owned()),
            life_s: TOKEN_LIFE_S,
            overrides: Map::new(),
        }
    }
}

impl Job {
    /// Sets a claim whatever the rest says; `null` removes it.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.overrides.insert(name.to_owned(), value.into());
        self
    }

    fn ref_kind(&self) -> (&'static str, &str) {
        let short = |prefix| self.git_ref.strip_prefix(prefix);
        match (short("refs/tags/"), short("refs/heads/")) {
            (Some(tag), _) => ("tag", tag),
            (None, Some(branch)) => ("branch", branch),
            (None, None) => ("branch", &self.git_ref),
        }
    }

    fn finish(&self, mut claims: Map<String, Value>) -> Map<String, Value> {
        for (name, value) in &self.overrides {
            if value.is_null() {
                claims.remove(name);
            } else {
                claims.insert(name.clone(), value.clone());
            }
        }
        claims
    }
}

/// GitHub's claims, with the `sub` of repositories since 2026-07-15 (names and ids).
pub fn github_claims(job: &Job, audience: &str, now: UnixMillis) -> Map<String, Value> {
    let ((org, org_id), (repo, repo_id), (actor, actor_id)) =
        (&job.organisation, &job.repository, &job.actor);
    let workflow = format!("{org}/{repo}/.github/workflows/release.yml@refs/heads/main");
    let context = match &job.environment {
        Some(environment) => format!("environment:{}", environment.replace(':', "%3A")),
        None => format!("ref:{}", job.git_ref.replace(':', "%3A")),
    };
    let iat = now.secs();
    let mut claims = object(json!({
        "iss": GITHUB_ISSUER,
        "sub": format!("repo:{org}@{org_id}/{repo}@{repo_id}:{context}"),
        "aud": audience,
        "iat": iat,
        "nbf": iat.saturating_sub(600),
        "exp": iat + job.life_s,
        "jti": random_id(),
        "actor": actor,
        "actor_id": actor_id,
        "base_ref": "",
        "check_run_id": job.job_id,
        "event_name": "push",
        "head_ref": "",
        "job_workflow_ref": workflow,
        "job_workflow_sha": "4f1d3a9c0b7e2d5f6a8190c3e4b5d6f7a8091b2c",
        "ref": job.git_ref,
        "ref_protected": "true",
        "ref_type": job.ref_kind().0,
        "repository": format!("{org}/{repo}"),
        "repository_id": repo_id,
        "repository_owner": org,
        "repository_owner_id": org_id,
        "repository_visibility": "private",
        "run_attempt": job.run_attempt,
        "run_id": job.run_id,
        "run_number": "42",
        "runner_environment": "github-hosted",
        "sha": "1c8e5d2f7a904b3c6d8e9f0a1b2c3d4e5f607182",
        "workflow": "release",
        "workflow_ref": workflow,
        "workflow_sha": "4f1d3a9c0b7e2d5f6a8190c3e4b5d6f7a8091b2c",
    }));
    if let Some(environment) = &job.environment {
        claims.insert("environment".to_owned(), json!(environment));
    }
    job.finish(claims)
}

/// GitLab's claims.
pub fn gitlab_claims(job: &Job, audience: &str, now: UnixMillis) -> Map<String, Value> {
    let ((group, group_id), (project, project_id), (user, user_id)) =
        (&job.organisation, &job.repository, &job.actor);
    let (ref_type, short_ref) = job.ref_kind();
    let iat = now.secs();
    let mut claims = object(json!({
        "iss": GITLAB_ISSUER,
        "sub": format!("project_path:{group}/{project}:ref_type:{ref_type}:ref:{short_ref}"),
        "aud": audience,
        "iat": iat,
        "nbf": iat.saturating_sub(5),
        "exp": iat + job.life_s,
        "jti": random_id(),
        "namespace_id": group_id,
        "namespace_path": group,
        "project_id": project_id,
        "project_path": format!("{group}/{project}"),
        "user_id": user_id,
        "user_login": user,
        "user_email": format!("{user}@example.com"),
        "user_access_level": "maintainer",
        "pipeline_id": job.run_id,
        "pipeline_source": "push",
        "job_id": job.job_id,
        "ref": short_ref,
        "ref_type": ref_type,
        "ref_path": job.git_ref,
        "ref_protected": "true",
        "runner_id": 1,
        "runner_environment": "gitlab-hosted",
        "sha": "1c8e5d2f7a904b3c6d8e9f0a1b2c3d4e5f607182",
        "project_visibility": "private",
        "ci_config_ref_uri": format!("gitlab.com/{group}/{project}//.gitlab-ci.yml@{}", job.git_ref),
        "ci_config_sha": "1c8e5d2f7a904b3c6d8e9f0a1b2c3d4e5f607182",
    }));
    if let Some(environment) = &job.environment {
        claims.insert("environment".to_owned(), json!(environment));
        claims.insert("environment_protected".to_owned(), json!("true"));
        claims.insert("deployment_tier".to_owned(), json!("production"));
    }
    job.finish(claims)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn random_id() -> String {
    let mut random = [0; 16];
    // Without randomness the id is zeros: tokens of one issuer are then told apart by their times.
    let _ = SystemRandom::new().fill(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}
