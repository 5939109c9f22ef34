//! Keys and credentials: what a broker signs with, and what it signs.
//!
//! Makes credentials only from `lease`'s proofs, so that none exists without a lease. This crate must never
//! touch the network or a store, install a process-wide cryptographic provider, or let a private key out.

pub mod authority;
pub mod custody;
pub mod issuing;
pub mod jwt;
pub mod keyring;
pub mod keyset;
pub mod pkcs11;
pub mod seal;
pub mod signer;
#[cfg(test)]
mod testing;
pub mod x509;

pub use authority::{AuthorityError, AuthorityInfo, Unfit, chain_from_pem};
pub use custody::{Custody, KeyModule, KeyUse, ModuleKey};
pub use issuing::{AuthorityKey, IssuingAuthority, Role};
pub use jwt::{AccessToken, Minter};
pub use keyring::{Bundle, KeyRing};
pub use keyset::{KeySet, KeySetError, KeyState, Live, LiveLeases, TokenKeyInfo};
pub use pkcs11::{ModuleSettings, Pkcs11Module};
pub use seal::{Seal, SealError};
pub use signer::{MemorySigner, Signer};
pub use x509::{BrokerIdentity, IssuedCertificate, ServerName};
