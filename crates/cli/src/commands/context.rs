//! `mayfly context`: which brokers are known, and which one is meant.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use mayfly_client::{Context as Entry, Contexts, Failure};
use mayfly_domain::{Reason, TrustDomain, UnixMillis};
use serde::Serialize;

use crate::output::{Human, Table, View};
use crate::session::{Outcome, Session};

/// Name brokers and choose the one to call
#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    Add(Add),
    List(List),
    Use(Use),
}

/// Add a context, or replace the one of that name
///
/// The broker is known by its CA: by a file with the certificate, or by the certificate's SHA-256. There is no
/// way to trust a broker at first sight.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  mayfly context add prod --url https://mayfly.acme.internal:8443 --trust-domain acme.internal \\
      --ca-file ca.pem --cert-file alice.pem --key-file alice.key --use")]
pub(crate) struct Add {
    /// The context's name
    name: String,
    /// The broker's URL
    #[arg(long)]
    url: String,
    /// The trust domain that the broker must be of
    #[arg(long)]
    trust_domain: Option<TrustDomain>,
    /// The CA's certificate, PEM
    #[arg(long, value_name = "FILE", required_unless_present = "ca_sha256", conflicts_with = "ca_sha256")]
    ca_file: Option<PathBuf>,
    /// The SHA-256 of the CA's certificate
    #[arg(long, value_name = "HEX")]
    ca_sha256: Option<String>,
    /// An operator's or acceptor's certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Use it from now on
    #[arg(long = "use")]
    select: bool,
}

/// List the contexts
#[derive(Debug, Args)]
pub(crate) struct List {}

/// Use a context from now on
#[derive(Debug, Args)]
pub(crate) struct Use {
    /// The context's name
    name: String,
}

#[derive(Serialize)]
struct Listed {
    current: Option<String>,
    contexts: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    entry: Entry,
}

impl View for Listed {
    fn human(&self, _: UnixMillis) -> Human {
        let row = |c: &Named| {
            let mark = if self.current.as_ref() == Some(&c.name) { "*" } else { "" };
            let pin = c.entry.ca_file.as_ref().map(|f| f.display().to_string());
            let pin = pin.or_else(|| c.entry.ca_sha256.clone()).unwrap_or_default();
            let identity = c.entry.cert_file.as_ref().map(|f| f.display().to_string()).unwrap_or_default();
            let domain = c.entry.trust_domain.clone().unwrap_or_default();
            [mark.to_owned(), c.name.clone(), c.entry.url.clone(), domain, pin, identity]
        };
        Human::Rows(Table::new(
            ["", "name", "url", "trust domain", "ca", "certificate"],
            self.contexts.iter().map(row),
            "no contexts: add one with `mayfly context add`",
        ))
    }
}

fn absolute(path: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    let made = |p: PathBuf| {
        std::path::absolute(&p).map_err(|e| {
            Failure::of(Reason::InputInvalid)
                .fact("file", p.display().to_string())
                .fact("problem", e.to_string())
        })
    };
    path.map(made).transpose()
}

impl Context {
    pub(crate) fn run(self, session: &Session) -> Outcome {
        let path = Contexts::path(&session.env)?;
        let mut contexts = Contexts::load(&path)?;
        match self {
            Self::List(List {}) => return list(contexts, session),
            Self::Add(args) => {
                let added = format!("context {} is added", args.name);
                add(args, &mut contexts)?;
                session.printer.note(&added);
            }
            Self::Use(args) => {
                contexts.target(Some(&args.name), &session.env)?;
                contexts.current = Some(args.name);
            }
        }
        save(&contexts, &path, session)
    }
}

fn list(contexts: Contexts, session: &Session) -> Outcome {
    let named = |(name, entry)| Named { name, entry };
    let contexts =
        Listed { current: contexts.current, contexts: contexts.contexts.into_iter().map(named).collect() };
    session.printer.show(&contexts)?;
    Ok(0)
}

fn add(args: Add, contexts: &mut Contexts) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if args.name.is_empty() || args.name.len() > 64 || !args.name.chars().all(good) {
        return Err(mayfly_domain::Invalid::new(
            "context",
            &args.name,
            "may hold letters, digits, `-`, `_` and `.` only",
        )
        .into());
    }
    let entry = Entry {
        url: args.url,
        trust_domain: args.trust_domain.map(|td| td.to_string()),
        ca_file: absolute(args.ca_file)?,
        ca_sha256: args.ca_sha256,
        cert_file: absolute(args.cert_file)?,
        key_file: absolute(args.key_file)?,
    };
    entry.check(&args.name)?;
    if args.select || contexts.current.is_none() {
        contexts.current = Some(args.name.clone());
    }
    contexts.contexts.insert(args.name, entry);
    Ok(())
}

fn save(contexts: &Contexts, path: &Path, session: &Session) -> Outcome {
    contexts.save(path)?;
    if let Some(current) = &contexts.current {
        session.printer.note(&format!("context {current} is in use"));
    }
    Ok(0)
}
