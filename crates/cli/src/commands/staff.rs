//! `mayfly operator issue` and `mayfly acceptor issue`: certificates for people and services, on a broker's host.
//!
//! The key is made here and never leaves this machine; the certificate says who, never what it may.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mayfly_broker::StaffKind;
use mayfly_client::{Context, Contexts, Failure, keys};
use mayfly_domain::{AcceptorName, Audience, GroupName, OperatorName, Reason, UnixMillis};
use mayfly_server::config::Loaded;
use mayfly_server::staff;
use serde::Serialize;

use crate::args::Length;
use crate::loaded::{ConfigArgs, anchor_file, detailed};
use crate::output::{Human, Moment, View};
use crate::session::{Outcome, Session};

/// Certificates for operators
#[derive(Debug, Subcommand)]
pub(crate) enum Operator {
    Issue(IssueOperator),
}

/// Certificates for services that accept credentials
#[derive(Debug, Subcommand)]
pub(crate) enum Acceptor {
    Issue(IssueAcceptor),
}

/// Issue an operator's certificate, for four hours
///
/// On a broker's host, by somebody who can open the seal. What the operator may do is said by
/// `operators/NAME.toml` and the policies, never by the certificate.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  mayfly operator issue alice --out ~/.config/mayfly/alice --add-context prod"
)]
pub(crate) struct IssueOperator {
    /// The operator, as `operators/NAME.toml` names it
    name: OperatorName,
    /// A group that the configuration must give the operator; may be given several times
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<GroupName>,
    #[command(flatten)]
    issue: IssueArgs,
}

/// Issue an acceptor's certificate, for a day
///
/// On a broker's host, by somebody who can open the seal. What the acceptor may check is said by
/// `acceptors/NAME.toml`, never by the certificate.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mayfly acceptor issue deploy-api --audience https://deploy.acme.internal --out /etc/deploy-api/mayfly")]
pub(crate) struct IssueAcceptor {
    /// The acceptor, as `acceptors/NAME.toml` names it
    name: AcceptorName,
    /// An audience that the configuration must give the acceptor; may be given several times
    #[arg(long = "audience", value_name = "URL")]
    audiences: Vec<Audience>,
    #[command(flatten)]
    issue: IssueArgs,
}

#[derive(Debug, Args)]
struct IssueArgs {
    /// Where `cert.pem`, `key.pem` and `ca.pem` are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long it should live, at most
    #[arg(long, value_name = "LENGTH")]
    ttl: Option<Length>,
    /// Add a context of this name with the certificate; an operator's is used from then on
    #[arg(long, value_name = "NAME")]
    add_context: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Serialize)]
struct Issued {
    name: String,
    lease: String,
    expires: Moment,
    cert_file: PathBuf,
    key_file: PathBuf,
    ca_file: PathBuf,
    #[serde(skip)]
    url: String,
    #[serde(skip)]
    trust_domain: String,
    context: Option<String>,
    /// A context of a person's is used from then on, one of a service's only where it is named.
    #[serde(skip)]
    person: bool,
}

impl View for Issued {
    fn human(&self, now: UnixMillis) -> Human {
        let next = match &self.context {
            Some(name) if self.person => format!("the context {name} is in use"),
            Some(name) => format!("mayfly --context {name} check"),
            None => format!(
                "mayfly context add {} --url {} --trust-domain {} --ca-file {} --cert-file {} --key-file {}{}",
                self.name,
                self.url,
                self.trust_domain,
                self.ca_file.display(),
                self.cert_file.display(),
                self.key_file.display(),
                if self.person { " --use" } else { "" }
            ),
        };
        Human::Fields(vec![
            ("issued to", self.name.clone()),
            ("lease", self.lease.clone()),
            ("expires", self.expires.human(now)),
            ("certificate", self.cert_file.display().to_string()),
            ("key", self.key_file.display().to_string()),
            ("next", next),
        ])
    }
}

fn unwritable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::of(Reason::InputInvalid)
        .fact("file", path.display().to_string())
        .fact("problem", e.to_string())
        .next("choose another directory with --out")
}

/// Writes a file that only its owner reads, in one step.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    let written = || {
        let _ = std::fs::remove_file(&new);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    written().map_err(|e| unwritable(path, &e))
}

fn unknown(kind: &str, name: &str, file: String) -> Failure {
    Failure::of(Reason::NotFound)
        .fact(kind, name)
        .fact("problem", "the configuration does not name it")
        .next(format!("write {file}, then issue again"))
}

fn lacks(what: &str, wanted: &dyn std::fmt::Display, file: String) -> Failure {
    Failure::of(Reason::ConfigInvalid)
        .fact("problem", format!("the configuration does not give it the {what} {wanted}"))
        .next(format!("add it in {file}: a certificate never carries it"))
}

impl IssueArgs {
    async fn issue(&self, kind: StaffKind, name: String, session: &Session) -> Outcome {
        let key = keys::generate()?;
        let ttl = self.ttl.map(|l| l.0);
        let person = matches!(kind, StaffKind::Operator(_));
        let issued = staff::issue(&self.config.config, kind, key.spki, ttl, &session.clock)
            .await
            .map_err(|e| detailed(&e))?;
        std::fs::create_dir_all(&self.out).map_err(|e| unwritable(&self.out, &e))?;
        let out = std::path::absolute(&self.out).map_err(|e| unwritable(&self.out, &e))?;
        let chain = &issued.certificate.certificate_pem;
        let ca = std::fs::read_to_string(anchor_file(&issued.settings)).unwrap_or_else(|_| issuing_ca(chain));
        let file = |name: &str| out.join(name);
        write(&file("key.pem"), key.pem.expose())?;
        write(&file("cert.pem"), chain)?;
        write(&file("ca.pem"), &ca)?;
        let shown = Issued {
            lease: issued.certificate.lease.to_string(),
            expires: Moment(issued.certificate.expires.0),
            cert_file: file("cert.pem"),
            key_file: file("key.pem"),
            ca_file: file("ca.pem"),
            url: issued.settings.public_url,
            trust_domain: issued.settings.trust_domain.to_string(),
            context: self.add_context.clone(),
            person,
            name,
        };
        if let Some(context) = &self.add_context {
            add_context(context, &shown, session)?;
        }
        session.printer.show(&shown)?;
        Ok(0)
    }
}

/// The last certificate of the chain: the CA that issued it, which issues to brokers too. It stands in for the
/// anchor on a host where nobody ran `init`.
fn issuing_ca(chain: &str) -> String {
    let last = chain.rfind("-----BEGIN CERTIFICATE-----").and_then(|at| chain.get(at..));
    last.unwrap_or(chain).to_owned()
}

fn add_context(name: &str, issued: &Issued, session: &Session) -> Result<(), Failure> {
    let path = Contexts::path(&session.env)?;
    let mut contexts = Contexts::load(&path)?;
    let context = Context {
        url: issued.url.clone(),
        trust_domain: Some(issued.trust_domain.clone()),
        ca_file: Some(issued.ca_file.clone()),
        ca_sha256: None,
        cert_file: Some(issued.cert_file.clone()),
        key_file: Some(issued.key_file.clone()),
    };
    context.check(name)?;
    contexts.contexts.insert(name.to_owned(), context);
    if issued.person || contexts.current.is_none() {
        contexts.current = Some(name.to_owned());
    }
    Ok(contexts.save(&path)?)
}

impl Operator {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let Self::Issue(args) = self;
        let loaded: Loaded = args.issue.config.load()?;
        let file = format!("operators/{}.toml", args.name);
        let Some(known) = loaded.operators.iter().find(|o| o.name == args.name) else {
            return Err(unknown("operator", args.name.as_str(), file));
        };
        if let Some(group) = args.groups.iter().find(|g| !known.groups.contains(g)) {
            return Err(lacks("group", group, file));
        }
        let name = args.name.to_string();
        args.issue.issue(StaffKind::Operator(args.name), name, session).await
    }
}

impl Acceptor {
    pub(crate) async fn run(self, session: &Session) -> Outcome {
        let Self::Issue(args) = self;
        let loaded: Loaded = args.issue.config.load()?;
        let file = format!("acceptors/{}.toml", args.name);
        let Some(known) = loaded.acceptors.iter().find(|a| a.name == args.name) else {
            return Err(unknown("acceptor", args.name.as_str(), file));
        };
        if let Some(audience) = args.audiences.iter().find(|a| !known.audiences.contains(a)) {
            return Err(lacks("audience", audience, file));
        }
        let name = args.name.to_string();
        args.issue.issue(StaffKind::Acceptor(args.name), name, session).await
    }
}
