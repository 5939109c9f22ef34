//! `mayfly exec` against a broker: what a command gets, what becomes of it when its credentials change or end, and
//! what is left behind. Each runs as root and as an ordinary user, where root runs the tests.

mod ending;
mod files;
mod getting;
mod renewing;

use std::path::{Path, PathBuf};
use std::process::Command;

use mayfly_client::{OperatorClient, Pin};
use mayfly_proto::v1 as pb;
use mayfly_standin::Job;
use mayfly_testkit::user::{User, open_dir};
use tempfile::TempDir;

use crate::support::dev::DevBroker;
use crate::support::mayfly;

/// A job whose tokens live three seconds, in a task of its own.
const FILES: &[(&str, &str)] = &[
    (
        "trust/exec.toml",
        r#"
name      = "exec"
preset    = "github-actions"
spiffe_id = "/ci/exec/{run_id}"
owners    = ["team:exec"]
review_by = 2027-05-01
[match]
repository_owner_id = "481516"
repository_id       = "777"
[task]
id     = "exec-{run_id}-{run_attempt}"
window = { default = "10m", max = "1h" }
"#,
    ),
    (
        "trust/brief.toml",
        r#"
name      = "brief"
preset    = "github-actions"
spiffe_id = "/ci/brief/{run_id}"
owners    = ["team:exec"]
review_by = 2027-05-01
[match]
repository_owner_id = "481516"
repository_id       = "778"
[task]
id     = "brief-{run_id}-{run_attempt}"
window = { default = "4s", max = "1h" }
"#,
    ),
    (
        "profiles/exec.toml",
        r#"
name        = "exec"
summary     = "what the tests of exec mint"
kind        = "token"
integration = "exec"
owner       = "team:exec"
intents     = ["use:exec"]
review_by   = 2027-05-01
[token]
audience  = "https://exec.acme.internal"
scopes    = ["exec:use"]
ttl       = { default = "3s", max = "1h" }
binding   = "dpop"
acceptors = "online"
"#,
    ),
    (
        "profiles/exec-slow.toml",
        r#"
name        = "exec-slow"
summary     = "as exec, with time between a failed renewal and the end"
kind        = "token"
integration = "exec"
owner       = "team:exec"
intents     = ["use:exec"]
review_by   = 2027-05-01
[token]
audience  = "https://exec.acme.internal"
scopes    = ["exec:use"]
ttl       = { default = "12s", max = "1h" }
binding   = "dpop"
acceptors = "online"
"#,
    ),
    (
        "profiles/exec-tls.toml",
        r#"
name        = "exec-tls"
summary     = "a certificate for the tests of exec"
kind        = "x509"
integration = "exec"
owner       = "team:exec"
intents     = ["use:exec"]
review_by   = 2027-05-01
[x509]
dns       = ["exec.payments.svc"]
usage     = ["client", "server"]
ttl       = { default = "3s", max = "1h" }
acceptors = "online"
"#,
    ),
    (
        "profiles/exec-hour.toml",
        r#"
name        = "exec-hour"
summary     = "lives for an hour, and is renewed long after the test"
kind        = "token"
integration = "exec"
owner       = "team:exec"
intents     = ["use:exec"]
review_by   = 2027-05-01
[token]
audience  = "https://exec.acme.internal"
scopes    = ["exec:use"]
ttl       = { default = "1h", max = "1h" }
binding   = "dpop"
acceptors = "online"
"#,
    ),
    (
        "profiles/exec-tls-hour.toml",
        r#"
name        = "exec-tls-hour"
summary     = "lives for an hour, and is renewed long after the test"
kind        = "x509"
integration = "exec"
owner       = "team:exec"
intents     = ["use:exec"]
review_by   = 2027-05-01
[x509]
dns       = ["exec.payments.svc"]
usage     = ["client", "server"]
ttl       = { default = "1h", max = "1h" }
acceptors = "online"
"#,
    ),
    (
        "policies/exec.cedar",
        r#"
@id("exec")
permit (
  principal is Mayfly::Workload in Mayfly::Owner::"team:exec",
  action in [Mayfly::Action::"mint", Mayfly::Action::"renew"],
  resource
) when {
  resource == Mayfly::Profile::"exec" || resource == Mayfly::Profile::"exec-slow" ||
  resource == Mayfly::Profile::"exec-tls" || resource == Mayfly::Profile::"exec-hour" ||
  resource == Mayfly::Profile::"exec-tls-hour"
};
"#,
    ),
];

/// A broker, and jobs that run commands below `mayfly exec`.
struct World {
    broker: DevBroker,
    operator: OperatorClient,
}

/// One job of one user.
struct Place {
    user: User,
    dir: TempDir,
    env: Vec<(&'static str, String)>,
    task: String,
}

impl World {
    async fn new() -> Self {
        let broker = DevBroker::start_with(FILES).await;
        let operator = broker.operator().await;
        Self { broker, operator }
    }

    fn place(&self, user: User) -> Place {
        self.place_of(user, "777", "exec", "1")
    }

    /// A job of the repository with this id, whose tasks are called so; each run of each user is another one.
    fn place_of(&self, user: User, repository: &str, task: &str, run: &str) -> Place {
        let run_id = match user {
            User::Same => format!("1{run}"),
            User::Nobody => format!("2{run}"),
        };
        let job = Job {
            repository: ("exec".to_owned(), repository.to_owned()),
            run_id: run_id.clone(),
            ..Job::default()
        };
        let mut env = self.broker.github_env(&job);
        // The broker's files are its own user's alone.
        let pin = Pin::from_file(&self.broker.told().ca).unwrap();
        env.retain(|(name, _)| *name != "MAYFLY_CA_FILE");
        env.push(("MAYFLY_CA_SHA256", pin.fingerprints().remove(0)));
        let dir = open_dir();
        user.take(dir.path());
        env.push(("RUNNER_TEMP", text(dir.path())));
        env.push(("HOME", text(dir.path())));
        Place { user, dir, env, task: format!("{task}-{run_id}-{}", job.run_attempt) }
    }

    async fn task(&self, place: &Place) -> pb::Task {
        self.operator.get_task(pb::OperatorGetTaskRequest { id: place.task.clone() }).await.unwrap()
    }

    /// The leases of a job's task, those that have ended too.
    async fn leases(&self, place: &Place) -> Vec<pb::Lease> {
        let subject = crate::harness::subject(pb::Dimension::Task, &place.task);
        let request = pb::ListLeasesRequest { subject: Some(subject), ended: true, ..Default::default() };
        self.operator.list_leases(request).await.unwrap().leases
    }

    /// Ends all that a job's task holds; the task itself stays open.
    async fn revoke(&self, place: &Place) {
        for lease in self.leases(place).await {
            let what = Some(pb::revoke_request::What::Lease(lease.id));
            let call = pb::RevokeRequest { what, reason: "test".into(), ..Default::default() };
            self.operator.revoke(call).await.unwrap();
        }
    }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mayfly(&self, before: &[&str]) -> Command {
        let mut command = self.user.command(before, mayfly());
        command.envs(self.env.iter().cloned());
        command
    }

    /// `mayfly exec` of a shell script, with a token.
    fn exec(&self, options: &[&str], script: &str) -> Command {
        self.exec_behind(&[], options, script)
    }

    fn exec_behind(&self, before: &[&str], options: &[&str], script: &str) -> Command {
        let mut command = self.mayfly(before);
        // What a script waits for ends with it: it would hold the pipes.
        let script = format!("trap 'kill $! 2>/dev/null' EXIT\n{script}");
        command.args(["exec", "--profile", "exec"]).args(options).args(["--", "sh", "-c", &script]);
        command
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
