//! Contexts: which broker is meant, by which CA it is known, and as whom a person or acceptor calls it.
//!
//! # File
//! `$XDG_CONFIG_HOME/mayfly/contexts.toml`: `current`, and for each `[contexts.NAME]` a `url`, exactly one of
//! `ca_file` and `ca_sha256`, and, where known, `trust_domain`, `cert_file` and `key_file`. It holds no secret:
//! keys stay in their own files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use mayfly_domain::{Reason, Refusal, TrustDomain};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::env::Env;
use crate::pin::Pin;

/// The variable that names the file with the broker's CA, where [`CA_FILE`] is something else: below `mayfly exec`.
pub const BROKER_CA_FILE: &str = "MAYFLY_BROKER_CA_FILE";
/// The variable that names the file with the broker's CA.
pub const CA_FILE: &str = "MAYFLY_CA_FILE";
/// The variables that name the caller's certificate, and its key.
pub const CERT_FILES: [&str; 2] = ["MAYFLY_CERT_FILE", "MAYFLY_KEY_FILE"];
/// The directory of the credentials of a command below `mayfly exec`. A CA file in it verifies that command's peers,
/// never a broker.
pub const CREDENTIALS_DIR: &str = "MAYFLY_CREDENTIALS_DIR";

/// The largest contexts file that is read, in octets.
const FILE_OCTETS_MAX: u64 = 256 * 1024;

/// One context as the file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The broker's URL, `https://host:port`.
    pub url: String,
    /// The trust domain that the broker must be of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<String>,
    /// A PEM file of the CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// The CA certificate's SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_sha256: Option<String>,
    /// An operator's or acceptor's certificate chain, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// The contexts file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The name of the one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// A broker to call: a context whose words were checked.
#[derive(Debug, Clone)]
pub struct Target {
    /// The context's name; `environment` for one that `MAYFLY_URL` made.
    pub name: String,
    /// The broker's URL.
    pub url: Url,
    /// The trust domain, where the context names it.
    pub trust_domain: Option<TrustDomain>,
    /// How its CA is known.
    pub pin: Pin,
    /// The certificate and key files of the caller, where it has them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

fn invalid(place: impl std::fmt::Display, problem: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::ConfigInvalid, "")
        .fact("where", place.to_string())
        .fact("problem", problem.to_string())
}

impl Contexts {
    /// Where the file is.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where neither `XDG_CONFIG_HOME` nor `HOME` is set.
    pub fn path(env: &Env) -> Result<PathBuf, Refusal> {
        env.xdg("XDG_CONFIG_HOME", ".config")
            .map(|dir| dir.join("mayfly").join("contexts.toml"))
            .ok_or_else(|| invalid("environment", "neither XDG_CONFIG_HOME nor HOME is set"))
    }

    /// Reads the file; one that is not there holds no contexts.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it can't be read or understood.
    pub fn load(path: &Path) -> Result<Self, Refusal> {
        let no = |why: &dyn std::fmt::Display| invalid(path.display(), why);
        let size = match std::fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(no(&e)),
        };
        if size > FILE_OCTETS_MAX {
            return Err(no(&format!("larger than {FILE_OCTETS_MAX} octets")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| no(&e))?;
        toml::from_str(&text).map_err(|e| no(&e.to_string().trim_end()))
    }

    /// Writes the file, all or nothing, readable by its owner only.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it can't be written.
    pub fn save(&self, path: &Path) -> Result<(), Refusal> {
        let no = |why: &dyn std::fmt::Display| invalid(path.display(), why);
        let dir = path.parent().ok_or_else(|| no(&"has no directory"))?;
        std::fs::create_dir_all(dir).map_err(|e| no(&e))?;
        let text = toml::to_string_pretty(self).map_err(|e| no(&e))?;
        let mut file = tempfile::NamedTempFile::new_in(dir).map_err(|e| no(&e))?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(|e| no(&e))?;
        file.persist(path).map_err(|e| no(&e.error))?;
        Ok(())
    }

    /// The broker that is meant: the context that `flag` names as it is; else the one that the environment
    /// describes (`MAYFLY_URL`); else `MAYFLY_CONTEXT` or the current one. `MAYFLY_CA_FILE`,
    /// `MAYFLY_CA_SHA256`, `MAYFLY_TRUST_DOMAIN`, and `MAYFLY_CERT_FILE` with `MAYFLY_KEY_FILE` go over the file's. Below `mayfly exec`, `MAYFLY_BROKER_CA_FILE`
    /// is in the place of `MAYFLY_CA_FILE`, which there names what verifies the command's peers.
    ///
    /// # Errors
    /// `NOT_FOUND` for an unknown name, `CONFIG_INVALID` for a context that is not complete or valid.
    pub fn target(&self, flag: Option<&str>, env: &Env) -> Result<Target, Refusal> {
        if let Some(name) = flag {
            return self.named(name)?.check(name);
        }
        let (name, mut context) = match env.var("MAYFLY_URL") {
            Some(url) => ("environment".to_owned(), Context { url, ..Context::default() }),
            None => {
                let name = env.var("MAYFLY_CONTEXT").or_else(|| self.current.clone()).ok_or_else(|| {
                    invalid("context", "no context is selected: run `mayfly context use NAME`, or set MAYFLY_URL and MAYFLY_CA_SHA256")
                })?;
                let context = self.named(&name)?.clone();
                (name, context)
            }
        };
        let own = CERT_FILES.map(|name| env.var(name).map(PathBuf::from));
        if own.iter().any(Option::is_some) {
            [context.cert_file, context.key_file] = own;
        }
        let ca_file = env.var(BROKER_CA_FILE).map(PathBuf::from).or_else(|| broker_ca(env));
        match (ca_file, env.var("MAYFLY_CA_SHA256")) {
            (None, None) => {}
            (file, sha256) => {
                context.ca_file = file;
                context.ca_sha256 = sha256;
            }
        }
        if let Some(trust_domain) = env.var("MAYFLY_TRUST_DOMAIN") {
            context.trust_domain = Some(trust_domain);
        }
        context.check(&name)
    }

    fn named(&self, name: &str) -> Result<&Context, Refusal> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            Refusal::from(Reason::NotFound).fact("context", name).fact("known", known.join(", "))
        })
    }
}

/// The file that [`CA_FILE`] names, unless it is what verifies the peers of a command below `mayfly exec`.
fn broker_ca(env: &Env) -> Option<PathBuf> {
    let file = PathBuf::from(env.var(CA_FILE)?);
    let own = env.dir(CREDENTIALS_DIR).is_some_and(|dir| file.starts_with(dir));
    (!own).then_some(file)
}

impl Context {
    /// Checks every word and reads the CA file.
    ///
    /// # Errors
    /// `CONFIG_INVALID` that names the context and what is wrong.
    pub fn check(&self, name: &str) -> Result<Target, Refusal> {
        let no = |why: &dyn std::fmt::Display| invalid(format!("context {name}"), why);
        let url = Url::parse(&self.url).map_err(|e| no(&format!("`url`: {e}")))?;
        if url.scheme() != "https" || !url.has_host() {
            return Err(no(&"`url` must be `https://host:port`"));
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.path() != "/"
        {
            return Err(no(&"`url` must have neither user, path nor query"));
        }
        let trust_domain = self
            .trust_domain
            .as_deref()
            .map(TrustDomain::parse)
            .transpose()
            .map_err(|e| no(&format!("`trust_domain`: {e}")))?;
        let pin = match (&self.ca_file, &self.ca_sha256) {
            (Some(file), None) => Pin::from_file(file)?,
            (None, Some(digest)) => Pin::from_sha256(digest).map_err(|e| no(&format!("`ca_sha256`: {e}")))?,
            (None, None) => {
                return Err(no(
                    &"the broker's CA is not pinned: set `ca_file` or `ca_sha256` (MAYFLY_CA_FILE, MAYFLY_CA_SHA256); there is no other way to know the broker",
                ));
            }
            (Some(_), Some(_)) => return Err(no(&"set one of `ca_file` and `ca_sha256`, not both")),
        };
        let identity = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(no(&"`cert_file` and `key_file` belong together")),
        };
        Ok(Target { name: name.to_owned(), url, trust_domain, pin, identity })
    }
}

#[cfg(test)]
mod tests;
