//! Evidence found by itself, in a stated order.
//!
//! 1. a live Mayfly certificate that this process holds: [`X509Identity::client`](crate::X509Identity::client);
//! 2. a file that is named by the caller; then a workload's certificate in the context ([`Source::at`]), such as
//!    `mayfly exec` gives to its child;
//! 3. the file that `MAYFLY_EVIDENCE_FILE` names;
//! 4. GitHub Actions: `ACTIONS_ID_TOKEN_REQUEST_URL` and `ACTIONS_ID_TOKEN_REQUEST_TOKEN`;
//! 5. `MAYFLY_ID_TOKEN`: GitLab's `id_tokens:`;
//! 6. a join token: the file that `MAYFLY_JOIN_TOKEN_FILE` names, else `MAYFLY_JOIN_TOKEN`;
//! 7. a certificate of another CA: `MAYFLY_X509_CERT_FILE` with `MAYFLY_X509_KEY_FILE`.
//!
//! A named file may hold an ID token or a join token; which one is told by its text. Files are read again for
//! each call, so whoever replaces them need not tell anybody.
//!
//! What is read here is not verified and proves nothing: its claims serve only to find the key's home and to
//! be shown to the person who asked. A token must never be shown, logged or written.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use mayfly_domain::{Reason, Refusal, Secret, SpiffeId, Thumbprint, TrustDomain, defaults};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use url::Url;

use crate::context::Target;
use crate::env::Env;
use crate::keys::KeyScope;
use crate::mtls::peer_id;

mod foreign;
mod github;
mod shown;

pub use shown::Evidence;

/// The variable that names a file with evidence.
pub const FILE: &str = "MAYFLY_EVIDENCE_FILE";
/// The variable that holds an ID token (GitLab's `id_tokens:`).
pub const ID_TOKEN: &str = "MAYFLY_ID_TOKEN";
/// The variable that names a file with a join token.
pub const JOIN_TOKEN_FILE: &str = "MAYFLY_JOIN_TOKEN_FILE";
/// The variable that holds a join token.
pub const JOIN_TOKEN: &str = "MAYFLY_JOIN_TOKEN";
/// The variable that names a certificate chain of another CA, PEM, the leaf first.
pub const X509_CERT_FILE: &str = "MAYFLY_X509_CERT_FILE";
/// The variable that names its private key, PEM.
pub const X509_KEY_FILE: &str = "MAYFLY_X509_KEY_FILE";

/// Every variable by which evidence is found: what a child that should have none of it must not inherit.
pub const VARIABLES: [&str; 8] =
    [FILE, github::URL, github::TOKEN, ID_TOKEN, JOIN_TOKEN_FILE, JOIN_TOKEN, X509_CERT_FILE, X509_KEY_FILE];

/// Where this machine's evidence comes from.
#[derive(Debug)]
pub enum Source {
    /// The live certificate of the connection itself; made by [`X509Identity`](crate::X509Identity).
    Live(SpiffeId),
    /// A file with an ID token or a join token.
    File(PathBuf),
    /// The ID token service of GitHub Actions: each token is made for the key that asks.
    GitHub(github::Service),
    /// A variable of the environment, with an ID token or a join token.
    Variable(&'static str, Secret<String>),
    /// A certificate of another CA, with its key.
    X509 {
        /// The chain, PEM, the leaf first.
        chain: PathBuf,
        /// The key, PEM.
        key: PathBuf,
    },
}

impl Source {
    /// Finds the source for calls to this broker, `file` being the one that the caller names: where the context has
    /// a live certificate of a workload, that is evidence over its own connection.
    ///
    /// # Errors
    /// As [`Source::discover`].
    pub fn at(target: &Target, file: Option<&Path>, env: &Env) -> Result<Self, Refusal> {
        let held = || target.identity.as_ref().and_then(|(certificate, _)| workload_of(certificate));
        match file {
            None => held().map_or_else(|| Self::discover(None, env), |id| Ok(Self::Live(id))),
            named => Self::discover(named, env),
        }
    }

    /// Finds the source, in the order above, `file` being the one that the caller names.
    ///
    /// # Errors
    /// `NO_EVIDENCE` where there is none.
    pub fn discover(file: Option<&Path>, env: &Env) -> Result<Self, Refusal> {
        if let Some(path) = file {
            return Ok(Self::File(path.to_owned()));
        }
        if let Some(path) = env.var(FILE) {
            return Ok(Self::File(path.into()));
        }
        if let Some(service) = github::Service::discover(env)? {
            return Ok(Self::GitHub(service));
        }
        if let Some(token) = env.var(ID_TOKEN) {
            return Ok(Self::Variable(ID_TOKEN, Secret::new(token)));
        }
        if let Some(path) = env.var(JOIN_TOKEN_FILE) {
            return Ok(Self::File(path.into()));
        }
        if let Some(token) = env.var(JOIN_TOKEN) {
            return Ok(Self::Variable(JOIN_TOKEN, Secret::new(token)));
        }
        match (env.var(X509_CERT_FILE), env.var(X509_KEY_FILE)) {
            (Some(chain), Some(key)) => return Ok(Self::X509 { chain: chain.into(), key: key.into() }),
            (None, None) => {}
            _ => {
                return Err(Refusal::from(Reason::NoEvidence)
                    .fact("found", format!("only one of {X509_CERT_FILE} and {X509_KEY_FILE}")));
            }
        }
        let mut none = Refusal::from(Reason::NoEvidence);
        if env.var("GITHUB_ACTIONS").is_some() {
            none = none.fact(
                "found",
                "GitHub Actions without ID tokens: add `permissions: id-token: write` to the job",
            );
        } else if env.var("GITLAB_CI").is_some() {
            none = none.fact("found", "GitLab without MAYFLY_ID_TOKEN: add it to the job's `id_tokens:`");
        }
        Err(none)
    }

    /// What it is, in words for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Live(id) => format!("the live certificate of {id}"),
            Self::File(path) => format!("the file {}", path.display()),
            Self::GitHub(_) => "the ID token service of GitHub Actions".to_owned(),
            Self::Variable(name, _) => format!("the variable {name}"),
            Self::X509 { chain, .. } => format!("the certificate {}", chain.display()),
        }
    }

    /// Whether each ask gives a new token, made for the key that asks.
    pub const fn gives_fresh(&self) -> bool {
        matches!(self, Self::GitHub(_))
    }

    /// Whether it gives a join token: one mint takes it, and nothing else does.
    pub fn is_join_token(&self) -> bool {
        matches!(self, Self::File(_) | Self::Variable(..)) && self.read().is_ok_and(|e| e.is_join_token())
    }

    /// Whether what it gives can change while this process runs: a variable's can't.
    pub const fn may_change(&self) -> bool {
        !matches!(self, Self::Variable(..))
    }

    /// Whether its evidence belongs to the first key that shows it, so that another key must not try.
    pub(crate) const fn binds_first_key(&self) -> bool {
        matches!(self, Self::File(_) | Self::Variable(..))
    }

    /// What the key of this evidence belongs to.
    ///
    /// # Errors
    /// `NO_EVIDENCE` or `EVIDENCE_MALFORMED` where the evidence can't be read.
    pub fn scope(&self, trust_domain: &TrustDomain) -> Result<KeyScope, Refusal> {
        match self {
            Self::GitHub(service) => Ok(service.scope(trust_domain)),
            other => Ok(other.read()?.scope(trust_domain)),
        }
    }

    /// Takes the evidence for a key.
    ///
    /// # Errors
    /// `NO_EVIDENCE`, `EVIDENCE_MALFORMED`, or `ISSUER_UNAVAILABLE` where the token service does not answer.
    pub async fn fetch(&self, trust_domain: &TrustDomain, key: &Thumbprint) -> Result<Evidence, Refusal> {
        match self {
            Self::GitHub(service) => Evidence::peek(service.token(&audience(trust_domain, key)).await?),
            other => other.read(),
        }
    }

    fn read(&self) -> Result<Evidence, Refusal> {
        match self {
            Self::Live(id) => Ok(Evidence::live(id)),
            Self::File(path) => read(path),
            Self::Variable(_, token) => Evidence::peek(token.expose().clone()),
            Self::X509 { chain, key } => Ok(Evidence::foreign(foreign::Certificate::read(chain, key)?)),
            Self::GitHub(_) => Err(Refusal::new(Reason::Internal, "a token service is asked, not read")),
        }
    }
}

/// Whose certificate a PEM file holds, where that is a workload's.
fn workload_of(certificate: &Path) -> Option<SpiffeId> {
    let leaf = CertificateDer::from_pem_file(certificate).ok()?;
    peer_id(&leaf).filter(|id| !id.is_reserved())
}

/// The audience of a token that is made for one key at one trust domain.
pub fn audience(trust_domain: &TrustDomain, key: &Thumbprint) -> String {
    format!("{trust_domain}#{key}")
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Refusal {
    Refusal::from(Reason::NoEvidence)
        .fact("file", path.display().to_string())
        .fact("problem", why.to_string())
}

fn read(path: &Path) -> Result<Evidence, Refusal> {
    let file = std::fs::File::open(path).map_err(|e| unreadable(path, e))?;
    let mut text = String::new();
    let limit = u64::try_from(defaults::TOKEN_OCTETS_MAX).unwrap_or(u64::MAX).saturating_add(64);
    file.take(limit).read_to_string(&mut text).map_err(|e| unreadable(path, e))?;
    // Files end in a line feed; a token holds no white space.
    Evidence::peek(text.trim().to_owned())
}

/// Whether plain HTTP may carry a secret to this URL: to this very machine only.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests;
