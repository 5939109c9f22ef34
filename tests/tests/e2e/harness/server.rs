//! The real `mayfly server`, as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use mayfly_client::{AcceptorClient, OperatorClient, Pin, Target};
use mayfly_domain::LeaseId;
use mayfly_testkit::process::Guarded;
use tokio::sync::watch;
use url::Url;

use super::job::{Job, Spec};
use super::people::{Acceptor, Certified, Operator};
use super::site::Site;
use super::until;
use crate::support::mayfly;

/// A running process, or one that was killed.
pub(crate) struct Server {
    pub(crate) process: Guarded,
    pub(crate) address: String,
    pub(crate) metrics: String,
    pub(crate) log: watch::Receiver<String>,
    dir: PathBuf,
    name: String,
    site_domain: mayfly_domain::TrustDomain,
}

impl Server {
    /// Runs `mayfly init`.
    pub(crate) fn initialise(site: &Site, file: &std::path::Path) {
        let output = Command::new(mayfly())
            .args(["init", "--config"])
            .arg(file)
            .envs(site.environment.iter().cloned())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts it and waits until it tells its addresses.
    pub(crate) async fn start(site: &Site, name: &str, issuer_ca: &std::path::Path) -> Self {
        let dir = site.path(name);
        let mut process = Guarded::spawn(
            Command::new(mayfly())
                .args(["server", "--config"])
                .arg(dir.join("mayfly.toml"))
                .arg("--issuer-ca")
                .arg(issuer_ca)
                .env("MAYFLY_LOG", site.log)
                .envs(site.environment.iter().cloned())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped()),
        )
        .unwrap();
        let pipe = process.child().stderr.take().unwrap();
        let (told, mut log) = watch::channel(String::new());
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                told.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        let address = |log: &str, what: &str| {
            let line = log.lines().find_map(|l| l.trim_start().strip_prefix(what).map(str::trim))?;
            Some(line.to_owned())
        };
        let ready = log.wait_for(|log| address(log, "metrics ").is_some()).await;
        let ready = ready.map(|log| log.clone());
        let text = ready.unwrap_or_else(|_| panic!("the server ended: {}", log.borrow().as_str()));
        // Addresses are told before anything is served; who asks for a certificate needs its socket.
        let socket = mayfly_server::local::socket(&dir.join("state"));
        until(async || std::os::unix::net::UnixStream::connect(&socket).ok()).await;
        Self {
            address: address(&text, "gRPC and HTTPS ").unwrap(),
            metrics: address(&text, "metrics ").unwrap(),
            process,
            log,
            dir,
            name: name.to_owned(),
            site_domain: site.trust_domain.clone(),
        }
    }

    /// How it is reached by whoever has `identity`.
    pub(crate) fn target(&self, identity: Option<(PathBuf, PathBuf)>) -> Target {
        Target {
            name: self.name.clone(),
            url: Url::parse(&format!("https://{}", self.address)).unwrap(),
            trust_domain: Some(self.site_domain.clone()),
            pin: Pin::from_file(&self.dir.join("ca.pem")).unwrap(),
            identity,
        }
    }

    pub(crate) async fn job(&self, site: &Site, spec: &Spec) -> Job {
        Job::new(site, &self.target(None), spec).await
    }

    fn certify(&self, kind: &str, name: &str) -> Certified {
        self.try_certify(kind, name).unwrap()
    }

    /// Issues a certificate through the broker's local socket, as a person on its host does. One that was issued
    /// before under this name is replaced in its files.
    ///
    /// # Errors
    /// What the program told.
    pub(crate) fn try_certify(&self, kind: &str, name: &str) -> Result<Certified, String> {
        let out = self.dir.join(format!("{kind}-{name}"));
        let output = Command::new(mayfly())
            .args(["--output", "json", kind, "issue", name, "--config"])
            .arg(self.dir.join("mayfly.toml"))
            .arg("--out")
            .arg(&out)
            .env("XDG_CONFIG_HOME", &self.dir)
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let lease = LeaseId::parse(told["lease"].as_str().unwrap()).unwrap();
        let files = (out.join("cert.pem"), out.join("key.pem"));
        std::fs::copy(out.join("ca.pem"), self.dir.join("ca.pem")).unwrap();
        Ok(Certified { files, lease })
    }

    pub(crate) async fn operator(&self, name: &str) -> Operator {
        let certified = self.certify("operator", name);
        let client = OperatorClient::connect(&self.target(Some(certified.files.clone()))).await.unwrap();
        Operator { client, certified }
    }

    pub(crate) async fn acceptor(&self, name: &str) -> Acceptor {
        let certified = self.certify("acceptor", name);
        let client = AcceptorClient::connect(&self.target(Some(certified.files.clone()))).await.unwrap();
        Acceptor { client, certified }
    }
}
