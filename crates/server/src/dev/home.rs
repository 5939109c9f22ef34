//! The directory of a development broker.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mayfly_domain::time::SharedClock;
use mayfly_domain::{Reason, Refusal, Secret, SecretBytes};
use mayfly_mint::Seal;
use mayfly_standin::StandIn;

use crate::compose::{open_seal, private_directory};
use crate::config::Settings;
use crate::init::initialise;

/// The example files, as the repository ships them. They are written once; what a person changes stays.
const EXAMPLES: &[(&str, &str)] = &[
    ("trust/payments-deploy.toml", include_str!("../../../../config/trust/payments-deploy.toml")),
    ("trust/billing-report.toml", include_str!("../../../../config/trust/billing-report.toml")),
    ("profiles/payments-deploy.toml", include_str!("../../../../config/profiles/payments-deploy.toml")),
    ("profiles/billing-report.toml", include_str!("../../../../config/profiles/billing-report.toml")),
    ("profiles/ledger-mtls.toml", include_str!("../../../../config/profiles/ledger-mtls.toml")),
    ("schema/ledger.cedarschema", include_str!("../../../../config/schema/ledger.cedarschema")),
    ("policies/ledger-api.cedar", include_str!("../../../../config/policies/ledger-api.cedar")),
    ("policies/acceptors.cedar", include_str!("../../../../config/policies/acceptors.cedar")),
    ("policies/ledger.cedar", include_str!("../../../../config/policies/ledger.cedar")),
    ("policies/payments.cedar", include_str!("../../../../config/policies/payments.cedar")),
    ("policies/billing.cedar", include_str!("../../../../config/policies/billing.cedar")),
    ("policies/operators.cedar", include_str!("../../../../config/policies/operators.cedar")),
    ("operators/alice.toml", include_str!("../../../../config/operators/alice.toml")),
    ("acceptors/deploy-api.toml", include_str!("../../../../config/acceptors/deploy-api.toml")),
    ("acceptors/ledger-api.toml", include_str!("../../../../config/acceptors/ledger-api.toml")),
];

const SEAL: &str = "seal.key";
const PUBLIC_URL: &str = "public_url   = ";
const CI_KEY: &str = "ci-issuer.key";

/// The directory.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// Opens the directory, or makes it with a seal, the example configuration and a stand-in issuer's key.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where a file can't be read or written.
    pub fn open(dir: &Path) -> Result<Self, Refusal> {
        private_directory(dir)?;
        let home = Self(dir.canonicalize().map_err(|e| failed(dir, &e))?);
        if !home.path(SEAL).exists() {
            Seal::generate_file(&home.path(SEAL)).map_err(|e| failed(&home.path(SEAL), &e))?;
        }
        if !home.path(CI_KEY).exists() {
            let key = StandIn::generate().map_err(|e| failed(&home.path(CI_KEY), &e))?;
            home.write(CI_KEY, key.expose())?;
        }
        for (name, text) in EXAMPLES {
            if !home.path(name).exists() {
                home.write(name, text.as_bytes())?;
            }
        }
        Ok(home)
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a private file whole, in one step.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn write(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<PathBuf, Refusal> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            private_directory(parent)?;
        }
        let next = path.with_extension("next");
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&next)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            file.write_all(bytes)?;
            std::fs::rename(&next, &path)
        };
        write().map_err(|e| failed(&path, &e))?;
        Ok(path)
    }

    /// The certificate and key of `name` from an earlier start, where both are there.
    pub fn certificate(&self, kind: &str, name: &str) -> Option<(PathBuf, PathBuf)> {
        let file = |end: &str| self.path(Path::new(kind).join(format!("{name}.{end}")));
        Some((file("crt"), file("key"))).filter(|(certificate, key)| certificate.exists() && key.exists())
    }

    /// The port of the last start, where there was one.
    pub fn port(&self) -> Option<u16> {
        let text = std::fs::read_to_string(self.path("mayfly.toml")).ok()?;
        let url = text.lines().find_map(|line| line.strip_prefix(PUBLIC_URL))?;
        url.trim().trim_matches('"').rsplit_once(':')?.1.parse().ok()
    }

    /// Writes `mayfly.toml` for a broker that is reached at `url`.
    ///
    /// # Errors
    /// `CONFIG_INVALID`.
    pub fn write_config(&self, url: &str) -> Result<PathBuf, Refusal> {
        let note = "# Written by `mayfly dev` at each start; the files beside it are yours to change.\n";
        let text = format!("{note}{}", configuration(&self.0, url, "1MiB"));
        self.write("mayfly.toml", text.as_bytes())
    }

    /// Initialises the store the first time.
    ///
    /// # Errors
    /// A refusal of the seal or the store.
    pub async fn initialise(&self, settings: &Settings, clock: &SharedClock) -> Result<(), Refusal> {
        let seal = open_seal(settings)?;
        initialise(settings, &seal, clock).await.map(|_| ())
    }

    /// The private key of the stand-in issuer.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it can't be read.
    pub fn ci_key(&self) -> Result<SecretBytes, Refusal> {
        let path = self.path(CI_KEY);
        std::fs::read(&path).map(Secret::new).map_err(|e| failed(&path, &e))
    }

    /// The URL from which stand-in jobs get their tokens, as the running broker wrote it.
    ///
    /// # Errors
    /// `NOT_FOUND` where no `mayfly dev` has run in this directory.
    pub fn token_url(&self) -> Result<String, Refusal> {
        std::fs::read_to_string(self.path("token-url")).map_err(|e| {
            let what = format!("no `mayfly dev` has run in {}: {e}", self.0.display());
            Refusal::new(Reason::NotFound, what.clone()).fact("problem", what)
        })
    }
}

/// The least configuration of a broker of `acme.internal` that is reached at `url`: all its files are in `dir`, its
/// sockets on ports that the system picks, `reserve` is set aside for its audit. Tables may follow.
pub fn configuration(dir: &Path, url: &str, reserve: &str) -> String {
    format!(
        "trust_domain = \"acme.internal\"\n\
         {PUBLIC_URL}{url:?}\n\
         state_dir    = {:?}\n\n\
         [server]\n\
         listen         = \"127.0.0.1:0\"\n\
         metrics_listen = \"127.0.0.1:0\"\n\n\
         [keys]\n\
         seal_file = {:?}\n\n\
         [[audit.sink]]\n\
         file    = {:?}\n\
         reserve = {reserve:?}\n",
        dir.join("state"),
        dir.join(SEAL),
        dir.join("audit.jsonl"),
    )
}

fn failed(path: &Path, e: &impl std::fmt::Display) -> Refusal {
    let what = format!("{}: {e}", path.display());
    Refusal::new(Reason::ConfigInvalid, what.clone()).fact("problem", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_remembers_the_port_of_its_broker() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        assert_eq!(home.port(), None);
        home.write_config("https://127.0.0.1:4711").unwrap();
        assert_eq!(home.port(), Some(4711));
        assert_eq!(Home::open(dir.path()).unwrap().port(), Some(4711));
    }
}
