//! `mayfly mint x509`: a certificate as files, and, on request, kept fresh.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use mayfly_client::identity::Options;
use mayfly_client::workload::CertificateAsk;
use mayfly_client::{Event, Failure, KeyHome, Source, Svid, WorkloadKey, X509Identity};
use mayfly_domain::{Intent, ProfileName, Reason, San, UnixMillis};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use tokio::process::Command;
use tokio::sync::broadcast::error::RecvError;

use crate::args::{Length, Words};
use crate::commands::exec::environment;
use crate::files::{SetDir, unwritten};
use crate::output::{Human, Moment, View};
use crate::session::{EvidenceArgs, Outcome, Session};
use crate::supervise::Signals;
use crate::tls_files;

/// How long a reload command may take before it is ended.
const RELOAD: Duration = Duration::from_secs(60);
/// How long after a failure the files are tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Mint a certificate and write it into files
///
/// DIR gets `tls.crt` (the certificate and its intermediates), `tls.key` (PKCS #8, mode 0600) and `ca.crt` (what
/// verifies other workloads; never the root). They are replaced together, by one rename of the link `DIR/..data`. The
/// key stays the same at each renewal, so a certificate and a key that are read one after the other are a pair.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mayfly mint x509 --profile payments-api --out /run/payments/tls
  mayfly mint x509 --profile web --out /etc/nginx/tls --watch --reload 'nginx -s reload'
  mayfly mint x509 --profile db --out tls --dns db-1.payments.svc --ip 10.0.0.7
  mayfly mint x509 --profile db --out tls --csr db.csr --key-file db.key")]
pub(crate) struct X509 {
    /// The profile: what the certificate is for
    #[arg(long, value_name = "NAME")]
    profile: ProfileName,
    /// Where the files go; made where it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What it is for; may be left out where the profile lists exactly one
    #[arg(long, value_name = "VERB:OBJECT")]
    intent: Option<Intent>,
    /// Why, in words for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<Words>,
    /// How long it should live, at most; else the profile's default
    #[arg(long, value_name = "LENGTH")]
    ttl: Option<Length>,
    /// A DNS name; may be given several times; without --dns and --ip all names that the profile grants
    #[arg(long = "dns", value_name = "NAME", value_parser = San::dns)]
    dns: Vec<San>,
    /// An address; may be given several times
    #[arg(long = "ip", value_name = "ADDRESS")]
    ips: Vec<IpAddr>,
    /// A certificate request (PKCS #10, PEM), whose names are asked for
    #[arg(long, value_name = "FILE", requires = "key_file", conflicts_with_all = ["dns", "ips"])]
    csr: Option<PathBuf>,
    /// The private key to use (P-256, PKCS #8, PEM, mode 0600); else that of this machine's task
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Stay, and keep the files fresh until a signal comes
    #[arg(long)]
    watch: bool,
    /// What a shell runs when the files are new; its failure is told and nothing else
    #[arg(long, value_name = "CMD", requires = "watch")]
    reload: Option<String>,
    #[command(flatten)]
    evidence: EvidenceArgs,
}

#[derive(Serialize)]
struct Written<'a> {
    workload: &'a str,
    lease: String,
    task: &'a str,
    names: &'a [String],
    expires: Moment,
    renewable_until: Moment,
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
    request: &'a str,
    warnings: &'a [String],
}

impl<'a> Written<'a> {
    fn of(svid: &'a Svid, out: &Path) -> Self {
        Self {
            workload: svid.id.as_str(),
            lease: svid.lease.to_string(),
            task: svid.task.as_ref().map(|t| t.id.as_str()).unwrap_or_default(),
            names: &svid.names,
            expires: Moment(svid.expires.0),
            renewable_until: Moment(svid.renewable_until.0),
            certificate: out.join(tls_files::CHAIN),
            key: out.join(tls_files::KEY),
            ca: out.join(tls_files::ANCHORS),
            request: &svid.request,
            warnings: &svid.warnings,
        }
    }
}

impl View for Written<'_> {
    fn human(&self, now: UnixMillis) -> Human {
        Human::Fields(vec![
            ("workload", self.workload.to_owned()),
            ("names", self.names.join(" ")),
            ("lease", self.lease.clone()),
            ("task", self.task.to_owned()),
            ("expires", self.expires.human(now)),
            ("certificate", self.certificate.display().to_string()),
            ("key", self.key.display().to_string()),
            ("ca", self.ca.display().to_string()),
            ("request", self.request.to_owned()),
            ("warning", self.warnings.join("; ")),
        ])
    }
}

impl X509 {
    fn ask(&self) -> Result<CertificateAsk, Failure> {
        let mut names = self.dns.clone();
        for ip in &self.ips {
            names.push(San::address(*ip)?);
        }
        let csr = self.csr.as_deref().map(request).transpose()?;
        Ok(CertificateAsk {
            intent: self.intent.clone(),
            reason: self.reason.clone().and_then(|words| words.0),
            ttl: self.ttl.map(|l| l.0),
            names,
            csr,
            ..CertificateAsk::new(self.profile.clone())
        })
    }

    async fn identity(&self, session: &Session) -> Result<X509Identity, Failure> {
        let key = self.key_file.as_deref().map(WorkloadKey::open).transpose()?.map(Arc::new);
        let options = Options {
            home: Some(KeyHome::find(&session.env)?),
            key,
            keep_key: true,
            patience: session.patience,
            clock: Arc::clone(&session.clock),
            ..Options::new(self.ask()?)
        };
        let target = session.target()?;
        let source = Source::at(&target, self.evidence.evidence_file.as_deref(), &session.env)?;
        X509Identity::start(&target, source, options).await
    }

    pub(crate) async fn run(self, session: &Session) -> Outcome {
        // A place first: what can't be kept need not be minted.
        let set = SetDir::take(&self.out).map_err(|e| match e.kind() {
            std::io::ErrorKind::WouldBlock => unwritten(&self.out, &e)
                .fact("problem", "another process keeps this directory")
                .next("end the other `mayfly mint x509 --watch`, or choose another directory"),
            _ => unwritten(&self.out, &e),
        })?;
        let identity = self.identity(session).await?;
        let svid = identity.svid().ok_or_else(|| Failure::of(Reason::LeaseExpired))?;
        tls_files::put(&set, &svid, &svid.bundle_pem()).map_err(|e| unwritten(&self.out, &e))?;
        session.printer.show(&Written::of(&svid, &self.out))?;
        if !self.watch {
            return Ok(0);
        }
        let no = |e: std::io::Error| Failure::of(Reason::Internal).fact("problem", e.to_string());
        let mut signals = Signals::take().map_err(no)?;
        tokio::select! {
            failed = self.keep(&set, &identity, session) => Err(failed),
            _ = signals.ending() => Ok(0),
        }
    }

    /// Lets the files follow the certificate and the trust bundle; comes back when no certificate can be had.
    async fn keep(&self, set: &SetDir, identity: &X509Identity, session: &Session) -> Failure {
        let (mut events, mut bundle) = (identity.events(), identity.bundle());
        let note = |text: &str| session.printer.note(&format!("mayfly mint x509: {text}"));
        self.reload(session).await;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event::Issued(_) | Event::Renewed(_)) | Err(RecvError::Lagged(_)) => {}
                    Ok(Event::Failed { failure, last: true }) => return failure,
                    Err(RecvError::Closed) => return Failure::of(Reason::LeaseExpired),
                    Ok(event) => {
                        note(&told(&event));
                        continue;
                    }
                },
                Ok(()) = bundle.changed() => {}
            }
            let Some(svid) = identity.svid() else { continue };
            // Read once: what is borrowed in the loop's head would be held while it waits, and the bundle's writer with it.
            let anchors = bundle.borrow_and_update().anchors_pem();
            while let Err(e) = tls_files::put(set, &svid, &anchors) {
                note(&format!("{}: {e}; the files stay as they are", self.out.display()));
                tokio::time::sleep(AGAIN).await;
            }
            note(&format!("renewed; it ends {}", Moment(svid.expires.0).distance(session.clock.now())));
            self.reload(session).await;
        }
    }

    async fn reload(&self, session: &Session) {
        let Some(script) = &self.reload else { return };
        let mut command = Command::new("sh");
        command.args(["-c", script]).kill_on_drop(true);
        for name in environment::unset(false) {
            command.env_remove(name);
        }
        let problem = match tokio::time::timeout(RELOAD, command.status()).await {
            Ok(Ok(status)) if status.success() => return,
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "it took too long and was ended".to_owned(),
        };
        session.printer.note(&format!("mayfly mint x509: the reload command failed: {problem}"));
    }
}

/// What a person is told of an event that leaves the files as they are.
fn told(event: &Event) -> String {
    match event {
        Event::Revoked(failure) => format!("the lease was revoked: {} ({})", failure.message, failure.code),
        Event::Expired => "the certificate has ended; a new one is tried for".to_owned(),
        Event::FellBack(failure) => {
            format!("it can't renew itself any more ({}): first evidence is shown again", failure.code)
        }
        Event::Failed { failure, .. } => format!("not renewed yet: {} ({})", failure.message, failure.code),
        Event::Issued(_) | Event::Renewed(_) => "renewed".to_owned(),
    }
}

/// Reads a certificate request.
fn request(path: &Path) -> Result<Vec<u8>, Failure> {
    CertificateSigningRequestDer::from_pem_file(path).map(|der| der.as_ref().to_vec()).map_err(|e| {
        Failure::of(Reason::CsrMalformed)
            .fact("file", path.display().to_string())
            .fact("problem", e.to_string())
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::Cli;

    #[test]
    fn a_request_comes_with_its_key_and_without_names() {
        let parse = |rest: &str| {
            let line = format!("mayfly mint x509 --profile p --out tls {rest}");
            Cli::try_parse_from(line.split_whitespace()).is_ok()
        };
        for good in [
            "",
            "--dns a.b --ip 10.0.0.1 --ip ::1",
            "--csr r --key-file k",
            "--key-file k",
            "--watch --reload true",
        ] {
            assert!(parse(good), "{good}");
        }
        for bad in ["--csr r", "--csr r --key-file k --dns a.b", "--dns *.b", "--ip nowhere", "--reload true"]
        {
            assert!(!parse(bad), "{bad}");
        }
    }
}
