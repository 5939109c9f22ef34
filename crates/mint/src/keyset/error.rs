//! Why a key set could not be made, changed or opened.

use mayfly_domain::{Reason, Refusal};

use super::KeySet;
use crate::authority::AuthorityError;
use crate::issuing::Role;
use crate::seal::SealError;
use crate::signer::KeyRejected;

/// Why a key set could not be made, changed or opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The seal.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A private key.
    #[error(transparent)]
    Key(#[from] KeyRejected),
    /// The module could not make a key.
    #[error("{0}")]
    Module(Refusal),
    /// A key is in a module, and none is configured.
    #[error("key `{0}` is in a PKCS #11 module; `[keys.pkcs11]` names none")]
    NoModule(String),
    /// The document in the seal is not a key set.
    #[error("the sealed key set is malformed: {0}")]
    Malformed(String),
    /// The document is of another format.
    #[error(
        "the sealed key set has format {0}, this version of Mayfly reads format 2; run `mayfly init` anew"
    )]
    Format(u64),
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
    /// The set holds as many token keys as it may.
    #[error("there are {MAX} token keys already; retire one first", MAX = KeySet::MAX_TOKEN_KEYS)]
    TooMany,
    /// The set holds as many authorities of a role as it may.
    #[error("there are {MAX} {0} authorities already; retire one first", MAX = KeySet::MAX_AUTHORITIES)]
    TooManyAuthorities(Role),
    /// A key is prepared already.
    #[error("`{0}` is prepared already; activate or retire it first")]
    AlreadyPrepared(String),
    /// Nothing is prepared.
    #[error("nothing is prepared")]
    NothingPrepared,
    /// Nothing retires.
    #[error("nothing retires")]
    NothingRetiring,
    /// There is no key or authority of that id.
    #[error("there is no key or authority `{0}`")]
    NoSuchKey(String),
    /// The active key can't be retired.
    #[error("`{0}` is the active one; activate another first")]
    Active(String),
    /// Credentials that the key signed may still be in use.
    #[error("what `{id}` signed may be in use for another {wait_s} s")]
    StillInUse {
        /// The key or authority.
        id: String,
        /// For how long at most.
        wait_s: u64,
        /// How many leases there are whose newest credential it signed, where that was counted.
        leases: Option<u64>,
    },
}

impl From<Refusal> for KeySetError {
    fn from(refusal: Refusal) -> Self {
        Self::Module(refusal)
    }
}

impl From<KeySetError> for Refusal {
    fn from(e: KeySetError) -> Self {
        let said = e.to_string();
        match e {
            KeySetError::Authority(e) => e.into(),
            KeySetError::Module(refusal) => refusal,
            KeySetError::NoModule(_) => {
                Self::new(Reason::SignerUnavailable, said.clone()).fact("problem", said)
            }
            KeySetError::Seal(_)
            | KeySetError::Key(_)
            | KeySetError::Malformed(_)
            | KeySetError::Format(_)
            | KeySetError::Random => Self::new(Reason::Internal, said),
            KeySetError::NoSuchKey(_) => Self::new(Reason::NotFound, said.clone()).fact("problem", said),
            KeySetError::TooMany
            | KeySetError::TooManyAuthorities(_)
            | KeySetError::AlreadyPrepared(_)
            | KeySetError::NothingPrepared
            | KeySetError::NothingRetiring
            | KeySetError::Active(_) => Self::new(Reason::InputInvalid, said.clone()).fact("problem", said),
            KeySetError::StillInUse { id, wait_s, leases } => {
                let refusal = Self::new(Reason::KeyInUse, said).fact("key", id);
                let refusal = match leases {
                    Some(leases) => refusal.fact("live leases", leases.to_string()),
                    None => refusal,
                };
                refusal.after(std::time::Duration::from_secs(wait_s))
            }
        }
    }
}
