//! The key has a home: where a workload's key lives for the length of its task.
//!
//! One key for each (trust domain, evidence issuer, task), so that every `mayfly` call of one job holds the
//! same key, and a restarted container keeps its own. A key must never leave its file and this process, and a
//! directory or file that others could read or replace is refused.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mayfly_domain::{KeyAlg, PublicKey, Reason, Refusal, Secret, TrustDomain};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustix::fs::OFlags;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::env::Env;
use crate::pem;

/// The largest key file that is read, in octets.
const FILE_OCTETS_MAX: u64 = 4_096;

fn invalid(path: &Path, problem: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::ConfigInvalid, "")
        .fact("where", path.display().to_string())
        .fact("problem", problem.to_string())
}

/// What a key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyScope {
    /// The broker's trust domain.
    pub trust_domain: TrustDomain,
    /// The issuer of the evidence.
    pub issuer: String,
    /// What tells this task from others of the same issuer.
    pub task: String,
}

impl KeyScope {
    fn file_name(&self) -> String {
        let mut ctx = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [self.trust_domain.as_str(), &self.issuer, &self.task] {
            ctx.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            ctx.update(part.as_bytes());
        }
        let mut name: String = ctx.finish().as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect();
        name.push_str(".pem");
        name
    }
}

/// The directory of the keys.
#[derive(Debug, Clone)]
pub struct KeyHome(PathBuf);

impl KeyHome {
    /// Finds the directory and makes it, mode 0700: `mayfly` in `MAYFLY_STATE_DIR`, else `RUNNER_TEMP`
    /// (GitHub), `$CI_PROJECT_DIR.tmp` (GitLab), `XDG_RUNTIME_DIR`, else in the user's state directory.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where there is none, or others may read or write it.
    pub fn find(env: &Env) -> Result<Self, Refusal> {
        let base = env
            .dir("MAYFLY_STATE_DIR")
            .or_else(|| env.dir("RUNNER_TEMP"))
            .or_else(|| {
                env.dir("CI_PROJECT_DIR").map(|dir| {
                    let mut beside = dir.into_os_string();
                    beside.push(".tmp");
                    PathBuf::from(beside)
                })
            })
            .or_else(|| env.dir("XDG_RUNTIME_DIR"))
            .or_else(|| env.xdg("XDG_STATE_HOME", ".local/state"))
            .ok_or_else(|| {
                invalid(Path::new("environment"), "no directory for keys: set MAYFLY_STATE_DIR or HOME")
            })?;
        Self::at(base.join("mayfly"))
    }

    /// The home at this directory, made where it is missing.
    ///
    /// # Errors
    /// As [`KeyHome::find`].
    pub fn at(dir: PathBuf) -> Result<Self, Refusal> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| invalid(&dir, e))?;
        let meta = std::fs::symlink_metadata(&dir).map_err(|e| invalid(&dir, e))?;
        if !meta.is_dir() {
            return Err(invalid(&dir, "is not a directory"));
        }
        private(&dir, &meta)?;
        Ok(Self(dir))
    }

    /// The key of a scope, made if there is none yet. Calls at the same time get the same key.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where the file can't be made or read, is not a key, or is not the user's alone.
    pub fn key(&self, scope: &KeyScope) -> Result<WorkloadKey, Refusal> {
        let path = self.0.join(scope.file_name());
        if let Some(held) = WorkloadKey::read(&path)? {
            return Ok(held);
        }
        let pem = generate()?.pem;
        let mut file = tempfile::NamedTempFile::new_in(&self.0).map_err(|e| invalid(&self.0, e))?;
        file.write_all(pem.expose().as_bytes())
            .and_then(|()| file.as_file().sync_all())
            .map_err(|e| invalid(&self.0, e))?;
        // Whoever is first gives the key its name; everybody else reads that one.
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(invalid(&path, e.error)),
        }
        WorkloadKey::read(&path)?.ok_or_else(|| invalid(&path, "vanished while it was made"))
    }
}

/// Refuses what another user owns or what group and others may touch.
fn private(path: &Path, meta: &std::fs::Metadata) -> Result<(), Refusal> {
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(invalid(path, "belongs to another user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(invalid(path, format!("has mode {:o}; others must have no rights", meta.mode() & 0o777)));
    }
    Ok(())
}

/// A new P-256 key that is in no file yet.
#[derive(Debug)]
pub struct Generated {
    /// The private key, PKCS#8 as PEM.
    pub pem: Secret<String>,
    /// The public key, a DER `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
}

/// What stands before a P-256 point in a `SubjectPublicKeyInfo` (RFC 5480, section 2).
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Makes a key.
///
/// # Errors
/// `INTERNAL` where the system gives no random numbers.
pub fn generate() -> Result<Generated, Refusal> {
    let key = WorkloadKey::generate()?;
    Ok(Generated { pem: key.pem(), spki: spki(key.public.as_bytes()) })
}

/// The `SubjectPublicKeyInfo` of a P-256 point.
pub(crate) fn spki(point: &[u8]) -> Vec<u8> {
    SPKI_P256.iter().chain(point).copied().collect()
}

/// A workload's key: P-256, in its file or in this process alone.
pub struct WorkloadKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
    path: Option<PathBuf>,
}

impl WorkloadKey {
    /// Makes a key that is in no file.
    ///
    /// # Errors
    /// `INTERNAL` where the system gives no random numbers.
    pub fn generate() -> Result<Self, Refusal> {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| Refusal::new(Reason::Internal, "no random numbers"))?;
        Self::from_pkcs8(der.as_ref(), None)
            .ok_or_else(|| Refusal::new(Reason::Internal, "the new key is not one"))
    }

    fn from_pkcs8(der: &[u8], path: Option<PathBuf>) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random).ok()?;
        let public = PublicKey::new(KeyAlg::P256, pair.public_key().as_ref()).ok()?;
        Some(Self { pair, public, pkcs8: Zeroizing::new(der.to_vec()), path })
    }

    /// Reads a key from a file of this user's alone.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it is not there, is not a P-256 key in PKCS#8, or others may read it.
    pub fn open(path: &Path) -> Result<Self, Refusal> {
        Self::read(path)?.ok_or_else(|| invalid(path, "is not there"))
    }

    fn read(path: &Path) -> Result<Option<Self>, Refusal> {
        let no = |why: &dyn std::fmt::Display| invalid(path, why);
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits()).unwrap_or_default();
        let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(no(&e)),
        };
        let meta = file.metadata().map_err(|e| no(&e))?;
        private(path, &meta)?;
        if !meta.is_file() || meta.len() > FILE_OCTETS_MAX {
            return Err(no(&"is not a key file"));
        }
        let mut pem = Zeroizing::new(Vec::new());
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_OCTETS_MAX), &mut pem)
            .map_err(|e| no(&e))?;
        let damaged = "does not hold a P-256 key in PKCS#8; remove it to begin with a new key";
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| no(&damaged))?;
        Self::from_pkcs8(der.secret_pkcs8_der(), Some(path.to_owned())).map(Some).ok_or_else(|| no(&damaged))
    }

    /// The private key, PKCS#8 as PEM (RFC 7468, section 10).
    pub fn pem(&self) -> Secret<String> {
        Secret::new(pem::encode("PRIVATE KEY", &self.pkcs8))
    }

    /// The key as rustls signs with it.
    ///
    /// # Errors
    /// `INTERNAL` where the provider does not take it.
    pub fn signing_key(&self) -> Result<Arc<dyn rustls::sign::SigningKey>, Refusal> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.as_slice()));
        rustls::crypto::ring::sign::any_supported_type(&der)
            .map_err(|e| Refusal::new(Reason::Internal, e.to_string()))
    }

    /// The public key.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs; the signature is `r || s`.
    ///
    /// # Errors
    /// `INTERNAL` where the system gives no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| Refusal::new(Reason::Internal, "no random numbers"))?;
        Ok(signature.as_ref().to_vec())
    }

    /// Removes the key's file: its task is over. Without effect where it has none, or it is gone already.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where the file is there and can't be removed.
    pub fn forget(&self) -> Result<(), Refusal> {
        let Some(path) = &self.path else { return Ok(()) };
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(invalid(path, e)),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkloadKey({})", self.public.thumbprint())
    }
}

#[cfg(test)]
mod tests;
