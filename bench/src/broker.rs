//! The broker as its clients see it: a child process, the ways to it, what it has used so far.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mayfly_broker::StaffKind;
use mayfly_client::{AcceptorClient, Context, OperatorClient, Target};
use mayfly_domain::time::SharedClock;
use mayfly_domain::{AcceptorName, OperatorName, SystemClock};
use mayfly_server::{local, staff};
use mayfly_testkit::process::Guarded;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::site::{ACCEPTOR, OPERATOR, Site, TRUST_DOMAIN, read};
use crate::{Failed, Result, host};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker {
    _process: Guarded,
    pid: u32,
    pub(crate) site: Site,
    url: String,
}

/// A command that starts this program in a role.
pub(crate) fn role(name: &str, at: &std::path::Path, log: Stdio) -> Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg(name).arg(at).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    Ok(command)
}

impl Broker {
    /// Starts a broker of a site and waits until it serves.
    pub(crate) async fn start(site: Site) -> Result<Self> {
        let log = File::create(site.path("broker.log"))?;
        let mut process = Guarded::spawn(&mut role("serve", &site.0, log.into())?)?;
        let give_up = Instant::now() + READY_WITHIN;
        let url = loop {
            // The address is told before anything is served; without its socket its certificates would be made here.
            if let Some(url) = read(&site.path("url"))
                && local::socket(&site.path("state")).exists()
            {
                break url;
            }
            if process.ended().is_some() || Instant::now() > give_up {
                let log = read(&site.path("broker.log")).unwrap_or_default();
                return Err(Failed::new(format!("the broker did not start:\n{log}")));
            }
            sleep(Duration::from_millis(5)).await;
        };
        let pid = process.child().id();
        let broker = Self { _process: process, pid, site, url };
        broker.certificate(OPERATOR, StaffKind::Operator(OperatorName::parse(OPERATOR)?)).await?;
        broker.certificate(ACCEPTOR, StaffKind::Acceptor(AcceptorName::parse(ACCEPTOR)?)).await?;
        Ok(broker)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Has a certificate issued through the broker's own socket, as `mayfly operator issue` does.
    async fn certificate(&self, name: &str, kind: StaffKind) -> Result<()> {
        let key = rcgen::KeyPair::generate()?;
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let clock: SharedClock = Arc::new(SystemClock);
        let issued = staff::issue(&self.site.config(), kind, spki, None, &clock).await?;
        self.site.put(&format!("{name}.key"), &key.serialize_pem())?;
        self.site.put(&format!("{name}.crt"), &issued.certificate.certificate_pem)
    }

    pub(crate) fn resident(&self) -> Option<u64> {
        host::resident(self.pid())
    }

    pub(crate) fn target(&self, name: Option<&str>) -> Result<Target> {
        let file = |ending: &str| name.map(|n| self.site.path(&format!("{n}.{ending}")));
        target(&self.url, self.site.path("ca.pem"), file("crt"), file("key"))
    }

    /// A connection with the certificate and key in these files of the site.
    pub(crate) async fn channel_as(&self, name: &str) -> Result<Channel> {
        mayfly_client::channel::connect(&self.target(Some(name))?).await.map_err(Failed::from)
    }

    /// A connection without a client certificate.
    pub(crate) async fn channel(&self) -> Result<Channel> {
        mayfly_client::channel::connect(&self.target(None)?).await.map_err(Failed::from)
    }

    pub(crate) async fn acceptor(&self) -> Result<AcceptorClient> {
        AcceptorClient::connect(&self.target(Some(ACCEPTOR))?).await.map_err(Failed::from)
    }

    pub(crate) async fn operator(&self) -> Result<OperatorClient> {
        OperatorClient::connect(&self.target(Some(OPERATOR))?).await.map_err(Failed::from)
    }
}

/// The broker at a URL.
pub(crate) fn target(url: &str, ca: PathBuf, cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Target> {
    let context = Context {
        url: url.to_owned(),
        trust_domain: Some(TRUST_DOMAIN.to_owned()),
        ca_file: Some(ca),
        ca_sha256: None,
        cert_file: cert,
        key_file: key,
    };
    Ok(context.check("bench")?)
}
