//! A development broker of a test's own, with its stand-in CI issuer.

use std::path::PathBuf;
use std::sync::Arc;

use mayfly_client::{AcceptorClient, OperatorClient, Pin, Target};
use mayfly_domain::{Clock as _, SystemClock, TrustDomain};
use mayfly_proto::v1 as pb;
use mayfly_server::dev::{Dev, Home, Options, Told};
use mayfly_standin::{Job, JobTokens, StandIn};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

/// A running broker.
pub(crate) struct DevBroker {
    dir: TempDir,
    told: Told,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl DevBroker {
    /// Starts one on free ports in a directory of its own.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`DevBroker::start`], with these files beside the example configuration.
    pub(crate) async fn start_with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dir: dir.path().join("dev"), any_port: true };
        drop(Home::open(&options.dir).unwrap());
        for (name, text) in files {
            std::fs::write(options.dir.join(name), text).unwrap();
        }
        let dev = Dev::new(&options, Arc::new(SystemClock)).await.unwrap();
        let told = dev.told().clone();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            dev.run(async move { drop(stopped.await) }).await.unwrap();
        });
        Self { dir, told, stop, serving }
    }

    /// Where it is.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// What an operator's shell sets.
    pub(crate) fn operator_env(&self) -> Vec<(&'static str, String)> {
        let path = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let (certificate, key) = &self.told.operator;
        let mut env = self.client_env();
        env.extend([("MAYFLY_CERT_FILE", path(certificate)), ("MAYFLY_KEY_FILE", path(key))]);
        env
    }

    /// Drains it.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.serving.await.unwrap();
    }

    fn issuer_key(&self) -> mayfly_domain::SecretBytes {
        Home::open(&self.dir.path().join("dev")).unwrap().ci_key().unwrap()
    }

    /// What GitHub's runner sets for `job`, beside what every client of this broker needs.
    pub(crate) fn github_env(&self, job: &Job) -> Vec<(&'static str, String)> {
        let request_token = JobTokens::new(&self.issuer_key()).token(job);
        let mut env = self.client_env();
        env.extend([
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_RUN_ID", job.run_id.clone()),
            ("GITHUB_RUN_ATTEMPT", job.run_attempt.clone()),
            ("GITHUB_JOB", "deploy".to_owned()),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", self.told.token_url.clone()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", request_token),
        ]);
        env
    }

    /// What GitLab's runner sets for `job`, with the ID token that its `id_tokens:` asks for.
    pub(crate) fn gitlab_env(&self, job: &Job) -> Vec<(&'static str, String)> {
        let issuer = StandIn::new(&self.issuer_key()).unwrap();
        let token = issuer.gitlab_token(job, self.told.trust_domain.as_str(), SystemClock.now()).unwrap();
        let mut env = self.client_env();
        env.extend([("GITLAB_CI", "true".to_owned()), ("MAYFLY_ID_TOKEN", token)]);
        env
    }

    /// What every client's shell sets.
    pub(crate) fn client_env(&self) -> Vec<(&'static str, String)> {
        let ca = self.told.ca.to_str().unwrap().to_owned();
        vec![("MAYFLY_URL", self.told.url.clone()), ("MAYFLY_CA_FILE", ca)]
    }

    /// The broker as the acceptor `name` reaches it.
    pub(crate) async fn acceptor(&self, name: &str) -> AcceptorClient {
        AcceptorClient::connect(&self.as_acceptor(name)).await.unwrap()
    }

    /// Where the broker is, for the acceptor `name`.
    pub(crate) fn as_acceptor(&self, name: &str) -> Target {
        let (_, certificate, key) = self.told.acceptors.iter().find(|(n, ..)| n == name).unwrap();
        self.target(Some((certificate.clone(), key.clone())))
    }

    /// What the shell of the acceptor `name` sets.
    pub(crate) fn acceptor_env(&self, name: &str) -> Vec<(&'static str, String)> {
        let (certificate, key) = self.as_acceptor(name).identity.unwrap();
        let mut env = self.client_env();
        env.extend(
            [("MAYFLY_CERT_FILE", certificate), ("MAYFLY_KEY_FILE", key)]
                .map(|(name, path)| (name, path.to_str().unwrap().to_owned())),
        );
        env
    }

    /// The broker as the operator reaches it.
    pub(crate) async fn operator(&self) -> OperatorClient {
        OperatorClient::connect(&self.target(Some(self.told.operator.clone()))).await.unwrap()
    }

    /// The broker as a workload reaches it.
    pub(crate) fn anyone(&self) -> Target {
        self.target(None)
    }

    fn target(&self, identity: Option<(PathBuf, PathBuf)>) -> Target {
        Target {
            name: "test".to_owned(),
            url: Url::parse(&self.told.url).unwrap(),
            trust_domain: Some(TrustDomain::parse(self.told.trust_domain.as_str()).unwrap()),
            pin: Pin::from_file(&self.told.ca).unwrap(),
            identity,
        }
    }
}

/// Why a lease is not accepted; none where it is.
pub(crate) async fn refused(acceptor: &AcceptorClient, lease: &str) -> Option<String> {
    let credential = Some(pb::check_request::Credential::Lease(lease.to_owned()));
    let answer = acceptor.check(pb::CheckRequest { credential, ..Default::default() }).await.unwrap();
    (!answer.accepted).then_some(answer.reason)
}
