//! Where private keys are made and kept: sealed in the key set, or in a module that never gives them out.
//!
//! Must never move a key from one to the other, or make a key in memory whose use is configured for the module.

use std::sync::Arc;

use mayfly_domain::{KeyAlg, PublicKey, Refusal, SecretBytes};

use crate::issuing::Role;
use crate::keyset::KeySetError;
use crate::signer::{MemorySigner, Signer};

/// What a key is for, where it may be kept in a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// Certificates of workloads.
    WorkloadCa,
    /// Certificates of brokers, operators and acceptors.
    SystemCa,
    /// Access tokens.
    Token,
}

impl KeyUse {
    /// Every use.
    pub const ALL: [Self; 3] = [Self::WorkloadCa, Self::SystemCa, Self::Token];

    /// The name in configuration and in keys' labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkloadCa => "workload-ca",
            Self::SystemCa => "system-ca",
            Self::Token => "token",
        }
    }
}

impl From<Role> for KeyUse {
    fn from(role: Role) -> Self {
        match role {
            Role::Workload => Self::WorkloadCa,
            Role::System => Self::SystemCa,
        }
    }
}

/// A key in a module: how it is found there, and its public part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleKey {
    /// Its id in the module (`CKA_ID`).
    pub id: [u8; 16],
    /// The public key.
    pub public: PublicKey,
}

/// A module that makes keys and signs with them, and never gives one out.
pub trait KeyModule: Send + Sync + std::fmt::Debug {
    /// Makes a key that can't leave the module. `label`: for the module's administrator. May block.
    ///
    /// # Errors
    /// `SIGNER_UNAVAILABLE` where the module can't be used now or does not know the algorithm.
    fn generate(&self, alg: KeyAlg, label: &str) -> Result<ModuleKey, Refusal>;

    /// A signer with a key of the module. Does not look whether the module is there: that shows when it signs.
    fn signer(&self, key: &ModuleKey) -> Arc<dyn Signer>;
}

/// A private key, where it is kept.
#[derive(Debug)]
pub(crate) enum Material {
    /// In the key set: PKCS #8, sealed where it is stored.
    Sealed(SecretBytes),
    /// In the module.
    Module(ModuleKey),
}

impl Material {
    pub(crate) fn is_in_module(&self) -> bool {
        matches!(self, Self::Module(_))
    }

    pub(crate) fn copy(&self) -> Self {
        match self {
            Self::Sealed(pkcs8) => Self::Sealed(SecretBytes::new(pkcs8.expose().clone())),
            Self::Module(key) => Self::Module(key.clone()),
        }
    }

    /// The public key.
    pub(crate) fn public(&self, alg: KeyAlg) -> Result<PublicKey, KeySetError> {
        match self {
            Self::Sealed(pkcs8) => Ok(MemorySigner::from_pkcs8(alg, pkcs8)?.public_key().clone()),
            Self::Module(key) if key.public.alg() == alg => Ok(key.public.clone()),
            Self::Module(_) => Err(KeySetError::Malformed("a module's key is of another algorithm".into())),
        }
    }
}

/// Who keeps which private keys.
#[derive(Debug, Clone, Default)]
pub struct Custody {
    module: Option<Arc<dyn KeyModule>>,
    uses: Vec<KeyUse>,
}

impl Custody {
    /// Every key is sealed in the key set.
    pub fn sealed() -> Self {
        Self::default()
    }

    /// New keys of these uses are made in `module`; all others are sealed in the key set.
    pub fn with_module(module: Arc<dyn KeyModule>, uses: impl IntoIterator<Item = KeyUse>) -> Self {
        Self { module: Some(module), uses: uses.into_iter().collect() }
    }

    /// Whether making a key or signing may block: there is a module.
    pub fn blocks(&self) -> bool {
        self.module.is_some()
    }

    pub(crate) fn generate(&self, use_: KeyUse, alg: KeyAlg) -> Result<Material, KeySetError> {
        match &self.module {
            Some(module) if self.uses.contains(&use_) => {
                let key = module.generate(alg, &format!("mayfly {}", use_.as_str()))?;
                if key.public.alg() == alg {
                    Ok(Material::Module(key))
                } else {
                    Err(KeySetError::Malformed("the module made a key of another algorithm".into()))
                }
            }
            _ => Ok(Material::Sealed(MemorySigner::generate_pkcs8(alg)?)),
        }
    }

    pub(crate) fn signer(&self, alg: KeyAlg, key: &Material) -> Result<Arc<dyn Signer>, KeySetError> {
        match (key, &self.module) {
            (Material::Sealed(pkcs8), _) => Ok(Arc::new(MemorySigner::from_pkcs8(alg, pkcs8)?)),
            (Material::Module(key), Some(module)) => Ok(module.signer(key)),
            (Material::Module(key), None) => Err(KeySetError::NoModule(key.public.thumbprint().to_string())),
        }
    }
}
