//! Evidence found by itself: an explicit file, GitHub Actions, or a CI variable that holds an ID token.
//!
//! What is read here is not verified and proves nothing: its claims serve only to find the key's home and to
//! be shown to the person who asked. A token must never be shown, logged or written.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mayfly_domain::{Reason, Refusal, Secret, Thumbprint, TrustDomain, UnixMillis, defaults};
use url::Url;

use crate::env::Env;
use crate::keys::KeyScope;

mod github;

/// The variable that names a file with evidence.
pub const FILE: &str = "MAYFLY_EVIDENCE_FILE";
/// The variable that holds an ID token (GitLab's `id_tokens:`).
pub const ID_TOKEN: &str = "MAYFLY_ID_TOKEN";

/// Where this machine's evidence comes from.
#[derive(Debug)]
pub enum Source {
    /// A file, read again for each call.
    File(PathBuf),
    /// The ID token service of GitHub Actions: each token is made for the key that asks.
    GitHub(github::Service),
    /// A variable of the environment.
    Variable(&'static str, Secret<String>),
}

impl Source {
    /// Finds the source: `file`, else `MAYFLY_EVIDENCE_FILE`, else GitHub Actions, else `MAYFLY_ID_TOKEN`.
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
            Self::File(path) => format!("the file {}", path.display()),
            Self::GitHub(_) => "the ID token service of GitHub Actions".to_owned(),
            Self::Variable(name, _) => format!("the variable {name}"),
        }
    }

    /// Whether each ask gives a new token, made for the key that asks.
    pub const fn gives_fresh(&self) -> bool {
        matches!(self, Self::GitHub(_))
    }

    /// What the key of this evidence belongs to.
    ///
    /// # Errors
    /// `NO_EVIDENCE` or `EVIDENCE_MALFORMED` where the token can't be read.
    pub fn scope(&self, trust_domain: &TrustDomain) -> Result<KeyScope, Refusal> {
        match self {
            Self::GitHub(service) => Ok(service.scope(trust_domain)),
            Self::File(path) => Ok(read(path)?.scope(trust_domain)),
            Self::Variable(_, token) => Ok(Evidence::peek(token.expose().clone())?.scope(trust_domain)),
        }
    }

    /// Takes the evidence for a key.
    ///
    /// # Errors
    /// `NO_EVIDENCE`, `EVIDENCE_MALFORMED`, or `ISSUER_UNAVAILABLE` where the token service does not answer.
    pub async fn fetch(&self, trust_domain: &TrustDomain, key: &Thumbprint) -> Result<Evidence, Refusal> {
        match self {
            Self::GitHub(service) => Evidence::peek(service.token(&audience(trust_domain, key)).await?),
            Self::File(path) => read(path),
            Self::Variable(_, token) => Evidence::peek(token.expose().clone()),
        }
    }
}

/// The audience of a token that is made for one key at one trust domain.
pub fn audience(trust_domain: &TrustDomain, key: &Thumbprint) -> String {
    format!("{trust_domain}#{key}")
}

fn read(path: &Path) -> Result<Evidence, Refusal> {
    use std::io::Read as _;
    let no = |why: String| {
        Refusal::from(Reason::NoEvidence).fact("file", path.display().to_string()).fact("problem", why)
    };
    let file = std::fs::File::open(path).map_err(|e| no(e.to_string()))?;
    let mut text = String::new();
    let limit = u64::try_from(defaults::TOKEN_OCTETS_MAX).unwrap_or(u64::MAX).saturating_add(64);
    file.take(limit).read_to_string(&mut text).map_err(|e| no(e.to_string()))?;
    // Files end in a line feed; a token holds no white space.
    Evidence::peek(text.trim().to_owned())
}

/// A token and what it says of itself, unverified.
#[derive(Debug)]
pub struct Evidence {
    token: Secret<String>,
    /// Its claims, unverified.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

impl Evidence {
    /// Looks at a compact JWS without verifying it.
    ///
    /// # Errors
    /// `EVIDENCE_MALFORMED` where it is not one, or larger than 16 KiB.
    pub fn peek(token: String) -> Result<Self, Refusal> {
        let token = Secret::new(token);
        let no = |why: &str| Refusal::from(Reason::EvidenceMalformed).fact("problem", why);
        if token.expose().len() > defaults::TOKEN_OCTETS_MAX {
            return Err(no("it is larger than 16 KiB"));
        }
        let mut parts = token.expose().split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(no("it is not a compact JWS of three parts"));
        };
        let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| no("its payload is not base64url"))?;
        let claims = serde_json::from_slice(&json).map_err(|_| no("its payload is not a JSON object"))?;
        Ok(Self { token, claims })
    }

    /// The token itself, for the request that carries it.
    pub const fn token(&self) -> &Secret<String> {
        &self.token
    }

    /// A claim's text, where it is text or a number.
    pub fn claim(&self, name: &str) -> Option<String> {
        match self.claims.get(name)? {
            serde_json::Value::String(s) => Some(s.clone()),
            serde_json::Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// When it expires, where it says so.
    pub fn expires(&self) -> Option<UnixMillis> {
        self.claims.get("exp").and_then(serde_json::Value::as_u64).map(UnixMillis::from_secs)
    }

    /// What its key belongs to: the issuer, and subject with the ids of the run and job that CI systems give.
    pub fn scope(&self, trust_domain: &TrustDomain) -> KeyScope {
        let task = ["sub", "run_id", "run_attempt", "job_id"]
            .map(|name| self.claim(name).unwrap_or_default())
            .join("\n");
        KeyScope { trust_domain: trust_domain.clone(), issuer: self.claim("iss").unwrap_or_default(), task }
    }
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
